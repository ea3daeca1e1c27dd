"""Reading the calls that made no event, counted by what became of them and why. `conn` first.

Only the newest calls of a range are read, as many as the caller says and the time allows: a page costs the same whether
a thousand calls were rejected or a million. The partial index by outcome leads to them.
"""

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.core.outcome import Outcome, Reason
from app.store.schema import calls, events


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls are to be looked at."""

    first: int
    """The lowest id."""
    end: int
    """Above the highest id."""
    most: int
    seconds: float
    """After so long a look ends early: rows that nobody has read for long come from the disk one by one."""


class Look(msgspec.Struct, frozen=True):
    """How far a look came."""

    calls: int
    reached: int | None
    """The lowest id that was looked at, where older ones are left; None where all were."""


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


class SharedIdRow(msgspec.Struct, frozen=True):
    """Events that count under an id that many senders may have in common."""

    field: str
    """`customer_id` or `idempotency_id`."""
    id: str
    count: int
    """At most as many as were asked for."""
    last_id: int
    """Of their newest call."""


# Word for word the condition of the partial index, and a literal: a bound value would not prove that it holds them.
_NOT_STORED = calls.c.outcome != sa.literal_column("'stored'")
# Between two answers of a server. SQLite gives row by row.
_ROWS_AT_ONCE = 100


def list_problem_rows(
    conn: sa.Connection, outcomes: Sequence[Outcome], window: Window
) -> tuple[list[ProblemRow], Look]:
    """Return the newest calls of these outcomes, counted by reason, transform, version and sentence."""
    # The sentence of a conflict names ids: no two are the same.
    detail = sa.case((calls.c.outcome == Outcome.CONFLICT.value, sa.null()), else_=calls.c.detail)
    columns = (calls.c.outcome, calls.c.reason, calls.c.transform, calls.c.transform_digest, detail)
    counted, look = _count(conn, columns, outcomes, window)
    return [ProblemRow(*said, *numbers) for said, numbers in counted.items()], look


def list_unmapped_rows(conn: sa.Connection, window: Window) -> tuple[list[UnmappedRow], Look]:
    """Return those of the newest ignored calls that no transform takes, counted by type and event."""
    columns = (calls.c.reason, calls.c.type, calls.c.event, calls.c.detail)
    counted, look = _count(conn, columns, (Outcome.IGNORED,), window)
    return [
        UnmappedRow(*said[1:], *numbers) for said, numbers in counted.items() if said[0] == Reason.NO_TRANSFORM
    ], look


def list_shared_ids(conn: sa.Connection, ids: Sequence[str], first: int, most: int) -> list[SharedIdRow]:
    """Return which of some ids events have, of calls from the id `first` on; `most` events of each are counted.

    A few looks into two indexes, whatever else there is.
    """
    queries = []
    for column in (events.c.customer_id, events.c.idempotency_id):
        for one_id in ids:
            newest = (
                sa.select(events.c.call_id)
                .where(column == one_id, events.c.call_id >= first, events.c.voided_at.is_(None))
                .order_by(events.c.call_id.desc())
                .limit(most)
                .subquery()
            )
            name, text = (sa.literal(value, sa.Text) for value in (column.name, one_id))
            queries.append(sa.select(name, text, sa.func.count(newest.c.call_id), sa.func.max(newest.c.call_id)))
    rows = conn.execute(sa.union_all(*queries))
    return [SharedIdRow(*row) for row in rows if row[2]]


def _count(
    conn: sa.Connection, columns: Sequence[sa.ColumnElement[Any]], outcomes: Sequence[Outcome], window: Window
) -> tuple[dict[tuple[Any, ...], list[int]], Look]:
    """Read on, newest first, until there are enough; return (count, first id, last id) by what the columns hold."""
    until = time.monotonic() + window.seconds
    queries = [
        sa.select(calls.c.id, *(one.label(None) for one in columns)).where(*_within(one_of, window))
        for one_of in outcomes
    ]
    query = sa.union_all(*queries) if len(queries) > 1 else queries[0]
    ordered = query.order_by(sa.text("1 DESC")).limit(window.most + 1)
    counted: dict[tuple[Any, ...], list[int]] = {}
    looked_at, number = 0, 0
    with conn.execution_options(yield_per=_ROWS_AT_ONCE).execute(ordered) as rows:
        for row in rows:
            # One more than may be looked at tells that older ones are left.
            if looked_at == window.most or (looked_at and time.monotonic() > until):
                return counted, Look(looked_at, number)
            number, *said = row
            looked_at += 1
            numbers = counted.setdefault(tuple(said), [0, number, number])
            numbers[0] += 1
            numbers[1] = number
    return counted, Look(looked_at, None)


def _within(outcome: Outcome, window: Window) -> tuple[sa.ColumnElement[bool], ...]:
    return calls.c.outcome == outcome.value, _NOT_STORED, calls.c.id >= window.first, calls.c.id < window.end
