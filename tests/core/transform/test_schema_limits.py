"""What an `input_schema` may cost: bounded before a call is checked, refused before it is published."""

import contextlib
import time
from collections.abc import Callable
from random import Random
from typing import Any

import jsonschema_rs
import pytest

from app.core.transform.input_schema import InputCheck
from app.core.transform.schema_limits import weigh
from app.core.transform.schema_patterns import count_positions
from app.errors import CallRejected

# The machine may be busy with others; what is refuted here took minutes.
SECONDS = 5.0


def nested(levels: int, key: str = "anyOf", **beside: Any) -> dict[str, Any]:
    """Return a schema that doubles with each level, behind references: few bytes, many evaluations."""
    defs: dict[str, Any] = {"x0": {"type": "string"}}
    for level in range(1, levels + 1):
        defs[f"x{level}"] = {key: [{"$ref": f"#/$defs/x{level - 1}"}] * 2}
    return {"$defs": defs, "$ref": f"#/$defs/x{levels}", **beside}


def recursive(schema: Any) -> dict[str, Any]:
    return {"$defs": {"x": schema}, "$ref": "#/$defs/x"}


def deep(levels: int, key: str = "a") -> dict[str, Any]:
    document: dict[str, Any] = {key: 1}
    for _ in range(levels - 1):
        document = {key: document}
    return document


SELF = {"$ref": "#/$defs/x"}
DOUBLING = recursive(
    {"anyOf": [{"required": ["z"], "properties": {"a": SELF}}, {"properties": {"a": SELF}, "not": {}}]}
)

REFUSED: list[tuple[str, Any, tuple[str | int, ...], str]] = [
    ("18 levels of anyOf", nested(18), (), "evaluations"),
    (
        "18 levels of oneOf, inside",
        {"properties": {"a": {"$ref": "#/$defs/x18"}}, "$defs": nested(18, "oneOf")["$defs"]},
        ("properties", "a"),
        "evaluations",
    ),
    ("40 levels of allOf", nested(40, "allOf"), (), "4,398,046,511,103 evaluations for one value"),
    ("a schema that refers to itself twice for one value", DOUBLING, (), "evaluations"),
    (
        "twice by a dynamic reference",
        {"$dynamicAnchor": "n", "allOf": [{"items": {"$dynamicRef": "#n"}}, {"contains": {"$dynamicRef": "#n"}}]},
        ("allOf", 1, "contains"),
        "evaluations",
    ),
    (
        "twice by an anchor",
        {"$anchor": "n", "allOf": [{"additionalProperties": {"$ref": "#n"}}] * 2},
        ("allOf", 1, "additionalProperties"),
        "evaluations",
    ),
    ("a reference to itself for the same value", {"properties": {"a": {"allOf": [{"$ref": "#/properties/a"}]}}},
     ("properties", "a"), "need never end"),
    ("unevaluatedProperties over alternatives", nested(15, unevaluatedProperties=False), (), "evaluations"),
    ("a chain of references", {"$defs": {f"x{i}": {"$ref": f"#/$defs/x{i + 1}"} for i in range(999)},
                               "$ref": "#/$defs/x0"}, ("$defs", "x100"), "in a row"),
    ("another draft inside", {"properties": {"a": {"$id": "b", "$schema": "http://json-schema.org/draft-04/schema"}}},
     ("properties", "a", "$schema"), "a draft of its own"),
    ("thousands of numbers to choose from, for each item", {"items": {"enum": [i + 0.5 for i in range(3000)]}},
     ("items",), "evaluations"),
    ("a pattern of 50,000 positions", {"properties": {"a": {"pattern": r"(\w{1000}){50}"}}}, ("properties", "a"),
     "131,072 positions"),
    ("a pattern for keys", {"patternProperties": {r"\w{900}": True}}, (), "positions"),
    ("patterns that take much memory",
     {"properties": {f"a{i}": {"pattern": rf"^[\p{{L}}\p{{N}}]{{0,{30 + i}}}$"} for i in range(9)}}, (), "MiB"),
]  # fmt: skip

EXPRESSION = {
    "oneOf": [
        {"required": ["and"], "properties": {"and": {"type": "array", "items": SELF}}},
        {"required": ["or"], "properties": {"or": {"type": "array", "items": SELF}}},
        {"required": ["not"], "properties": {"not": SELF}},
        {"required": ["field"], "properties": {"field": {"type": "string"}}},
    ]
}
TAKEN: list[tuple[str, Any]] = [
    ("true", True),
    ("a hundred properties", {"properties": {f"p{i}": {"type": "string", "maxLength": 100} for i in range(100)}}),
    ("items with properties", {"items": {"required": ["sku"], "properties": {"price": {"minimum": 0}}}}),
    ("a tree", recursive({"properties": {"left": SELF, "right": SELF, "others": {"items": SELF}}})),
    ("expressions of several kinds", recursive(EXPRESSION)),
    ("any JSON", recursive({"anyOf": [{"type": "string"}, {"items": SELF}, {"additionalProperties": SELF}]})),
    ("all currencies", {"items": {"enum": [f"C{i}" for i in range(300)]}}),
    ("a mail address", {"pattern": r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$"}),
    ("an id", {"pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"}),
    ("up to 255 characters", {"pattern": "^.{1,255}$"}),
    ("letters of all languages", {"pattern": r"^\p{L}[\p{L}\p{N} ]{0,40}$"}),
    ("an id of its own", {"$id": "https://example.com/order", "$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}),
]


@pytest.mark.parametrize(("schema", "path", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_cannot_be_bounded_is_refused_at_its_place(schema: Any, path: tuple[str | int, ...], words: str) -> None:
    excess = InputCheck(schema).excess
    assert excess is not None
    assert words in str(excess)
    assert excess.path == path


@pytest.mark.parametrize("schema", [case[1] for case in TAKEN], ids=[case[0] for case in TAKEN])
def test_what_people_write_is_taken(schema: Any) -> None:
    assert InputCheck(schema).excess is None


@pytest.mark.parametrize("schema", [case[1] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_one_that_is_live_already_rejects_what_it_could_take_too_long_for(schema: Any) -> None:
    check = InputCheck(schema)
    texts = "a" * 200_000
    for document in ({"a": texts}, deep(30), deep(100, "b"), {"a": [0.25] * 5000, "b": [{}] * 5000}):
        began = time.perf_counter()
        with contextlib.suppress(CallRejected):
            check.verify(document)
        assert time.perf_counter() - began < SECONDS


def test_a_small_call_is_checked_by_a_heavy_schema_that_is_live_already() -> None:
    check = InputCheck(DOUBLING)
    assert check.excess is not None
    with pytest.raises(CallRejected, match=r"^the call breaks input_schema: rule anyOf$"):
        check.verify(deep(5))
    with pytest.raises(CallRejected, match=r"too large to be checked .* 4,000,000 are the most"):
        check.verify(deep(20))


# What a sender may do to a schema that looks harmless: each took 7 to 60 seconds.
HEAVY_CALLS: list[tuple[str, Any, list[Any]]] = [
    ("integers of 390 digits, to be unique", {"uniqueItems": True}, [10**390 - i for i in range(2600)]),
    ("tiny numbers, to be multiples", {"items": {"multipleOf": 0.5}}, [5e-324] * 150_000),
    ("integers of 390 digits, to be above", {"items": {"minimum": 0.5}}, [10**390] * 2600),
    ("numbers to choose from", {"items": {"enum": [i + 0.5 for i in range(10)]}}, [9.5] * 200_000),
]


@pytest.mark.parametrize(
    ("schema", "values"), [case[1:] for case in HEAVY_CALLS], ids=[case[0] for case in HEAVY_CALLS]
)
def test_a_call_that_could_take_too_long_is_rejected(schema: Any, values: list[Any]) -> None:
    check = InputCheck({"properties": {"properties": {"properties": {"values": schema}}}})
    assert check.excess is None
    began = time.perf_counter()
    with pytest.raises(CallRejected, match="too large to be checked by input_schema"):
        check.verify({"properties": {"values": values}})
    assert time.perf_counter() - began < SECONDS
    check.verify({"properties": {"values": [2.5]}})


def count_evaluations(schema: Any, root: Any, document: Any) -> int:
    """Count by walking schema and call together: the plain reference of what `weigh` bounds."""
    if not isinstance(schema, dict):
        return 1
    total = len(schema)
    if "$ref" in schema:
        total += count_evaluations(root["$defs"][schema["$ref"].rpartition("/")[2]], root, document)
    for key in ("anyOf", "allOf", "oneOf"):
        total += sum(count_evaluations(inner, root, document) for inner in schema.get(key, ()))
    if "not" in schema:
        total += count_evaluations(schema["not"], root, document)
    if isinstance(document, dict):
        for key, value in document.items():
            if key in schema.get("properties", {}):
                total += count_evaluations(schema["properties"][key], root, value)
            elif "additionalProperties" in schema:
                total += count_evaluations(schema["additionalProperties"], root, value)
    if isinstance(document, list) and "items" in schema:
        total += sum(count_evaluations(schema["items"], root, item) for item in document)
    return total


def random_schema(random: Random, depth: int) -> Any:
    if depth == 0:
        return random.choice([{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}, {"type": "string"}, {}])

    def inner() -> Any:
        return random_schema(random, depth - 1)

    shapes: list[Callable[[], dict[str, Any]]] = [
        lambda: {"properties": {key: inner() for key in random.sample("abc", 2)}},
        lambda: {"additionalProperties": inner(), "properties": {"a": inner()}},
        lambda: {"items": inner()},
        lambda: {random.choice(["anyOf", "allOf", "oneOf"]): [inner(), inner()]},
        lambda: {"not": inner(), "type": "object"},
    ]
    return random.choice(shapes)()


def random_document(random: Random, depth: int) -> Any:
    if depth == 0:
        return random.choice(["x", 1])
    if random.random() < 0.3:
        return [random_document(random, depth - 1) for _ in range(random.randrange(4))]
    return {key: random_document(random, depth - 1) for key in random.sample("abcd", random.randrange(1, 4))}


@pytest.mark.parametrize("seed", range(5))
def test_no_call_needs_more_evaluations_than_its_schema_weighs(seed: int) -> None:
    random = Random(seed)  # noqa: S311  the same schemas each time
    bounded = 0
    for _ in range(200):
        defs = {name: {"properties": {"a": random_schema(random, 1)}} for name in "ab"}
        schema = {"$defs": defs, **random_schema(random, random.randrange(1, 4))}
        check = InputCheck(schema)
        if check.excess is not None:
            continue
        weight = weigh(schema)
        bounded += 1
        for _ in range(5):
            document = random_document(random, random.randrange(1, 7))
            values = _count_values(document)
            # Its own keywords `$defs` are counted as one, here and there.
            assert count_evaluations(schema, schema, document) <= weight.count(values, 200)
    assert bounded > 50


def _count_values(document: Any) -> int:
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    return 1 + sum(map(_count_values, inner))


@pytest.mark.parametrize("seed", range(3))
def test_a_call_that_breaks_a_schema_is_told_by_the_rule_that_breaks(seed: int) -> None:
    random = Random(seed)  # noqa: S311  the same schemas each time
    for _ in range(200):
        schema = {"properties": {"a": random_schema(random, 2)}, "$defs": {"a": {"type": "object"}, "b": {}}}
        document = {"a": random_document(random, 3)}
        expected = next(jsonschema_rs.Draft202012Validator(schema).iter_errors(document), None)
        if expected is None:
            InputCheck(schema).verify(document)
        else:
            with pytest.raises(CallRejected, match=r"^(a(\.\w+)*|the call) breaks input_schema(: |$)"):
                InputCheck(schema).verify(document)


@pytest.mark.parametrize(
    ("pattern", "least", "most"),
    [
        ("^abc", 1, 1),
        ("^[a-z]{10}$", 10, 40),
        (r"\w{1000}", 1000, 4000),
        (r"(\w{1000}){50}", 50_000, 500_000),
        (r"[ab]*a[ab]{200}x", 200, 1000),
        (r"^\u00e9\_[\]\-]{3}", 1, 40),
        (r"\p{L}{100}", 100, 1000),
    ],
)
def test_a_pattern_has_about_as_many_positions_as_it_repeats(pattern: str, least: int, most: int) -> None:
    assert least <= count_positions(pattern) <= most
