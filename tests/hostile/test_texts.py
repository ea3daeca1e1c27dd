"""Texts of an editor: none that could hang a worker goes live, and none that is live already does."""

import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from app.catalog.check import check
from app.catalog.publish import Publisher
from app.core.outcome import Reason
from app.core.pipeline import run
from app.core.segment import Call, read
from app.core.transform.lint import lint
from app.core.transform.transform import Choice, Transform, TransformSet
from app.errors import TransformInvalid
from app.store.engine import Database
from app.store.publications import Origin
from tests.builders import DEFAULT_TEXT, NOW, a_call, a_document, a_transform, to_raw
from tests.catalog.conftest import Node

SECONDS = 10.0
"""A busy machine; what must not happen took minutes or for ever."""

EXAMPLES = "examples:\n  - {given: {}, expect: stored}\n"
HEAVY = (
    "match: {event: API Call}\ninput_schema:\n  properties:\n    properties: {$ref: '#/$defs/x18'}\n  $defs:\n"
    + "".join(
        f"    x{n}: {{anyOf: [{{$ref: '#/$defs/x{n - 1}'}}, {{$ref: '#/$defs/x{n - 1}'}}]}}\n" for n in range(1, 19)
    )
    + "    x0: {type: string}\n"
)

UNFIT = {
    "18 levels of anyOf": (HEAVY, "t.yaml:4:17: input_schema.properties.properties: a call of 1,000 values"),
    "a pattern": (
        "match: {event: API Call}\ninput_schema:\n  pattern: '(\\w{1000}){50}'\n" + EXAMPLES,
        "t.yaml:3:3: input_schema: its patterns have 131,072 positions",
    ),
    "thousands of patterns": (
        "match:\n  event: [API Call, " + ", ".join(f"'*{'?' * 100}{n}'" for n in range(500)) + "]\n" + EXAMPLES,
        "t.yaml:2:10: match.event: its patterns have ",
    ),
    "half of a surrogate pair": (
        'match: {event: API Call}\nevent:\n  event_name: {const: "a\\ud83d"}\n',
        "t.yaml:3:23: this holds \\ud83d, half of a surrogate pair",
    ),
    "a NUL": ('match: {event: API Call}\ndescription: "a\\0"\n', "t.yaml:2:14: this holds a NUL character"),
}
cases = pytest.mark.parametrize(("text", "says"), UNFIT.values(), ids=UNFIT)


@pytest.fixture
def lite_node(sqlite_database: Database, tmp_path: Path) -> Node:
    """A process on SQLite with a `_default` in its folder."""
    node = Node(sqlite_database, tmp_path)
    node.write(default=DEFAULT_TEXT)
    return node


@cases
def test_check_refuses_it_at_its_place(text: str, says: str) -> None:
    checked = check({"_default": DEFAULT_TEXT, "t": text})
    assert "t" not in checked.fit_names()
    assert any(one.sentence.startswith(says) for one in checked.problems if one.blocking), checked.problems


@cases
def test_a_file_of_it_does_not_publish_itself(lite_node: Node, text: str, says: str) -> None:
    lite_node.write(t=text)
    assert lite_node.sync() == ["_default"]
    assert any(says in one for one in lite_node.status().blocking("t"))


@cases
def test_it_is_published_neither_from_the_editor_nor_by_going_back(lite_node: Node, text: str, says: str) -> None:
    lite_node.sync()
    with pytest.raises(TransformInvalid, match=r"^t\.yaml:") as refused:
        lite_node.acts.publish_text("t", text, None)
    assert says in refused.value.message
    live_as_it_was_published_before(lite_node, text)
    lite_node.acts.publish_text("t", "match: {event: API Call}\n" + EXAMPLES, lite_node.history("t")[0][0])
    with pytest.raises(TransformInvalid, match=r"^t\.yaml:"):
        lite_node.acts.roll_back("t", None)


@cases
def test_one_that_was_published_before_stays_live_and_hangs_nothing(lite_node: Node, text: str, says: str) -> None:
    assert says
    lite_node.sync()
    live_as_it_was_published_before(lite_node, text)
    lite_node.sync()
    assert lite_node.active()["t"] == text
    raw = to_raw(a_document(event="API Call", properties={"a": "b" * 200_000}))
    began = time.perf_counter()
    done = run(raw, read(raw), lite_node.catalog.active, NOW)
    assert time.perf_counter() - began < SECONDS
    assert done.transform == "t"
    if "input_schema" in text:
        assert done.reason == Reason.INPUT_SCHEMA


def live_as_it_was_published_before(node: Node, text: str) -> None:
    """Publish a text as an earlier version of this program did."""
    with node.database.reading() as conn:
        live = node.catalog.read_live(conn)
    transform = node.catalog.parse("t", text, live.transforms["_default"])
    with node.database.writing() as conn:
        Publisher(conn, node.catalog, node.ids.next, NOW).publish(live, [(transform, Origin.EDITOR)])


def many_transforms(number: int, random: Random) -> list[Transform]:
    """Return transforms that differ in what they take."""
    first = a_transform("match: {event: A}\n" + EXAMPLES, "first")
    kinds: list[dict[str, Any]] = [
        {"events": frozenset({f"Event {random.randrange(number)}", "A"})},
        {"events": frozenset({f"Event {random.randrange(number)}"}), "sources": frozenset({"web"})},
        {"events": frozenset(), "patterns": ()},
        {"events": frozenset(), "patterns": a_transform("match: {event: 'Ev*'}").match.patterns},
        {"type": "page", "events": frozenset()},
    ]
    return [
        replace(
            first,
            name=f"t{position}",
            match=replace(first.match, **random.choice(kinds)),
            priority=random.randrange(3),
            also=random.random() < 0.2,
        )
        for position in range(number)
    ]


def choose_by_asking_each(transforms: list[Transform], call: Call) -> Choice:
    ordered = sorted(transforms, key=lambda one: (one.name == "_default", -one.priority, one.name))
    main = [one for one in ordered if not one.also and one.accepts(call)]
    also = tuple(one for one in ordered if one.also and one.accepts(call))
    return Choice(main=main[0] if main else None, also=also, passed_over=tuple(main[1:]))


@pytest.mark.parametrize("seed", range(20))
def test_of_several_that_take_a_call_the_same_are_chosen_as_when_each_is_asked(seed: int) -> None:
    random = Random(seed)  # noqa: S311  the same transforms each time
    transforms = many_transforms(random.randrange(1, 12), random)
    for event in ("A", "Event 1", "Event 2", "Other"):
        for source in ("web", "app"):
            call = a_call(event=event, projectId=source)
            assert TransformSet(transforms).choose(call) == choose_by_asking_each(transforms, call)


def test_twenty_thousand_transforms_are_looked_through_and_chosen_from_in_no_time() -> None:
    first = a_transform("match: {event: A}\n" + EXAMPLES, "first")
    transforms = [
        replace(first, name=f"t{n}", match=replace(first.match, events=frozenset({f"Event {n}"})))
        for n in range(20_000)
    ]
    began = time.perf_counter()
    active = TransformSet(transforms)
    assert list(lint(active)) == []
    for n in range(0, 20_000, 2):
        choice = active.choose(a_call(event=f"Event {n}"))
        assert choice.main is not None
        assert choice.main.name == f"t{n}"
    assert time.perf_counter() - began < SECONDS


def test_a_name_that_is_made_to_be_slow_for_a_pattern_is_not_looked_at_for_long() -> None:
    transform = a_transform(f"match: {{event: ['A*', '*{'?' * 1000}b']}}\n" + EXAMPLES, "t")
    began = time.perf_counter()
    assert not transform.accepts(a_call(event="a" * 1_000_000))
    assert not transform.accepts(a_call(event="a" * 1_000))
    assert transform.accepts(a_call(event="A" * 1_000))
    assert time.perf_counter() - began < SECONDS


@pytest.mark.parametrize(
    "expression",
    [
        "length(properties.n[?@ > `50`])",
        "length(to_json(@))",
        "sort_by(properties.n, &@)[0]",
        "contains(properties.t, 'x')",
    ],
)
def test_thousands_of_expressions_do_not_read_a_large_call_thousands_of_times(expression: str) -> None:
    fields = "".join(f"    p{number}: {expression}\n" for number in range(600))
    transform = a_transform(f"match: {{event: API Call}}\nevent:\n  properties:\n{fields}", "t")
    active = TransformSet([transform])

    def run_on(items: int) -> tuple[Reason | None, str]:
        raw = to_raw(a_document(event="API Call", properties={"n": list(range(items)), "t": "ab" * items}))
        done = run(raw, read(raw), active, NOW)
        return done.reason, done.detail or ""

    assert run_on(100) == (None, "")
    began = time.perf_counter()
    reason, detail = run_on(80_000)
    assert time.perf_counter() - began < SECONDS
    assert reason == Reason.TRANSFORM_ERROR
    assert "steps" in detail
