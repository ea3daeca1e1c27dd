"""A replay: its request, its plan, and the tally of its calls so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from app.catalog.live import KIND
from app.core.lotus import DIGEST_BYTES
from app.core.outcome import Outcome, Reason
from app.core.transform.transform import Transform, TransformSet
from app.errors import NotFound, TransformInvalid
from app.replay.context import BatchResult
from app.replay.correction_batch import find_running
from app.replay.decide import REMOVED, Decision
from app.replay.sql_replays import Replay, append_replay, find_unfinished
from app.store.corrections import Correction, append_correction
from app.store.engine import Connection
from app.store.ids import first_id_at
from app.store.kept import ReplayScope, count_ids
from app.store.publications import find_latest_moment
from app.store.review import get_call_ids, newest_call_id, read_calls

_SPREAD_SECONDS = 15
"""After this time no call that an older version mapped can become visible any more: all nodes map by a new
version within 2 s, a commit waits 3 s for the database, and a transaction lasts 10 s at most."""

_SAME_ID_MAX = 1000
"""Calls with one id that a replay takes at most: the newest."""


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The request of a replay, stored as it is: the same request resumes a stopped replay."""

    outcomes: tuple[Outcome, ...]
    event: str | None = None
    reason: Reason | None = None
    by: str | None = None
    """Name of the transform that decided."""
    version: str | None = None
    """Version of the transform that decided, in hexadecimal digits."""
    problem: str | None = None
    """Only calls with the fault that has this key, in hexadecimal digits."""
    mapped_by: tuple[str, ...] = ()
    """Only calls that one of these transforms maps today, whoever decided then."""
    since: str | None = None
    until: str | None = None
    transform: str | None = None
    call_id: int | str | None = None
    """A call's own id as a number; as text, the id of a message or the idempotency id of an event."""
    limit: int | None = None
    correct: bool = False


class Tally(msgspec.Struct, kw_only=True):
    """Counts of a replay's calls by their result."""

    read: int = 0
    same: int = 0
    """Calls whose outcome is unchanged."""
    changed: dict[str, int] = {}
    """Calls by `before > now`."""
    corrected: int = 0
    """Calls of which an event was replaced or added."""
    voided: int = 0
    """Events that were voided."""
    delivered: int = 0
    """How many of the voided events Lotus already has, and keeps: it cannot void them."""
    left: dict[str, int] = {}
    """Calls left unchanged, by reason."""
    samples: dict[str, str] = {}
    """The first call of each such reason, and of each change."""

    @property
    def removed(self) -> int:
        """Return how many calls had lost their bytes to retention."""
        return self.left.get(REMOVED, 0)

    def note(self, call_id: int, why: str) -> None:
        """Count a call that is left unchanged."""
        self.left[why] = self.left.get(why, 0) + 1
        self.samples.setdefault(why, str(call_id))

    def without_skipped(self, decisions: Sequence[Decision]) -> list[Decision]:
        """Count the skipped calls; return the others."""
        for decision in decisions:
            if decision.note is not None:
                self.note(decision.row.id, decision.note)
        return [decision for decision in decisions if decision.note is None]

    def add(self, result: BatchResult) -> None:
        """Add the result of a batch."""
        self.same += result.same
        self.corrected += result.corrected
        self.voided += result.voided
        self.delivered += result.delivered
        for (before, now), count in result.changed.items():
            self.change(before, now, count)
        for call_id, why in result.notes:
            self.note(call_id, why)

    def change(self, before: str, now: str, count: int = 1) -> None:
        """Count calls whose outcome changed."""
        key = f"{before} > {now}"
        self.changed[key] = self.changed.get(key, 0) + count


@dataclass(slots=True, kw_only=True)
class Plan:
    """What a replay will do, and how far it is."""

    request: ReplayRequest
    replay: Replay
    resumed: bool
    """Whether it resumes a stopped replay."""
    transforms: TransformSet
    fill: Transform | None
    tally: Tally
    correction: Correction | None = None
    """Its batch, as far as it is; None: it corrects nothing."""
    call_ids: tuple[int, ...] | None = None
    """The calls with `request.call_id`; None without one."""
    mappers: tuple[Transform, ...] = ()
    """The transforms of `request.mapped_by`."""
    published_at: int = 0
    """Time of the latest publication of a transform, in microseconds since 1970."""

    @property
    def spread_at(self) -> int:
        """Return when all nodes map by the live versions, and all calls mapped by others are visible."""
        return self.published_at + _SPREAD_SECONDS * 1_000_000

    @property
    def catches_up(self) -> bool:
        """Whether it reads the newest calls once more at its end: a correction that begins just after a publication."""
        request = self.request
        bounded = request.limit is not None or request.until is not None or request.call_id is not None
        return request.correct and not bounded and self.replay.started_at < self.spread_at

    @property
    def left(self) -> int:
        """Return about how many calls are still to be read."""
        return max(0, self.replay.total - self.tally.read)


def make_plan(
    conn: Connection,
    transforms: TransformSet,
    request: ReplayRequest,
    bounds: tuple[int | None, int | None],
    replay_id: int,
    now: int,
    *,
    again: bool,
) -> Plan:
    """Return the plan of a replay by these transforms: a stopped one to resume, or a new one.

    `bounds` and `now` in microseconds since 1970; a new replay gets `replay_id`; `again` never resumes.

    Raises:
        NotFound: there is no such transform, or none at all, or no call with this id.
        TransformInvalid: the transform has no lane of its own.

    """
    what = msgspec.json.encode(request).decode()
    digest = blake2b(
        b"".join(transform.digest for transform in transforms.transforms), digest_size=DIGEST_BYTES
    ).digest()
    plan = Plan(
        request=request,
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
        fill=_find_fill(transforms, request.transform),
        tally=Tally(),
        call_ids=None if request.call_id is None else _find_calls(conn, request.call_id),
        published_at=find_latest_moment(conn, KIND),
        mappers=tuple(_find_live(transforms, name) for name in request.mapped_by),
    )
    unfinished = None if again else find_unfinished(conn, what)
    if unfinished is not None and unfinished.transforms == digest:
        correction = find_running(conn, unfinished.id) if request.correct else None
        if correction is not None or not request.correct:
            plan.replay, plan.resumed, plan.correction = unfinished, True, correction
            plan.tally = msgspec.json.decode(unfinished.counts, type=Tally)
            return plan
    since, until = bounds
    cursor = -1 if since is None else first_id_at(since) - 1
    last = newest_call_id(conn)
    if until is not None:
        last = min(last, first_id_at(until) - 1)
    total = count_ids(conn, to_scope(plan), cursor, last)
    plan.replay = msgspec.structs.replace(
        plan.replay, cursor=cursor, until_id=last, total=total if request.limit is None else min(total, request.limit)
    )
    return plan


def _find_fill(transforms: TransformSet, name: str | None) -> Transform | None:
    if not transforms.transforms:
        raise NotFound("no transform is live; publish some with `segment-lotus transforms publish`")
    if name is None:
        return None
    transform = _find_live(transforms, name)
    if not transform.also:
        raise TransformInvalid(f"{name} has no lane of its own to fill: it does not say `also: true`")
    return transform


def _find_live(transforms: TransformSet, name: str) -> Transform:
    transform = next((transform for transform in transforms.transforms if transform.name == name), None)
    if transform is None:
        raise NotFound(f"no transform {name} is live")
    return transform


def _find_calls(conn: Connection, wanted_id: int | str) -> tuple[int, ...]:
    """Return the calls with this call id, message id or idempotency id. Raises NotFound."""
    if isinstance(wanted_id, int) and read_calls(conn, [wanted_id]):
        return (wanted_id,)
    return tuple(sorted(get_call_ids(conn, str(wanted_id), _SAME_ID_MAX)))


def append_plan(conn: Connection, plan: Plan) -> None:
    """Insert the replay of a new plan, and its batch."""
    append_replay(conn, plan.replay)
    if plan.correction is not None:
        append_correction(conn, plan.correction)


def to_scope(plan: Plan) -> ReplayScope:
    """Return the scope that selects the stored calls of a plan."""
    request = plan.request
    return ReplayScope(
        outcomes=request.outcomes,
        event=request.event,
        reason=request.reason,
        by=request.by,
        version=bytes.fromhex(request.version) if request.version else None,
        fault=bytes.fromhex(request.problem) if request.problem is not None else None,
        kinds=tuple(_kind(transform) for transform in plan.mappers),
        call_ids=plan.call_ids,
    )


def _kind(transform: Transform) -> tuple[str, tuple[str, ...]]:
    """Return the type and the event names of the calls that a transform takes; no names where it has patterns."""
    match = transform.match
    return match.type, () if match.patterns else tuple(sorted(match.events))
