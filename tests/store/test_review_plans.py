"""How the databases go about a filter: the plan is the claim, since on 20,000 rows everything is fast."""

from typing import Any

import sqlalchemy as sa

from app.core.outcome import Outcome, Reason
from app.store.engine import Database
from app.store.review import CallFilters, list_call_ids

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


def test_no_filter_walks_all_calls_where_an_index_leads_to_them(crowded: Database) -> None:
    for name, (filters, indexes) in LEADS.items():
        plan = plans_of(crowded, filters)
        assert "Seq Scan" not in plan, (name, plan)
        assert "SCAN" not in plan, (name, plan)
        for index in indexes:
            assert index in plan, (name, plan)
    # The walk from the newest down, which ends as soon as the page is full.
    for filters in (CallFilters(), CallFilters(outcomes=(Outcome.STORED,))):
        plan = plans_of(crowded, filters)
        assert "Sort" not in plan, plan
        assert "TEMP B-TREE" not in plan, plan
