"""Search of deliveries in bounded steps. `conn` first.

Few filters have an index of their own, since every event pays for each index: a step walks the deliveries from the
newest. Where an index selects few rows, one step examines all of them.
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
from app.store.schema import deliveries, differences, events
from app.store.walk import MOST, RowSource, SearchPage, WalkRange, take_step

FEW = 2000
"""Up to this many events of one customer, or waiting ones, are all examined; of more, the newest soon fill a page."""

# Literals, as in the partial index: with bound parameters SQLite would not use it.
_INDEXED = (
    DeliveryState.FAILED,
    DeliveryState.UNFORWARDABLE,
    DeliveryState.VOIDED,
    DeliveryState.SURPLUS,
    DeliveryState.CREDITED,
    DeliveryState.HELD,
)
ENDED_BADLY = deliveries.c.state.in_([sa.literal_column(f"'{state}'") for state in _INDEXED])


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


def id_range(filters: DeliveryFilters, before: int | None = None) -> tuple[int, int]:
    """Return the bounds of the event ids, both excluded."""
    low = -1 if filters.since is None else first_id_since(max(filters.since, EPOCH_MICROS), 0) - 1
    return low, min(ID_MAX if before is None else before, first_id_since(filters.until, ID_MAX))


def search_deliveries(
    conn: sa.Connection, filters: DeliveryFilters, *, before: int | None = None, limit: int = 50, most: int = MOST
) -> SearchPage:
    """Find the newest `limit` deliveries below the event id `before`, examining at most `most`."""
    low, high = id_range(filters, before)
    source = _to_source(filters)
    few = _find_few(conn, filters)
    if few is not None:
        source = RowSource(source.key, (among(conn, deliveries.c.event_id, few), *source.leading, *source.narrow))
    return take_step(conn, [source], WalkRange(low, high, most), limit)


def count_matching(conn: sa.Connection, filters: DeliveryFilters, seconds: float = 1.0) -> tuple[int, int | None]:
    """Count deliveries for at most `seconds`; return the count, and the last event examined, None if it is all."""
    count, before = 0, None
    until = time.monotonic() + seconds
    while True:
        step = search_deliveries(conn, filters, before=before, limit=MOST)
        count, before = count + len(step.ids), step.reached
        if before is None or time.monotonic() > until:
            return count, before


def _find_few(conn: sa.Connection, filters: DeliveryFilters) -> list[int] | None:
    """Return the ids of all events that an index selects, if these are at most FEW; None if no index does."""
    if filters.id is not None:
        return list(conn.execute(_either(events.c.idempotency_id, filters.id)).scalars())
    queries: list[sa.Select[Any] | sa.CompoundSelect[Any]] = []
    if filters.state is DeliveryState.WAITING:
        queries.append(sa.select(deliveries.c.event_id).where(IS_WAITING))
    if filters.customer is not None:
        queries.append(_either(events.c.customer_id, filters.customer))
    for query in queries:
        ids = list(conn.execute(query.limit(FEW + 1)).scalars())
        if len(ids) <= FEW:
            return ids
    return None


def _either(column: sa.Column[Any], text: str) -> sa.CompoundSelect[Any]:
    """Select the ids of the events, and of the differences, that have a text in this column of events."""
    key, other = to_key(text), differences.c[column.name]
    return sa.select(events.c.id).where(column == key).union_all(sa.select(differences.c.event_id).where(other == key))


def _to_source(filters: DeliveryFilters) -> RowSource:
    """Return the index of deliveries that these filters walk, and the conditions on each row."""
    leading: list[sa.ColumnElement[bool]] = []
    narrow: list[sa.ColumnElement[bool]] = []
    if filters.state in _INDEXED:
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
            # A look-up for each row, which no planner turns into a join: a step reads the events of its window, and not
            # all events of a customer.
            value = sa.select(column).where(events.c.id == deliveries.c.event_id).scalar_subquery()
            other = differences.c[column.name]
            further = sa.select(other).where(differences.c.event_id == deliveries.c.event_id).scalar_subquery()
            narrow.append(sa.func.coalesce(value, further) == to_key(text))
    return RowSource(deliveries.c.event_id, tuple(leading), tuple(narrow))
