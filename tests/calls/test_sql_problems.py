"""Counting the calls that made no event: right, bounded, and led to by the index, on both databases."""

from typing import Any

import pytest
import sqlalchemy as sa

from app.calls.sql_problems import ProblemRow, Scan, UnmappedRow, Window, list_problem_rows, list_unmapped_rows
from app.core.outcome import Outcome
from app.store.engine import Database
from app.store.ids import ID_MAX
from app.store.schema import calls

PROBLEMS = (Outcome.REJECTED, Outcome.CONFLICT)


def window(*, first: int = 0, end: int = ID_MAX, most: int = 100, seconds: float = 600) -> Window:
    """Return what is to be looked at: time is no matter, unless a test says so."""
    return Window(first=first, end=end, most=most, seconds=seconds)


def seed(database: Database, *rows: tuple[int, str, str | None, str | None]) -> None:
    """Store calls: id, outcome, reason, sentence."""
    shared = {"request_id": 1, "position": 0, "received_at": 1, "route": "webhook", "raw": b"{}", "type": "track"}
    shared = {**shared, "transform": "order", "transform_digest": b"v"}
    with database.writing() as conn:
        conn.execute(
            sa.insert(calls),
            [
                {**shared, "id": one, "outcome": outcome, "reason": reason, "detail": detail, "event": f"E{one % 2}"}
                for one, outcome, reason, detail in rows
            ],
        )


def test_calls_are_counted_by_reason_transform_version_and_sentence(database: Database) -> None:
    seed(
        database,
        (1, "rejected", "event_invalid", "a"),
        (2, "rejected", "event_invalid", "a"),
        (3, "rejected", "event_invalid", "b"),
        (4, "stored", None, None),
        (5, "conflict", "conflict", "the event '5'"),
        (6, "conflict", "conflict", "the event '6'"),
        (7, "duplicate", "duplicate", "x"),
    )
    with database.reading() as conn:
        rows, scan = list_problem_rows(conn, PROBLEMS, window())
    assert scan == Scan(5, None)
    assert sorted(rows, key=lambda row: row.first_id) == [
        ProblemRow("rejected", "event_invalid", "order", b"v", "a", 2, 1, 2),
        ProblemRow("rejected", "event_invalid", "order", b"v", "b", 1, 3, 3),
        ProblemRow("conflict", "conflict", "order", b"v", None, 2, 5, 6),
    ]


def test_what_no_transform_takes_is_counted_by_type_and_event_and_other_ignored_calls_are_not(
    database: Database,
) -> None:
    seed(
        database,
        *((one, "ignored", "no_transform", None) for one in (1, 2, 3)),
        (4, "ignored", "filtered", "x"),
    )
    with database.reading() as conn:
        rows, scan = list_unmapped_rows(conn, window())
    assert scan == Scan(4, None)
    assert sorted(rows, key=lambda row: row.first_id) == [
        UnmappedRow("track", "E1", None, 2, 1, 3),
        UnmappedRow("track", "E0", None, 1, 2, 2),
    ]


@pytest.mark.parametrize(("most", "reached"), [(1, 6), (3, 4), (4, 3), (5, None), (6, None)])
def test_the_newest_are_looked_at_and_what_is_left_is_known(database: Database, most: int, reached: int | None) -> None:
    seed(database, *((one, "conflict" if one % 2 else "rejected", "x", "y") for one in (1, 3, 4, 5, 6)))
    with database.reading() as conn:
        rows, scan = list_problem_rows(conn, PROBLEMS, window(most=most))
    assert scan == Scan(min(most, 5), reached)
    assert sum(row.count for row in rows) == scan.calls


@pytest.mark.parametrize("bound", [{"most": 3}, {"seconds": 0.0}])
def test_going_on_from_where_a_look_ended_meets_every_call_once(database: Database, bound: dict[str, Any]) -> None:
    """Whether it ended since there were enough, or since its time was over: it comes on in any case."""
    seed(database, *((one, "rejected", "x", f"{one}") for one in range(1, 12)))
    met: list[str | None] = []
    end = ID_MAX
    with database.reading() as conn:
        while True:
            rows, scan = list_problem_rows(conn, PROBLEMS, window(first=2, end=end, **bound))
            met += sorted((row.detail for row in rows), key=str)
            if scan.reached is None:
                break
            end = scan.reached
    assert sorted(met, key=lambda one: int(one or 0)) == [str(one) for one in range(2, 12)]


def test_the_partial_index_leads_to_them(crowded: Database) -> None:
    statements: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if statement.startswith("SELECT"):
            statements.append((statement, parameters))

    sa.event.listen(crowded.engine, "before_cursor_execute", note)
    with crowded.reading() as conn:
        list_problem_rows(conn, PROBLEMS, window())
        list_unmapped_rows(conn, window())
    sa.event.remove(crowded.engine, "before_cursor_execute", note)
    explain = "EXPLAIN" if crowded.engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    with crowded.reading() as conn:
        for statement, parameters in statements:
            plan = "\n".join(str(row[-1]) for row in conn.exec_driver_sql(f"{explain} {statement}", parameters))
            assert "calls_unstored_outcome" in plan, plan
            assert "Seq Scan on calls" not in plan, plan
            assert "SCAN calls" not in plan, plan
