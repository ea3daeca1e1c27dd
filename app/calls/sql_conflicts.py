"""Stored events that conflict with those of a call. `conn` first."""

from collections.abc import Sequence

import sqlalchemy as sa

from app.store.lookup import among
from app.store.record import to_key
from app.store.review_events import EventRow, to_event
from app.store.schema import events

_MOST = 1000


def list_conflicting_events(
    conn: sa.Connection, idempotency_ids: Sequence[str], call_ids: Sequence[int]
) -> list[EventRow]:
    """Return the events with these ids and those of these calls, at most the first _MOST of each."""
    by_id = among(
        conn, events.c.idempotency_id, sorted({to_key(idempotency_id) or "" for idempotency_id in idempotency_ids})
    )
    by_call = among(conn, events.c.call_id, sorted(set(call_ids)))
    rows = {}
    for where in (by_id, by_call):
        for row in conn.execute(sa.select(events).where(where).order_by(events.c.id).limit(_MOST)):
            rows[row.id] = to_event(row)
    return list(rows.values())
