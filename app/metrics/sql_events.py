"""Queries for the events of metrics, streamed in bounded memory."""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.store.arrays import among
from app.store.events import BASE_ID
from app.store.moment import counted_at, first_id_since, revived_since, stored_by
from app.store.record import to_key
from app.store.schema import events

# Rows fetched from a server at a time.
_FETCH_ROWS = 2000

Place = tuple[int, int]
"""(time_created, id): the position of an event in order of time, and then of arrival."""


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects the events of a name in [since, until) that are not void, or were not void at a moment."""

    event_name: str
    until: int
    since: int | None = None
    customer_id: str | None = None
    """None: all customers."""
    as_of: int | None = None
    """None: now."""
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
    """None: it counts. As of a moment, it says whether it was void then."""


_VALUE = [BASE_ID if name == "base_id" else events.c[name] for name in UsageValue.__struct_fields__]
_EVENT = [BASE_ID if name == "base_id" else events.c[name] for name in UsageEvent.__struct_fields__]


def stream_values(conn: sa.Connection, event_filter: EventFilter) -> Iterator[UsageValue]:
    """Yield events in any order."""
    return (UsageValue(*row) for row in stream_rows(conn, _select(_VALUE, event_filter)))


def stream_values_in_order(conn: sa.Connection, event_filter: EventFilter) -> Iterator[UsageValue]:
    """Yield events customer by customer, each by time and then by arrival.

    So the database sorts the events of one customer at a time.
    """
    customers = list_customers(conn) if event_filter.customer_id is None else [event_filter.customer_id]
    for customer in customers:
        of_one = msgspec.structs.replace(event_filter, customer_id=customer)
        for row in stream_rows(conn, _in_order(_select(_VALUE, of_one))):
            yield UsageValue(*row)


def stream_events_in_order(
    conn: sa.Connection, event_filter: EventFilter, after: Place | None = None
) -> Iterator[UsageEvent]:
    """Yield events by time and then by arrival, starting after the position `after`."""
    query = _in_order(_select(_columns_at(event_filter.as_of), event_filter))
    if after is not None:
        time, event_id = after
        later = sa.or_(events.c.time_created > time, events.c.id > event_id)
        query = query.where(events.c.time_created >= time, later)
    return (UsageEvent(*row) for row in stream_rows(conn, query))


def count_values(conn: sa.Connection, event_filter: EventFilter, most: int, most_of_customer: int) -> int | None:
    """Count the events of one customer, up to `most` + 1; None if it has more than `most_of_customer` of any kind."""
    of_customer = sa.select(sa.literal(1)).where(events.c.customer_id == to_key(event_filter.customer_id))
    of_filter = _select([sa.literal(1)], event_filter)
    for query, limit in ((of_customer, most_of_customer), (of_filter, most)):
        limited = query.limit(limit + 1).subquery()
        count = conn.execute(sa.select(sa.func.count()).select_from(limited)).scalar_one()
        if count > limit and query is of_customer:
            return None
    return count


def list_ids_in_order(conn: sa.Connection, event_filter: EventFilter) -> "array[int]":
    """Return the ids of events by time and then by arrival: 8 bytes each.

    No index has this order. Whoever reads a long list in pages so sorts it once, and not the whole rows.
    """
    rows = stream_rows(conn, _in_order(_select([events.c.id], event_filter)))
    return array("q", (row[0] for row in rows))


def read_events(conn: sa.Connection, ids: Sequence[int], as_of: int | None) -> list[UsageEvent]:
    """Return events, void ones too, in the order of their ids, as they stood at a moment; None: now."""
    query = sa.select(*_columns_at(as_of)).where(among(conn, events.c.id, ids))
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


def list_changes(
    conn: sa.Connection, event_filter: EventFilter, moment: int, most: int | None = None
) -> tuple[list[UsageValue], list[UsageValue]] | None:
    """Return the events that counted at a moment and do not now, and those that count now and did not then.

    None if more than `most` events, of any name, were stored or corrected since, or if that cannot be told quickly.
    """
    since = None
    if most is not None:
        since = first_id_since(conn, moment)
        if since is None or _count_changed(conn, since, moment, most) > most:
            return None
    now = _match(sa.select(*_VALUE), event_filter)
    gone = now.where(events.c.voided_at > moment, counted_at(moment))
    counts = now.where(events.c.voided_at.is_(None))
    late = counts.where(sa.not_(stored_by(moment)))
    if since is not None:
        late = late.where(events.c.id >= since)
    revived = counts.where(events.c.id.in_(revived_since(moment)), stored_by(moment))
    come = [UsageValue(*row) for query in (late, revived) for row in stream_rows(conn, query)]
    return [UsageValue(*row) for row in stream_rows(conn, gone)], come


def _count_changed(conn: sa.Connection, since: int, moment: int, most: int) -> int:
    """Return how many events have an id from `since` on, or were corrected after a moment; more than `most` suffice."""
    rows = (
        sa.select(events.c.id).where(events.c.id >= since),
        sa.select(events.c.id).where(events.c.voided_at > moment),
        revived_since(moment),
    )
    limited = (sa.select(sa.func.count()).select_from(query.limit(most + 1).subquery()) for query in rows)
    return sum(conn.execute(query).scalar_one() for query in limited)


def _select(columns: Sequence[sa.ColumnElement[Any]], event_filter: EventFilter) -> sa.Select[Any]:
    query, as_of = _match(sa.select(*columns), event_filter), event_filter.as_of
    if event_filter.with_void:
        return query if as_of is None else query.where(stored_by(as_of))
    return query.where(events.c.voided_at.is_(None) if as_of is None else counted_at(as_of))


def _match(query: sa.Select[Any], event_filter: EventFilter) -> sa.Select[Any]:
    query = query.where(
        events.c.event_name == to_key(event_filter.event_name), events.c.time_created < event_filter.until
    )
    if event_filter.customer_id is not None:
        query = query.where(events.c.customer_id == to_key(event_filter.customer_id))
    if event_filter.since is not None:
        query = query.where(events.c.time_created >= event_filter.since)
    return query


def _columns_at(as_of: int | None) -> Sequence[sa.ColumnElement[Any]]:
    """Return the columns of a UsageEvent as they stood at a moment; None: now."""
    if as_of is None:
        return _EVENT
    was_void = sa.case((counted_at(as_of), sa.null()), else_=sa.func.coalesce(events.c.voided_at, as_of))
    return [was_void.label("voided_at") if column is events.c.voided_at else column for column in _EVENT]


def _in_order(query: sa.Select[Any]) -> sa.Select[Any]:
    return query.order_by(events.c.time_created, events.c.id)


def event_columns() -> Sequence[sa.ColumnElement[Any]]:
    """Return the columns of a UsageEvent, in its order."""
    return _EVENT


def stream_rows(conn: sa.Connection, query: sa.Select[Any]) -> Iterator[Any]:
    """Yield the rows of a query, without holding all of them."""
    # Without yield_per, a server sends all rows before the first can be read; SQLite streams them anyway.
    with conn.execute(query.execution_options(yield_per=_FETCH_ROWS)) as rows:
        yield from rows
