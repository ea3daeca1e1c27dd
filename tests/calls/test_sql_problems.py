"""Counting the calls that made no event: exact, and led to by the index, on both databases."""

from typing import Any

import sqlalchemy as sa

from app.calls.sql_problems import FaultCount, count_faults, list_types
from app.core.fault import Fault
from app.store.engine import Database
from app.store.faults import FaultRow, append_faults
from app.store.schema import calls, faults
from tests.builders import rows_of

FAULTS = {
    name: FaultRow("rejected", "event_invalid", "order", b"v", Fault(f"path {name}", f"sentence {name}"))
    for name in ("a", "b")
}


def seed(database: Database, *rows: tuple[int, str | None]) -> None:
    """Store calls: id, and the name of a fault."""
    shared = {"request_id": 1, "position": 0, "received_at": 1, "route": "webhook", "raw": b"{}", "type": "track"}
    with database.writing() as conn:
        append_faults(conn, [FAULTS[name] for _, name in rows if name is not None])
        conn.execute(
            sa.insert(calls),
            [
                {
                    **shared,
                    "id": id_,
                    "outcome": "stored" if name is None else "rejected",
                    "event": f"E{id_ % 2}",
                    "fault": None if name is None else FAULTS[name].key,
                }
                for id_, name in rows
            ],
        )


def a_count(name: str, count: int, first_id: int, last_id: int) -> FaultCount:
    """Return what is expected of a fault."""
    row = FAULTS[name]
    return FaultCount(
        row.key,
        row.outcome,
        row.reason,
        row.transform,
        row.transform_digest,
        row.fault.path,
        row.fault.sentence,
        count,
        first_id,
        last_id,
    )


def test_every_call_of_a_range_is_counted_by_its_fault_most_calls_first(database: Database) -> None:
    seed(database, (1, "b"), (2, "a"), (3, "b"), (4, None), (5, "b"), (6, "a"))
    with database.reading() as conn:
        assert count_faults(conn, 0) == [a_count("b", 3, 1, 5), a_count("a", 2, 2, 6)]
        # As many of both: the one that was seen last is first.
        assert count_faults(conn, 2) == [a_count("a", 2, 2, 6), a_count("b", 2, 3, 5)]
        assert count_faults(conn, 6) == [a_count("a", 1, 6, 6)]
        assert count_faults(conn, 7) == []
        assert list_types(conn, [1, 4, 99]) == {1: ("track", "E1"), 4: ("track", "E0")}


def test_a_fault_is_one_row_however_often_it_is_written(database: Database) -> None:
    for rows in ((1, "a"), (2, "b")), ((3, "b"), (4, "b")), ((5, "a"),):
        seed(database, *rows)
    stored: list[Any] = rows_of(database, faults, faults.c.path, faults.c.sentence)
    assert sorted(stored) == [("path a", "sentence a"), ("path b", "sentence b")]


def test_what_a_sender_wrote_is_kept_as_both_databases_take_it(database: Database) -> None:
    odd = FaultRow("ignored", "no_transform", None, None, Fault("\0" * 300, "\ud800" + "x" * 2000))
    with database.writing() as conn:
        append_faults(conn, [odd])
    assert rows_of(database, faults, faults.c.path, faults.c.sentence) == [
        ("\N{REPLACEMENT CHARACTER}" * 200, "?" + "x" * 999)
    ]


def test_the_partial_index_leads_to_them(crowded: Database) -> None:
    statements: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if statement.startswith("SELECT"):
            statements.append((statement, parameters))

    sa.event.listen(crowded.engine, "before_cursor_execute", note)
    with crowded.reading() as conn:
        count_faults(conn, 1)
    sa.event.remove(crowded.engine, "before_cursor_execute", note)
    explain = "EXPLAIN" if crowded.engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    with crowded.reading() as conn:
        for statement, parameters in statements:
            plan = "\n".join(str(row[-1]) for row in conn.exec_driver_sql(f"{explain} {statement}", parameters))
            assert "calls_fault" in plan, plan
            assert "Seq Scan on calls" not in plan, plan
            assert "SCAN calls USING INDEX" not in plan, plan
