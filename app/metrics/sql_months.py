"""Queries for closed months: their numbers, what was carried of them, and what changed since. `conn` first."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import sqlalchemy as sa

from app.errors import NotFound
from app.metrics.sql_events import Place, UsageEvent, event_columns, stream_rows
from app.store.inserts import Insert
from app.store.moment import counted_at, stored_by
from app.store.record import to_key
from app.store.schema import carried_adjustments, closed_months, closed_numbers, events


class ClosedMonth(msgspec.Struct, frozen=True, kw_only=True):
    """One time that a month of a metric was closed. Times are in microseconds since 1970."""

    id: int
    metric: str
    month: str
    """Such as 2026-10."""
    tz: str
    as_of: int
    """The moment whose numbers it holds."""
    metric_digest: bytes
    """The version of the definition."""
    numbers_digest: bytes
    closed_at: int
    author: str
    reopened_at: int | None = None
    """None: it is closed."""
    reopen_author: str | None = None
    reopen_reason: str | None = None


class ClosedNumber(msgspec.Struct, frozen=True):
    """The number of one customer and group in a closed month."""

    customer_id: str
    grp: str
    """JSON list of the texts of the metric's group_by."""
    value: str | None
    events_count: int
    skipped: str | None
    """JSON of the counts by reason; None: nothing was skipped."""


class CarriedAdjustment(msgspec.Struct, frozen=True, kw_only=True):
    """What was taken of an adjustment into another month."""

    id: int
    closed_id: int
    customer_id: str
    grp: str
    amount: str
    month: str
    """The month into which it was taken."""
    as_of: int
    """The moment of whose adjustment it is."""
    carried_at: int
    author: str


class ChangedEvent(msgspec.Struct, frozen=True):
    """An event that counts now and did not at a moment, or the reverse."""

    event: UsageEvent
    counts: bool
    """Whether it counts now."""
    was_stored: bool
    """Whether it was stored at that moment."""


_MONTHS = Insert(closed_months, tuple(ClosedMonth.__struct_fields__))
_NUMBERS = Insert(closed_numbers, ("closed_id", *ClosedNumber.__struct_fields__))
_CARRIED = Insert(carried_adjustments, CarriedAdjustment.__struct_fields__)


def append_closed_month(conn: sa.Connection, closed: ClosedMonth, numbers: Iterable[ClosedNumber]) -> None:
    """Insert a closed month with its numbers. Raises DuplicateKey if that month is closed, or the id is taken."""
    _MONTHS.run(conn, [msgspec.structs.astuple(closed)])
    _NUMBERS.run(conn, [(closed.id, *msgspec.structs.astuple(number)) for number in numbers])


def get_closed_month(conn: sa.Connection, closed_id: int, *, lock: bool = False) -> ClosedMonth:
    """Return one closed or reopened month; `lock`: nobody else changes it before this transaction ends.

    Raises:
        NotFound: there is none with this id.

    """
    query = sa.select(closed_months).where(closed_months.c.id == closed_id)
    row = conn.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound(f"there is no closed month {closed_id}")
    return ClosedMonth(**row._mapping)  # noqa: SLF001  SQLAlchemy's own name


def find_closed_month(conn: sa.Connection, metric: str, month: str, tz: str) -> ClosedMonth | None:
    """Return the month if it is closed in that zone."""
    query = sa.select(closed_months).where(
        closed_months.c.metric == metric,
        closed_months.c.month == month,
        closed_months.c.tz == tz,
        closed_months.c.reopened_at.is_(None),
    )
    row = conn.execute(query).one_or_none()
    return None if row is None else ClosedMonth(**row._mapping)  # noqa: SLF001


def list_closed_months(
    conn: sa.Connection, limit: int, before: int | None = None, metric: str | None = None
) -> list[ClosedMonth]:
    """Return the last `limit` closed and reopened months below the id `before`, newest first."""
    query = sa.select(closed_months).order_by(closed_months.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(closed_months.c.id < before)
    if metric is not None:
        query = query.where(closed_months.c.metric == metric)
    return [ClosedMonth(**row._mapping) for row in conn.execute(query)]  # noqa: SLF001


def list_numbers(conn: sa.Connection, closed_id: int, customer_id: str | None = None) -> list[ClosedNumber]:
    """Return the numbers of a closed month, of one customer or all, by customer and group."""
    query = sa.select(*(closed_numbers.c[name] for name in ClosedNumber.__struct_fields__)).where(
        closed_numbers.c.closed_id == closed_id
    )
    if customer_id is not None:
        query = query.where(closed_numbers.c.customer_id == to_key(customer_id))
    return sorted((ClosedNumber(*row) for row in conn.execute(query)), key=_number_order)


def mark_reopened(conn: sa.Connection, closed_id: int, now: int, author: str, reason: str) -> None:
    """Note that a month is open again."""
    values = {"reopened_at": now, "reopen_author": author, "reopen_reason": reason}
    conn.execute(sa.update(closed_months).where(closed_months.c.id == closed_id).values(**values))


def append_carried(conn: sa.Connection, carried: Iterable[CarriedAdjustment]) -> None:
    """Insert lines that were taken into another month."""
    _CARRIED.run(conn, [msgspec.structs.astuple(line) for line in carried])


def list_carried(conn: sa.Connection, closed_id: int, customer_id: str | None = None) -> list[CarriedAdjustment]:
    """Return what was carried of a closed month, oldest first."""
    query = sa.select(carried_adjustments).where(carried_adjustments.c.closed_id == closed_id)
    if customer_id is not None:
        query = query.where(carried_adjustments.c.customer_id == to_key(customer_id))
    rows = conn.execute(query.order_by(carried_adjustments.c.id))
    return [CarriedAdjustment(**row._mapping) for row in rows]  # noqa: SLF001


def list_carried_into(
    conn: sa.Connection, metric: str, month: str, tz: str, customer_id: str | None = None
) -> list[tuple[ClosedMonth, CarriedAdjustment]]:
    """Return what was carried into a month, oldest first, each with the month that it is of.

    What was carried of a month that was reopened since is part of its numbers again, and not of these lines.
    """
    origins = {
        row.id: ClosedMonth(**row._mapping)  # noqa: SLF001
        for row in conn.execute(
            sa.select(closed_months).where(
                closed_months.c.metric == metric, closed_months.c.tz == tz, closed_months.c.reopened_at.is_(None)
            )
        )
    }
    query = sa.select(carried_adjustments).where(
        carried_adjustments.c.closed_id.in_(list(origins)), carried_adjustments.c.month == month
    )
    if customer_id is not None:
        query = query.where(carried_adjustments.c.customer_id == to_key(customer_id))
    lines = [CarriedAdjustment(**row._mapping) for row in conn.execute(query.order_by(carried_adjustments.c.id))]  # noqa: SLF001
    return [(origins[line.closed_id], line) for line in lines]


def stream_changed_events(
    conn: sa.Connection,
    names: Iterable[str],
    period: tuple[int | None, int],
    moment: int,
    customer_id: str | None = None,
    after: Place | None = None,
) -> Iterator[ChangedEvent]:
    """Yield the events of `names` in a period [since, until) that count now or counted at a moment, and not both.

    By time and then by arrival, starting after the position `after`.
    """
    since, until = period
    then, now = counted_at(moment), events.c.voided_at.is_(None)
    query = sa.select(*event_columns(), now, stored_by(moment)).where(
        events.c.event_name.in_([key for name in names if (key := to_key(name)) is not None]),
        events.c.time_created < until,
        sa.or_(sa.and_(now, sa.not_(then)), sa.and_(sa.not_(now), then)),
    )
    if since is not None:
        query = query.where(events.c.time_created >= since)
    if customer_id is not None:
        query = query.where(events.c.customer_id == to_key(customer_id))
    if after is not None:
        later = sa.or_(events.c.time_created > after[0], events.c.id > after[1])
        query = query.where(events.c.time_created >= after[0], later)
    for *columns, counts, was_stored in stream_rows(conn, query.order_by(events.c.time_created, events.c.id)):
        yield ChangedEvent(UsageEvent(*columns), bool(counts), bool(was_stored))


def _number_order(number: ClosedNumber) -> tuple[Any, ...]:
    return number.customer_id, number.grp
