"""The rule of publishing: which files become live by themselves, and which wait for a person."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import sqlalchemy as sa

from app.catalog.status import FileState
from app.core.transform import transform
from app.errors import NotFound, TransformInvalid
from app.store import schema
from app.store.engine import Database, connect
from app.store.publications import Origin
from tests.builders import DEFAULT_TEXT, rows_of
from tests.catalog.conftest import Node

MakeNode = Callable[..., Node]

ONE = "match: {event: Order}\nevent: {properties: {version: '`1`'}}\n"
TWO, THREE, FOUR = (ONE.replace("1", number) for number in "234")
SAME_TEXT_OTHER_DEFAULT = DEFAULT_TEXT.replace("customer_id: userId", "customer_id: context.groupId")
FAILING = ONE + "examples: [{given: {}, expect: {properties: {version: 9}}}]\n"
UNREACHABLE = "match: {event: Order}\npriority: -1\n"
BROKEN = {"no yaml": "match: [", "no expression": "event: {customer_id: 'a ||'}", "failing example": FAILING}


def edit(node: Node, name: str, text: str) -> None:
    """Make a text live as an editor does, and leave the file as it is."""
    path = node.folder / f"{name}.yaml"
    before = path.read_text() if path.exists() else None
    first = node.status().live.publications[name].digest
    path.write_text(text)
    node.acts.publish(name)
    path.write_text(ONE + "# in between\n")
    node.acts.publish(name)
    digest = next(digest for digest, _ in node.history(name)[1:] if digest != first)
    assert digest is not None
    node.acts.roll_back(name, digest.hex())
    assert node.status().live.publications[name].origin == Origin.EDITOR
    if before is None:
        path.unlink()
    else:
        path.write_text(before)


# --- Files that publish themselves


def test_on_a_new_database_all_files_publish_themselves_and_only_once(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    assert set(node.states().values()) == {FileState.NEW}
    assert sorted(node.sync()) == ["_default", "order"]
    assert node.states() == {"_default": FileState.SAME, "order": FileState.SAME}
    assert node.sync() == []
    assert node.active() == {"_default": DEFAULT_TEXT, "order": ONE}
    assert [origin for _, origin in node.history("order")] == ["file"]


def test_a_changed_file_publishes_itself(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    node.sync()
    node.write(order=TWO)
    assert node.sync() == ["order"]
    assert node.active()["order"] == TWO


def test_other_nodes_map_by_what_one_published(make_node: MakeNode) -> None:
    first, second = make_node(order=ONE), make_node(order=ONE)
    first.sync()
    assert second.sync() == []
    first.write(order=TWO)
    first.sync()
    second.sync()
    assert second.active()["order"] == TWO
    assert second.states()["order"] is FileState.DRIFT


def test_an_old_file_on_another_node_never_publishes_itself_again(make_node: MakeNode) -> None:
    old, new = make_node(order=ONE), make_node(order=TWO)
    old.sync()
    assert new.sync() == ["order"]
    for _ in range(3):
        assert old.sync() == []
        assert new.sync() == []
    restarted = Node(old.database, old.folder)
    assert restarted.sync() == []
    assert restarted.active()["order"] == TWO
    assert restarted.states()["order"] is FileState.DRIFT


def test_an_old_file_stays_old_also_under_a_new_default(make_node: MakeNode) -> None:
    """Its digest was never seen, since it covers what is inherited; its text was."""
    old, new = make_node(order=ONE), make_node(order=TWO)
    old.sync()
    new.sync()
    new.write(default=SAME_TEXT_OTHER_DEFAULT)
    assert new.sync() == ["_default"]
    old.write(default=SAME_TEXT_OTHER_DEFAULT)
    assert old.sync() == []
    assert old.live()["order"] == TWO


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_leaves_the_last_good_version_active(make_node: MakeNode, text: str) -> None:
    node = make_node(order=ONE, other=TWO.replace("Order", "Other"))
    node.sync()
    node.write(order=text, other=THREE.replace("Order", "Other"))
    assert node.sync() == ["other"], "one broken file keeps no other from being published"
    assert node.active()["order"] == ONE
    assert node.states()["order"] is FileState.BROKEN
    assert node.status().blocking("order")[0].startswith("order.yaml:")
    with pytest.raises(TransformInvalid, match=r"order\.yaml:"):
        node.acts.publish("order")
    assert len(node.history("order")) == 1
    node.write(order=TWO)
    assert node.sync() == ["order"]


def test_a_file_that_is_never_reached_is_not_published(make_node: MakeNode) -> None:
    node = make_node(order=ONE, shadow=UNREACHABLE)
    node.sync()
    assert node.states()["shadow"] is FileState.BROKEN
    assert "never reached" in node.status().blocking("shadow")[0]
    assert set(node.active()) == {"_default", "order"}


def test_a_file_that_cannot_be_read_leaves_the_last_good_version_active(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    node.sync()
    (node.folder / "order.yaml").write_bytes(b"description: caf\xe9\n")
    assert node.sync() == []
    assert node.active()["order"] == ONE
    assert node.status().blocking("order") == ["order.yaml is not UTF-8 at byte 16"]


# --- `_default`


def test_a_new_default_publishes_what_inherits_from_it_anew_with_its_own_text_and_origin(make_node: MakeNode) -> None:
    node = make_node(order=ONE, edited=ONE.replace("Order", "Edited"))
    node.sync()
    edit(node, "edited", TWO.replace("Order", "Edited"))
    before = {name: node.history(name)[0] for name in ("order", "edited")}
    node.write(default=SAME_TEXT_OTHER_DEFAULT)
    assert node.sync() == ["_default"]
    live = node.status().live
    for name, origin in (("order", "file"), ("edited", "editor")):
        digest, published_as = node.history(name)[0]
        assert published_as == origin
        assert digest != before[name][0]
        assert live.transforms[name].inherits == live.publications["_default"].digest
        assert live.transforms[name].digest == digest
    assert live.texts["order"] == ONE
    assert live.texts["edited"] == TWO.replace("Order", "Edited")


def test_a_default_and_a_file_that_needs_it_are_published_together(make_node: MakeNode) -> None:
    example = "examples: [{given: {context: {groupId: g}}, expect: {customer_id: g}}]\n"
    node = make_node(order=ONE)
    node.sync()
    node.write(default=SAME_TEXT_OTHER_DEFAULT, order=TWO + example)
    assert node.sync() == ["_default", "order"]
    assert set(node.states().values()) == {FileState.SAME}


def test_a_default_that_breaks_a_live_heir_is_not_published(make_node: MakeNode) -> None:
    order = ONE + "examples: [{given: {userId: u}, expect: {customer_id: u}}]\n"
    node = make_node(order=order, other=TWO.replace("Order", "Other"))
    node.sync()
    node.write(default=SAME_TEXT_OTHER_DEFAULT, other=THREE.replace("Order", "Other"))
    assert node.sync() == ["other"], "it inherits from the live one"
    assert node.states() == {"_default": FileState.BROKEN, "order": FileState.SAME, "other": FileState.SAME}
    assert "order, which is live and inherits from it, would be broken" in node.status().blocking("_default")[0]
    with pytest.raises(TransformInvalid, match="order, which is live"):
        node.acts.publish("_default")
    assert node.live()["_default"] == DEFAULT_TEXT


@pytest.mark.parametrize("default", ["match: [", None])
def test_without_a_default_that_can_be_used_the_live_one_is_inherited(make_node: MakeNode, default: str | None) -> None:
    node = make_node(order=ONE)
    node.sync()
    if default is None:
        node.delete("_default")
    else:
        node.write(default=default)
    node.write(order=TWO)
    assert node.sync() == ["order"]
    assert node.active() == {"_default": DEFAULT_TEXT, "order": TWO}


def test_on_a_new_database_nothing_is_published_without_a_default(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    for text in ("match: [", DEFAULT_TEXT + "examples: [{given: {}, expect: filtered}]\n"):
        node.write(default=text)
        assert node.sync() == []
        assert set(node.states().values()) == {FileState.BROKEN}
    assert node.active() == {}


# --- Drift


def test_a_file_never_takes_over_what_a_person_made_live(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    node.sync()
    edit(node, "order", TWO)
    for text in (ONE, FOUR):
        node.write(order=text)
        assert node.sync() == []
        assert node.states()["order"] is FileState.DRIFT
        assert node.active()["order"] == TWO


def test_what_waited_for_a_person_does_not_publish_itself_when_the_person_chose_otherwise(make_node: MakeNode) -> None:
    waiting, chosen = make_node(order=ONE), make_node(order=ONE)
    waiting.sync()
    edit(waiting, "order", TWO)
    waiting.write(order=THREE)
    assert waiting.sync() == []
    chosen.write(order=FOUR)
    chosen.acts.publish("order")
    assert waiting.sync() == []
    assert waiting.live()["order"] == FOUR


def test_publishing_a_file_puts_it_in_charge_again(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    node.sync()
    edit(node, "order", TWO)
    node.write(order=THREE)
    change = node.acts.publish("order")
    assert (change.before, change.after) == (TWO, THREE)
    assert node.states()["order"] is FileState.SAME
    node.write(order=FOUR)
    assert node.sync() == ["order"]


def test_pulling_writes_what_is_live_into_the_file(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    node.sync()
    edit(node, "order", TWO + "# \N{SNOWMAN}\r\n")
    change = node.acts.pull("order")
    assert (change.before, change.after) == (ONE, TWO + "# \N{SNOWMAN}\r\n")
    assert (node.folder / "order.yaml").read_bytes() == (TWO + "# \N{SNOWMAN}\r\n").encode()
    assert node.states()["order"] is FileState.SAME
    assert sorted(path.name for path in node.folder.iterdir()) == ["_default.yaml", "order.yaml"]
    node.write(order=FOUR)
    assert node.sync() == [], "a person made it live, so a person decides"
    with pytest.raises(NotFound):
        node.acts.pull("nothing")


def test_a_deleted_file_is_shown_and_stays_live_until_a_person_takes_it_out(make_node: MakeNode) -> None:
    node, other = make_node(order=ONE), make_node(order=ONE)
    node.sync()
    node.delete("order")
    assert node.sync() == []
    assert node.states()["order"] is FileState.NO_FILE
    assert node.active()["order"] == ONE
    change = node.acts.publish("order")
    assert (change.before, change.after) == (ONE, None)
    node.sync()
    assert "order" not in node.active()
    assert "order" not in node.states()
    assert other.sync() == [], "the old file on another node does not bring it back"
    assert other.states()["order"] is FileState.DRIFT
    other.write(order=TWO)
    assert other.sync() == ["order"], "a new one does"


def test_the_default_is_never_taken_out(make_node: MakeNode) -> None:
    node = make_node()
    node.sync()
    node.delete("_default")
    with pytest.raises(TransformInvalid, match="all others inherit"):
        node.acts.publish("_default")


# --- Rolling back


def test_rolling_back_makes_the_version_before_live_and_shows_the_file_as_drift(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    node.sync()
    node.write(order=TWO)
    node.sync()
    first = node.history("order")[-1][0]
    change = node.acts.roll_back("order", None)
    assert (change.before, change.after, change.digest) == (TWO, ONE, first)
    assert node.sync() == []
    assert node.active()["order"] == ONE
    assert node.states()["order"] is FileState.DRIFT
    assert node.history("order")[0] == (first, "editor")


def test_rolling_back_finds_any_version_by_its_first_digits(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    for text in (ONE, TWO, THREE):
        node.write(order=text)
        node.sync()
    first = node.history("order")[-1][0]
    assert first is not None
    assert node.acts.roll_back("order", first.hex()[:8].upper()).after == ONE
    for wrong in ("0" * 32, first.hex()[:3], "%", ""):
        with pytest.raises(NotFound):
            node.acts.roll_back("order", wrong)
    with pytest.raises(NotFound, match="no earlier version"):
        node.acts.roll_back("_default", None)
    with pytest.raises(NotFound, match="ever live"):
        node.acts.roll_back("nothing", None)


def test_rolling_back_looks_past_the_same_text_under_another_default(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    node.sync()
    node.write(order=TWO)
    node.sync()
    node.write(default=SAME_TEXT_OTHER_DEFAULT)
    node.sync()
    assert node.acts.roll_back("order", None).after == ONE
    live = node.status().live
    assert live.transforms["order"].inherits == live.publications["_default"].digest


def test_rolling_back_the_default_publishes_the_inheriting_transforms_anew(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    node.sync()
    first = node.history("order")[0]
    node.write(default=SAME_TEXT_OTHER_DEFAULT)
    node.sync()
    assert node.acts.roll_back("_default", None).inheriting == ("order",)
    assert node.history("order")[0] == first


def test_what_was_taken_out_can_be_brought_back(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    node.sync()
    node.delete("order")
    node.acts.publish("order")
    assert node.acts.roll_back("order", None).after == ONE
    node.sync()
    assert node.active()["order"] == ONE


# --- Many at once


def test_nodes_that_start_at_once_publish_once(make_node: MakeNode, database: Database, migrated_url: str) -> None:
    texts = {f"order_{number}": ONE.replace("Order", f"Order {number}") for number in range(5)}
    folders = [make_node(**texts).folder for _ in range(4)]
    nodes = [Node(connect(migrated_url), folder) for folder in folders]
    barrier = Barrier(len(nodes))

    def start(node: Node) -> list[str]:
        barrier.wait()
        return node.sync()

    with ThreadPoolExecutor(len(nodes)) as threads:
        published = list(threads.map(start, nodes))
    for node in nodes:
        node.database.close()
    assert sorted(name for names in published for name in names) == sorted(["_default", *texts])
    for node in nodes:
        assert node.active() == nodes[0].active()
        assert len(node.active()) == 6
    assert len(rows_of(database, schema.publications)) == 6


def test_the_last_publication_wins_whatever_the_clocks_say(make_node: MakeNode) -> None:
    fast, slow = make_node(order=ONE), make_node(order=TWO)
    slow.clock = lambda: 1_600_000_000_000_000
    fast.sync()
    assert slow.sync() == ["order"]
    fast.sync()
    assert fast.active()["order"] == TWO


# --- Versions


def test_every_version_that_is_mapped_by_is_kept_before(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    for text in (ONE, TWO):
        node.write(order=text)
        node.sync()
        kept = {digest for (digest,) in rows_of(node.database, schema.versions, schema.versions.c.digest)}
        assert {one.digest for one in node.catalog.active.transforms} <= kept


def test_a_new_engine_keeps_the_live_texts_as_versions_of_its_own_and_publishes_nothing(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(order=ONE)
    node.sync()
    edit(node, "order", TWO)
    before = rows_of(node.database, schema.publications)
    monkeypatch.setattr(transform, "ENGINE", transform.ENGINE + 1)
    newer = Node(node.database, node.folder)
    assert newer.sync() == []
    assert newer.active() == {"_default": DEFAULT_TEXT, "order": TWO}
    kept = {digest for (digest,) in rows_of(node.database, schema.versions, schema.versions.c.digest)}
    assert {one.digest for one in newer.catalog.active.transforms} <= kept
    assert {one.digest for one in newer.catalog.active.transforms}.isdisjoint(
        one.digest for one in node.catalog.active.transforms
    )
    assert rows_of(node.database, schema.publications) == before


def test_a_live_text_that_an_older_program_cannot_read_leaves_the_last_one_it_can(make_node: MakeNode) -> None:
    node = make_node(order=ONE)
    node.sync()
    node.write(order=TWO)
    node.sync()
    with node.database.writing() as conn:
        columns = schema.versions.c
        conn.execute(sa.update(schema.versions).where(columns.text == TWO).values(text="of_the_future: true\n"))
    node.delete("order")
    older = Node(node.database, node.folder)
    watcher = older.watcher
    watcher.begin()
    assert older.active()["order"] == ONE
    assert watcher.problems() == ["order: the live version cannot be read by this program; an older one is used"]
