"""Search of deliveries in bounded steps. `conn` first.

Few filters have an index of their own, since every event pays for each index. So a step examines a limited number of
deliveries and returns how far it came, and the next one continues from there. Where an index selects few rows, one step
examines all of them.
"""

import time
from typing import Any

import msgspec
import sqlalchemy as sa

from app.forward.sql_deliveries import IS_WAITING, DeliveryState
from app.store.arrays import among
from app.store.ids import EPOCH_MICROS, ID_MAX
from app.store.record import to_key
from app.store.review_events import first_id_since
from app.store.schema import deliveries, events

MOST = 20_000
"""The most deliveries that one step examines."""

SECONDS = 0.08
"""A step ends early after this time: rows that are not cached are read from the disk one by one."""

FEW = 2000
"""Up to this many events of one customer, or waiting ones, are all examined; of more, the newest soon fill a page."""

# Deliveries examined between two checks of the time.
_WINDOW = 1000

# Literals, as in the partial index: with bound parameters SQLite would not use it.
ENDED_BADLY = deliveries.c.state.in_(
    [
        sa.literal_column(f"'{state}'")
        for state in (DeliveryState.FAILED, DeliveryState.UNFORWARDABLE, DeliveryState.VOIDED)
    ]
)

_Conditions = tuple[sa.ColumnElement[bool], ...]


class DeliveryFilters(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries are searched for; None: any."""

    state: DeliveryState | None = None
    reason: str | None = None
    customer: str | None = None
    event_name: str | None = None
    id: str | None = None
    """The idempotency id of the event."""
    since: int | None = None
    """Their events were stored at or after this time, in microseconds since 1970."""
    until: int | None = None


class DeliverySearchPage(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one step."""

    ids: list[int]
    """Of events, the newest first."""
    looked_at: int
    reached: int | None
    """Every delivery from this event on was examined: `before` of the next step. None: there are no more."""
    full: bool
    """Whether it ended because it found `limit`, and there are more."""


def id_range(filters: DeliveryFilters, before: int | None = None) -> tuple[int, int]:
    """Return the bounds of the event ids, both excluded."""
    low = -1 if filters.since is None else first_id_since(max(filters.since, EPOCH_MICROS), 0) - 1
    return low, min(ID_MAX if before is None else before, first_id_since(filters.until, ID_MAX))


def search_deliveries(
    conn: sa.Connection, filters: DeliveryFilters, *, before: int | None = None, limit: int = 50, most: int = MOST
) -> DeliverySearchPage:
    """Find the newest `limit` deliveries below the event id `before`, examining at most `most`."""
    low, high = id_range(filters, before)
    few = _find_few(conn, filters)
    leading, narrow = _conditions(filters)
    with_events = any((filters.customer, filters.event_name, filters.id))
    if few is not None:
        within = [id_ for id_ in few if low < id_ < high]
        conditions = (among(conn, deliveries.c.event_id, within), *leading, *narrow)
        ids = _read(conn, conditions, limit + 1, with_events=with_events)
        return _step(ids, limit, len(within), None)
    if not narrow:
        ids = _read(conn, (*_between(low, high), *leading), limit + 1)
        return _step(ids, limit, len(ids[:limit]), None)
    until = time.monotonic() + SECONDS
    ids = []
    looked_at, window = 0, min(_WINDOW, most)
    while True:
        edge = _nth(conn, (*_between(low, high), *leading), window)
        lowest = low if edge is None else edge - 1
        conditions = (*_between(lowest, high), *leading, *narrow)
        ids += _read(conn, conditions, limit + 1 - len(ids), with_events=with_events)
        looked_at += window
        if len(ids) > limit or edge is None or looked_at >= most or time.monotonic() > until:
            return _step(ids, limit, looked_at, edge)
        high, window = edge, min(_WINDOW, most - looked_at)


def count_matching(conn: sa.Connection, filters: DeliveryFilters, seconds: float = 1.0) -> tuple[int, int | None]:
    """Count deliveries for at most `seconds`; return the count, and how far it came, None if these are all."""
    count, before = 0, None
    until = time.monotonic() + seconds
    while True:
        step = search_deliveries(conn, filters, before=before, limit=MOST)
        count, before = count + len(step.ids), step.reached
        if before is None or time.monotonic() > until:
            return count, before


def _step(ids: list[int], limit: int, looked_at: int, edge: int | None) -> DeliverySearchPage:
    if len(ids) > limit:
        return DeliverySearchPage(ids=ids[:limit], looked_at=looked_at, reached=ids[limit - 1], full=True)
    return DeliverySearchPage(ids=ids, looked_at=looked_at, reached=edge, full=False)


def _find_few(conn: sa.Connection, filters: DeliveryFilters) -> list[int] | None:
    """Return the ids of all events that an index selects, if these are at most FEW; None if no index does."""
    if filters.id is not None:
        return list(conn.execute(sa.select(events.c.id).where(events.c.idempotency_id == to_key(filters.id))).scalars())
    queries = []
    if filters.state is DeliveryState.WAITING:
        queries.append(sa.select(deliveries.c.event_id).where(IS_WAITING))
    if filters.customer is not None:
        queries.append(sa.select(events.c.id).where(events.c.customer_id == to_key(filters.customer)))
    for query in queries:
        ids = list(conn.execute(query.limit(FEW + 1)).scalars())
        if len(ids) <= FEW:
            return ids
    return None


def _conditions(filters: DeliveryFilters) -> tuple[_Conditions, _Conditions]:
    """Return the conditions that an index decides, and those that need each row it selects."""
    leading: list[sa.ColumnElement[bool]] = []
    narrow: list[sa.ColumnElement[bool]] = []
    if filters.state in {DeliveryState.FAILED, DeliveryState.UNFORWARDABLE, DeliveryState.VOIDED}:
        leading += [deliveries.c.state == filters.state, ENDED_BADLY]
    elif filters.state is not None:
        narrow.append(deliveries.c.state == sa.literal_column(f"'{filters.state.value}'"))
    if filters.reason is not None:
        narrow.append(deliveries.c.reason == filters.reason)
    for column, text in (
        (events.c.customer_id, filters.customer),
        (events.c.event_name, filters.event_name),
        (events.c.idempotency_id, filters.id),
    ):
        if text is not None:
            # coalesce() keeps the planner from the index on customers: a step reads the deliveries of its window, and
            # not all events of a customer.
            narrow.append(sa.func.coalesce(column, "") == to_key(text))
    return tuple(leading), tuple(narrow)


def _between(low: int, high: int) -> _Conditions:
    return (deliveries.c.event_id > low, deliveries.c.event_id < high)


def _read(conn: sa.Connection, conditions: _Conditions, limit: int, *, with_events: bool = False) -> list[int]:
    query: sa.Select[Any] = sa.select(deliveries.c.event_id)
    if with_events:
        query = query.join(events, events.c.id == deliveries.c.event_id)
    query = query.where(*conditions).order_by(deliveries.c.event_id.desc()).limit(limit)
    return list(conn.execute(query).scalars())


def _nth(conn: sa.Connection, conditions: _Conditions, number: int) -> int | None:
    """Return the event id of the delivery at this position, counted from 1 and the newest; None if there are fewer."""
    query = sa.select(deliveries.c.event_id).where(*conditions).order_by(deliveries.c.event_id.desc())
    return conn.execute(query.offset(number - 1).limit(1)).scalar_one_or_none()
