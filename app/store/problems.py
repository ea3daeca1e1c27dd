"""Reading the calls that made no event, counted by what became of them and why. `conn` first.

Only the newest calls of a range are read, as many as the caller says: a page costs the same whether a thousand calls
were rejected or a million. The partial index by outcome leads to them.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.core.outcome import Outcome, Reason
from app.store.schema import calls


class Window(msgspec.Struct, frozen=True):
    """Which calls are looked at: those with ids from `first` to below `end`."""

    first: int
    end: int
    calls: int
    whole: bool
    """No older call of the range is left out."""


class ProblemRow(msgspec.Struct, frozen=True):
    """Calls that ended in the same way, and were told the same sentence."""

    outcome: str
    reason: str | None
    transform: str | None
    transform_digest: bytes | None
    detail: str | None
    """None for a conflict: each has an id of its own in its sentence."""
    count: int
    first_id: int
    last_id: int


class UnmappedRow(msgspec.Struct, frozen=True):
    """Calls of one type and event that no transform takes."""

    type: str | None
    event: str | None
    detail: str | None
    """The sentence that they were told, or one of them."""
    count: int
    first_id: int
    last_id: int


# Word for word the condition of the partial index, and a literal: a bound value would not prove that it holds them.
_NOT_STORED = calls.c.outcome != sa.literal_column("'stored'")
_COUNTED = (sa.func.count(), sa.func.min(calls.c.id), sa.func.max(calls.c.id))


def find_window(conn: sa.Connection, outcomes: Sequence[Outcome], first: int, end: int, most: int) -> Window:
    """Return the part of the ids from `first` to below `end` that holds the newest `most` calls of these outcomes."""
    newest = [_newest(outcome, first, end, most).subquery() for outcome in outcomes]
    found = sa.union_all(*(sa.select(one.c.id) for one in newest)).subquery()
    # One more than asked for tells whether anything older is left.
    query = sa.select(found.c.id).order_by(found.c.id.desc()).limit(most + 1)
    ids = conn.execute(query).scalars().all()
    if len(ids) <= most:
        return Window(first, end, len(ids), whole=True)
    return Window(ids[most - 1], end, most, whole=False)


def list_problem_rows(conn: sa.Connection, outcomes: Sequence[Outcome], window: Window) -> list[ProblemRow]:
    """Return the calls of these outcomes, counted by reason, transform, version and sentence."""
    found: list[ProblemRow] = []
    for outcome in outcomes:
        # The sentence of a conflict names ids: no two are the same.
        detail = sa.null() if outcome is Outcome.CONFLICT else calls.c.detail
        said: list[Any] = [calls.c.reason, calls.c.transform, calls.c.transform_digest, detail]
        query: sa.Select[Any] = sa.select(*said, *_COUNTED).where(*_within(outcome, window.first, window.end))
        grouped = said[:3] if outcome is Outcome.CONFLICT else said
        found += [ProblemRow(outcome.value, *row) for row in conn.execute(query.group_by(*grouped))]
    return found


def list_unmapped_rows(conn: sa.Connection, window: Window) -> list[UnmappedRow]:
    """Return the calls that no transform takes, counted by type and event."""
    columns = (calls.c.type, calls.c.event)
    where = (*_within(Outcome.IGNORED, window.first, window.end), calls.c.reason == Reason.NO_TRANSFORM.value)
    query = sa.select(*columns, sa.func.min(calls.c.detail), *_COUNTED).where(*where).group_by(*columns)
    return [UnmappedRow(*row) for row in conn.execute(query)]


def _newest(outcome: Outcome, first: int, end: int, most: int) -> sa.Select[tuple[int]]:
    query = sa.select(calls.c.id).where(*_within(outcome, first, end))
    return query.order_by(calls.c.id.desc()).limit(most + 1)


def _within(outcome: Outcome, first: int, end: int) -> tuple[sa.ColumnElement[bool], ...]:
    return calls.c.outcome == outcome.value, _NOT_STORED, calls.c.id >= first, calls.c.id < end
