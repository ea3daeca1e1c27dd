"""The rules of a Lotus event: each one, at its boundary, with a sentence that names the field and never the value."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.lotus import CUSTOMER_ID_MAX, EVENT_NAME_MAX, IDEMPOTENCY_ID_MAX
from app.errors import EventInvalid
from tests.builders import an_event

NOT_TEXT_NOR_NUMBER = [None, True, False, {}, [], ["a"], {"a": 1}, float("inf"), float("-inf"), float("nan")]


def refusal_of(**fields: Any) -> EventInvalid:
    with pytest.raises(EventInvalid) as raised:
        an_event(**fields)
    return raised.value


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


# --- Ids and names


@pytest.mark.parametrize(
    ("field", "most"),
    [("event_name", EVENT_NAME_MAX), ("idempotency_id", IDEMPOTENCY_ID_MAX), ("customer_id", CUSTOMER_ID_MAX)],
)
@pytest.mark.parametrize("letter", ["x", "é", "\N{GRINNING FACE}"])
def test_text_may_have_from_one_to_the_most_characters(field: str, most: int, letter: str) -> None:
    for length in (1, most):
        assert getattr(an_event(**{field: letter * length}), field) == letter * length
    for length in (0, most + 1):
        refused = refusal_of(**{field: letter * length})
        assert refused.field == field
        assert refused.message.startswith(field)
    assert str(most) in refused.message


def test_the_longest_texts_are_those_of_the_contract() -> None:
    assert (EVENT_NAME_MAX, IDEMPOTENCY_ID_MAX, CUSTOMER_ID_MAX) == (100, 255, 50)


@pytest.mark.parametrize("field", ["event_name", "idempotency_id", "customer_id"])
@pytest.mark.parametrize("text", ["\0", "a\0b", "a\0", "\ud83d", "a\udc00b"])
def test_text_holds_no_nul_and_no_half_of_a_surrogate_pair(field: str, text: str) -> None:
    refused = refusal_of(**{field: text})
    assert refused.field == field
    assert "NUL" in refused.message or "surrogate" in refused.message


@pytest.mark.parametrize("field", ["idempotency_id", "customer_id"])
@pytest.mark.parametrize(
    ("number", "text"),
    [
        (42, "42"),
        (42.0, "42"),
        (-7, "-7"),
        (0, "0"),
        (0.0, "0"),
        (-0.0, "0"),
        (1.5, "1.5"),
        (1e15, "1000000000000000"),
        (2**53 + 1, "9007199254740993"),
        (0.1, "0.1"),
        (1e-7, "1e-07"),
        (10**40, "1" + "0" * 40),
    ],
)
def test_a_number_as_an_id_is_the_text_that_people_would_write(field: str, number: float, text: str) -> None:
    assert getattr(an_event(**{field: number}), field) == text


@pytest.mark.parametrize("field", ["idempotency_id", "customer_id"])
@pytest.mark.parametrize("value", NOT_TEXT_NOR_NUMBER)
def test_nothing_else_is_an_id(field: str, value: object) -> None:
    refused = refusal_of(**{field: value})
    assert refused.field == field
    assert refused.message.startswith(f"{field} is ")


@pytest.mark.parametrize("value", [*NOT_TEXT_NOR_NUMBER, 1, 1.0])
def test_only_text_is_an_event_name(value: object) -> None:
    assert refusal_of(event_name=value).field == "event_name"


@pytest.mark.parametrize(("value", "kind"), [(None, "null"), (True, "a boolean"), ({}, "an object"), ([], "an array")])
@pytest.mark.parametrize("field", ["event_name", "idempotency_id", "customer_id", "time_created"])
def test_a_refusal_says_what_came_instead(field: str, value: object, kind: str) -> None:
    assert f"{field} is {kind}; it must be" in refusal_of(**{field: value}).message


def test_a_number_too_long_for_an_id_is_refused() -> None:
    assert refusal_of(customer_id=10**50).field == "customer_id"
    assert refusal_of(customer_id=1e300).field == "customer_id"
    assert an_event(customer_id=10**49).customer_id == "1" + "0" * 49


def test_of_several_flaws_the_first_field_is_named() -> None:
    assert refusal_of(event_name="", customer_id="", properties=[]).field == "event_name"
    assert refusal_of(customer_id="", time_created="x", properties=[]).field == "customer_id"
    assert refusal_of(time_created="x", properties=[]).field == "time_created"


# --- Times


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-01T10:00:00Z",
        "2026-11-01 10:00:00+00:00",
        "2026-11-01T15:30:00.000000+05:30",
        1_793_527_200,
        1_793_527_200_000,
        " 1793527200.0 ",
        1_793_527_200.0,
    ],
)
def test_a_time_of_any_form_becomes_microseconds(time: object) -> None:
    assert an_event(time_created=time).time_created == 1_793_527_200_000_000


@pytest.mark.parametrize(
    "time", [None, True, {}, [], "", "tomorrow", "20261101", "2026-13-01", 10**40, float("inf"), "\0"]
)
def test_what_is_no_time_is_refused(time: object) -> None:
    refused = refusal_of(time_created=time)
    assert refused.field == "time_created"
    assert refused.message.startswith("time_created is ")


@pytest.mark.parametrize("time", ["2000-01-01T00:00:00Z", 946_684_800, "9999-12-31T23:59:59.999999Z"])
def test_a_time_is_kept_whatever_its_age(time: object) -> None:
    an_event(time_created=time)


@pytest.mark.parametrize(
    "time",
    [
        *("0001-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z", "1970-01-01", "1899-12-30"),
        *("1999-12-31T23:59:59.999999Z", "2000-01-01T00:00:00+00:01", "-62135596800", "946684799"),
        *(0, -0.0, 946_684_799.5, -62_135_596_800_000, 20_261_101),
    ],
)
def test_a_time_that_means_not_set_is_refused_and_the_sentence_says_so(time: object) -> None:
    refused = refusal_of(time_created=time)
    assert refused.field == "time_created"
    assert "earlier than 2000" in refused.message
    assert "not set" in refused.message


@pytest.mark.parametrize("time", ["", " ", "\t\n"])
def test_an_empty_time_is_said_to_be_empty(time: str) -> None:
    assert "time_created is empty" in refusal_of(time_created=time).message


# --- Properties


def test_no_properties_are_an_empty_object() -> None:
    assert an_event(properties=None).properties == "{}"
    assert an_event(properties={}).content == an_event(properties=None).content


@pytest.mark.parametrize("properties", ["text", 1, True, [], [{}]])
def test_properties_are_an_object(properties: object) -> None:
    refused = refusal_of(properties=properties)
    assert refused.field == "properties"
    assert "must be an object" in refused.message


@pytest.mark.parametrize(
    ("properties", "where"),
    [
        ({"a": "\0"}, "properties.a"),
        ({"a": {"b": ["x", {"c": "y\0"}]}}, "properties.a.b[1].c"),
        ({"a\0": 1}, "a key of properties"),
        ({"a": [{"b\0": 1}]}, "a key of properties.a[0]"),
        ({"\ud83d": "\0"}, "properties.\ud83d"),
    ],
)
def test_a_nul_in_properties_is_refused_with_its_place(properties: object, where: str) -> None:
    refused = refusal_of(properties=properties)
    assert refused.field == "properties"
    assert refused.message.startswith(f"{where} holds a NUL")


def test_a_backslash_before_u0000_is_text_and_no_nul() -> None:
    assert json.loads(an_event(properties={"a": "\\u0000"}).properties) == {"a": "\\u0000"}


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_a_number_that_json_cannot_hold_is_refused_with_its_place(number: float) -> None:
    assert "a.b[1]" in refusal_of(properties={"a": {"b": [0, number]}}).message


def test_properties_may_hold_whatever_json_can_and_segment_sends() -> None:
    properties = {"big": 10**300, "half": "\ud83d", "key with spaces.and dots": None, "": [], "deep": nested(150)}
    assert json.loads(an_event(properties=properties).properties) == properties


def test_properties_that_nest_without_end_are_refused_and_do_not_crash() -> None:
    assert refusal_of(properties={"deep": nested(100_000)}).field == "properties"


# --- Content

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: "\\u0000" not in json.dumps(value))


def turned(value: Any) -> Any:
    """Return an equal value whose keys stand the other way round."""
    if isinstance(value, dict):
        return {key: turned(inner) for key, inner in reversed(value.items())}
    return [turned(inner) for inner in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(max_size=3), values, max_size=4).filter(lambda one: "\\u0000" not in json.dumps(one)))
def test_equal_properties_are_equal_text_and_equal_content(properties: dict[str, Any]) -> None:
    one, other = an_event(properties=properties), an_event(properties=turned(properties))
    assert one == other
    assert json.loads(one.properties) == properties


@given(st.lists(st.tuples(st.text("ab", min_size=1), st.text("ab", min_size=1)), min_size=2, max_size=2, unique=True))
def test_the_parts_of_content_do_not_run_into_each_other(pairs: list[tuple[str, str]]) -> None:
    (name, customer), (other_name, other_customer) = pairs
    one = an_event(event_name=name, customer_id=customer)
    other = an_event(event_name=other_name, customer_id=other_customer)
    assert one.content != other.content


def test_a_letter_that_moves_from_the_name_to_the_customer_is_other_content() -> None:
    assert an_event(event_name="ab", customer_id="c").content != an_event(event_name="a", customer_id="bc").content


def test_id_and_time_are_not_content() -> None:
    one = an_event()
    assert an_event(idempotency_id="other", time_created=10**9).content == one.content
    assert len(one.content) == 16


def test_one_and_true_and_text_one_are_different_content() -> None:
    contents = {an_event(properties={"a": value}).content for value in (1, True, "1", None, [1])}
    assert len(contents) == 5


# --- No refusal tells a value

MARK = "SECRET-7f3a"


TEXTS = [MARK, MARK + "\0", MARK + "\ud83d", MARK * 100]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_name", [MARK]),
        *(("event_name", text) for text in TEXTS[1:]),
        *(("idempotency_id", text) for text in TEXTS[1:]),
        *(("customer_id", text) for text in TEXTS[1:]),
        *(("time_created", text) for text in TEXTS),
        ("time_created", {"a": MARK}),
        ("properties", MARK),
        ("properties", {"a": MARK + "\0"}),
        ("properties", {"a": [MARK, float("nan")]}),
    ],
)
def test_a_refusal_names_the_field_and_never_quotes_the_value(field: str, value: object) -> None:
    refused = refusal_of(**{field: value})
    assert field in refused.message or "a[1]" in refused.message
    assert MARK not in refused.message


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        an_event().customer_id = "other"  # type: ignore[misc]
    assert msgspec.structs.replace(an_event(), customer_id="other").customer_id == "other"
