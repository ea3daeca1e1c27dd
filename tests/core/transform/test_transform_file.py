"""A transform file that cannot be used: every error says file, line and column, what is wrong, and points at it."""

import re
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.core.segment import Call
from app.core.transform.schema import SCHEMA
from app.core.transform.transform import MAIN_LANE, Choice, Transform, TransformSet, parse_transform
from app.errors import TransformInvalid
from tests.builders import MISSING, NOW, a_call, a_default, a_transform, some_transforms
from tests.core.examples import often


def refusal_of(text: str, name: str = "order") -> str:
    with pytest.raises(TransformInvalid) as raised:
        a_transform(text, name)
    return raised.value.message


PLACES = [
    # What is no YAML.
    ("match: {type: track\nevent: {}", "2:6", ""),
    ("event:\n  event_name: event\n  event_name: event\n", "3:3", "twice"),
    ("[1, 2]\n", "1:1", "must be a map"),
    ("", "1:1", "must be a map"),
    ("just text", "1:1", "must be a map"),
    ("a: &x 1\nb: *y\n", "2:4", ""),
    # Keys, and what stands at them.
    ("nonsense: 1\n", "1:1", "nonsense: there is no such key; known here: description, enabled"),
    ("evnt: {}\n", "1:1", "evnt: there is no such key; did you mean event?"),
    ("event:\n  event_nam: event\n", "2:3", "event.event_nam: there is no such key; did you mean event_name?"),
    ("match: {evnt: A}\n", "1:9", "match.evnt: there is no such key; did you mean event?"),
    ("event:\n  customer_id: 42\n", "2:16", "event.customer_id: must be text or a map"),
    ("event:\n  customer_id: {cnst: 1}\n", "2:16", "event.customer_id: the key const is missing"),
    ("event:\n  customer_id: {const: 1, b: 2}\n", "2:27", "beside `const` nothing else can stand"),
    ("event:\n  properties:\n    const: userId\n    b: userId\n", "3:5", "beside `const` nothing else can stand"),
    ("event:\n  properties:\n    a: {b: userId, const: 1}\n", "3:20", "beside `const` nothing else can stand"),
    ("event:\n  properties:\n    a: [x]\n", "3:8", "event.properties.a: must be text or a map"),
    ("event:\n  properties:\n    a: 1\n", "3:8", "event.properties.a: must be text or a map"),
    ("event:\n  properties:\n    '*': {renam: {}}\n", "3:11", "did you mean rename?"),
    ("event:\n  properties:\n    '*': {rename: {a: 1}}\n", "3:23", "must be text"),
    ("event:\n  properties:\n    '*': {rename: {a: x, b: x}}\n", "3:29", "a gets the same new name"),
    ("event:\n  properties:\n    '*': all\n", "3:10", "must be a map or null"),
    ("event:\n  event_name: ''\n", "2:15", "event.event_name: must not be empty"),
    ("match:\n  type: purchase\n", "2:9", "match.type: must be one of track, identify"),
    ("match:\n  type: trak\n", "2:9", "did you mean track?"),
    ("match:\n  event: []\n", "2:10", "match.event: must not be empty"),
    ("match:\n  event: [A, 2]\n", "2:14", "match.event.1: must be text"),
    ("match: track\n", "1:8", "match: must be a map"),
    ("match:\n  type: page\n  event: Home\n", "3:10", "only track calls have an event"),
    ("priority: high\n", "1:11", "priority: must be a whole number"),
    ("also: on\n", "1:7", "also: must be true or false"),
    ("each: [a]\n", "1:7", "each: must be text"),
    ("lookup: {plans: pro}\n", "1:17", "lookup.plans: must be a map"),
    ("examples:\n  - given: {}\n", "2:5", "examples.0: the key expect is missing"),
    ("examples:\n  - {given: {}, expect: filterd}\n", "2:25", "did you mean filtered?"),
    ("examples:\n  - {given: {}, expect: {evnt_name: x}}\n", "2:26", "did you mean event_name?"),
    # Expressions, with the place inside them.
    ("event:\n  customer_id: on\n  idempotency_id: 'a ||'\n", "3:24", "event.idempotency_id"),
    ("event:\n  properties:\n    a: x\n    b: 'length('\n", "4:16", "event.properties.b"),
    ("event:\n  properties:\n    a: {b: {c: 'nope(x)'}}\n", "3:17", "there is no function nope()"),
    ("event:\n  event_name: a.b.lowr(c)\n", "2:19", "there is no function lowr()"),
    ("event:\n  event_name: lowr(c)\n", "2:15", "did you mean lower()?"),
    ("when: a = b\n", "1:9", "equality is `==`"),
    ("each: items[\n", "1:13", "each"),
    ("event: 'a b'\n", "1:11", "event"),
    ("event:\n  event_name: |\n    join('-',\n      [a, b)\n", "2:15", "line 2, column"),
    ('event:\n  event_name: "nope(\\"a\\")"\n', "2:15", "there is no function nope()"),
    # input_schema.
    ("input_schema:\n  type: objct\n", "2:9", "input_schema.type"),
    ("input_schema:\n  properties:\n    a: {minimum: x}\n", "3:18", "input_schema.properties.a.minimum"),
    ("input_schema:\n  $ref: https://example.com/a.json\n", "2:9", "leads out of the file"),
    ("input_schema:\n  items:\n    - {$dynamicRef: other}\n", "3:21", "leads out of the file"),
    ("input_schema:\n  $ref: '#/$defs/no'\n", "2:3", "does not exist"),
    ("input_schema:\n  properties: {a: {pattern: '(?=a)'}}\n", "2:29", "linear time"),
    ("input_schema:\n  $schema: http://json-schema.org/draft-07/schema#\n", "2:12", "2020-12"),
    ("input_schema: [1]\n", "1:15", "must be a map or true or false"),
]


@pytest.mark.parametrize(("text", "place", "says"), PLACES)
def test_an_error_says_file_line_and_column_and_points_there(text: str, place: str, says: str) -> None:
    message = refusal_of(text)
    assert message.startswith(f"order.yaml:{place}: "), message
    assert says in message
    line, column = map(int, place.split(":"))
    shown, caret = message.splitlines()[-2:]
    lines = text.splitlines() or [""]
    assert shown == "    " + lines[line - 1]
    assert caret == " " * (4 + column - 1) + "^"


def test_the_picture_of_a_very_long_line_is_cut_around_the_caret() -> None:
    message = refusal_of(f"event: {{event_name: {'a.' * 400}b, customer: c}}")
    shown, caret = message.splitlines()[-2:]
    assert len(shown) < 200
    assert shown[len(caret) - 1 :].startswith("customer: c")


def test_tabs_before_the_place_stay_tabs_below_it() -> None:
    message = refusal_of('{"event":\t{"event_nam":\t"a"}}')
    assert message.splitlines()[-1] == " " * 4 + " " * 9 + "\t" + " " + "^"


def test_an_error_can_be_printed_whatever_the_file_says() -> None:
    assert "\\ud800" in refusal_of('"\\ud800": 1')


def test_a_lane_of_its_own_cannot_be_the_main_one() -> None:
    assert a_transform("{}", MAIN_LANE).name == MAIN_LANE
    assert refusal_of("match: {}\nalso: true", MAIN_LANE).startswith("main.yaml:2:7: also: ")


def test_the_default_cannot_add_to_others() -> None:
    with pytest.raises(TransformInvalid, match=r"^_default.yaml:1:7: also: "):
        parse_transform("_default", "also: true", None)


def test_a_map_as_deep_as_yaml_may_be_is_read_or_refused() -> None:
    for depth in (5, 40, 60, 400):
        text = "event: {properties: " + "{a: " * depth + "userId" + "}" * (depth + 1)
        if depth <= 40:
            assert a_transform(text).apply(a_call(), NOW)
        else:
            assert refusal_of(text).startswith("order.yaml:1:")


# --- Whatever is written

_SCALARS = st.sampled_from(
    ["userId", "'a ||'", "42", "true", "null", ".inf", "''", "'*'", '"\\ud800"', "nope()", "track", "[x", "&a 1", "*a"]
)
_KEYS = st.sampled_from([*SCHEMA["properties"], *SCHEMA["$defs"]["event"]["properties"], "const", "'*'", "x", "type"])
_YAML = st.recursive(
    _SCALARS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(_KEYS, inner, max_size=4).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
        )
    ),
    max_leaves=10,
)


@often
@given(_YAML | st.text(st.characters(exclude_categories=())))
@example("input_schema: {const: 1e400}")
@example("input_schema: {minLength: 100000000000000000000000000000}")
@example('input_schema: {const: "\\ud800"}')
@example("event: {event_name: {const: 1e400}}")
@example("\ud800")
@example("# \ud800")
@example("{? [a] : b}")
@example("match: {event: '[*'}")
def test_any_text_is_a_transform_or_an_error_with_its_place(text: str) -> None:
    try:
        made = parse_transform("any", text, a_default())
    except TransformInvalid as error:
        message = error.message
    else:
        assert isinstance(made, Transform)
        TransformSet([made]).choose(a_call())
        return
    assert re.match(r"any\.yaml:\d+:\d+: ", message), message
    assert message.splitlines()[-1].strip() == "^"
    message.encode()


# --- Which one takes a call


def chosen(transforms: TransformSet, **members: object) -> str | None:
    choice = transforms.choose(a_call(**members))
    return choice.main.name if choice.main else None


def test_the_default_takes_what_is_left_of_its_type() -> None:
    transforms = some_transforms(order="match: {event: Order}")
    assert chosen(transforms, event="Other") == "_default"
    assert chosen(transforms, type="identify", event=MISSING) is None
    assert chosen(transforms, event="order") == "_default", "names are compared letter by letter"


def test_a_default_that_names_events_takes_no_others() -> None:
    text = a_default().text.replace("type: track", "event: [Order]")
    transforms = some_transforms(default=text)
    assert chosen(transforms, event="Order") == "_default"
    assert chosen(transforms, event="Other") is None


@pytest.mark.parametrize("kind", ["identify", "page", "screen", "group", "alias", "delete"])
def test_a_transform_may_take_calls_of_any_type(kind: str) -> None:
    transforms = some_transforms(other=f"match: {{type: {kind}}}")
    assert chosen(transforms, type=kind, event=MISSING) == "other"
    assert chosen(transforms) == "_default"


def test_where_there_are_no_transforms_none_is_chosen() -> None:
    assert TransformSet(()).choose(a_call()) == Choice(main=None, also=())


def test_a_choice_says_which_others_would_have_taken_the_call() -> None:
    transforms = some_transforms(a="match: {}", b="match: {event: API Call}", c="also: true")
    choice = transforms.choose(a_call())
    assert [one.name for one in choice.passed_over] == ["b", "_default"]
    assert [one.name for one in choice.all] == ["a", "c"]


def test_made_up_names_neither_fill_the_memory_nor_change_a_choice() -> None:
    transforms = some_transforms(order="match: {event: Order}")
    for number in range(12_000):
        transforms.choose(Call(document={}, type="track", message_id=None, event=f"e{number}", user_id=None))
    assert chosen(transforms, event="Order") == "order"
    assert chosen(transforms, event="x" * 5000) == "_default"
    assert len(transforms._choices) <= 10_000
    assert max(len(event or "") for _, event in transforms._choices) < 300


names = st.sampled_from(["A", "B", "C", "'[AB]*'", "'?'"])


@given(
    files=st.lists(
        st.tuples(
            st.none()
            | names.map(str)
            | st.lists(names, min_size=1, max_size=2).map(lambda some: f"[{','.join(some)}]"),
            st.integers(-1, 1),
            st.booleans(),
        ),
        max_size=5,
    ),
    order=st.randoms(use_true_random=False),
)
def test_the_choice_is_by_priority_and_name_whatever_the_order_of_files(
    files: list[tuple[str | None, int, bool]], order: Random
) -> None:
    texts = {
        f"t{at}": (f"match: {{event: {match}}}\n" if match else "") + f"priority: {priority}\nalso: {str(also).lower()}"
        for at, (match, priority, also) in enumerate(files)
    }
    transforms = some_transforms(**texts)
    shuffled = list(transforms.transforms)
    order.shuffle(shuffled)
    for event in ("A", "B", "C", "D"):
        call = a_call(event=event)
        choice = transforms.choose(call)
        assert choice == TransformSet(shuffled).choose(call)
        accepting = sorted(
            (one for one in transforms.transforms if one.accepts(call)),
            key=lambda one: (one.name == "_default", -one.priority, one.name),
        )
        assert choice.main is next(one for one in accepting if not one.also)
        assert list(choice.also) == [one for one in accepting if one.also]


@pytest.mark.parametrize(
    ("match", "members", "accepted"),
    [
        ("{}", {}, True),
        ("{event: API Call}", {}, True),
        ("{event: [Other, API Call]}", {}, True),
        ("{event: 'A?I *'}", {}, True),
        ("{event: Other}", {}, False),
        ("{event: 'Other*'}", {}, False),
        ("{type: page}", {}, False),
        ("{type: page}", {"type": "page", "event": MISSING}, True),
        ("{source: s}", {}, False),
        ("{source: s}", {"projectId": "s"}, True),
    ],
)
def test_a_transform_accepts_what_its_match_says(match: str, members: dict[str, object], accepted: bool) -> None:
    assert a_transform(f"match: {match}").accepts(a_call(**members)) is accepted
