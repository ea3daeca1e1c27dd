"""Bounded looks at deliveries: each page is small work, and pages together are everything. On both databases."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import sqlalchemy as sa

from app.forward import sql_search as delivery_search
from app.forward.sql_deliveries import DeliveryState
from app.forward.sql_lists import find_groups
from app.forward.sql_search import DeliveryFilters, count_matching, search_deliveries
from app.store import walk
from app.store.engine import Database
from app.store.ids import first_id_at
from app.store.schema import deliveries, events
from app.store.walk import SearchPage
from tests.builders import NOW

COUNT = 3000
SECOND = 1_000_000
STATES = ("delivered", "delivered", "delivered", "waiting", "failed", "unforwardable", "voided")


@pytest.fixture
def seeded(full: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database with deliveries, where a look is small."""
    monkeypatch.setattr(walk, "_WINDOW", 100)
    monkeypatch.setattr(delivery_search, "FEW", 40)
    # A test asserts no time: however slow the machine is, a step ends by its count.
    monkeypatch.setattr(walk, "SECONDS", 60.0)
    return full


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def full(
    request: pytest.FixtureRequest, make_database: Callable[[str], AbstractContextManager[Database]]
) -> Iterator[Database]:
    """A database with deliveries of every state, one a second, which tests share and only read."""
    with make_database(request.param) as database:
        seed(database)
        yield database


def seed(database: Database) -> None:
    made: list[dict[str, Any]] = []
    sent: list[dict[str, Any]] = []
    for at in range(COUNT):
        number = first_id_at(NOW + at * SECOND)
        event = {"lane": "main", "position": 0, "time_created": NOW, "properties": "{}", "content": b"c"}
        event |= {"id": number, "idempotency_id": f"id-{at}", "call_id": number, "transform": "t"}
        event |= {"customer_id": "rare" if at == 77 else f"customer-{at % 10}", "event_name": f"event_{at % 3}"}
        made.append({**event, "transform_digest": b"v"})
        state = STATES[at % len(STATES)]
        reason = f"reason {at % 2}" if state in {"failed", "unforwardable"} else None
        settled = None if state == "waiting" else NOW + at
        sent.append(
            {"event_id": number, "state": state, "due_at": NOW, "tries": 0, "reason": reason, "settled_at": settled}
        )
    with database.writing() as conn:
        conn.execute(sa.insert(events), made)
        conn.execute(sa.insert(deliveries), sent)
        if conn.dialect.name == "postgresql":
            conn.execute(sa.text("ANALYZE"))


def steps_of(database: Database, filters: DeliveryFilters, most: int = 500) -> Iterator[SearchPage]:
    """Give every step of a look, to its end."""
    before: int | None = None
    while True:
        with database.reading() as conn:
            step = search_deliveries(conn, filters, before=before, limit=30, most=most)
        yield step
        if step.reached is None:
            return
        before = step.reached


def expected(database: Database, filters: DeliveryFilters) -> list[int]:
    """Return what fits by asking for it in one plain query."""
    query = sa.select(deliveries.c.event_id).join(events, events.c.id == deliveries.c.event_id)
    for column, wanted in (
        (deliveries.c.state, filters.state),
        (deliveries.c.reason, filters.reason),
        (events.c.customer_id, filters.customer),
        (events.c.event_name, filters.event_name),
        (events.c.idempotency_id, filters.id),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    if filters.since is not None:
        query = query.where(deliveries.c.event_id >= first_id_at(filters.since))
    if filters.until is not None:
        query = query.where(deliveries.c.event_id < first_id_at(filters.until))
    with database.reading() as conn:
        return list(conn.execute(query.order_by(deliveries.c.event_id.desc())).scalars())


FILTERS = (
    DeliveryFilters(),
    *(DeliveryFilters(state=state) for state in DeliveryState),
    DeliveryFilters(reason="reason 1"),
    DeliveryFilters(state=DeliveryState.FAILED, reason="reason 1"),
    DeliveryFilters(reason="nothing"),
    DeliveryFilters(customer="rare"),
    DeliveryFilters(customer="customer-7"),
    DeliveryFilters(customer="customer-7", state=DeliveryState.VOIDED, event_name="event_2"),
    DeliveryFilters(event_name="event_2", state=DeliveryState.WAITING),
    DeliveryFilters(id="id-77"),
    DeliveryFilters(id="id-77", customer="customer-7"),
    DeliveryFilters(since=NOW + 1000 * SECOND, until=NOW + 1100 * SECOND),
    DeliveryFilters(since=NOW + 1000 * SECOND, state=DeliveryState.WAITING),
    DeliveryFilters(until=NOW + 100 * SECOND, customer="customer-3"),
)


def test_the_steps_together_find_everything_once_the_newest_first(seeded: Database) -> None:
    for filters in FILTERS:
        found = [one for step in steps_of(seeded, filters) for one in step.ids]
        assert found == expected(seeded, filters), filters
        with seeded.reading() as conn:
            assert count_matching(conn, filters) == (len(found), None), filters


def test_no_step_looks_at_more_than_it_may_and_each_says_how_far_it_came(seeded: Database) -> None:
    for filters in FILTERS:
        for step in steps_of(seeded, filters):
            assert step.looked_at <= 500, filters
            assert len(step.ids) <= 30
            assert step.full == (len(step.ids) == 30 and step.reached is not None), filters
    [*steps] = steps_of(seeded, DeliveryFilters(reason="nothing"))
    assert [step.looked_at for step in steps[:-1]] == [500] * (len(steps) - 1)


def test_no_query_of_a_step_walks_the_table(seeded: Database) -> None:
    """What it takes is bounded by the plan: an index leads to each window, and nothing is sorted."""
    for filters in FILTERS:
        statements: list[tuple[str, Any]] = []

        def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any, to: Any = statements) -> None:
            to.append((statement, parameters))

        sa.event.listen(seeded.engine, "before_cursor_execute", note)
        try:
            list(steps_of(seeded, filters, most=500))
        finally:
            sa.event.remove(seeded.engine, "before_cursor_execute", note)
        explain = "EXPLAIN" if seeded.engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
        with seeded.reading() as conn:
            for statement, parameters in statements[:4]:
                if explain == "EXPLAIN":
                    # Three thousand rows are fewer than a server finds worth an index.
                    conn.execute(sa.text("SET LOCAL enable_seqscan = off"))
                rows = conn.exec_driver_sql(f"{explain} {statement}", parameters)
                plan = "\n".join(str(row[-1]) for row in rows)
                assert "Seq Scan" not in plan, (filters, plan)
                assert "SCAN events" not in plan, (filters, plan)


def test_groups_are_of_the_newest_and_say_how_far_back_they_go(seeded: Database) -> None:
    with seeded.reading() as conn:
        groups, edge = find_groups(conn, DeliveryFilters())
        assert edge is None
        assert sum(one.count for one in groups) == sum(
            STATES[at % 7] in {"failed", "unforwardable"} for at in range(COUNT)
        )
        assert {(one.state, one.reason) for one in groups} == {
            (state, f"reason {number}")
            for state in (DeliveryState.FAILED, DeliveryState.UNFORWARDABLE)
            for number in (0, 1)
        }
        for one in groups:
            found = expected(seeded, DeliveryFilters(state=one.state, reason=one.reason))
            assert (one.count, one.sample) == (len(found), found[0])
            assert one.first_at < one.last_at
        few, edge = find_groups(conn, DeliveryFilters(), most=10)
        assert sum(one.count for one in few) == 20
        assert edge == expected(seeded, DeliveryFilters(state=DeliveryState.UNFORWARDABLE))[9]
        late, _ = find_groups(conn, DeliveryFilters(since=NOW + (COUNT - 70) * SECOND))
        assert sum(one.count for one in late) == 20
