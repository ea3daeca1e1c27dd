"""Reading the outbox for people. `conn` first."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.store.deliveries import IS_WAITING, Attempt, State
from app.store.ids import EPOCH_MICROS
from app.store.keys import to_key
from app.store.lookup import among
from app.store.review_events import ID_MAX, first_id_since
from app.store.schema import attempted, attempts, deliveries, events

# Written out, as the partial index has it: with parameters SQLite would not see that it answers.
_ENDED_BADLY = deliveries.c.state.in_(
    [sa.literal_column(f"'{state}'") for state in (State.FAILED, State.UNFORWARDABLE, State.VOIDED)]
)


class DeliveryFilters(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries are asked for; None leaves a thing open."""

    state: State | None = None
    reason: str | None = None
    customer: str | None = None
    id: str | None = None
    """The idempotency id of the event."""
    since: int | None = None
    """Their events were stored at this moment or later, in microseconds since 1970."""
    until: int | None = None


class DeliveryRow(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery with what matters of its event."""

    event_id: int
    state: str
    due_at: int
    tries: int
    reason: str | None
    settled_at: int | None
    attempt_id: int | None
    idempotency_id: str
    event_name: str
    customer_id: str
    time_created: int
    call_id: int


def list_deliveries(
    conn: sa.Connection, filters: DeliveryFilters, before: int | None = None, limit: int = 50
) -> list[DeliveryRow]:
    """Return the newest `limit` deliveries below the event `before`, newest first."""
    query = _rows().where(*_conditions(filters)).order_by(deliveries.c.event_id.desc()).limit(limit)
    if before is not None:
        query = query.where(deliveries.c.event_id < before)
    return [DeliveryRow(**row._mapping) for row in conn.execute(query)]  # noqa: SLF001  SQLAlchemy's own name for it


def get_delivery(conn: sa.Connection, event_id: int) -> DeliveryRow | None:
    """Return the delivery of an event; None where there is none."""
    row = conn.execute(_rows().where(deliveries.c.event_id == event_id)).one_or_none()
    return None if row is None else DeliveryRow(**row._mapping)  # noqa: SLF001  SQLAlchemy's own name for it


def find_event_ids(conn: sa.Connection, filters: DeliveryFilters, after: int, limit: int) -> list[int]:
    """Return the next ids of events whose deliveries are asked for, ascending."""
    query = (
        sa.select(deliveries.c.event_id)
        .join(events, events.c.id == deliveries.c.event_id)
        .where(*_conditions(filters), deliveries.c.event_id > after)
        .order_by(deliveries.c.event_id)
        .limit(limit)
    )
    return list(conn.execute(query).scalars())


def list_attempts(conn: sa.Connection, event_id: int) -> list[Attempt]:
    """Return every attempt that an event was in, the oldest first."""
    last = sa.select(deliveries.c.attempt_id).where(deliveries.c.event_id == event_id)
    earlier = sa.select(attempted.c.attempt_id).where(attempted.c.event_id == event_id)
    columns = [attempts.c[name] for name in Attempt.__struct_fields__]
    query = sa.select(*columns).where(attempts.c.id.in_(last.union(earlier))).order_by(attempts.c.id)
    return [Attempt(*row) for row in conn.execute(query)]


def count_groups(conn: sa.Connection) -> list[tuple[str, str, int]]:
    """Count what was not delivered: (state, reason, deliveries), the most first."""
    count = sa.func.count().label("count")
    query = (
        sa.select(deliveries.c.state, deliveries.c.reason, count)
        .where(_ENDED_BADLY)
        .group_by(deliveries.c.state, deliveries.c.reason)
        .order_by(count.desc())
    )
    return [(row.state, row.reason or "", row[2]) for row in conn.execute(query)]


def count_states(conn: sa.Connection) -> Counter[str]:
    """Count deliveries by state in the table itself: some 0.1 s for a million."""
    query = sa.select(deliveries.c.state, sa.func.count().label("count")).group_by(deliveries.c.state)
    return Counter({row.state: row[1] for row in conn.execute(query)})


def count_events(conn: sa.Connection) -> int:
    """Count events."""
    return conn.execute(sa.select(sa.func.count()).select_from(events)).scalar_one()


def count_undelivered(conn: sa.Connection) -> Counter[str]:
    """Count what was not delivered by state; what was is not looked at."""
    waiting = conn.execute(sa.select(sa.func.count()).select_from(deliveries).where(IS_WAITING)).scalar_one()
    query = (
        sa.select(deliveries.c.state, sa.func.count().label("total")).where(_ENDED_BADLY).group_by(deliveries.c.state)
    )
    return Counter({State.WAITING.value: waiting, **{row.state: row.total for row in conn.execute(query)}})


def list_delivered(conn: sa.Connection, after: int, until: int, limit: int) -> list[tuple[int, str]]:
    """Return the next delivered events with ids in (after, until], ascending: (event id, idempotency id)."""
    query = (
        sa.select(deliveries.c.event_id, events.c.idempotency_id)
        .join(events, events.c.id == deliveries.c.event_id)
        .where(deliveries.c.event_id > after, deliveries.c.event_id <= until)
        .where(deliveries.c.state == State.DELIVERED.value)
        .order_by(deliveries.c.event_id)
        .limit(limit)
    )
    return [(row.event_id, row.idempotency_id) for row in conn.execute(query)]


def find_by_idempotency_ids(conn: sa.Connection, ids: Sequence[str]) -> list[int]:
    """Return the ids of the events that have these idempotency ids."""
    return list(conn.execute(sa.select(events.c.id).where(among(conn, events.c.idempotency_id, list(ids)))).scalars())


def newest_event_id(conn: sa.Connection) -> int:
    """Return the id of the newest event; 0 where there is none."""
    return conn.execute(sa.select(sa.func.max(events.c.id))).scalar_one() or 0


def _rows() -> sa.Select[Any]:
    names = DeliveryRow.__struct_fields__
    columns = [deliveries.c[name] if name in deliveries.c else events.c[name] for name in names]
    return sa.select(*columns).join(events, events.c.id == deliveries.c.event_id)


def _conditions(filters: DeliveryFilters) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if filters.state is State.WAITING:
        conditions.append(IS_WAITING)
    elif filters.state is not None:
        conditions.append(deliveries.c.state == filters.state.value)
        if filters.state is not State.DELIVERED:
            conditions.append(_ENDED_BADLY)
    pairs: tuple[tuple[sa.Column[Any], str | None], ...] = (
        (deliveries.c.reason, filters.reason),
        (events.c.customer_id, to_key(filters.customer)),
        (events.c.idempotency_id, to_key(filters.id)),
    )
    conditions += [column == text for column, text in pairs if text is not None]
    if filters.since is not None:
        conditions.append(deliveries.c.event_id >= first_id_since(max(filters.since, EPOCH_MICROS), 0))
    if filters.until is not None:
        conditions.append(deliveries.c.event_id < first_id_since(filters.until, ID_MAX))
    return conditions
