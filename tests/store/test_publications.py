"""Which version of a document is live."""

import threading

import pytest

from app.store.engine import Database
from app.store.publications import (
    Origin,
    Publication,
    append_publications,
    find_latest_id,
    list_history,
    list_live,
    lock_publications,
)
from app.store.versions import Version, append_versions, find_seen_texts, find_versions, list_versions
from tests.builders import NOW, a_digest


def a_publication(number: int, name: str = "order", version: str | None = "1", kind: str = "transform") -> Publication:
    return Publication(number, kind, name, a_digest(version) if version else None, Origin.FILE, NOW + number)


def publish(database: Database, *publications: Publication) -> None:
    with database.writing() as conn:
        lock_publications(conn)
        append_publications(conn, publications)


def test_the_last_publication_of_a_name_is_live(database: Database) -> None:
    publish(database, a_publication(1), a_publication(2, "other"), a_publication(3, version="2"))
    publish(database, a_publication(4, "other", None), a_publication(5, "order", "9", kind="metric"))
    with database.reading() as conn:
        assert list_live(conn, "transform") == {
            "order": a_publication(3, version="2"),
            "other": a_publication(4, "other", None),
        }
        assert list_history(conn, "transform", "order") == [a_publication(3, version="2"), a_publication(1)]
        assert find_latest_id(conn) == 5


def test_nothing_is_live_at_first(database: Database) -> None:
    with database.reading() as conn:
        assert find_latest_id(conn) is None
        assert list_live(conn, "transform") == {}


def test_a_later_publication_has_a_later_id_whatever_the_clock_of_its_node_says(database: Database) -> None:
    publish(database, a_publication(1000))
    publish(database, a_publication(3, version="2"), a_publication(4, "other"))
    with database.reading() as conn:
        assert list_live(conn, "transform")["order"].digest == a_digest("2")
        assert list_live(conn, "transform")["order"].id == 1001
        assert find_latest_id(conn) == 1002


def test_one_publishes_at_a_time_while_others_read(database: Database) -> None:
    second_is_done = threading.Event()

    def publish_too() -> None:
        publish(database, a_publication(1, version="2"))
        second_is_done.set()

    with database.writing() as conn:
        lock_publications(conn)
        other = threading.Thread(target=publish_too)
        other.start()
        with database.reading() as reading:
            assert find_latest_id(reading) is None
        assert not second_is_done.wait(0.3)
        append_publications(conn, [a_publication(1)])
    other.join(10)
    with database.reading() as conn:
        assert [one.digest for one in list_history(conn, "transform", "order")] == [a_digest("2"), a_digest("1")]


def a_version(version: str, name: str, text: str, kind: str = "transform") -> Version:
    return Version(a_digest(version), kind, name, text, None, NOW)


@pytest.fixture
def versions(database: Database) -> Database:
    with database.writing() as conn:
        append_versions(
            conn,
            [
                a_version("1", "order", "one"),
                a_version("2", "order", "two"),
                a_version("3", "other", "three"),
                a_version("4", "order", "of another kind", "metric"),
            ],
        )
    return database


def test_a_text_was_seen_under_its_own_name_only(versions: Database) -> None:
    with versions.reading() as conn:
        assert find_seen_texts(conn, "transform", {"order": "two", "other": "three"}) == {"order", "other"}
        assert find_seen_texts(conn, "transform", {"order": "three", "other": "two"}) == set()
        assert find_seen_texts(conn, "transform", {"order": "of another kind"}) == set()
        assert find_seen_texts(conn, "transform", {}) == set()


def test_versions_are_found_by_the_beginning_of_their_digest(versions: Database) -> None:
    digest = a_digest("1").hex()
    with versions.reading() as conn:
        assert [one.text for one in find_versions(conn, "transform", "order", digest[:8].upper())] == ["one"]
        assert len(find_versions(conn, "transform", "order", "")) == 2
        assert find_versions(conn, "transform", "other", digest[:8]) == []
        assert set(list_versions(conn, [a_digest("1"), a_digest("9")])) == {a_digest("1")}
