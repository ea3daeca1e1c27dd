"""How calls that go wrong in one way get one fault: from the errors that real calls and transforms raise."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pytest

from app.core.fault import CONFLICT, Fault, any_index, fault_key
from app.core.native import NativeEvent
from app.core.outcome import Outcome
from app.core.pipeline import Run, run
from app.core.segment import MAX_CALL_BYTES, read
from tests.builders import MISSING, NOW, a_digest, a_document, some_transforms, to_raw

SCHEMA = """
match: {event: Strict}
input_schema:
  required: [userId]
  properties:
    properties:
      required: [tokens]
      properties:
        n: {maximum: 10}
        items: {items: {properties: {price: {type: number}}}}
"""
MULTIPLE = """
match: {event: Multiple}
input_schema: {properties: {properties: {properties: {n: {items: {multipleOf: 0.01}}}}}}
"""
EACH = """
match: {event: Each}
each: properties.items
event: {customer_id: item.who, properties: {n: 'abs(item.n)'}}
"""
TRANSFORMS = {
    "strict": SCHEMA,
    "multiple": MULTIPLE,
    "each": EACH,
    "ids": "match: {event: Ids}\neach: properties.ids\nevent: {idempotency_id: item}",
    "sums": "match: {event: Sums}\nevent: {properties: {tokens: 'add(properties.one, properties.n)'}}",
    "asks": "match: {event: Asks}\nwhen: contains(properties.n, 'a')",
    "whole": "match: {event: Whole}\nevent: properties.event",
    "regex": "match: {event: Regex}\nevent: {properties: {n: 'regex_match(event, properties.pattern)'}}",
    "off": "match: {event: Off}\nenabled: false",
    "paid": "match: {event: Paid}\nwhen: properties.paid",
}


def run_of(call: Mapping[str, Any] | bytes) -> Run:
    raw = call if isinstance(call, bytes) else to_raw(call)
    return run(raw, read(raw), some_transforms(**TRANSFORMS), NOW)


def an_event(name: str, **properties: object) -> dict[str, Any]:
    return a_document(event=name, properties=properties)


TOO_LARGE = "the call is too large to be checked by input_schema:"
NOT_ONE = "and was given a string that is not one"

CASES: list[tuple[Mapping[str, Any] | bytes, str, str]] = [
    (a_document(userId=None), "customer_id", "customer_id is null: `userId` gives null for this call (_default.yaml)"),
    (a_document(userId="x" * 63), "customer_id", "customer_id has … characters; Lotus takes at most 50"),
    (a_document(userId=""), "customer_id", "customer_id is empty"),
    (a_document(userId=[]), "customer_id", "customer_id is an array; it must be text or a number"),
    (
        an_event("Each", items=[{"who": "a", "n": 1}, {"n": 1}]),
        "customer_id",
        "customer_id is null: `item.who` is not in this call (each.yaml) (index …)",
    ),
    (
        an_event("Each", items=[{"who": "a", "n": "b"}]),
        "event.properties.n",
        "event.properties.n: abs() takes a number as argument 1, and was given a string (index …)",
    ),
    (an_event("Each", items=[{}] * 1001), "each", "each: gives … items, and 1000 is the most"),
    (an_event("Each", items="a"), "each", "each: must give a list, or null"),
    (
        an_event("Ids", ids=["a", "b", "a"]),
        "idempotency_id",
        "idempotency_id is the same for the events of index … and … of this call",
    ),
    (
        an_event("E", items=[1, {"name": "a\0"}]),
        "properties.items[*].name",
        "properties.items[*].name holds a NUL character, which Lotus cannot store",
    ),
    (
        an_event("E", a={"b\0": 1}),
        "properties.a",
        "a key of properties.a holds a NUL character, which Lotus cannot store",
    ),
    (
        an_event("Sums", one=1, n="a"),
        "event.properties.tokens",
        f"event.properties.tokens: add() takes a number as argument 2, {NOT_ONE}",
    ),
    (
        an_event("Asks", n=1),
        "when",
        "when: contains() takes an array or a string as argument 1, and was given a number",
    ),
    (an_event("Whole", event={"total": 1}), "event", "event: gives …, which is no field of a Lotus event"),
    (an_event("Whole", event=1), "event", "event: must give an object with Lotus's fields"),
    (
        an_event("Regex", pattern="("),
        "event.properties.n",
        f"event.properties.n: regex_match() takes a regular expression (RE2) as argument 2, {NOT_ONE}",
    ),
    (
        an_event("Strict", tokens=1, items=[{"price": "a"}]),
        "properties.items.*.price",
        "properties.items.*.price breaks input_schema: type number",
    ),
    (an_event("Strict"), "properties.tokens", "properties breaks input_schema: `tokens` is required"),
    (a_document(event="Strict", userId=MISSING), "userId", "the call breaks input_schema: `userId` is required"),
    (an_event("Strict", tokens=1, n=12), "properties.n", "properties.n breaks input_schema: maximum 10"),
    (
        b'{"type": "track", "event": "Multiple", "properties": {"n": [' + b"1e300, " * 2_000 + b"1]}}",
        "",
        f"{TOO_LARGE} it holds … numbers that are extremely large or small",
    ),
    (
        b'{"type": "track", "event": "Multiple", "properties": {"n": [' + b"1e300, " * 90_000 + b"1]}}",
        "",
        f"{TOO_LARGE} it could need … evaluations, and 4,000,000 are the most",
    ),
    (a_document(type=MISSING), "type", "`type` must be text, such as track; it is missing."),
    (a_document(event=7), "event", "`event` of a track call must be text; it is a number."),
    (a_document(properties=[]), "properties", "`properties` must be an object; it is an array."),
    (b"null", "", "A call must be an object; this is null."),
    (b"[", "", "The call is not JSON"),
    (
        b'{"properties": {"items": [1, {"n": NaN}]}}',
        "properties.items[*].n",
        "`properties.items[*].n` is NaN, which JSON does not have",
    ),
    (
        b'{"properties": {"\\q": 1}}',
        "properties",
        "A key of `properties` holds the escape \\q, which JSON does not have",
    ),
    (b"{" + b" " * MAX_CALL_BYTES, "", "The call is larger than 1048576 bytes."),
    (an_event("Off"), "", "off is disabled"),
    (an_event("Paid"), "", "`when` of paid is false or null"),
    (a_document(type="purchase"), "", "calls of type 'purchase' are not part of Segment's spec"),
    (a_document(type="identify"), "", "no transform takes the identify call"),
]


@pytest.mark.parametrize(("call", "path", "sentence"), CASES, ids=[case[2][:60] for case in CASES])
def test_a_fault_has_the_place_and_the_sentence_without_what_differs(
    call: Mapping[str, Any] | bytes, path: str, sentence: str
) -> None:
    result = run_of(call)
    assert (result.fault, result.detail is None) == (Fault(path, sentence), False)


@pytest.mark.parametrize("call", [case[0] for case in CASES], ids=[case[2][:60] for case in CASES])
def test_the_migration_reads_the_same_fault_from_the_sentence(call: Mapping[str, Any] | bytes) -> None:
    """So that a problem from before it and the same one from after it are one group."""
    migration = import_module("app.store.migrations.versions.0013_faults")
    result = run_of(call)
    outcome, transform, digest = str(result.outcome), result.transform, result.digest
    assert migration.find_fault(outcome, result.reason, result.detail) == result.fault
    assert result.fault is not None
    assert migration._key(outcome, result.reason, transform, digest, *result.fault) == fault_key(
        outcome, result.reason, transform, digest, result.fault
    )


def test_the_migration_reads_conflicts_and_what_a_database_refused() -> None:
    migration = import_module("app.store.migrations.versions.0013_faults")
    assert migration.find_fault("conflict", "conflict", "the event 'a' is already there, made by call 7") == CONFLICT
    sentence = "the database does not take a value of this call"
    assert migration.find_fault("rejected", "unstorable", f"{sentence} (a value, (with more))") == ("", sentence)
    assert migration.find_fault("rejected", "unstorable", None) == ("", "")


@pytest.mark.parametrize(
    ("call", "other"),
    [
        (a_document(userId="x" * 63), a_document(userId="x" * 1024)),
        (an_event("Whole", event={"total": 1}), an_event("Whole", event={"it's": 1})),
        (an_event("E", a=[{"b": "\0"}]), an_event("E", a=[*range(17), {"b": "\0"}])),
        (an_event("Each", items=[{"n": 1}]), an_event("Each", items=[{"who": "a", "n": 1}, {"n": 1}])),
        (b'{"a": NaN}', b'{"b": 1, "a": NaN}'),
        (b"[", b"[[[  "),
    ],
)
def test_values_and_numbers_make_no_other_fault(
    call: Mapping[str, Any] | bytes, other: Mapping[str, Any] | bytes
) -> None:
    assert run_of(call).detail != run_of(other).detail
    assert run_of(call).fault == run_of(other).fault


def test_an_event_in_lotus_s_own_form_has_faults_too() -> None:
    long = NativeEvent({"event_name": "e", "idempotency_id": "i", "customer_id": "c" * 70, "time_created": NOW})
    result = run(b"", long, some_transforms(), NOW)
    assert result.fault == Fault("customer_id", "customer_id has … characters; Lotus takes at most 50")


def test_the_key_tells_outcomes_versions_and_faults_apart() -> None:
    fault, digest = Fault("a", "b"), a_digest("1")
    keys = {
        fault_key(*parts)
        for parts in (
            (Outcome.REJECTED, "event_invalid", "t", digest, fault),
            (Outcome.IGNORED, "event_invalid", "t", digest, fault),
            (Outcome.REJECTED, "transform_error", "t", digest, fault),
            (Outcome.REJECTED, "event_invalid", "u", digest, fault),
            (Outcome.REJECTED, "event_invalid", "t", a_digest("2"), fault),
            (Outcome.REJECTED, "event_invalid", "t", digest, Fault("b", "a")),
        )
    }
    assert len(keys) == 6
    assert {len(key) for key in keys} == {8}


def test_an_index_is_any_index_and_a_key_stays() -> None:
    assert any_index("a[0].b2[17].c.3") == "a[*].b2[*].c.3"
