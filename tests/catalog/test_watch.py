"""A process keeps up with its files and with the database, also while it serves."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.catalog.status import FileState
from app.errors import TransformInvalid, Unavailable
from app.store.engine import Database
from app.store.publications import list_history
from tests.builders import DEFAULT_TEXT, a_document, to_raw
from tests.catalog.conftest import Node
from tests.served import ADMIN_TOKEN, Served, served, wait_until

MakeNode = Callable[..., Node]

ONE = "match: {event: Order}\nevent: {properties: {version: '`1`'}}\n"
TWO, THREE = (ONE.replace("1", number) for number in "23")

SOON = 2.5
"""Two seconds, and the time of a request on a busy machine."""


def test_a_change_is_read_once_it_was_the_same_for_two_looks(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    watcher = node.watcher
    watcher.begin()
    watcher.look()
    node.write(order=TWO)
    watcher.look()
    assert node.active()["order"] == ONE, "its editor may still be writing"
    watcher.look()
    assert node.active()["order"] == TWO


def test_a_file_that_is_being_written_is_left_alone(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    watcher = node.watcher
    watcher.begin()
    for length in range(5, 40, 5):
        node.write(order=TWO[:length])
        watcher.look()
    assert node.active()["order"] == ONE
    assert len(node.history("order")) == 1


def test_many_files_that_are_dropped_in_at_once_are_soon_live(make_node: MakeNode) -> None:
    # 2,000 of them take 5 s of a processor; what is found out about each by asking all others would take minutes.
    node = make_node()
    watcher = node.watcher
    watcher.begin()
    node.write(**{f"order_{number}": ONE.replace("Order", f"Order {number}") for number in range(150)})
    began = time.monotonic()
    watcher.look()
    watcher.look()
    assert len(node.active()) == 151
    assert time.monotonic() - began < 60


def test_what_another_node_publishes_is_active_at_the_next_look(make_node: MakeNode) -> None:
    first, second = make_node(order=ONE), make_node(order=ONE)
    watchers = [first.watcher, second.watcher]
    for watcher in watchers:
        watcher.begin()
    first.write(order=TWO)
    watchers[0].look()
    watchers[0].look()
    watchers[1].look()
    assert second.active()["order"] == TWO


def test_a_set_of_transforms_is_swapped_as_a_whole_and_only_when_something_changed(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    watcher = node.watcher
    watcher.begin()
    before = node.catalog.active
    os.utime(node.folder / "order.yaml", (1, 1))
    for _ in range(3):
        watcher.look()
    assert node.catalog.active is before


def test_a_broken_file_and_drift_are_logged_once(make_node: MakeNode) -> None:
    node, other = make_node(order=ONE), make_node(order=TWO)
    other.sync()
    node.sync()
    node.write(broken="match: [")
    watcher = node.watcher
    watcher.begin()
    with capture_logs() as logs:
        for _ in range(4):
            watcher.look()
    assert [(line["log_level"], line["event"]) for line in logs if "message" in line] == [
        ("error", "transform not used; the last good version stays active"),
    ]
    node.write(order=THREE, broken="match: {event: Broken}")
    with capture_logs() as logs:
        for _ in range(4):
            watcher.look()
    assert [line["names"] for line in logs if "names" in line] == [["broken", "order"]]
    assert watcher.problems() == []


def test_nothing_live_and_no_file_that_can_be_used_ends_with_the_sentences(make_node: MakeNode) -> None:
    node = make_node()
    node.write(default="match: [", order="x: 1")
    with pytest.raises(TransformInvalid, match=r"^_default\.yaml:"):
        node.watcher.begin()
    node.delete("_default")
    with pytest.raises(TransformInvalid, match=r"there is no _default\.yaml"):
        node.watcher.begin()


def test_what_is_live_is_enough_to_begin_with(make_node: MakeNode, tmp_path: Path) -> None:
    make_node(order=ONE).sync()
    node = make_node()
    node.folder = tmp_path / "missing"
    watcher = node.watcher
    watcher.begin()
    assert node.active() == {"_default": DEFAULT_TEXT, "order": ONE}
    assert watcher.status is not None
    assert {one.state for one in watcher.status.files} == {FileState.NO_FILE}


def test_without_a_database_what_is_active_stays_active(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    watcher = node.watcher
    watcher.begin()
    watcher.look()
    with node.database.writing() as conn:
        conn.exec_driver_sql("ALTER TABLE publications RENAME TO away")
    node.write(order=TWO)
    for _ in range(3):
        with pytest.raises(Unavailable):
            watcher.look()
    assert node.active()["order"] == ONE
    with node.database.writing() as conn:
        conn.exec_driver_sql("ALTER TABLE away RENAME TO publications")
    watcher.look()
    assert node.active()["order"] == TWO


# --- The running service


def send(service: Served, message_id: str) -> None:
    answer = service.post(to_raw(a_document(messageId=message_id, event="Order")))
    assert answer.json["received"] == 1


def made_by(service: Served, message_id: str) -> object:
    """Send a call, and return the `version` of its event."""
    send(service, message_id)
    [event] = service.get(f"/api/v1/events?idempotency_id={message_id}", ADMIN_TOKEN).json["events"]
    return event["properties"]["version"]


def answers_of(service: Served, name: str) -> list[object]:
    """Return what a dozen calls are made of, each on a connection of its own, so that all workers have their turn."""
    return [made_by(service, f"{name}-{number}") for number in range(12)]


def standing_of(service: Served, name: str) -> dict[str, object] | None:
    answer = service.get("/readyz", ADMIN_TOKEN)
    assert answer.status == 200
    return next((one for one in answer.json["transforms"] if one["name"] == name), None)


def test_the_running_service_maps_by_a_changed_file_within_two_seconds_and_not_by_a_broken_one(
    database: Database, migrated_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "_default.yaml").write_text(DEFAULT_TEXT)
    order = folder / "order.yaml"
    order.write_text(ONE)
    with served(migrated_url, tmp_path / "run", TRANSFORMS_DIR=str(folder), WEB_CONCURRENCY="2") as service:
        assert set(answers_of(service, "first")) == {1}

        order.write_text(TWO)
        time.sleep(SOON)
        assert set(answers_of(service, "second")) == {2}
        assert standing_of(service, "order") is None

        order.write_text("match: [")
        time.sleep(SOON)
        assert set(answers_of(service, "broken")) == {2}
        wait_until(lambda: standing_of(service, "order"))
        standing = standing_of(service, "order")
        assert standing is not None
        assert standing["state"] == "broken"
        assert "order.yaml:1:9: " in str(standing["problems"])

        order.write_text(THREE)
        time.sleep(SOON)
        assert set(answers_of(service, "third")) == {3}
        lines = [line for line in service.lines() if line["event"].startswith("transform not used")]
        assert 1 <= len(lines) <= 2, "once for each worker"
    with database.reading() as conn:
        published = [one.digest for one in list_history(conn, "transform", "order")]
    assert len(published) == len(set(published)) == 3, "two workers publish once"
