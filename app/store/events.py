"""Events and the claims that keep a call from making them twice. `conn` first, values in, values out."""

from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa

from app.core.pipeline import Lane
from app.store.engine import Rows, insert_new
from app.store.schema import claims, events

# Bound parameters per statement are limited (SQLite: 32,766); look up in slices.
_SLICE = 500


class Claim(msgspec.Struct, frozen=True):
    """Who made the events of a message in a lane, and what they were."""

    call_id: int
    content: bytes
    transform_digest: bytes


class Stored(msgspec.Struct, frozen=True):
    """The event that already has an idempotency id."""

    call_id: int
    lane: str
    position: int
    content: bytes
    transform_digest: bytes


def append_claims(conn: sa.Connection, wanted: Iterable[tuple[str, Lane, int]]) -> set[tuple[int, str]]:
    """Claim (message key, lane, call id); return the (call id, lane name) that were first."""
    rows = [
        {
            "message_id": key,
            "lane": lane.name,
            "call_id": call_id,
            "content": lane.content,
            "transform_digest": lane.digest,
        }
        for key, lane, call_id in wanted
    ]
    rows.sort(key=lambda row: (row["message_id"], row["lane"], row["call_id"]))
    new = insert_new(conn, claims, rows, (claims.c.call_id, claims.c.lane))
    return {(row.call_id, row.lane) for row in new}


def find_claims(conn: sa.Connection, keys: Sequence[str]) -> dict[tuple[str, str], Claim]:
    """Return the claims on these message keys, by (message key, lane)."""
    found: dict[tuple[str, str], Claim] = {}
    for start in range(0, len(keys), _SLICE):
        where = claims.c.message_id.in_(keys[start : start + _SLICE])
        for row in conn.execute(sa.select(claims).where(where)):
            found[row.message_id, row.lane] = Claim(row.call_id, row.content, row.transform_digest)
    return found


def release_claims(conn: sa.Connection, released: Iterable[tuple[str, str]]) -> None:
    """Give up claims (message key, lane) made in this transaction by calls that made no event after all."""
    for key, lane in released:
        conn.execute(sa.delete(claims).where(claims.c.message_id == key, claims.c.lane == lane))


def append_events(conn: sa.Connection, rows: Rows) -> set[int]:
    """Store events whose idempotency id is new; return the ids of those that were."""
    ordered = sorted(rows, key=lambda row: (row["idempotency_id"], row["id"]))
    return {row.id for row in insert_new(conn, events, ordered, (events.c.id,))}


def event_row(event_id: int, call_id: int, lane: Lane, position: int) -> dict[str, object]:
    """Return the row of one event of a lane."""
    event = lane.events[position]
    return {
        "id": event_id,
        "idempotency_id": event.idempotency_id,
        "call_id": call_id,
        "lane": lane.name,
        "position": position,
        "event_name": event.event_name,
        "customer_id": event.customer_id,
        "time_created": event.time_created,
        "properties": event.properties,
        "content": event.content,
        "transform": lane.transform,
        "transform_digest": lane.digest,
    }


def find_stored(conn: sa.Connection, idempotency_ids: Sequence[str]) -> dict[str, Stored]:
    """Return the events that have these idempotency ids, by id."""
    found: dict[str, Stored] = {}
    columns = (
        events.c.idempotency_id,
        events.c.call_id,
        events.c.lane,
        events.c.position,
        events.c.content,
        events.c.transform_digest,
    )
    for start in range(0, len(idempotency_ids), _SLICE):
        where = events.c.idempotency_id.in_(idempotency_ids[start : start + _SLICE])
        for row in conn.execute(sa.select(*columns).where(where)):
            found[row.idempotency_id] = Stored(row.call_id, row.lane, row.position, row.content, row.transform_digest)
    return found
