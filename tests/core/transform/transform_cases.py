"""The transform language as data: the files, a call, and the events or the sentence they end in."""

import json
from dataclasses import dataclass, field
from typing import Any

from app.core.outcome import Reason
from app.core.pipeline import Run, run
from app.core.segment import read
from app.core.times import format_time
from tests.builders import MISSING, NOW, a_document, some_transforms, to_raw


def _run(files: dict[str, str] | str, call: dict[str, Any]) -> Run:
    texts = {"one": files} if isinstance(files, str) else files
    raw = to_raw(a_document(**call))
    return run(raw, read(raw), some_transforms(**texts), NOW)


@dataclass(frozen=True, kw_only=True)
class Case:
    """Events of a call: each as the fields that the case is about; `lane` where it is not main."""

    claim: str
    files: dict[str, str] | str
    expected: list[dict[str, Any]]
    call: dict[str, Any] = field(default_factory=dict)

    def run(self) -> list[dict[str, Any]]:
        done = _run(self.files, self.call)
        assert done.outcome is None, done.detail
        made = [
            {
                "event_name": event.event_name,
                "idempotency_id": event.idempotency_id,
                "customer_id": event.customer_id,
                "time_created": format_time(event.time_created),
                "properties": json.loads(event.properties),
                "lane": lane.name,
                "transform": lane.transform,
            }
            for lane in done.lanes
            for event in lane.events
        ]
        asked = [*self.expected, *[{}] * (len(made) - len(self.expected))]
        return [{key: event[key] for key in want} for want, event in zip(asked, made, strict=True)]


@dataclass(frozen=True, kw_only=True)
class End:
    """A call of which there are no events: why, and words of the sentence."""

    claim: str
    files: dict[str, str] | str
    reason: Reason
    says: tuple[str, ...]
    call: dict[str, Any] = field(default_factory=dict)

    def run(self) -> tuple[Reason | None, str]:
        done = _run(self.files, self.call)
        assert done.lanes == ()
        return done.reason, done.detail or ""


def _properties(value: Any) -> list[dict[str, Any]]:
    return [{"properties": value}]


ITEMS = {"properties": {"order": "o-1", "items": [{"sku": "a", "n": 2}, {"sku": "b", "n": 3}]}}

CASES = [
    # --- which calls
    Case(
        claim="a name",
        files={"one": "match: {event: API Call}"},
        expected=[{"transform": "one"}],
    ),
    Case(
        claim="a list of names",
        files={"one": "match: {event: [Other, API Call]}"},
        expected=[{"transform": "one"}],
    ),
    Case(
        claim="a glob",
        files={"one": "match: {event: 'API*'}"},
        expected=[{"transform": "one"}],
    ),
    Case(
        claim="a glob matches the whole name",
        files={"one": "match: {event: 'PI C*'}"},
        expected=[{"transform": "_default"}],
    ),
    Case(
        claim="square brackets are letters like any other",
        files={"one": "match: {event: 'Call [EU]*'}"},
        call={"event": "Call [EU] 2"},
        expected=[{"transform": "one"}],
    ),
    Case(
        claim="square brackets are no class of letters",
        files={"one": "match: {event: 'Call [EU]*'}"},
        call={"event": "Call E"},
        expected=[{"transform": "_default"}],
    ),
    Case(
        claim="a source",
        files={"one": "match: {source: s-1}"},
        call={"projectId": "s-1"},
        expected=[{"transform": "one"}],
    ),
    Case(
        claim="one source of several, and a name",
        files={"one": "match: {event: API Call, source: [s-0, s-1]}"},
        call={"projectId": "s-1"},
        expected=[{"transform": "one"}],
    ),
    Case(
        claim="a call of another source is left to the next",
        files={"one": "match: {source: s-1}", "two": "match: {event: API Call}"},
        call={"projectId": "s-2"},
        expected=[{"transform": "two"}],
    ),
    Case(
        claim="a source that is no text is no source",
        files={"one": "match: {source: s-1}"},
        call={"projectId": ["s-1"]},
        expected=[{"transform": "_default"}],
    ),
    Case(
        claim="the name that sorts first goes first",
        files={"b": "match: {event: API Call}", "a": "match: {}"},
        expected=[{"transform": "a"}],
    ),
    Case(
        claim="a higher priority goes before a name",
        files={"a": "match: {}", "b": "match: {event: API Call}\npriority: 1"},
        expected=[{"transform": "b"}],
    ),
    Case(
        claim="a negative priority goes after all others but the default",
        files={"a": "match: {}\npriority: -1", "b": "match: {event: API Call}"},
        expected=[{"transform": "b"}],
    ),
    Case(
        claim="the default goes last",
        files={"z": "match: {}\npriority: -100"},
        expected=[{"transform": "z"}],
    ),
    Case(
        claim="a call of another type",
        files={"p": "match: {type: page}\nevent: {event_name: name}"},
        call={"type": "page", "name": "Home"},
        expected=[{"transform": "p", "event_name": "Home"}],
    ),
    Case(
        claim="when: true lets a call pass",
        files="when: properties.tokens > `5`",
        expected=[{"transform": "one"}],
    ),
    Case(
        claim="when: 0 is an answer",
        files="when: properties.tokens",
        call={"properties": {"tokens": 0}},
        expected=[{"transform": "one"}],
    ),
    Case(
        claim="when: an empty text is an answer",
        files="when: properties.tokens",
        call={"properties": {"tokens": ""}},
        expected=[{"transform": "one"}],
    ),
    # --- what they become
    Case(
        claim="a constant needs no quotes of JMESPath",
        files="event: {event_name: {const: api_call}, properties: {n: {const: 1}, on: {const: [on, null]}}}",
        expected=[{"event_name": "api_call", "properties": {"n": 1, "on": ["on", None]}}],
    ),
    Case(
        claim="all properties may be a constant",
        files="event: {properties: {const: {a: 1}}}",
        expected=_properties({"a": 1}),
    ),
    Case(
        claim="a property called const, with a constant",
        files="event: {properties: {const: {const: 1}}}",
        expected=_properties({"const": 1}),
    ),
    Case(
        claim="a property called const, by one expression for all",
        files="event: {properties: '{const: userId, n: properties.tokens}'}",
        expected=_properties({"const": "customer-1", "n": 10}),
    ),
    Case(
        claim="the whole event by one expression, the rest inherited",
        files="event: \"{event_name: 'x', properties: {n: properties.tokens}}\"",
        expected=[
            {"event_name": "x", "idempotency_id": "message-1", "customer_id": "customer-1", "properties": {"n": 10}}
        ],
    ),
    Case(
        claim="the whole event by one expression, with an id of its own",
        files="each: properties.items\nevent: '{idempotency_id: item.sku}'",
        call=ITEMS,
        expected=[{"idempotency_id": "a"}, {"idempotency_id": "b"}],
    ),
    Case(
        claim="a nested map",
        files="event: {properties: {a: {b: {c: userId, d: {const: 1}}}}}",
        expected=_properties({"a": {"b": {"c": "customer-1", "d": 1}}}),
    ),
    Case(
        claim="a star passes all properties",
        files="event: {properties: '*'}",
        expected=_properties({"tokens": 10}),
    ),
    Case(
        claim="a star passes none where there are none",
        files="event: {properties: '*'}",
        call={"properties": None},
        expected=_properties({}),
    ),
    Case(
        claim="a star with rename and drop, and more beside it",
        files="event: {properties: {'*': {rename: {a: b}, drop: [c]}, who: userId}}",
        call={"properties": {"a": 1, "c": 2, "d": 3}},
        expected=_properties({"b": 1, "d": 3, "who": "customer-1"}),
    ),
    Case(
        claim="a star with nothing beside it but a property that it goes before",
        files="event: {properties: {'*': null, tokens: userId}}",
        expected=_properties({"tokens": "customer-1"}),
    ),
    Case(
        claim="renaming may swap two",
        files="event: {properties: {'*': {rename: {a: b, b: a}}}}",
        call={"properties": {"a": 1, "b": 2}},
        expected=_properties({"a": 2, "b": 1}),
    ),
    Case(
        claim="a star inside a map",
        files="event: {properties: {all: '*', some: {'*': {drop: [a]}}}}",
        call={"properties": {"a": 1, "b": 2}},
        expected=_properties({"all": {"a": 1, "b": 2}, "some": {"b": 2}}),
    ),
    Case(
        claim="a lookup table",
        files="lookup: {plans: {Pro: p1, on: p2}}\nevent: {properties: {a: \"lookup('plans', properties.plan)\","
        " b: \"lookup('plans', 'on')\", c: \"lookup('plans', 'no', 'none')\"}}",
        call={"properties": {"plan": "Pro"}},
        expected=_properties({"a": "p1", "b": "p2", "c": "none"}),
    ),
    Case(
        claim="received_at() is when the call came",
        files="event: {time_created: received_at()}",
        expected=[{"time_created": "2026-11-01T10:00:00.000000Z"}],
    ),
    Case(
        claim="a decimal that no double says exactly is its digits",
        files="event: {properties: {n: \"add('12345678901234567890.5', `1`)\", m: 'multiply(`0.1`, `3`)'}}",
        expected=_properties({"n": "12345678901234567891.5", "m": 0.3}),
    ),
    Case(
        claim="a decimal may be an id",
        files="event: {customer_id: \"add('12345678901234567890', `1`)\","
        " idempotency_id: \"add('12345678901234567890.5', `1`)\"}",
        expected=[{"customer_id": "12345678901234567891", "idempotency_id": "12345678901234567891.5"}],
    ),
    Case(
        claim="a call that keeps input_schema",
        files="input_schema: {properties: {properties: {required: [tokens]}}}",
        expected=_properties({"tokens": 10}),
    ),
    Case(
        claim="input_schema: true lets every call pass",
        files="input_schema: true",
        expected=_properties({"tokens": 10}),
    ),
    Case(
        claim="input_schema may refer to itself",
        files="input_schema: {$ref: '#/$defs/call', $defs: {call: {required: [userId]}}}",
        expected=_properties({"tokens": 10}),
    ),
    # --- fan-out
    Case(
        claim="each: an event for each item, with stable ids",
        files="each: properties.items\nevent: {properties: {sku: item.sku, at: index, order: properties.order}}",
        call=ITEMS,
        expected=[
            {"idempotency_id": "message-1:0", "properties": {"sku": "a", "at": 0, "order": "o-1"}},
            {"idempotency_id": "message-1:1", "properties": {"sku": "b", "at": 1, "order": "o-1"}},
        ],
    ),
    Case(
        claim="each: one item has an index as well",
        files="each: properties.items[:1]",
        call=ITEMS,
        expected=[{"idempotency_id": "message-1:0"}],
    ),
    Case(
        claim="each: root() is the call as it came",
        files="each: properties.items\nevent: {properties: {same: 'root().properties.items[0].sku', i: root().index}}",
        call=ITEMS,
        expected=[{"properties": {"same": "a", "i": None}}, {}],
    ),
    Case(
        claim="each: root() is reached from inside a projection",
        files="each: properties.items\nevent: {properties: {all: 'properties.items[*].[sku, root().userId]'}}",
        call=ITEMS,
        expected=[{"properties": {"all": [["a", "customer-1"], ["b", "customer-1"]]}}, {}],
    ),
    Case(
        claim="each: an id of its own is taken as it is",
        files="each: properties.items\nevent: {idempotency_id: \"format('{}-{}', properties.order, item.sku)\"}",
        call=ITEMS,
        expected=[{"idempotency_id": "o-1-a"}, {"idempotency_id": "o-1-b"}],
    ),
    Case(
        claim="each: any expression that gives a list",
        files="each: properties.items[?n > `2`]\nevent: {properties: {sku: item.sku}}",
        call=ITEMS,
        expected=[{"idempotency_id": "message-1:0", "properties": {"sku": "b"}}],
    ),
    # --- lanes
    Case(
        claim="also: one call feeds two metrics",
        files={"main_one": "match: {event: API Call}", "extra": "also: true\nevent: {event_name: {const: extra}}"},
        expected=[
            {"lane": "main", "transform": "main_one", "idempotency_id": "message-1"},
            {"lane": "extra", "transform": "extra", "idempotency_id": "message-1:extra", "event_name": "extra"},
        ],
    ),
    Case(
        claim="also: several, in their order",
        files={"a": "also: true", "b": "also: true\npriority: 1"},
        expected=[{"lane": "main"}, {"lane": "b"}, {"lane": "a"}],
    ),
    Case(
        claim="also: with each",
        files={"extra": "also: true\neach: properties.items"},
        call=ITEMS,
        expected=[{"lane": "main"}, {"idempotency_id": "message-1:extra:0"}, {"idempotency_id": "message-1:extra:1"}],
    ),
    Case(
        claim="also: with an id of its own",
        files={"extra": "also: true\nevent: {idempotency_id: properties.tokens}"},
        expected=[{"lane": "main"}, {"idempotency_id": "10"}],
    ),
    Case(
        claim="also: where nothing else takes the call",
        files={"extra": "match: {type: page}\nalso: true\nevent: {event_name: {const: page}}"},
        call={"type": "page"},
        expected=[{"lane": "extra", "idempotency_id": "message-1:extra"}],
    ),
    Case(
        claim="also: where the main one wants no event",
        files={"a": "when: properties.no", "extra": "also: true"},
        expected=[{"lane": "extra"}],
    ),
    Case(
        claim="also: where the main one is disabled",
        files={"a": "enabled: false", "extra": "also: true"},
        expected=[{"lane": "extra"}],
    ),
    Case(
        claim="also: one that wants no event takes nothing from the main one",
        files={"extra": "also: true\nwhen: properties.no"},
        expected=[{"lane": "main"}],
    ),
]

FILTERED, EVENT_INVALID, FAILED = Reason.FILTERED, Reason.EVENT_INVALID, Reason.TRANSFORM_ERROR
SCHEMA = Reason.INPUT_SCHEMA

ENDS = [
    End(claim="when: false", files="when: properties.tokens > `10`", reason=FILTERED, says=("`when` of one",)),
    End(claim="when: null", files="when: properties.nothing", reason=FILTERED, says=("`when` of one",)),
    End(
        claim="when: that fails names itself",
        files="when: length(properties.tokens) > `1`",
        reason=FAILED,
        says=("when: ", "length()"),
    ),
    End(claim="disabled", files="enabled: false", reason=Reason.DISABLED, says=("one is disabled",)),
    End(
        claim="a disabled one still goes first",
        files={"a": "enabled: false", "b": "match: {}"},
        reason=Reason.DISABLED,
        says=("a is disabled",),
    ),
    End(
        claim="all that want no event are named",
        files={"a": "when: nothing", "extra": "also: true\nenabled: false"},
        reason=FILTERED,
        says=("`when` of a", "extra is disabled"),
    ),
    End(claim="each: null", files="each: properties.nothing", reason=FILTERED, says=("`each` of one",)),
    End(claim="each: an empty list", files="each: '[]'", reason=FILTERED, says=("`each` of one",)),
    End(claim="each: no list", files="each: properties", reason=FAILED, says=("each: must give a list",)),
    End(claim="each: 0 is no list", files="each: '`0`'", reason=FAILED, says=("each: must give a list",)),
    End(
        claim="each: a failure names the item",
        files="each: properties.items\nevent: {properties: {n: 'add(item, `1`)'}}",
        call={"properties": {"items": [1, "SECRET"]}},
        reason=FAILED,
        says=("event.properties.n: add()", "index 1"),
    ),
    End(
        claim="each: one bad event of several rejects the call",
        files="each: properties.items\nevent: {customer_id: item}",
        call={"properties": {"items": ["a", "b", None]}},
        reason=EVENT_INVALID,
        says=("customer_id is null", "index 2"),
    ),
    End(
        claim="each: two events of one id are named",
        files="each: properties.items\nevent: {idempotency_id: item.sku}",
        call={"properties": {"items": [{"sku": "SECRET"}, {"sku": "b"}, {"sku": "SECRET"}]}},
        reason=EVENT_INVALID,
        says=("idempotency_id", "index 0 and 2"),
    ),
    End(
        claim="each: ids are the same as text too",
        files="each: properties.items\nevent: {idempotency_id: item}",
        call={"properties": {"items": [1, 1.0]}},
        reason=EVENT_INVALID,
        says=("index 0 and 1",),
    ),
    End(
        claim="also: one bad lane rejects the call",
        files={"extra": "also: true\nevent: {customer_id: properties.nothing}"},
        reason=EVENT_INVALID,
        says=("customer_id is null", "extra.yaml"),
    ),
    End(
        claim="also: a bad main one rejects the call",
        files={"a": "event: {customer_id: properties.nothing}", "extra": "also: true"},
        reason=EVENT_INVALID,
        says=("customer_id is null", "a.yaml"),
    ),
    End(
        claim="also: a failing lane rejects the call though the main one wants no event",
        files={"a": "when: nothing", "extra": "also: true\nevent: {properties: {n: sum(userId)}}"},
        reason=FAILED,
        says=("event.properties.n: sum()",),
    ),
    End(
        claim="also: two lanes of one id are named",
        files={"extra": "also: true\nevent: {idempotency_id: messageId}"},
        reason=EVENT_INVALID,
        says=("idempotency_id", "_default", "extra"),
    ),
    # --- nulls that say why
    End(
        claim="a required field that is null names the missing step and the nearest key",
        files="event: {customer_id: properties.regoin}",
        call={"properties": {"region": "SECRET"}},
        reason=EVENT_INVALID,
        says=("customer_id is null: `properties.regoin` is not in this call; did you mean `region`?", "one.yaml"),
    ),
    End(
        claim="an inherited field names the file that it comes from",
        files="event: {properties: {}}",
        call={"userId": None, "usrId": "SECRET"},
        reason=EVENT_INVALID,
        says=("customer_id is null: `userId` gives null for this call (_default.yaml)",),
    ),
    End(
        claim="an inherited field that is missing names the nearest key too",
        files="event: {properties: {}}",
        call={"userId": MISSING, "user_id": "SECRET"},
        reason=EVENT_INVALID,
        says=("customer_id is null: `userId` is not in this call; did you mean `user_id`? (_default.yaml)",),
    ),
    End(
        claim="a function of something missing says what",
        files="event: {customer_id: 'lower(coalesce(properties.nme, context.name))'}",
        call={"properties": {"name": "SECRET"}},
        reason=EVENT_INVALID,
        says=("gives null for this call: `properties.nme` is not in this call; did you mean `name`?",),
    ),
    End(
        claim="a whole event says which field it does not give",
        files="event: '{customer_id: properties.no}'",
        call={"userId": None},
        reason=EVENT_INVALID,
        says=("`event` does not give it, and `userId` gives null", "_default.yaml"),
    ),
    End(
        claim="a field of an item names the step inside the item",
        files="each: properties.items\nevent: {customer_id: item.skuu}",
        call=ITEMS,
        reason=EVENT_INVALID,
        says=("`item.skuu` is not in this call; did you mean `sku`?", "index 0"),
    ),
    End(
        claim="a constant null is told as one",
        files="event: {event_name: {const: null}}",
        reason=EVENT_INVALID,
        says=("event_name is null: its constant is null (one.yaml)",),
    ),
    # --- failures that say where
    End(
        claim="a failing expression names its place in the file",
        files="event: {properties: {a: userId, deep: {tokens: 'add(properties.tokens, `1`)'}}}",
        call={"properties": {"tokens": "SECRET"}},
        reason=FAILED,
        says=("event.properties.deep.tokens: add() takes a number as argument 1",),
    ),
    End(
        claim="a failing expression for all properties names its place",
        files="event: {properties: '{n: add(properties.tokens, `1`)}'}",
        call={"properties": {"tokens": "SECRET"}},
        reason=FAILED,
        says=("event.properties: add()",),
    ),
    End(
        claim="a failing whole event names its place",
        files="event: '{event_name: upper(properties.tokens)}'",
        reason=FAILED,
        says=("event: upper()",),
    ),
    End(claim="a whole event that is none", files="event: userId", reason=FAILED, says=("event: must give an object",)),
    End(
        claim="a whole event with a field that Lotus does not have",
        files="event: '{customer: userId}'",
        reason=FAILED,
        says=("event: gives 'customer'", "no field of a Lotus event"),
    ),
    End(
        claim="a star over what are no properties",
        files="match: {type: page}\nevent: {event_name: name, properties: {'*': {drop: [a]}}}",
        call={"type": "page", "name": "Home", "properties": ["SECRET"]},
        reason=FAILED,
        says=("event.properties.*: `properties` of the call is no object",),
    ),
    End(
        claim="a lookup table that is not there",
        files="lookup: {plans: {}}\nevent: {properties: {p: \"lookup('plns', userId)\"}}",
        reason=FAILED,
        says=("event.properties.p: lookup()", "plans"),
    ),
    # --- input_schema
    End(
        claim="input_schema: a missing key",
        files="input_schema: {properties: {properties: {required: [amount]}}}",
        reason=SCHEMA,
        says=("properties breaks input_schema: `amount` is required",),
    ),
    End(
        claim="input_schema: the path goes through lists",
        files="input_schema: {properties: {properties: {properties: {items: {items: {type: integer}}}}}}",
        call={"properties": {"items": [1, "SECRET"]}},
        reason=SCHEMA,
        says=("properties.items.1 breaks input_schema: type integer",),
    ),
    End(
        claim="input_schema: what is allowed is told, and what came is not",
        files="input_schema: {properties: {userId: {enum: [a, b]}}}",
        call={"userId": "SECRET"},
        reason=SCHEMA,
        says=("userId breaks input_schema: enum a, b",),
    ),
    End(
        claim="input_schema: a pattern that would hang others",
        files="input_schema: {properties: {userId: {pattern: '^(a+)+$'}}}",
        call={"userId": "a" * 20_000 + "SECRET"},
        reason=SCHEMA,
        says=("userId breaks input_schema: pattern",),
    ),
    End(
        claim="input_schema: one of several",
        files="input_schema: {properties: {userId: {anyOf: [{type: integer}, {maxLength: 3}]}}}",
        call={"userId": "SECRET"},
        reason=SCHEMA,
        says=("userId breaks input_schema: rule anyOf",),
    ),
    End(
        claim="input_schema: a key too many",
        files="input_schema: {properties: {properties: {additionalProperties: false}}}",
        call={"properties": {"SECRET": 1}},
        reason=SCHEMA,
        says=("properties breaks input_schema: it has a key that is not known",),
    ),
    End(
        claim="input_schema: false",
        files="input_schema: false",
        reason=SCHEMA,
        says=("the call breaks input_schema",),
    ),
    End(
        claim="input_schema: is asked before when",
        files="input_schema: false\nwhen: '`false`'",
        reason=SCHEMA,
        says=("the call breaks input_schema",),
    ),
]
