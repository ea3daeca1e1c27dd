"""A transform: what it makes of a call, what it inherits, and its version. The cases: transform_cases.py."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.core.jmespath.limits import Budget
from app.core.pipeline import run
from app.core.segment import Unread
from app.core.times import format_time
from app.core.transform import transform as transform_module
from app.core.transform.schema import FIELDS
from app.core.transform.transform import Transform, TransformSet, parse_transform
from app.errors import EventInvalid, ExpressionFailed, TransformInvalid
from tests.builders import DEFAULT_TEXT, MISSING, NOW, a_call, a_default, a_transform, some_transforms
from tests.core.examples import often
from tests.core.transform.transform_cases import CASES, ENDS, Case, End


def only_event(transform: Transform, **members: Any) -> Any:
    [event] = transform.apply(a_call(**members), NOW)
    return event


# --- The language, as data


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.claim)
def test_the_language_makes(case: Case) -> None:
    assert case.run() == case.expected


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.claim)
def test_the_language_says(end: End) -> None:
    reason, detail = end.run()
    assert reason == end.reason, detail
    for part in end.says:
        assert part in detail
    assert "SECRET" not in detail


# --- What it makes


def test_the_default_maps_the_fields_of_a_call() -> None:
    event = only_event(a_default())
    assert event.event_name == "API Call"
    assert event.idempotency_id == "message-1"
    assert event.customer_id == "customer-1"
    assert event.time_created == 1_793_527_200_123_000
    assert event.properties == '{"tokens":10}'


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_is_left_out_is_inherited(field: str) -> None:
    written = {
        "event_name": "'other'",
        "idempotency_id": "'other'",
        "customer_id": "'other'",
        "time_created": "`1000000000`",
        "properties": "`{}`",
    }
    default = only_event(a_default())
    alone = only_event(a_transform(f'event: {{{field}: "{written[field]}"}}'))
    for other in FIELDS:
        assert (getattr(alone, other) == getattr(default, other)) == (other != field)


@pytest.mark.parametrize(
    ("times", "time_or_sentence"),
    [
        ({"timestamp": "", "sentAt": "2026-11-01"}, "2026-11-01T00:00:00.000000Z"),
        ({"timestamp": None, "originalTimestamp": "", "receivedAt": 10**9}, "2001-09-09T01:46:40.000000Z"),
        ({"timestamp": "", "receivedAt": None}, "time_created is null: `timestamp` is empty (_default.yaml)"),
        ({"timestamp": "yesterday", "sentAt": "2026-11-01"}, "time_created is text that is no time"),
        ({"timestamp": "1970-01-01", "receivedAt": "2026-11-01"}, "time_created is earlier than 2000"),
        ({"timestamp": 0, "receivedAt": "2026-11-01"}, "time_created is earlier than 2000"),
        ({"timestamp": " ", "receivedAt": "2026-11-01"}, "time_created is empty"),
    ],
)
def test_by_the_shipped_default_only_an_empty_time_gives_way_to_the_next(
    times: dict[str, Any], time_or_sentence: str
) -> None:
    default = a_default((Path(__file__).parents[3] / "transforms" / "_default.yaml").read_text(encoding="utf-8"))
    call = a_call(**{"timestamp": MISSING, **times})
    if time_or_sentence.startswith("time_created"):
        with pytest.raises(EventInvalid, match="^" + re.escape(time_or_sentence)):
            default.apply(call, NOW)
        return
    [event] = default.apply(call, NOW)
    assert format_time(event.time_created) == time_or_sentence


def test_a_file_of_comments_inherits_everything() -> None:
    assert only_event(a_transform("# nothing yet\nmatch: {}\n")) == only_event(a_default())


def test_properties_may_be_a_map_of_expressions_that_nests() -> None:
    transform = a_transform(
        "event: {properties: {n: properties.tokens, who: {id: userId, none: nothing}, 'a b': \"'x'\"}}"
    )
    assert only_event(transform).properties == '{"a b":"x","n":10,"who":{"id":"customer-1","none":null}}'


def test_properties_may_be_one_expression() -> None:
    assert only_event(a_transform('event: {properties: "{n: properties.tokens}"}')).properties == '{"n":10}'


def test_an_empty_map_of_properties_makes_none() -> None:
    assert only_event(a_transform("event: {properties: {}}")).properties == "{}"


def test_applying_twice_gives_the_same_event_and_leaves_the_call_as_it_was() -> None:
    transform = a_transform("event: {properties: {items: properties.items, '*': {rename: {items: all}}}}")
    call = a_call(properties={"items": [{"a": 1}]})
    before = repr(call.document)
    assert transform.apply(call, NOW) == transform.apply(call, NOW)
    assert repr(call.document) == before


def test_a_thousand_items_are_a_thousand_events_and_one_more_is_an_error() -> None:
    transform = a_transform("each: properties.items\nevent: {properties: {n: item}}")
    assert len(transform.apply(a_call(properties={"items": list(range(1000))}), NOW)) == 1000
    with pytest.raises(ExpressionFailed, match="1001 items, and 1000 is the most"):
        transform.apply(a_call(properties={"items": list(range(1001))}), NOW)


def test_events_that_each_copy_the_whole_call_are_refused_before_they_fill_the_memory() -> None:
    transform = a_transform("each: properties.items\nevent: {properties: 'root().properties'}")
    with pytest.raises(ExpressionFailed, match="1,000,000 characters"):
        transform.apply(a_call(properties={"items": list(range(1000)), "text": "x" * 20_000}), NOW)


@pytest.mark.parametrize(
    "expression",
    [
        "sum(properties.prices)",
        "length(root().properties.prices[?@ > `5`])",
        "properties.prices[*].to_string(@) | join('', @) | length(@)",
        "regex_match(properties.text, '(a|aa)*b')",
        "sort(properties.prices)[0]",
    ],
)
def test_what_every_event_of_a_call_reads_is_limited_for_all_of_them_together(expression: str) -> None:
    transform = a_transform(f'each: properties.items\nevent: {{properties: {{n: "{expression}"}}}}')
    properties = {"items": list(range(1000)), "prices": [1.5] * 10_000, "text": "a" * 100_000}
    with pytest.raises(
        ExpressionFailed, match=r"event\.properties\.n.* steps together, which is the limit|steps together"
    ):
        transform.apply(a_call(properties=properties), NOW)
    few = {"items": [1, 2], "prices": [1.5] * 3, "text": "a"}
    assert len(transform.apply(a_call(properties=few), NOW)) == 2


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_counting_changes_nothing_about_what_is_made(numbers: list[int]) -> None:
    transform = a_transform(EVERY_KIND_OF_FIELD)
    call = a_call(properties={"items": numbers, "prices": [1, 2], "text": "a@b.example"})
    counted = dataclasses.replace(transform, fields=transform.fields.counted(Budget()))
    assert counted.apply(call, NOW) == transform.apply(call, NOW)


EVERY_KIND_OF_FIELD = """
each: properties.items
event:
  event_name: {const: one}
  customer_id: userId || 'nobody'
  properties:
    "*": {drop: [items], rename: {text: mail}}
    constant: {const: [1, 2]}
    sum: sum(properties.prices)
    deep: {item: item, index: index, host: "regex_extract(properties.text, '@(.*)')"}
    all: root().properties.prices[?@ > `1`]
"""


def test_a_property_that_is_renamed_wins_whatever_the_order_of_the_call() -> None:
    transform = a_transform("event: {properties: {'*': {rename: {new: old}}}}")
    for properties in ({"old": 1, "new": 2}, {"new": 2, "old": 1}):
        assert only_event(transform, properties=properties).properties == '{"old":2}'


# --- What a call can do to it


def test_an_expression_that_meets_a_wrong_type_fails_without_telling_the_value() -> None:
    transform = a_transform("event: {properties: {n: 'sum(properties.items)'}}")
    with pytest.raises(ExpressionFailed) as failed:
        transform.apply(a_call(properties={"items": "SECRET"}), NOW)
    assert "sum()" in failed.value.message
    assert "event.properties.n" in failed.value.message
    assert "SECRET" not in failed.value.message


def test_an_event_that_breaks_a_rule_names_its_field() -> None:
    with pytest.raises(EventInvalid) as refused:
        a_default().apply(a_call(userId=MISSING), NOW)
    assert refused.value.field == "customer_id"


def test_the_default_must_say_where_every_field_comes_from() -> None:
    for field in FIELDS:
        text = "".join(line for line in DEFAULT_TEXT.splitlines(keepends=True) if not line.startswith(f"  {field}:"))
        with pytest.raises(TransformInvalid, match=rf"_default.yaml:\d+:\d+: .*{field}"):
            a_default(text)


# --- Digests name versions


def test_a_digest_is_the_same_for_the_same_transform() -> None:
    text = "event: {properties: {n: properties.n}}"
    assert a_transform(text).digest == a_transform(text).digest
    assert len(a_transform(text).digest) == 16


def test_a_digest_changes_with_text_name_default_and_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "event: {properties: {n: properties.n}}"
    digests = {
        a_transform(text).digest,
        a_transform(text + "\n").digest,
        a_transform(text, name="another").digest,
        a_transform(text, default=a_default(DEFAULT_TEXT + "# changed\n")).digest,
        a_default().digest,
        parse_transform("a_transform", DEFAULT_TEXT, None).digest,
    }
    monkeypatch.setattr(transform_module, "ENGINE", -1)
    digests.add(a_transform(text).digest)
    assert len(digests) == 7


def test_a_transform_knows_the_version_it_inherits_from() -> None:
    default = a_default()
    assert default.inherits is None
    assert a_transform("match: {}", default=default).inherits == default.digest


# --- The key of pseudonyms

# Lotus takes 50 characters, and a pseudonym has 64.
KEYED = "event: {customer_id: 'substring(sha256(userId), `0`, `32`)'}"


def test_a_pseudonym_is_made_with_the_key_of_the_installation() -> None:
    default = a_default()
    one, same, other = (parse_transform("t", KEYED, default, key) for key in (b"one", b"one", b"other"))
    assert one.digest == other.digest, "the key is no part of the version"
    assert only_event(one).customer_id == only_event(same).customer_id != only_event(other).customer_id


def test_the_key_is_in_no_repr_and_in_no_error() -> None:
    transform = parse_transform("t", KEYED, a_default(), b"SECRET-KEY")
    assert "SECRET-KEY" not in repr(transform)
    with pytest.raises(ExpressionFailed, match="PSEUDONYM_KEY"):
        parse_transform("t", KEYED, a_default()).apply(a_call(), NOW)


# --- Whatever comes

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.just(10**600)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner, max_size=4)
    ),
    max_leaves=8,
)
ALL_PARTS = some_transforms(
    fan="""
match: {event: [Fan]}
each: properties.items
event:
  idempotency_id: properties.id
  time_created: coalesce(item.at, timestamp)
  properties: {'*': {rename: {a: b}, drop: [c]}, item: item, n: 'add(item.n, index)', all: '*'}
""",
    also="match: {source: s-1}\nalso: true\nwhen: properties.when\nevent: {customer_id: properties.who}",
    pages="match: {type: page}\nevent: {event_name: name, properties: {'*': {drop: [x]}, t: received_at()}}",
    whole="match: {event: Who*}\npriority: 3\nevent: properties.event",
    strict="match: {event: Strict}\ninput_schema: {properties: {properties: {properties: {a: {pattern: '^x'}}}}}",
)
calls = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["track", "track", "page"]) | anything,
        "event": st.sampled_from(["Fan", "Who Knows", "Strict", "Other"]) | anything,
        "messageId": anything,
        "userId": st.just("u-1") | anything,
        "timestamp": st.just("2026-11-01") | anything,
        "projectId": st.just("s-1") | anything,
        "properties": anything
        | st.fixed_dictionaries(
            {},
            optional={
                "items": st.lists(st.fixed_dictionaries({}, optional={"n": anything, "at": anything}), max_size=3),
                **dict.fromkeys(("a", "b", "c", "id", "when", "who", "event", "x"), anything),
            },
        ),
    },
)


@often
@given(calls)
@example({"type": "track", "event": "Fan", "projectId": ["s-1"]})
@example({"type": "page", "properties": [1]})
@example({"type": "page", "properties": "text"})
@example({"type": "track", "event": "Strict", "properties": {"a": "\ud83d"}})
def test_any_call_ends_in_a_run_and_always_the_same(document: dict[str, Any]) -> None:
    before = repr(document)
    done = run(b"{}", document, ALL_PARTS, NOW)
    assert run(b"{}", document, ALL_PARTS, NOW) == done
    assert (done.outcome is None) == bool(done.lanes)
    assert repr(document) == before


def test_a_call_that_could_not_be_read_is_a_run_too() -> None:
    for unread in Unread:
        assert run(b"", unread, TransformSet(()), NOW).lanes == ()
