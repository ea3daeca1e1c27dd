"""Queries for the events of metrics, streamed in bounded memory."""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.store.arrays import among
from app.store.events import BASE_ID
from app.store.record import to_key
from app.store.schema import events

# Rows fetched from a server at a time.
_FETCH_ROWS = 2000

Place = tuple[int, int]
"""(time_created, id): the position of an event in order of time, and then of arrival."""


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects the events of a name in [since, until)."""

    event_name: str
    until: int
    since: int | None = None
    customer_id: str | None = None
    """None: all customers."""
    with_void: bool = False
    """Void ones, too."""


class UsageValue(msgspec.Struct, frozen=True, gc=False):
    """The columns of an event that a metric reads."""

    id: int
    base_id: str
    """Its idempotency id before any correction."""
    customer_id: str
    time_created: int
    properties: str
    """A JSON object as text."""


class UsageEvent(UsageValue, frozen=True, gc=False):
    """The same, with the columns that lead to its call."""

    idempotency_id: str
    call_id: int
    transform: str
    transform_digest: bytes
    voided_at: int | None


_VALUE = [BASE_ID if name == "base_id" else events.c[name] for name in UsageValue.__struct_fields__]
_EVENT = [BASE_ID if name == "base_id" else events.c[name] for name in UsageEvent.__struct_fields__]


def stream_values(conn: sa.Connection, event_filter: EventFilter) -> Iterator[UsageValue]:
    """Yield events in any order."""
    return (UsageValue(*row) for row in _stream(conn, _select(_VALUE, event_filter)))


def stream_values_in_order(conn: sa.Connection, event_filter: EventFilter) -> Iterator[UsageValue]:
    """Yield events customer by customer, each by time and then by arrival.

    So the database sorts the events of one customer at a time.
    """
    customers = list_customers(conn) if event_filter.customer_id is None else [event_filter.customer_id]
    for customer in customers:
        of_one = msgspec.structs.replace(event_filter, customer_id=customer)
        for row in _stream(conn, _in_order(_select(_VALUE, of_one))):
            yield UsageValue(*row)


def stream_events_in_order(
    conn: sa.Connection, event_filter: EventFilter, after: Place | None = None
) -> Iterator[UsageEvent]:
    """Yield events by time and then by arrival, starting after the position `after`."""
    query = _in_order(_select(_EVENT, event_filter))
    if after is not None:
        time, event_id = after
        later = sa.or_(events.c.time_created > time, events.c.id > event_id)
        query = query.where(events.c.time_created >= time, later)
    return (UsageEvent(*row) for row in _stream(conn, query))


def list_ids_in_order(conn: sa.Connection, event_filter: EventFilter) -> "array[int]":
    """Return the ids of events by time and then by arrival: 8 bytes each.

    No index has this order. Whoever reads a long list in pages so sorts it once, and not the whole rows.
    """
    rows = _stream(conn, _in_order(_select([events.c.id], event_filter)))
    return array("q", (row[0] for row in rows))


def read_events(conn: sa.Connection, ids: Sequence[int]) -> list[UsageEvent]:
    """Return the events with these ids, void ones too, in the order of the ids."""
    query = sa.select(*_EVENT).where(among(conn, events.c.id, ids))
    event_of = {row.id: UsageEvent(*row) for row in conn.execute(query)}
    return [event_of[id_] for id_ in ids]


def list_customers(conn: sa.Connection) -> list[str]:
    """Return all customers that have events, with one index lookup each, however many events there are."""
    customers: list[str] = []
    first = conn.execute(sa.select(sa.func.min(events.c.customer_id))).scalar()
    while first is not None:
        customers.append(first)
        query = sa.select(sa.func.min(events.c.customer_id)).where(events.c.customer_id > first)
        first = conn.execute(query).scalar()
    return customers


def _select(columns: Sequence[sa.ColumnElement[Any]], event_filter: EventFilter) -> sa.Select[Any]:
    query = sa.select(*columns).where(
        events.c.event_name == to_key(event_filter.event_name),
        events.c.time_created < event_filter.until,
    )
    if not event_filter.with_void:
        query = query.where(events.c.voided_at.is_(None))
    if event_filter.customer_id is not None:
        query = query.where(events.c.customer_id == to_key(event_filter.customer_id))
    if event_filter.since is not None:
        query = query.where(events.c.time_created >= event_filter.since)
    return query


def _in_order(query: sa.Select[Any]) -> sa.Select[Any]:
    return query.order_by(events.c.time_created, events.c.id)


def _stream(conn: sa.Connection, query: sa.Select[Any]) -> Iterator[Any]:
    # Without yield_per, a server sends all rows before the first can be read; SQLite streams them anyway.
    with conn.execute(query.execution_options(yield_per=_FETCH_ROWS)) as rows:
        yield from rows
