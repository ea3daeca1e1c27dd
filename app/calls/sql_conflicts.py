"""The events that stand in the way of a call's own. `conn` first."""

from collections.abc import Sequence

import sqlalchemy as sa

from app.store.keys import to_key
from app.store.lookup import among
from app.store.review_events import EventRow, to_event
from app.store.schema import events

_MOST = 1000


def list_rivals(conn: sa.Connection, idempotency_ids: Sequence[str], call_ids: Sequence[int]) -> list[EventRow]:
    """Return the events with these ids, and those that these calls made; of a call's thousands, the first."""
    by_id = among(conn, events.c.idempotency_id, sorted({to_key(one) or "" for one in idempotency_ids}))
    by_call = among(conn, events.c.call_id, sorted(set(call_ids)))
    found = {}
    for where in (by_id, by_call):
        for row in conn.execute(sa.select(events).where(where).order_by(events.c.id).limit(_MOST)):
            found[row.id] = to_event(row)
    return list(found.values())
