"""The events that metrics are made of, one by one in bounded memory. `conn` first."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.store.events import BASE_ID
from app.store.keys import to_key
from app.store.schema import events

# Rows that are fetched from a server at a time.
_AT_ONCE = 2000

Place = tuple[int, int]
"""(time_created, id): where an event stands in order of time, and then of arrival."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which events: of a name, in [since, until), not void."""

    event_name: str
    until: int
    since: int | None = None
    customer_id: str | None = None
    """None: of all customers."""


class UsageValue(msgspec.Struct, frozen=True, gc=False):
    """What a metric needs of an event."""

    id: int
    base_id: str
    """Its idempotency id before any correction."""
    customer_id: str
    time_created: int
    properties: str
    """A JSON object as text."""


class UsageEvent(UsageValue, frozen=True, gc=False):
    """The same, and what leads from it to its call."""

    idempotency_id: str
    call_id: int
    transform: str
    transform_digest: bytes


_VALUE = [BASE_ID if name == "base_id" else events.c[name] for name in UsageValue.__struct_fields__]
_EVENT = [BASE_ID if name == "base_id" else events.c[name] for name in UsageEvent.__struct_fields__]


def stream_values(conn: sa.Connection, wanted: Wanted) -> Iterator[UsageValue]:
    """Give events in any order."""
    return (UsageValue(*row) for row in _stream(conn, _select(_VALUE, wanted)))


def stream_values_in_order(conn: sa.Connection, wanted: Wanted) -> Iterator[UsageValue]:
    """Give the events of each customer by time and then by arrival, one customer after the other.

    So no more has to be sorted at one time than the events of one customer.
    """
    customers = list_customers(conn) if wanted.customer_id is None else [wanted.customer_id]
    for customer in customers:
        of_one = msgspec.structs.replace(wanted, customer_id=customer)
        for row in _stream(conn, _in_order(_select(_VALUE, of_one))):
            yield UsageValue(*row)


def stream_events_in_order(conn: sa.Connection, wanted: Wanted, after: Place | None = None) -> Iterator[UsageEvent]:
    """Give events by time and then by arrival; `after` leaves out those up to a place of that order."""
    query = _in_order(_select(_EVENT, wanted))
    if after is not None:
        time, event_id = after
        later = sa.or_(events.c.time_created > time, events.c.id > event_id)
        query = query.where(events.c.time_created >= time, later)
    return (UsageEvent(*row) for row in _stream(conn, query))


def list_customers(conn: sa.Connection) -> list[str]:
    """Return all customers that have events. Each is one step in an index, however many events there are."""
    found: list[str] = []
    first = conn.execute(sa.select(sa.func.min(events.c.customer_id))).scalar()
    while first is not None:
        found.append(first)
        query = sa.select(sa.func.min(events.c.customer_id)).where(events.c.customer_id > first)
        first = conn.execute(query).scalar()
    return found


def _select(columns: Sequence[sa.ColumnElement[Any]], wanted: Wanted) -> sa.Select[Any]:
    query = sa.select(*columns).where(
        events.c.event_name == to_key(wanted.event_name),
        events.c.time_created < wanted.until,
        events.c.voided_at.is_(None),
    )
    if wanted.customer_id is not None:
        query = query.where(events.c.customer_id == to_key(wanted.customer_id))
    if wanted.since is not None:
        query = query.where(events.c.time_created >= wanted.since)
    return query


def _in_order(query: sa.Select[Any]) -> sa.Select[Any]:
    return query.order_by(events.c.time_created, events.c.id)


def _stream(conn: sa.Connection, query: sa.Select[Any]) -> Iterator[Any]:
    # A server would send all rows before the first is looked at; SQLite gives them one by one anyway.
    with conn.execute(query.execution_options(yield_per=_AT_ONCE)) as rows:
        yield from rows
