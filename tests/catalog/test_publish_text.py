"""Publishing a text from the editor: only over the version that its author saw, checked before anything is locked."""

import threading
from collections.abc import Callable
from itertools import count

import pytest

from app.catalog.actions import Change
from app.core.transform.transform import DEFAULT
from app.errors import EditConflict, NotFound, TransformInvalid
from app.store.engine import Database
from tests.builders import DEFAULT_TEXT
from tests.catalog.conftest import Node

TEXT = "match: {event: API Call}\nexamples:\n  - {given: {}, expect: stored}\n"


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    """A process that has published its files."""
    node = make_node(api_call=TEXT)
    node.sync()
    return node


def digest_of(node: Node, name: str = "api_call") -> bytes | None:
    return node.history(name)[0][0]


def test_a_text_is_live_from_the_editor(node: Node) -> None:
    change = node.acts.publish_text("api_call", TEXT + "# mine\n", digest_of(node))
    assert (change.before, change.after, change.inheriting) == (TEXT, TEXT + "# mine\n", ())
    assert node.history("api_call")[0] == (change.digest, "editor")
    # The file, which did not change, does not publish itself over it.
    assert node.sync() == []
    assert node.live()["api_call"] == TEXT + "# mine\n"


def test_a_text_under_a_new_name_is_live(node: Node) -> None:
    node.acts.publish_text("other", TEXT.replace("API Call", "Other"), None)
    assert set(node.live()) == {DEFAULT, "api_call", "other"}


def test_publishing_the_same_text_again_changes_nothing(node: Node) -> None:
    first = node.acts.publish_text("api_call", TEXT + "# mine\n", digest_of(node))
    before = node.history("api_call")
    assert node.acts.publish_text("api_call", TEXT + "# mine\n", first.digest).digest == first.digest
    assert node.history("api_call") == before


def test_a_new_default_publishes_the_inheriting_transforms_too(node: Node) -> None:
    change = node.acts.publish_text(DEFAULT, DEFAULT_TEXT + "# more\n", digest_of(node, DEFAULT))
    assert change.inheriting == ("api_call",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("api_call", "match: ["),
        ("api_call", TEXT.replace("stored", "filtered")),
        ("later", TEXT),
        (DEFAULT, DEFAULT_TEXT.replace("userId", "missing")),
    ],
)
def test_what_cannot_be_published_changes_nothing(node: Node, name: str, text: str) -> None:
    before = node.live()
    seen = digest_of(node, name) if name in before else None
    with pytest.raises(TransformInvalid):
        node.acts.publish_text(name, text, seen)
    assert node.live() == before


def test_a_name_that_is_none_is_refused(node: Node) -> None:
    with pytest.raises(TransformInvalid, match="is not a valid transform name"):
        node.acts.publish_text("../api_call", TEXT, None)


def test_over_a_version_that_was_not_seen_nothing_is_published(node: Node) -> None:
    seen = digest_of(node)
    node.acts.publish_text("api_call", TEXT + "# first\n", seen)
    for other in (seen, None, b"x" * 16):
        with pytest.raises(EditConflict):
            node.acts.publish_text("api_call", TEXT + "# second\n", other)
    assert node.live()["api_call"] == TEXT + "# first\n"


def test_what_was_taken_out_is_begun_anew(node: Node) -> None:
    node.delete("api_call")
    node.acts.publish("api_call")
    node.acts.publish_text("api_call", TEXT, None)
    assert node.live()["api_call"] == TEXT


def test_of_several_who_publish_over_the_same_version_one_does(node: Node, make_node: Callable[..., Node]) -> None:
    seen = digest_of(node)
    ready = threading.Barrier(3)
    ended: list[Change | EditConflict] = []

    def run(other: Node, text: str) -> None:
        ready.wait()
        try:
            ended.append(other.acts.publish_text("api_call", text, seen))
        except EditConflict as error:
            ended.append(error)

    numbers = count()
    threads = [
        threading.Thread(target=run, args=(make_node(), f"{TEXT}# {next(numbers)}\n")) for _ in range(ready.parties)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [one for one in ended if isinstance(one, Change)]
    assert (len(done), len(ended)) == (1, 3)
    assert node.live()["api_call"] == done[0].after
    assert len(node.history("api_call")) == 2


def test_whoever_is_overtaken_by_another_name_looks_again_and_publishes(
    node: Node, make_node: Callable[..., Node], database: Database
) -> None:
    other = make_node(api_call=TEXT)
    ready = threading.Barrier(2)

    def run(one: Node, name: str) -> None:
        ready.wait()
        for number in range(5):
            one.acts.publish_text(
                name, f"match: {{event: {name} {number}}}\n", digest_of(one, name) if number else None
            )

    threads = [threading.Thread(target=run, args=pair) for pair in ((node, "a"), (other, "b"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {node.live()[name] for name in ("a", "b")} == {"match: {event: a 4}\n", "match: {event: b 4}\n"}


def test_the_database_is_not_locked_while_a_text_is_checked(node: Node, make_node: Callable[..., Node]) -> None:
    # Whoever published meanwhile could, so no lock was held; and the one who was overtaken looked again.
    other = make_node(api_call=TEXT)
    seen = digest_of(node)
    fit = node.acts._parse_publishable
    acts = node.acts
    looked = count()

    def slowly(*arguments: object) -> object:
        if next(looked) == 0:
            other.acts.publish_text("other", TEXT.replace("API Call", "Other"), None)
        return fit(*arguments)  # type: ignore[arg-type]

    acts._parse_publishable = slowly  # type: ignore[method-assign, assignment]
    acts.publish_text("api_call", TEXT + "# mine\n", seen)
    assert next(looked) == 2
    assert {"api_call", "other"} <= set(node.live())
    with pytest.raises(NotFound):
        acts.publish("nowhere")
