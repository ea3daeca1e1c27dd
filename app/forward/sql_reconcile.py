"""Stored events with their deliveries, in the order of ids, to compare them with Lotus. `conn` first."""

from typing import Any

import msgspec
import sqlalchemy as sa

from app.core.lotus import LotusEvent
from app.forward.sql_deliveries import DeliveryState
from app.store.events import public_id
from app.store.schema import deliveries, differences, events


class StoredDelivery(msgspec.Struct, frozen=True, gc=False):
    """An event, or a difference, and the state of its delivery."""

    event_id: int
    state: str | None
    """None: it was never queued."""
    idempotency_id: str
    """As Lotus knows it."""
    event_name: str
    customer_id: str
    time_created: int
    properties: str
    is_live: bool
    """Whether it is to be in Lotus: it is not void, or not withdrawn."""
    counts: bool
    """Whether it is an event that counts here: a difference never does."""

    def to_event(self) -> LotusEvent:
        """Return it as Lotus gets it."""
        names = (self.event_name, self.idempotency_id, self.customer_id)
        return LotusEvent(*names, self.time_created, self.properties, b"")


_VALUES = ("event_name", "customer_id", "time_created", "properties")


def list_stored(conn: sa.Connection, after: int, until: int, limit: int) -> list[StoredDelivery]:
    """Return the next events with ids in (after, until], ascending, void ones included."""
    own = (events.c.idempotency_id, events.c.base_id, events.c.revision, events.c.voided_at)
    query = (
        sa.select(events.c.id.label("event_id"), deliveries.c.state, *own, *(events.c[name] for name in _VALUES))
        .outerjoin(deliveries, deliveries.c.event_id == events.c.id)
        .where(events.c.id > after, events.c.id <= until)
        .order_by(events.c.id)
        .limit(limit)
    )
    return [_to_stored(**row._mapping) for row in conn.execute(query)]  # noqa: SLF001  SQLAlchemy's own name


def _to_stored(
    *, idempotency_id: str, base_id: str | None, revision: int | None, voided_at: int | None, **columns: Any
) -> StoredDelivery:
    is_live = voided_at is None
    return StoredDelivery(
        idempotency_id=public_id(idempotency_id, base_id, revision), is_live=is_live, counts=is_live, **columns
    )


def list_differences_after(conn: sa.Connection, after: int, until: int, limit: int) -> list[StoredDelivery]:
    """Return the next differences of events with ids in (after, until], ascending by their own ids."""
    query = (
        sa.select(
            differences.c.event_id,
            deliveries.c.state,
            differences.c.idempotency_id,
            *(differences.c[name] for name in _VALUES),
        )
        .join(deliveries, deliveries.c.event_id == differences.c.event_id)
        .where(differences.c.event_id > after, differences.c.corrected_id <= until)
        .order_by(differences.c.event_id)
        .limit(limit)
    )
    return [
        StoredDelivery(**row._mapping, is_live=row.state != DeliveryState.VOIDED, counts=False)  # noqa: SLF001
        for row in conn.execute(query)
    ]
