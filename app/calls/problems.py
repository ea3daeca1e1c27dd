"""Stored calls that need attention: rejected, in conflict, or taken by no transform.

A thousand calls that fail in one way are one problem: they have one fault (`app.core.fault`).
"""

from collections.abc import Collection

import msgspec

from app.calls.sql_problems import FaultCount, SharedIdRow, count_faults, list_shared_ids, list_types
from app.catalog.live import KIND
from app.core.fault import ELLIPSIS
from app.core.jmespath.functions.choices import PLACEHOLDERS
from app.core.outcome import Outcome, Reason
from app.core.times import format_time
from app.store.engine import Database
from app.store.ids import first_id_at, micros_of
from app.store.publications import list_live

SHARED_MAX = 5_000
"""Events that are counted for each placeholder id."""

GROUPS_MAX = 100
"""Groups that are listed; the others are only counted."""

_BLANKS_MAX = 8
_NO_IDS = (*PLACEHOLDERS, *(" " * length for length in range(1, _BLANKS_MAX + 1)))
"""Placeholder ids to search for, each in an index; of blanks only spaces."""

_SENTENCE_CHARS = 400


class ProblemGroup(msgspec.Struct, kw_only=True):
    """Calls that fail in one way."""

    outcome: str
    reason: str | None
    transform: str | None
    version: str | None
    """Version of the transform that decided, in hexadecimal digits."""
    is_live: bool
    """This version is live now: replaying these calls would change nothing."""
    path: str
    sentence: str
    count: int
    first_at: int
    last_at: int
    sample: str
    """Id of the newest of these calls."""
    key: str
    """Identifies the group."""

    @property
    def words(self) -> dict[str, str]:
        """Return the parameters of a replay of exactly these calls, and of those like them outside the period."""
        # The key alone would be enough; the others say what is replayed.
        filters = {"outcome": self.outcome, "reason": self.reason, "by": self.transform, "version": self.version}
        return {**{name: value for name, value in filters.items() if value is not None}, "problem": self.key}


class Unmapped(msgspec.Struct, kw_only=True):
    """Calls of one type and event that no transform takes."""

    type: str | None
    event: str | None
    """None for a type without event names, whatever `event` its calls hold."""
    count: int
    first_at: int
    last_at: int
    sample: str
    key: str
    """Identifies the group."""

    @property
    def words(self) -> dict[str, str]:
        """Return the parameters of a replay of these calls."""
        return {"outcome": Outcome.IGNORED, "reason": Reason.NO_TRANSFORM, "problem": self.key}


class SharedId(msgspec.Struct, kw_only=True):
    """Events that count under a placeholder id: a blank, `undefined`, `null` ..."""

    field: str
    """`customer_id` or `idempotency_id`."""
    id: str
    count: int
    is_more: bool
    """Whether there are more than `count`."""
    last_at: int
    sample: str
    """Id of the newest of their calls."""


class Problems(msgspec.Struct, kw_only=True):
    """The result of `find_problems`."""

    groups: list[ProblemGroup]
    """The largest first."""
    more: int
    """Groups that are not listed."""
    calls: int
    """Calls of all groups."""
    unmapped: list[Unmapped]
    unmapped_more: int
    unmapped_calls: int
    shared_ids: list[SharedId]


def find_problems(database: Database, since: int | None) -> Problems:
    """Group the calls received since a time (microseconds since 1970; None: all).

    Raises:
        Unavailable: the database cannot be read now.

    """
    first = 0 if since is None else first_id_at(since)
    with database.reading() as conn:
        counts = count_faults(conn, first)
        failed = [row for row in counts if row.outcome != Outcome.IGNORED]
        unmapped = [row for row in counts if row.reason == Reason.NO_TRANSFORM]
        types = list_types(conn, [row.last_id for row in unmapped[:GROUPS_MAX]])
        shared = list_shared_ids(conn, _NO_IDS, first, SHARED_MAX + 1)
        live = {publication.digest for publication in list_live(conn, KIND).values()} if failed else set()
    return Problems(
        groups=[_to_group(row, live) for row in failed[:GROUPS_MAX]],
        more=max(0, len(failed) - GROUPS_MAX),
        calls=sum(row.count for row in failed),
        unmapped=[_to_unmapped(row, *types[row.last_id]) for row in unmapped[:GROUPS_MAX]],
        unmapped_more=max(0, len(unmapped) - GROUPS_MAX),
        unmapped_calls=sum(row.count for row in unmapped),
        shared_ids=[_to_shared_id(row) for row in shared],
    )


def _to_group(row: FaultCount, live: Collection[bytes | None]) -> ProblemGroup:
    return ProblemGroup(
        outcome=row.outcome,
        reason=row.reason,
        transform=row.transform,
        version=row.transform_digest.hex() if row.transform_digest is not None else None,
        is_live=row.transform_digest is not None and row.transform_digest in live,
        path=row.path,
        sentence=_cut(row.sentence),
        count=row.count,
        first_at=micros_of(row.first_id),
        last_at=micros_of(row.last_id),
        sample=str(row.last_id),
        key=row.key.hex(),
    )


def _to_unmapped(row: FaultCount, type_: str | None, event: str | None) -> Unmapped:
    return Unmapped(
        type=type_,
        event=event if type_ == "track" else None,
        count=row.count,
        first_at=micros_of(row.first_id),
        last_at=micros_of(row.last_id),
        sample=str(row.last_id),
        key=row.key.hex(),
    )


def _cut(sentence: str) -> str:
    return sentence if len(sentence) <= _SENTENCE_CHARS else f"{sentence[:_SENTENCE_CHARS]}{ELLIPSIS}"


def _to_shared_id(row: SharedIdRow) -> SharedId:
    return SharedId(
        field=row.field,
        id=row.id,
        count=min(row.count, SHARED_MAX),
        is_more=row.count > SHARED_MAX,
        last_at=micros_of(row.last_id),
        sample=str(row.last_id),
    )


def to_document(problems: Problems) -> dict[str, object]:
    """Return the result as JSON-ready values, times as RFC 3339."""

    def to_values(group: ProblemGroup | Unmapped) -> dict[str, object]:
        fields = msgspec.structs.asdict(group)
        times = {"first_at": format_time(group.first_at), "last_at": format_time(group.last_at)}
        return {**fields, **times, "replay": group.words}

    def seen(calls: int) -> dict[str, object]:
        # `since` and `before` are from when only the newest calls were counted.
        return {"calls": calls, "since": None, "before": None}

    return {
        "groups": [to_values(group) for group in problems.groups],
        "more": problems.more,
        "seen": seen(problems.calls),
        "unmapped": [to_values(group) for group in problems.unmapped],
        "unmapped_more": problems.unmapped_more,
        "unmapped_seen": seen(problems.unmapped_calls),
        "shared_ids": [
            {**msgspec.structs.asdict(shared), "last_at": format_time(shared.last_at)} for shared in problems.shared_ids
        ],
    }
