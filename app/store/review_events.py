"""Reads events for display. `conn` first.

Newest first by the call that made them: the indexes by call and by customer are both in this order.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.core.json_text import decode
from app.core.times import format_time
from app.errors import UnparsableJson
from app.store.arrays import among
from app.store.events import EventFields, public_id
from app.store.ids import ID_MAX, first_id_at
from app.store.record import to_key
from app.store.schema import events

Place = tuple[int, int]
"""(call id, event id): the position of an event in that order."""


class EventFilters(msgspec.Struct, frozen=True, kw_only=True):
    """Which events to find; None: any."""

    customer: str | None = None
    event_name: str | None = None
    idempotency_id: str | None = None
    call_id: int | None = None
    voided: bool | None = None
    since: int | None = None
    """When their calls were received, in microseconds since 1970, included."""
    until: int | None = None
    """The same, excluded."""


class EventRow(EventFields, frozen=True):
    """One event as it is stored."""

    transform: str
    transform_digest: bytes
    voided_at: int | None
    voided_by: bytes | None
    void_reason: str | None
    base_id: str | None = None
    """Its idempotency id before any correction; None: the same."""
    revision: int | None = None
    """2 or more: a correction made it."""
    stored_at: int | None = None
    """In microseconds since 1970; None: before this was kept."""

    @property
    def is_void_by_person(self) -> bool:
        """Whether a person made it void, and no replay did."""
        return self.voided_at is not None and self.voided_by is None

    def to_values(self) -> dict[str, Any]:
        """Return it as JSON values, with Lotus's names; properties that cannot be read are None."""
        try:
            properties = decode(self.properties.encode())
        except (UnparsableJson, UnicodeEncodeError):
            properties = None
        return {
            "event_name": self.event_name,
            "idempotency_id": self.idempotency_id,
            "customer_id": self.customer_id,
            "time_created": format_time(self.time_created),
            "properties": properties,
        }


def first_id_since(micros: int | None, otherwise: int) -> int:
    """Return the first id of a moment; `otherwise` for None."""
    return otherwise if micros is None else first_id_at(micros)


def list_events(
    conn: sa.Connection, filters: EventFilters, before: Place | None = None, limit: int = 50
) -> list[EventRow]:
    """Return the newest `limit` events below `before`, newest first."""
    query = sa.select(events).where(*_conditions(filters))
    if before is not None:
        call_id, event_id = before
        query = query.where(events.c.call_id <= call_id, sa.or_(events.c.call_id < call_id, events.c.id < event_id))
    query = query.order_by(events.c.call_id.desc(), events.c.id.desc()).limit(limit)
    return [to_event(row) for row in conn.execute(query).mappings()]


def list_call_events(conn: sa.Connection, call_id: int) -> list[EventRow]:
    """Return the events that a call made, in the order it made them."""
    query = sa.select(events).where(events.c.call_id == call_id).order_by(events.c.id)
    return [to_event(row) for row in conn.execute(query).mappings()]


def _conditions(filters: EventFilters) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    for column, text in (
        (events.c.customer_id, filters.customer),
        (events.c.event_name, filters.event_name),
    ):
        if text is not None:
            conditions.append(column == to_key(text))
    if filters.idempotency_id is not None:
        key = to_key(filters.idempotency_id)
        conditions.append(sa.or_(events.c.idempotency_id == key, events.c.base_id == key))
    if filters.call_id is not None:
        conditions.append(events.c.call_id == filters.call_id)
    if filters.voided is not None:
        conditions.append(events.c.voided_at.is_not(None) if filters.voided else events.c.voided_at.is_(None))
    if filters.since is not None:
        conditions.append(events.c.call_id >= first_id_since(filters.since, 0))
    if filters.until is not None:
        conditions.append(events.c.call_id < first_id_since(filters.until, ID_MAX))
    return conditions


def to_event(columns: Mapping[Any, Any]) -> EventRow:
    """Return the event with these columns, all of those of `events`; it has the id it was made with."""
    id_ = public_id(columns["idempotency_id"], columns["base_id"], columns["revision"])
    return EventRow(**{**columns, "idempotency_id": id_})


_CONFLICTS_MAX = 1000


def list_conflicting_events(
    conn: sa.Connection, idempotency_ids: Sequence[str], call_ids: Sequence[int]
) -> list[EventRow]:
    """Return the events with these ids and those of these calls, at most the first _CONFLICTS_MAX of each."""
    by_id = among(
        conn, events.c.idempotency_id, sorted({to_key(idempotency_id) or "" for idempotency_id in idempotency_ids})
    )
    by_call = among(conn, events.c.call_id, sorted(set(call_ids)))
    rows = {}
    for where in (by_id, by_call):
        query = sa.select(events).where(where).order_by(events.c.id).limit(_CONFLICTS_MAX)
        for row in conn.execute(query).mappings():
            rows[row["id"]] = to_event(row)
    return list(rows.values())
