"""What needs a person among the kept calls: those that were rejected, that conflict, or that no transform takes.

A thousand calls that fail in one way are one problem; `app.core.problem` tells the ways apart.
"""

from collections.abc import Iterable

import msgspec

from app.calls.sql_problems import (
    Look,
    ProblemRow,
    SharedIdRow,
    UnmappedRow,
    Window,
    list_problem_rows,
    list_shared_ids,
    list_unmapped_rows,
)
from app.catalog.live import KIND
from app.core.jmespath.functions.choices import PLACEHOLDERS
from app.core.outcome import Outcome, Reason
from app.core.problem import parse_problem, problem_key
from app.core.times import format_time
from app.store.engine import Database
from app.store.ids import ID_MAX, first_id_at, micros_of
from app.store.publications import list_live

LOOKED_AT = 5_000
"""Calls that one look reads at most."""

SECONDS = 0.05
"""So long a look takes at most: rows that nobody has read for long come from the disk one by one."""


GROUPS_MAX = 100
"""Groups that are told; of the others only their number."""

_BLANKS_MAX = 8
_NO_IDS = (*PLACEHOLDERS, *(" " * length for length in range(1, _BLANKS_MAX + 1)))
"""What is looked for, each by an index; of blanks only spaces."""

_OUTCOMES = (Outcome.REJECTED, Outcome.CONFLICT)
_PATH_CHARS = 200
_SENTENCE_CHARS = 400
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


class ProblemGroup(msgspec.Struct, kw_only=True):
    """Calls that go wrong in one way."""

    outcome: str
    reason: str | None
    transform: str | None
    version: str | None
    """Of the transform that decided, in hexadecimal digits."""
    is_live: bool
    """The version is the one that is live now: running these calls again will change nothing."""
    path: str
    sentence: str
    count: int
    first_at: int
    last_at: int
    sample: str
    """Id of the newest of these calls."""
    key: str
    """What names the group."""

    @property
    def words(self) -> dict[str, str]:
        """Return what to ask a replay for: exactly these calls, and those like them outside the time looked at."""
        # The key alone would do; the others lead to the calls.
        given = {"outcome": self.outcome, "reason": self.reason, "by": self.transform, "version": self.version}
        return {**{name: value for name, value in given.items() if value is not None}, "problem": self.key}


class Unmapped(msgspec.Struct, kw_only=True):
    """Calls of one type and event that no transform takes."""

    type: str | None
    event: str | None
    count: int
    first_at: int
    last_at: int
    sample: str
    key: str
    """What names those of this type, whatever their event."""

    @property
    def words(self) -> dict[str, str]:
        """Return what to ask a replay for."""
        event = {} if self.event is None else {"event": self.event}
        return {"outcome": Outcome.IGNORED, "reason": Reason.NO_TRANSFORM, **event, "problem": self.key}


class SharedId(msgspec.Struct, kw_only=True):
    """Events that count under an id which stands for none: a blank, `undefined`, `null` ..."""

    field: str
    """`customer_id` or `idempotency_id`."""
    id: str
    count: int
    is_more: bool
    """There are more than `count`."""
    last_at: int
    sample: str
    """Id of the newest of their calls."""


class Seen(msgspec.Struct, kw_only=True):
    """How far back a look went."""

    calls: int
    since: int | None
    """Time of the oldest call that was looked at, where older ones are left; None where all were."""
    before: str | None
    """Where to go on from."""


class Problems(msgspec.Struct, kw_only=True):
    """What was found."""

    groups: list[ProblemGroup]
    """The largest first."""
    more: int
    """Groups that are not told."""
    seen: Seen
    unmapped: list[Unmapped]
    unmapped_more: int
    unmapped_seen: Seen
    shared_ids: list[SharedId]


def find_problems(
    database: Database, since: int | None, *, before: int | None = None, unmapped_before: int | None = None
) -> Problems:
    """Group the calls since a time (microseconds since 1970; None: since ever).

    `before`, `unmapped_before`: only calls below these ids, as `Seen.before` gave them.

    Raises:
        Unavailable: the database cannot be read now.

    """
    first = 0 if since is None else first_id_at(since)
    with database.reading() as conn:
        rows, look = list_problem_rows(conn, _OUTCOMES, _window(first, before))
        unmapped_rows, unmapped_look = list_unmapped_rows(conn, _window(first, unmapped_before))
        shared = list_shared_ids(conn, _NO_IDS, first, LOOKED_AT + 1)
        live = {one.digest for one in list_live(conn, KIND).values() if one.digest is not None} if rows else set()
    groups = to_groups(rows, live)
    unmapped = to_unmapped(unmapped_rows)
    return Problems(
        groups=groups[:GROUPS_MAX],
        more=max(0, len(groups) - GROUPS_MAX),
        seen=_to_seen(look),
        unmapped=unmapped[:GROUPS_MAX],
        unmapped_more=max(0, len(unmapped) - GROUPS_MAX),
        unmapped_seen=_to_seen(unmapped_look),
        shared_ids=[_to_shared_id(row) for row in shared],
    )


def _to_shared_id(row: SharedIdRow) -> SharedId:
    return SharedId(
        field=row.field,
        id=row.id,
        count=min(row.count, LOOKED_AT),
        is_more=row.count > LOOKED_AT,
        last_at=micros_of(row.last_id),
        sample=str(row.last_id),
    )


def _window(first: int, before: int | None) -> Window:
    return Window(first=first, end=before or ID_MAX, most=LOOKED_AT, seconds=SECONDS)


def to_unmapped(rows: Iterable[UnmappedRow]) -> list[Unmapped]:
    """Put together the calls that no transform takes, the most first."""
    found: dict[tuple[str | None, str | None], Unmapped] = {}
    for row in rows:
        one = found.get((row.type, row.event))
        if one is not None:
            # Of an older part of the same look.
            one.count += row.count
            one.first_at = micros_of(row.first_id)
            continue
        found[row.type, row.event] = Unmapped(
            type=row.type,
            event=row.event,
            count=row.count,
            first_at=micros_of(row.first_id),
            last_at=micros_of(row.last_id),
            sample=str(row.last_id),
            key=problem_key(Outcome.IGNORED, Reason.NO_TRANSFORM, None, None, row.detail),
        )
    return sorted(found.values(), key=lambda one: (-one.count, -one.last_at))


_Key = tuple[object, ...]


def to_groups(rows: Iterable[ProblemRow], live: set[bytes]) -> list[ProblemGroup]:
    """Put together what goes wrong in one way, the most calls first; `live` are the digests of what is live."""
    groups: dict[_Key, ProblemGroup] = {}
    newest: dict[_Key, int] = {}
    said: dict[_Key, set[str | None]] = {}
    for row in rows:
        way = parse_problem(row.reason, row.detail)
        key: _Key = (row.outcome, row.reason, row.transform, row.transform_digest, way)
        said.setdefault(key, set()).add(row.detail)
        group = groups.get(key)
        if group is None:
            newest[key] = row.last_id
            groups[key] = ProblemGroup(
                outcome=row.outcome,
                reason=row.reason,
                transform=row.transform,
                version=row.transform_digest.hex() if row.transform_digest is not None else None,
                is_live=row.transform_digest is not None and row.transform_digest in live,
                path=way.path[:_PATH_CHARS],
                sentence=way.sentence,
                count=row.count,
                first_at=micros_of(row.first_id),
                last_at=micros_of(row.last_id),
                sample=str(row.last_id),
                key=problem_key(row.outcome, row.reason, row.transform, row.transform_digest, row.detail),
            )
            continue
        group.count += row.count
        group.first_at = min(group.first_at, micros_of(row.first_id))
        if row.last_id > newest[key]:
            newest[key] = row.last_id
            group.last_at, group.sample = micros_of(row.last_id), str(row.last_id)
    for key, group in groups.items():
        # Where all were told the same, that is what stands there, with its numbers.
        [*sentences] = said[key]
        sentence = sentences[0] if len(sentences) == 1 and sentences[0] else group.sentence
        group.sentence = sentence if len(sentence) <= _SENTENCE_CHARS else f"{sentence[:_SENTENCE_CHARS]}{_ELLIPSIS}"
    return sorted(groups.values(), key=lambda one: (-one.count, -one.last_at))


def _to_seen(look: Look) -> Seen:
    reached = look.reached
    return Seen(
        calls=look.calls,
        since=None if reached is None else micros_of(reached),
        before=None if reached is None else str(reached),
    )


def to_document(found: Problems) -> dict[str, object]:
    """Return what was found as JSON-ready values, times as RFC 3339."""

    def told(one: ProblemGroup | Unmapped) -> dict[str, object]:
        fields = msgspec.structs.asdict(one)
        times = {"first_at": format_time(one.first_at), "last_at": format_time(one.last_at)}
        return {**fields, **times, "replay": one.words}

    def seen(one: Seen) -> dict[str, object]:
        since = None if one.since is None else format_time(one.since)
        return {"calls": one.calls, "since": since, "before": one.before}

    return {
        "groups": [told(one) for one in found.groups],
        "more": found.more,
        "seen": seen(found.seen),
        "unmapped": [told(one) for one in found.unmapped],
        "unmapped_more": found.unmapped_more,
        "unmapped_seen": seen(found.unmapped_seen),
        "shared_ids": [
            {**msgspec.structs.asdict(shared), "last_at": format_time(shared.last_at)} for shared in found.shared_ids
        ],
    }
