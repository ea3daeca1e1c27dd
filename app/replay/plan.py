"""What a replay is about: what was asked for, what it would do, and what became of it so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from app.catalog.live import KIND
from app.core.lotus import DIGEST_BYTES
from app.core.outcome import Outcome, Reason
from app.core.transform.transform import Transform, TransformSet
from app.errors import NotFound, TransformInvalid
from app.replay.batch import BatchResult
from app.replay.decide import REMOVED, Decision
from app.replay.sql_replays import Replay, find_unfinished
from app.store.engine import Connection
from app.store.ids import first_id_at
from app.store.kept import ReplayScope, count_ids
from app.store.publications import find_latest_moment
from app.store.review import CallFilters, list_call_ids, newest_call_id, read_calls

_SAME_ID_MAX = 1000
"""Calls of one id that a replay takes, the newest."""


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be replayed, in the words it was asked in: the same words go on with what was stopped."""

    outcomes: tuple[Outcome, ...]
    event: str | None = None
    reason: Reason | None = None
    by: str | None = None
    """Name of the transform that decided then."""
    version: str | None = None
    """The version of it, in hexadecimal digits."""
    problem: str | None = None
    """Only what goes wrong in this one way, see app.core.problem."""
    since: str | None = None
    until: str | None = None
    transform: str | None = None
    call_id: int | str | None = None
    """A call's own id as a number; as text, the id of a message or the idempotency id of an event."""
    limit: int | None = None
    correct: bool = False


class Tally(msgspec.Struct, kw_only=True):
    """What became of the calls of a replay."""

    read: int = 0
    same: int = 0
    """They end today as they did."""
    changed: dict[str, int] = {}
    """By `before > now`."""
    corrected: int = 0
    """Calls of which an event was replaced or added."""
    voided: int = 0
    """Events."""
    delivered: int = 0
    """Of these, how many Lotus has already, and keeps: it cannot void what it has."""
    left: dict[str, int] = {}
    """Calls that are left as they are, by the reason why."""
    samples: dict[str, str] = {}
    """The first call of each such reason, and of each change."""

    @property
    def removed(self) -> int:
        """Return how many calls had lost their bytes to retention."""
        return self.left.get(REMOVED, 0)

    def note(self, call_id: int, why: str) -> None:
        """Count a call that is left as it is."""
        self.left[why] = self.left.get(why, 0) + 1
        self.samples.setdefault(why, str(call_id))

    def left_to_do(self, judged: Sequence[Decision]) -> list[Decision]:
        """Return the calls of which something is to be done; count the others."""
        for one in judged:
            if one.note is not None:
                self.note(one.row.id, one.note)
        return [one for one in judged if one.note is None]

    def add(self, written: BatchResult) -> None:
        """Count what a batch did."""
        self.same += written.same
        self.corrected += written.corrected
        self.voided += written.voided
        self.delivered += written.delivered
        for (before, now), count in written.changed.items():
            self.change(before, now, count)
        for call_id, why in written.notes:
            self.note(call_id, why)

    def change(self, before: str, now: str, count: int = 1) -> None:
        """Count calls whose outcome is another one."""
        key = f"{before} > {now}"
        self.changed[key] = self.changed.get(key, 0) + count


@dataclass(slots=True, kw_only=True)
class Plan:
    """What a replay would do, before it does it."""

    asked: ReplayRequest
    replay: Replay
    resumed: bool
    """It goes on with one that was stopped."""
    transforms: TransformSet
    fill: Transform | None
    tally: Tally
    call_ids: tuple[int, ...] | None = None
    """The calls that `asked.call_id` names; None where it names none."""
    published_at: int = 0
    """When one of the transforms became live last, in microseconds since 1970."""

    @property
    def left(self) -> int:
        """Return how many calls there are still to read, about."""
        return max(0, self.replay.total - self.tally.read)


def make_plan(
    conn: Connection,
    transforms: TransformSet,
    asked: ReplayRequest,
    bounds: tuple[int | None, int | None],
    replay_id: int,
    now: int,
    *,
    again: bool,
) -> Plan:
    """Return what is to be done by these transforms: what was stopped half-way, or a replay that begins.

    `bounds` and `now` in microseconds since 1970; `replay_id` is for one that begins, and `again` begins one anyway.

    Raises:
        NotFound: there is no such transform, or none at all, or no call with this id.
        TransformInvalid: the transform has no lane of its own.

    """
    what = msgspec.json.encode(asked).decode()
    digest = blake2b(b"".join(one.digest for one in transforms.transforms), digest_size=DIGEST_BYTES).digest()
    plan = Plan(
        asked=asked,
        replay=Replay(
            id=replay_id,
            what=what,
            transforms=digest,
            cursor=-1,
            until_id=-1,
            total=0,
            counts="{}",
            started_at=now,
        ),
        resumed=False,
        transforms=transforms,
        fill=_find_fill(transforms, asked.transform),
        tally=Tally(),
        call_ids=None if asked.call_id is None else _find_calls(conn, asked.call_id),
        published_at=find_latest_moment(conn, KIND),
    )
    unfinished = None if again else find_unfinished(conn, what)
    if unfinished is not None and unfinished.transforms == digest:
        plan.replay, plan.resumed = unfinished, True
        plan.tally = msgspec.json.decode(unfinished.counts, type=Tally)
        return plan
    since, until = bounds
    cursor = -1 if since is None else first_id_at(since) - 1
    last = newest_call_id(conn)
    if until is not None:
        last = min(last, first_id_at(until) - 1)
    total = count_ids(conn, to_scope(plan), cursor, last)
    plan.replay = msgspec.structs.replace(
        plan.replay, cursor=cursor, until_id=last, total=total if asked.limit is None else min(total, asked.limit)
    )
    return plan


def _find_fill(transforms: TransformSet, name: str | None) -> Transform | None:
    if not transforms.transforms:
        raise NotFound("no transform is live; `segment-lotus transforms publish` makes them so")
    if name is None:
        return None
    transform = next((one for one in transforms.transforms if one.name == name), None)
    if transform is None:
        raise NotFound(f"no transform {name} is live")
    if not transform.also:
        raise TransformInvalid(f"{name} has no lane of its own to fill: it does not say `also: true`")
    return transform


def _find_calls(conn: Connection, wanted: int | str) -> tuple[int, ...]:
    """Return the calls with an id: of its own, of its message, or of its event. Raises NotFound."""
    if isinstance(wanted, int) and read_calls(conn, [wanted]):
        return (wanted,)
    ids = list_call_ids(conn, CallFilters(id=str(wanted)), limit=_SAME_ID_MAX)
    if not ids:
        raise NotFound(f"there is no call, message or event with the id {str(wanted)[:100]!r}")
    return tuple(sorted(ids))


def to_scope(plan: Plan) -> ReplayScope:
    """Return which kept calls are meant."""
    asked = plan.asked
    return ReplayScope(
        outcomes=asked.outcomes,
        event=asked.event,
        reason=asked.reason,
        by=asked.by,
        version=bytes.fromhex(asked.version) if asked.version else None,
        problem=asked.problem,
        call_ids=plan.call_ids,
    )
