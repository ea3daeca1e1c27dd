"""How the databases go about a filter: the plan is the claim, since on 20,000 rows everything is fast."""

from typing import Any

import sqlalchemy as sa

from app.core.outcome import Outcome, Reason
from app.store.engine import Database
from app.store.ids import first_id_at
from app.store.review import CallFilters, list_call_ids
from app.store.schema import calls, claims, events
from tests.builders import NOW

# Which index must lead to the calls; a filter that walks all of them would hold a disk for seconds.
LEADS: dict[str, tuple[CallFilters, set[str]]] = {
    "customer": (CallFilters(customer="customer-7"), {"events_customer", "calls_unstored_customer"}),
    "rejected": (CallFilters(outcomes=(Outcome.REJECTED,)), {"calls_unstored_outcome"}),
    "two outcomes": (CallFilters(outcomes=(Outcome.REJECTED, Outcome.CONFLICT)), {"calls_unstored_outcome"}),
    "reason": (CallFilters(reason=Reason.EVENT_INVALID), {"calls_unstored_outcome"}),
    "event": (CallFilters(event="Event 7"), {"calls_event"}),
    "unknown event": (CallFilters(event="Event 77"), {"calls_event"}),
    "id": (CallFilters(id="message-77"), {"claims", "calls_unstored_message", "idempotency_id"}),
    "call id": (CallFilters(id="777"), {"claims", "calls_unstored_message", "idempotency_id"}),
    "customer and rejected": (
        CallFilters(customer="customer-7", outcomes=(Outcome.REJECTED,)),
        {"calls_unstored_"},
    ),
}


def seed(database: Database, count: int) -> None:
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


def plans_of(database: Database, filters: CallFilters) -> str:
    """How the database goes about every query that a filter makes."""
    statements: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        statements.append((statement, parameters))

    sa.event.listen(database.engine, "before_cursor_execute", note)
    try:
        with database.reading() as conn:
            list_call_ids(conn, filters, limit=50)
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", note)
    explain = "EXPLAIN" if database.engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    with database.reading() as conn:
        return "\n".join(
            str(row[-1]) for one in statements for row in conn.exec_driver_sql(f"{explain} {one[0]}", one[1])
        )


def test_no_filter_walks_all_calls_where_an_index_leads_to_them(database: Database) -> None:
    seed(database, 20_000)
    for name, (filters, indexes) in LEADS.items():
        plan = plans_of(database, filters)
        assert "Seq Scan" not in plan, (name, plan)
        assert "SCAN" not in plan, (name, plan)
        for index in indexes:
            assert index in plan, (name, plan)
    # The walk from the newest down, which ends as soon as the page is full.
    for filters in (CallFilters(), CallFilters(outcomes=(Outcome.STORED,))):
        plan = plans_of(database, filters)
        assert "Sort" not in plan, plan
        assert "TEMP B-TREE" not in plan, plan
