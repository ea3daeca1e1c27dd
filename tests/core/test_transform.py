"""A transform: one file, its errors with their place, what it inherits, and which calls it takes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import transform as transform_module
from app.core.transform import FIELDS, Transform, TransformSet, parse_transform
from app.errors import EventInvalid, ExpressionFailed, TransformInvalid
from tests.builders import DEFAULT_TEXT, MISSING, a_call, a_default, a_transform, some_transforms


def refusal_of(text: str, name: str = "order") -> str:
    with pytest.raises(TransformInvalid) as raised:
        a_transform(text, name)
    return raised.value.message


def only_event(transform: Transform, **members: Any) -> Any:
    [event] = transform.apply(a_call(**members))
    return event


def chosen(transforms: TransformSet, **members: Any) -> str | None:
    transform = transforms.choose(a_call(**members))
    return transform.name if transform else None


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
        "time_created": "`0`",
        "properties": "`{}`",
    }
    default = only_event(a_default())
    alone = only_event(a_transform(f'event: {{{field}: "{written[field]}"}}'))
    for other in FIELDS:
        assert (getattr(alone, other) == getattr(default, other)) == (other != field)


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
    transform = a_transform("event: {properties: {items: properties.items, all: properties}}")
    call = a_call(properties={"items": [{"a": 1}]})
    before = repr(call.document)
    assert transform.apply(call) == transform.apply(call)
    assert repr(call.document) == before


# --- What a call can do to it


def test_an_expression_that_meets_a_wrong_type_fails_without_telling_the_value() -> None:
    transform = a_transform("event: {properties: {n: 'sum(properties.items)'}}")
    with pytest.raises(ExpressionFailed) as failed:
        transform.apply(a_call(properties={"items": "SECRET"}))
    assert "sum()" in failed.value.message
    assert "SECRET" not in failed.value.message


def test_an_event_that_breaks_a_rule_names_its_field() -> None:
    with pytest.raises(EventInvalid) as refused:
        a_default().apply(a_call(userId=MISSING))
    assert refused.value.field == "customer_id"


# --- Errors point at their place


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("match: {type: track\nevent: {}", "order.yaml:2:6", ""),
        ("event:\n  event_name: event\n  event_name: event\n", "order.yaml:3:3", "twice"),
        ("event:\n  event_nam: event\n", "order.yaml:2:3", "event_nam"),
        ("event:\n  customer_id: 42\n", "order.yaml:2:16", "42"),
        ("event:\n  customer_id: on\n  idempotency_id: 'a ||'\n", "order.yaml:3:19", "event.idempotency_id"),
        ("event:\n  properties:\n    a: x\n    b: 'length('\n", "order.yaml:4:8", "event.properties.b"),
        ("event:\n  properties:\n    a: {b: {c: 'nope(x)'}}\n", "order.yaml:3:16", "nope"),
        ("event:\n  properties:\n    a: [x]\n", "order.yaml:3:8", "event.properties.a"),
        ("event:\n  properties:\n    a: 1\n", "order.yaml:3:8", "event.properties.a"),
        ("event:\n  event_name: ''\n", "order.yaml:2:15", "event.event_name"),
        ("match:\n  type: purchase\n", "order.yaml:2:9", "purchase"),
        ("match:\n  event: []\n", "order.yaml:2:10", "match.event"),
        ("match:\n  event: [A, 2]\n", "order.yaml:2:14", "match.event.1"),
        ("match: track\n", "order.yaml:1:8", "match"),
        ("nonsense: 1\n", "order.yaml:1:1", "nonsense"),
        ("[1, 2]\n", "order.yaml:1:1", ""),
        ("", "order.yaml:1:1", ""),
        ("just text", "order.yaml:1:1", ""),
    ],
)
def test_an_error_says_file_line_and_column(text: str, place: str, says: str) -> None:
    message = refusal_of(text)
    assert message.startswith(f"{place}: "), message
    assert says in message


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
    monkeypatch.setattr(transform_module, "ENGINE", b"2")
    digests.add(a_transform(text).digest)
    assert len(digests) == 7


def test_a_transform_knows_the_version_it_inherits_from() -> None:
    default = a_default()
    assert default.inherits is None
    assert a_transform("match: {}", default=default).inherits == default.digest


# --- Which one takes a call


def test_a_transform_that_names_the_event_goes_first() -> None:
    transforms = some_transforms(
        a_all="match: {type: track}", z_order="match: {event: Order}", m_several="match: {event: [Paid, Order, Sent]}"
    )
    assert chosen(transforms, event="Paid") == "m_several"
    assert chosen(transforms, event="Order") == "m_several", "the name that sorts first wins"
    assert chosen(transforms, event="Other") == "a_all", "any transform goes before the default"
    assert chosen(transforms, event="order") == "a_all", "names are compared letter by letter"


def test_the_default_takes_what_is_left_of_its_type() -> None:
    transforms = some_transforms(order="match: {event: Order}")
    assert chosen(transforms, event="Other") == "_default"
    assert chosen(transforms, type="identify", event=MISSING) is None


def test_a_default_that_names_events_takes_no_others() -> None:
    transforms = some_transforms(default=DEFAULT_TEXT.replace("type: track", "event: [Order]"))
    assert chosen(transforms, event="Order") == "_default"
    assert chosen(transforms, event="Other") is None


@pytest.mark.parametrize("kind", ["identify", "page", "screen", "group", "alias", "delete"])
def test_a_transform_may_take_calls_of_any_type(kind: str) -> None:
    transforms = some_transforms(other=f"match: {{type: {kind}}}")
    assert chosen(transforms, type=kind, event=MISSING) == "other"
    assert chosen(transforms) == "_default"


def test_where_there_are_no_transforms_none_is_chosen() -> None:
    assert TransformSet(()).choose(a_call()) is None


names = st.sampled_from(["A", "B", "C"])


@given(
    matches=st.lists(st.one_of(st.none(), names, st.lists(names, min_size=1, max_size=2)), max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_the_choice_does_not_depend_on_the_order_of_files_and_is_one_that_accepts(matches: Any, order: Any) -> None:
    texts = {f"t{at}": f"match: {{event: {match}}}" if match else "match: {}" for at, match in enumerate(matches)}
    transforms = some_transforms(**{name: text.replace("'", "") for name, text in texts.items()})
    shuffled = list(transforms.transforms)
    order.shuffle(shuffled)
    for event in ("A", "B", "C", "D"):
        call = a_call(event=event)
        choice = transforms.choose(call)
        again = TransformSet(shuffled).choose(call)
        assert choice is again
        accepting = [one for one in transforms.transforms if one.accepts(call)]
        assert choice in accepting
        if any(one.events for one in accepting):
            assert choice is not None
            assert choice.events


@pytest.mark.parametrize(
    ("match", "members", "accepted"),
    [
        ("{}", {}, True),
        ("{event: API Call}", {}, True),
        ("{event: [Other, API Call]}", {}, True),
        ("{event: Other}", {}, False),
        ("{type: page}", {}, False),
        ("{type: page}", {"type": "page", "event": MISSING}, True),
    ],
)
def test_a_transform_accepts_what_its_match_says(match: str, members: dict[str, Any], accepted: bool) -> None:
    assert a_transform(f"match: {match}").accepts(a_call(**members)) is accepted
