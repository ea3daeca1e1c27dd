"""The examples in a transform file: what a pass means, and what a failure says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.transform.examples import run_examples
from app.core.transform.transform import parse_transform
from tests.builders import a_default

TRANSFORM = """
match: {event: [Order, Other]}
when: properties.total
event: {event_name: {const: order}, properties: {total: properties.total, free: properties.free}}
examples:
"""


def difference(example: str, text: str = TRANSFORM, key: bytes | None = None) -> str | None:
    transform = parse_transform("order", f"{text}  - {example}\n", a_default(), key)
    [result] = run_examples(transform)
    return result.difference


HOLDS = [
    "{given: {properties: {total: 5}}, expect: {event_name: order}}",
    "{given: {properties: {total: 5}}, expect: {properties: {total: 5.0, free: null}}}",
    "{given: {properties: {total: 5}}, expect: {idempotency_id: example-1, customer_id: customer-1}}",
    "{given: {timestamp: '2026-11-01T12+02:00', properties: {total: 5}}, expect: {time_created: 2026-11-01T10:00:00Z}}",
    "{given: {properties: {total: 5}}, expect: [{event_name: order}]}",
    "{given: {properties: {total: 5}}, expect: {properties: {total: 5}}}",
    "{given: {properties: {total: 5}}, expect: {properties: {}}}",
    "{given: {properties: {total: {a: {b: 1, c: 2}, d: 3}}}, expect: {properties: {total: {a: {b: 1.0}}}}}",
    "{given: {properties: {total: [{a: 1, b: 2}, [{c: 3}]]}}, expect: {properties: {total: [{a: 1}, [{}]]}}}",
    "{given: {properties: {total: 5}}, expect: stored}",
    "{given: {properties: {}}, expect: filtered}",
    "{given: {properties: {}}, expect: ignored}",
    "{given: {properties: {total: 1}, userId: null}, expect: event_invalid}",
    "{given: {properties: {total: 1}, userId: null}, expect: rejected}",
    "{given: {event: Unknown}, expect: no_transform}",
]


@pytest.mark.parametrize("example", HOLDS)
def test_an_example_holds(example: str) -> None:
    assert difference(example) is None


FAILS = [
    (
        "{given: {properties: {total: 5}}, expect: {event_name: odrer}}",
        'event_name: expected "odrer", and it is "order"',
    ),
    ("{given: {properties: {total: {a: 1}}}, expect: {properties: {total: {b: null}}}}", "properties: expected"),
    ("{given: {properties: {total: {a: 1}}}, expect: {properties: {total: {a: {}}}}}", "properties: expected"),
    ("{given: {properties: {total: [{a: 1}]}}, expect: {properties: {total: [{b: 1}]}}}", "properties: expected"),
    ("{given: {properties: {total: [{}, {}]}}, expect: {properties: {total: [{}]}}}", "properties: expected"),
    ("{given: {properties: {total: 1}}, expect: {properties: {total: true, free: null}}}", "properties: expected"),
    ("{given: {properties: {total: true}}, expect: {properties: {total: 1, free: null}}}", "properties: expected"),
    ("{given: {properties: {total: [1]}}, expect: {properties: {total: [1, 2], free: null}}}", "properties: expected"),
    ("{given: {properties: {total: 5}}, expect: {time_created: noon}}", "is no time"),
    ("{given: {properties: {total: 5}}, expect: [{}, {}]}", "expected 2 events, and there is 1"),
    ("{given: {properties: {total: 5}}, expect: filtered}", "expected filtered, and it is stored"),
    ("{given: {properties: {}}, expect: {}}", "it is filtered: `when` of order is false or null"),
    ("{given: {properties: {}}, expect: event_invalid}", "expected event_invalid, and it is filtered"),
    ("{given: {properties: {total: 1}}, received_at: noon, expect: {}}", "received_at is no time"),
    ("{given: {properties: {total: 1e400}}, expect: {}}", "given: "),
]


@pytest.mark.parametrize(("example", "says"), FAILS)
def test_an_example_that_fails_says_what_is_different(example: str, says: str) -> None:
    assert says in (difference(example) or "")


def test_each_event_of_several_is_compared() -> None:
    text = "each: properties.items\nevent: {properties: {n: item}}\nexamples:\n"
    given = "given: {properties: {items: [1, 2]}}"
    assert (
        difference(f"{{{given}, expect: [{{properties: {{n: 1}}}}, {{idempotency_id: 'example-1:1'}}]}}", text) is None
    )
    said = difference(f"{{{given}, expect: [{{properties: {{n: 1}}}}, {{properties: {{n: 3}}}}]}}", text)
    assert said == 'event 2: properties: expected {"n": 3}, and it is {"n": 2}'


@pytest.mark.parametrize(
    "match",
    [
        "{event: 'Report *'}",
        "{event: ['R?', B]}",
        "{source: [s-1, s-2]}",
        "{type: page}",
        "{type: identify, source: s}",
    ],
)
def test_what_an_example_leaves_out_is_filled_in_so_that_its_transform_takes_the_call(match: str) -> None:
    text = f"match: {match}\nevent: {{event_name: {{const: x}}}}\nexamples:\n"
    assert difference("{given: {}, expect: stored}", text) is None


def test_examples_hold_also_while_a_transform_is_disabled() -> None:
    assert difference(HOLDS[0], f"enabled: false\n{TRANSFORM}") is None


def test_an_example_can_say_when_the_call_came() -> None:
    text = "event: {time_created: received_at()}\nexamples:\n"
    example = "{given: {}, received_at: '2020-02-02T00:00:00Z', expect: {time_created: '2020-02-02T00:00:00Z'}}"
    assert difference(example, text) is None


def test_pseudonyms_in_examples_are_the_same_whatever_the_key() -> None:
    text = "event: {properties: {who: sha256(userId)}}\nexamples:\n"
    said = {difference("{given: {}, expect: {properties: {}}}", text, key) for key in (None, b"one", b"other")}
    assert len(said) == 1


def test_an_example_without_a_name_is_called_by_its_number() -> None:
    transform = parse_transform("order", TRANSFORM + f"  - {HOLDS[0]}\n  - {{name: b, {HOLDS[1][1:]}\n", a_default())
    assert [(one.name, one.position) for one in run_examples(transform)] == [("example 1", 0), ("b", 1)]


@given(st.sampled_from(["{}", "[]", "1e400", '"\\ud800"', "[[1]]", "-0.0", "9" * 450, "null", "true"]))
def test_any_given_and_any_expected_value_ends_in_an_answer(value: str) -> None:
    for example in (
        f"{{given: {{properties: {{total: {value}}}}}, expect: {{properties: {{total: {value}, free: null}}}}}}",
        f"{{given: {{messageId: {value}, userId: {value}}}, expect: {{event_name: {value}, time_created: {value}}}}}",
    ):
        said = difference(example)
        assert said is None or isinstance(said, str)
