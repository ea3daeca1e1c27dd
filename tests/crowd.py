"""A database of each kind with many calls, for tests of how the database goes about a question."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import sqlalchemy as sa

from app.store.engine import Database
from app.store.ids import first_id_at
from app.store.schema import calls, claims, events
from tests.builders import NOW


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def crowded(
    request: pytest.FixtureRequest, make_database: Callable[[str], AbstractContextManager[Database]]
) -> Iterator[Database]:
    """A database with 20,000 calls, which tests share and only read."""
    with make_database(request.param) as database:
        _seed(database, 20_000)
        yield database


def _seed(database: Database, count: int) -> None:
    """Store calls as rows, without a pipeline: nine of ten made an event."""
    rows: dict[sa.Table, list[dict[str, Any]]] = {calls: [], events: [], claims: []}
    others = [("rejected", "event_invalid"), ("ignored", "no_transform"), ("duplicate", "duplicate")]
    for at in range(count):
        number = first_id_at(NOW + at * 1000)
        outcome, reason = others[at // 10 % 3] if at % 10 == 0 else ("stored", None)
        shared = {"customer_id": f"customer-{at % 1000}", "transform": "_default", "transform_digest": b"v"}
        rows[calls].append(
            {
                **shared,
                "id": number,
                "request_id": number,
                "position": 0,
                "received_at": NOW + at * 1000,
                "route": "webhook",
                "raw": b"x" * 300,
                "type": "track",
                "message_id": f"message-{at}",
                "event": f"Event {at % 50}",
                "outcome": outcome,
                "reason": reason,
            }
        )
        if outcome == "stored":
            event = {
                **shared,
                "id": number + 1,
                "idempotency_id": f"id-{at}",
                "call_id": number,
                "lane": "main",
                "position": 0,
                "event_name": f"event_{at % 50}",
                "time_created": NOW,
                "properties": "{}",
                "content": b"c",
            }
            rows[events].append(event)
            claim = {"message_id": f"message-{at}", "lane": "main", "call_id": number, "content": b"c"}
            rows[claims].append({**claim, "transform_digest": b"v"})
    with database.writing() as conn:
        for table, values in rows.items():
            conn.execute(sa.insert(table), values)
        if conn.dialect.name == "postgresql":
            # As its autovacuum does by itself, some time later.
            conn.execute(sa.text("ANALYZE"))
