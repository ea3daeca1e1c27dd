"""The newest calls of a transform, and how much it had to do: by index and within bounds, on both databases."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from app.core.transform.match import Match
from app.store.engine import Connection, Database
from app.store.ids import first_id_at
from app.store.ledger import CALL
from app.store.ledger import append as append_counts
from app.store.schema import calls
from app.transforms import sql_traffic as traffic
from app.transforms.sql_traffic import (
    TrafficShare,
    list_event_names,
    list_ids_by_event,
    list_ids_decided_by,
    list_ids_of_type,
    read_activity,
)
from app.transforms.traffic import list_ids_matched
from tests.builders import NOW


def id_of(at: int) -> int:
    return first_id_at(NOW + at * 1000)


def keep(database: Database, *rows: dict[str, Any]) -> None:
    """Store calls as rows, the first one first."""
    usual = {
        "request_id": 1,
        "position": 0,
        "received_at": NOW,
        "route": "webhook",
        "raw": b"{}",
        "type": "track",
        "event": None,
        "outcome": "stored",
        "transform": None,
    }
    with database.writing() as conn:
        conn.execute(sa.insert(calls), [{**usual, "id": id_of(at), **row} for at, row in enumerate(rows)])


def ask(database: Database, question: Callable[[Connection], Any]) -> Any:
    with database.reading() as conn:
        return question(conn)


def test_calls_are_found_by_several_event_names_newest_first(database: Database) -> None:
    keep(database, {"event": "A"}, {"event": "B"}, {"event": "C"}, {"event": "A"}, {"event": "B"})
    assert ask(database, lambda conn: list_ids_by_event(conn, ["A", "B"], 3)) == [id_of(4), id_of(3), id_of(1)]
    assert ask(database, lambda conn: list_ids_by_event(conn, ["C", "D"], 3)) == [id_of(2)]
    assert ask(database, lambda conn: list_ids_by_event(conn, [], 3)) == []


def test_event_names_are_listed_once_and_in_order(database: Database) -> None:
    assert ask(database, list_event_names) == []
    keep(database, {"event": "B"}, {"event": None}, {"event": "A"}, {"event": "B"}, {"event": "C"})
    assert ask(database, list_event_names) == ["A", "B", "C"]
    assert ask(database, lambda conn: list_event_names(conn, 2)) == ["A", "B"]


def test_a_pattern_finds_calls_of_every_name_it_means(database: Database) -> None:
    keep(database, {"event": "Report Made"}, {"event": "Order"}, {"event": "Report Sent"})
    patterns = (re.compile("Report .*"),)
    match = Match(type="track", events=frozenset({"Order"}), patterns=patterns, sources=frozenset())
    assert ask(database, lambda conn: list_ids_matched(conn, match, 10)) == [id_of(2), id_of(1), id_of(0)]
    match = Match(type="track", events=frozenset(), patterns=patterns, sources=frozenset())
    assert ask(database, lambda conn: list_ids_matched(conn, match, 1)) == [id_of(2)]


def test_calls_are_found_by_type_and_by_the_transform_that_decided(database: Database) -> None:
    keep(
        database,
        {"type": "identify"},
        {"event": "A", "transform": "_default"},
        {"type": "page"},
        {"event": "B", "transform": "b"},
    )
    assert ask(database, lambda conn: list_ids_of_type(conn, "identify", 5)) == [id_of(0)]
    assert ask(database, lambda conn: list_ids_of_type(conn, "track", 5)) == [id_of(3), id_of(1)]
    assert ask(database, lambda conn: list_ids_decided_by(conn, "_default", 5)) == [id_of(1)]


def test_what_each_transform_had_to_do_is_counted_since_a_moment(database: Database) -> None:
    keep(
        database,
        {"transform": "a", "outcome": "rejected"},
        {"transform": "a", "outcome": "rejected"},
        {"transform": "a", "outcome": "conflict"},
        {"transform": "a"},
        {"transform": "b"},
        {"transform": None, "outcome": "ignored"},
    )
    found = ask(database, lambda conn: read_activity(conn, NOW + 1000))
    assert found.shares == {"a": TrafficShare(3, 2), "b": TrafficShare(1, 0)}
    assert (found.looked_at, found.is_whole) == (5, True)


def test_where_too_many_calls_came_the_newest_are_looked_at_and_the_ledger_says_how_many_there_were(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "LOOKED_AT", 2)
    keep(database, {"transform": "a"}, {"transform": "a"}, {"transform": "b"}, {"transform": "a"})
    with database.writing() as conn:
        append_counts(conn, 7, NOW, Counter({(CALL, "stored", ""): 4}))
    found = ask(database, lambda conn: read_activity(conn, NOW))
    assert found.shares == {"a": TrafficShare(1, 0), "b": TrafficShare(1, 0)}
    assert (found.looked_at, found.received, found.is_whole) == (2, 4, False)


QUESTIONS: dict[str, tuple[Callable[[Connection], Any], str]] = {
    "by event": (lambda conn: list_ids_by_event(conn, ["Event 7"], 20), "calls_event"),
    "names": (list_event_names, "calls_event"),
    "of another type": (lambda conn: list_ids_of_type(conn, "identify", 20), "calls_event"),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_index_leads_to_the_calls(crowded: Database, question: str) -> None:
    work, index = QUESTIONS[question]
    plans = plans_of(crowded, work)
    assert index in plans, plans
    for line in plans.splitlines():
        assert "Seq Scan" not in line, plans
        assert not re.match(r"SCAN calls$", line.strip()), plans


def plans_of(database: Database, work: Callable[[Connection], Any]) -> str:
    """What the database does for the statements of some work."""
    asked: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        asked.append((statement, parameters))

    sa.event.listen(database.engine, "before_cursor_execute", note)
    try:
        ask(database, work)
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN " if database.file else "EXPLAIN "
    lines: list[str] = []
    with database.reading() as conn:
        for statement, parameters in asked:
            lines += [str(row[-1]) for row in conn.exec_driver_sql(explain + statement, parameters)]
    return "\n".join(lines)
