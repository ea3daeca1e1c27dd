"""Counts of the calls that made no event, by outcome and reason. `conn` first.

Only the newest calls of a range are read, within the caller's limits of number and time: a page costs the same whether
a thousand calls were rejected or a million. They are found by the partial index on the outcome.
"""

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.core.outcome import Outcome, Reason
from app.store.schema import calls, events


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls to read."""

    first: int
    """The lowest id."""
    end: int
    """Above the highest id."""
    most: int
    seconds: float
    """A scan ends early after this time: rows that have not been read for long come from the disk one by one."""


class Scan(msgspec.Struct, frozen=True):
    """How far a scan got."""

    calls: int
    reached: int | None
    """The lowest id that was read, if older ones are left; None if all were read."""


class ProblemRow(msgspec.Struct, frozen=True):
    """Calls with the same outcome, reason, version and sentence."""

    outcome: str
    reason: str | None
    transform: str | None
    transform_digest: bytes | None
    detail: str | None
    """None for a conflict: each sentence names an id of its own."""
    count: int
    first_id: int
    last_id: int


class UnmappedRow(msgspec.Struct, frozen=True):
    """Calls of one type and event that no transform takes."""

    type: str | None
    event: str | None
    detail: str | None
    """Their sentence."""
    count: int
    first_id: int
    last_id: int


class SharedIdRow(msgspec.Struct, frozen=True):
    """Events that count under an id that many senders may share."""

    field: str
    """`customer_id` or `idempotency_id`."""
    id: str
    count: int
    """At most `most`."""
    last_id: int
    """Of their newest call."""


# Exactly the condition of the partial index, and a literal: with a bound value the planner could not use the index.
_NOT_STORED = calls.c.outcome != sa.literal_column("'stored'")
# Rows that a server sends at a time. SQLite returns them one by one.
_ROWS_AT_ONCE = 100


def list_problem_rows(
    conn: sa.Connection, outcomes: Sequence[Outcome], window: Window
) -> tuple[list[ProblemRow], Scan]:
    """Return the newest calls of these outcomes, counted by reason, transform, version and sentence."""
    # The sentence of a conflict names ids: no two are equal.
    detail = sa.case((calls.c.outcome == Outcome.CONFLICT.value, sa.null()), else_=calls.c.detail)
    columns = (calls.c.outcome, calls.c.reason, calls.c.transform, calls.c.transform_digest, detail)
    counted, scan = _count(conn, columns, outcomes, window)
    return [ProblemRow(*values, *numbers) for values, numbers in counted.items()], scan


def list_unmapped_rows(conn: sa.Connection, window: Window) -> tuple[list[UnmappedRow], Scan]:
    """Return those of the newest ignored calls that no transform takes, counted by type and event."""
    columns = (calls.c.reason, calls.c.type, calls.c.event, calls.c.detail)
    counted, scan = _count(conn, columns, (Outcome.IGNORED,), window)
    return [
        UnmappedRow(*values[1:], *numbers) for values, numbers in counted.items() if values[0] == Reason.NO_TRANSFORM
    ], scan


def list_shared_ids(conn: sa.Connection, ids: Sequence[str], first: int, most: int) -> list[SharedIdRow]:
    """Return which of `ids` are used by events of calls from the id `first` on; at most `most` events of each count.

    It costs a few index lookups, however many events there are.
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
) -> tuple[dict[tuple[Any, ...], list[int]], Scan]:
    """Read, newest first, up to the window's limits; return [count, first id, last id] by the values of the columns."""
    until = time.monotonic() + window.seconds
    queries = [
        sa.select(calls.c.id, *(column.label(None) for column in columns)).where(*_within(outcome, window))
        for outcome in outcomes
    ]
    query = sa.union_all(*queries) if len(queries) > 1 else queries[0]
    ordered = query.order_by(sa.text("1 DESC")).limit(window.most + 1)
    counted: dict[tuple[Any, ...], list[int]] = {}
    looked_at, number = 0, 0
    with conn.execution_options(yield_per=_ROWS_AT_ONCE).execute(ordered) as rows:
        for row in rows:
            # One row beyond the limit shows that older ones are left.
            if looked_at == window.most or (looked_at and time.monotonic() > until):
                return counted, Scan(looked_at, number)
            number, *values = row
            looked_at += 1
            numbers = counted.setdefault(tuple(values), [0, number, number])
            numbers[0] += 1
            numbers[1] = number
    return counted, Scan(looked_at, None)


def _within(outcome: Outcome, window: Window) -> tuple[sa.ColumnElement[bool], ...]:
    return calls.c.outcome == outcome.value, _NOT_STORED, calls.c.id >= window.first, calls.c.id < window.end
