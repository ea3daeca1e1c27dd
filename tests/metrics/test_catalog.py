"""Metric files and what is live: they publish themselves by the rules of transforms, on both databases."""

from pathlib import Path

import pytest

from app.catalog.files import read_folder
from app.catalog.status import FileState
from app.errors import MetricInvalid, NotFound
from app.metrics.catalog import (
    KIND,
    check_metrics,
    get_metric,
    publish_metric,
    publish_new_metrics,
    read_live_metrics,
    read_metric_statuses,
)
from app.metrics.definition import Metric
from app.metrics.watch import MetricWatcher
from app.store.engine import Database
from app.store.publications import list_history
from tests.builders import IDS, NOW, published, some_transforms

ONE = "metric_type: counter\nevent_name: use\nusage_aggregation_type: count\n"
TWO = ONE.replace("use", "other")
THREE = ONE.replace("use", "third")


class Node:
    """A process with a folder of its own on the database that all share."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        folder.mkdir()

    def write(self, **texts: str) -> None:
        for name, text in texts.items():
            (self.folder / f"{name}.yaml").write_text(text)

    def publish_new(self) -> list[str]:
        return publish_new_metrics(self.database, read_folder(self.folder), IDS.next, lambda: NOW)

    def publish(self, name: str) -> Metric | None:
        return publish_metric(self.database, self.folder, name, IDS.next, lambda: NOW)

    def states(self) -> dict[str, FileState]:
        with self.database.reading() as conn:
            return {one.name: one.state for one in read_metric_statuses(conn, read_folder(self.folder)).statuses}

    def live(self) -> dict[str, str]:
        with self.database.reading() as conn:
            return {name: one.event_name for name, one in read_live_metrics(conn).items()}


@pytest.fixture
def node(database: Database, tmp_path: Path) -> Node:
    return Node(database, tmp_path / "metrics")


def test_a_file_publishes_itself_once(node: Node) -> None:
    node.write(one=ONE, two=TWO)
    assert node.states() == {"one": FileState.NEW, "two": FileState.NEW}
    assert node.live() == {}
    assert node.publish_new() == ["one", "two"]
    assert node.publish_new() == []
    assert node.states() == {"one": FileState.SAME, "two": FileState.SAME}
    assert node.live() == {"one": "use", "two": "other"}


def test_a_changed_file_is_a_new_version_and_an_old_one_on_another_node_never_comes_back(
    node: Node, tmp_path: Path
) -> None:
    node.write(one=ONE)
    node.publish_new()
    node.write(one=TWO)
    assert node.publish_new() == ["one"]
    old = Node(node.database, tmp_path / "old")
    old.write(one=ONE)
    assert old.publish_new() == []
    assert old.states() == {"one": FileState.DRIFT}
    assert node.live() == {"one": "other"}


def test_a_broken_file_leaves_what_is_live(node: Node) -> None:
    node.write(one=ONE)
    node.publish_new()
    node.write(one=ONE.replace("counter", "sum"), two="metric_type: [")
    assert node.publish_new() == []
    assert node.states() == {"one": FileState.BROKEN, "two": FileState.BROKEN}
    assert node.live() == {"one": "use"}
    checked = check_metrics(read_folder(node.folder))
    assert checked.problems["one"].startswith("one.yaml:1:14: metric_type: must be one of")


def test_a_metric_without_a_file_stays_live_until_a_person_takes_it_out(node: Node) -> None:
    node.write(one=ONE)
    node.publish_new()
    (node.folder / "one.yaml").unlink()
    assert node.publish_new() == []
    assert node.states() == {"one": FileState.NO_FILE}
    assert node.publish("one") is None
    assert (node.live(), node.states()) == ({}, {})
    # It was seen, so it comes back only where a person says so.
    node.write(one=ONE)
    assert (node.publish_new(), node.states()) == ([], {"one": FileState.DRIFT})
    assert node.publish("one") is not None
    assert node.live() == {"one": "use"}


def test_publishing_what_is_live_adds_nothing(node: Node) -> None:
    node.write(one=ONE)
    node.publish_new()
    node.publish("one")
    with node.database.reading() as conn:
        assert len(list_history(conn, KIND, "one")) == 1


def test_what_cannot_be_published_says_why(node: Node) -> None:
    node.write(broken="metric_type: [")
    with pytest.raises(MetricInvalid, match=r"broken\.yaml:1:15"):
        node.publish("broken")
    with pytest.raises(NotFound, match=r"there is no missing\.yaml"):
        node.publish("missing")
    with node.database.reading() as conn, pytest.raises(NotFound, match="there is no metric 'missing': none is live"):
        get_metric(conn, "missing")


def test_transforms_and_metrics_of_one_name_are_two_documents(node: Node) -> None:
    node.write(order=ONE)
    transforms = some_transforms(order="match:\n  event: Order\n")
    catalog = published(node.database, transforms)
    assert node.publish_new() == ["order"]
    with node.database.reading() as conn:
        assert set(catalog.read_live(conn).texts) == {"_default", "order"}
    catalog.refresh(node.database)
    assert {one.name for one in catalog.active.transforms} == {"_default", "order"}
    assert node.live() == {"order": "use"}


def test_a_watcher_publishes_what_stays_the_same_for_two_looks(node: Node) -> None:
    node.write(one=ONE)
    watcher = MetricWatcher(node.database, node.folder, IDS, lambda: NOW)
    watcher.begin()
    assert node.live() == {"one": "use"}
    node.write(two=TWO)
    watcher.look()
    assert set(node.live()) == {"one"}
    watcher.look()
    assert set(node.live()) == {"one", "two"}
    node.write(three=THREE, four="metric_type: [")
    watcher.look()
    watcher.look()
    assert set(node.live()) == {"one", "two", "three"}


def test_a_folder_that_is_not_there_has_no_metrics(database: Database, tmp_path: Path) -> None:
    MetricWatcher(database, tmp_path / "nowhere", IDS, lambda: NOW).begin()
    with database.reading() as conn:
        assert read_live_metrics(conn) == {}
