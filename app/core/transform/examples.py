"""Run the examples inside a transform file: a call, and its expected events or outcome."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from app.core.json_numbers import NotFinite
from app.core.json_text import decode, encode_canonical
from app.core.lotus import LotusEvent
from app.core.outcome import Outcome
from app.core.pipeline import Run, run
from app.core.times import TimeInvalid, format_time, parse_time
from app.core.transform.schema import FIELDS
from app.core.transform.transform import Transform, TransformSet

# So that sha256() gives the same in every example, whatever key an installation has.
_PSEUDONYM_KEY = b"example"

# Defaults for what an example leaves out. Times are fixed: an example gives the same today and in a year.
_RECEIVED_AT = parse_time("2026-01-01T00:00:01Z")
_SHOWN_CHARS = 500
_DEFAULTS: dict[str, Any] = {
    "messageId": "example-1",
    "userId": "customer-1",
    "timestamp": "2026-01-01T00:00:00Z",
    "properties": {},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleResult:
    """The result of one example."""

    name: str
    position: int
    difference: str | None
    """The first difference from what was expected; None if there is none."""


def run_examples(transform: Transform) -> Iterator[ExampleResult]:
    """Run every example of a transform through the pipeline, with that transform alone and enabled."""
    transforms = TransformSet([replace(transform, enabled=True, pseudonym_key=_PSEUDONYM_KEY)])
    for position, example in enumerate(transform.source.value.get("examples", ())):
        name = example.get("name") or f"example {position + 1}"
        difference = _difference(example, transform, transforms)
        yield ExampleResult(name=name, position=position, difference=difference)


def to_call(fields: dict[str, Any], transform: Transform) -> dict[str, Any]:
    """Return a complete call from the fields that an example gives."""
    defaults = {**_DEFAULTS, "type": transform.match.type}
    if transform.match.type == "track":
        defaults["event"] = _default_event(transform)
    if transform.match.sources:
        defaults["projectId"] = min(transform.match.sources)
    return {**defaults, **fields}


def _default_event(transform: Transform) -> str:
    """Return an event name that the transform takes: the first of its list, a pattern filled in, or any name."""
    names = transform.source.value.get("match", {}).get("event", "Example")
    first: str = names if isinstance(names, str) else names[0]
    return first.replace("*", "Example").replace("?", "x")


def _difference(example: dict[str, Any], transform: Transform, transforms: TransformSet) -> str | None:
    try:
        received_at = parse_time(example["received_at"]) if "received_at" in example else _RECEIVED_AT
    except TimeInvalid as error:
        return f"received_at is no time: {error}"
    try:
        raw = encode_canonical(to_call(example["given"], transform))
    except NotFinite as error:
        return f"given: {error}"
    result = run(raw, decode(raw), transforms, received_at)
    return _compare(example["expect"], result)


def _compare(expected: Any, result: Run) -> str | None:
    if isinstance(expected, str):
        ending = result.reason or "stored"
        if expected in {ending, result.outcome or Outcome.STORED}:
            return None
        return f"expected {expected}, and it is {ending}" + (f": {result.detail}" if result.detail else "")
    if result.outcome is not None:
        return f"expected an event, and it is {result.reason}: {result.detail}"
    events = [event for lane in result.lanes for event in lane.events]
    expected_events = [expected] if isinstance(expected, dict) else expected
    if len(events) != len(expected_events):
        actual = "there is 1" if len(events) == 1 else f"there are {len(events)}"
        return f"expected {len(expected_events)} {'event' if len(expected_events) == 1 else 'events'}, and {actual}"
    for index, (expected_event, event) in enumerate(zip(expected_events, events, strict=True)):
        if difference := _compare_event(expected_event, event):
            return f"event {index + 1}: {difference}" if len(expected_events) > 1 else difference
    return None


def _compare_event(expected: dict[str, Any], event: LotusEvent) -> str | None:
    document = to_document(event)
    for field in FIELDS:
        if field not in expected:
            continue
        value = expected[field]
        if field == "time_created":
            try:
                value = format_time(parse_time(value))
            except TimeInvalid:
                return f"time_created: {value!r} is no time"
        if not _equal(value, document[field]):
            return f"{field}: expected {_shown(value)}, and it is {_shown(document[field])}"
    return None


def to_document(event: LotusEvent) -> dict[str, Any]:
    """Return an event as plain values, under Lotus's names."""
    return {
        "event_name": event.event_name,
        "idempotency_id": event.idempotency_id,
        "customer_id": event.customer_id,
        "time_created": format_time(event.time_created),
        "properties": decode(event.properties.encode()),
    }


def _equal(expected: Any, actual: Any) -> bool:
    """Compare as JSON, only the expected keys of objects: 3 and 3.0 are the same number, and true is not a number."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() <= actual.keys() and all(_equal(inner, actual[key]) for key, inner in expected.items())
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(_equal, expected, actual))
    return isinstance(expected, bool) == isinstance(actual, bool) and bool(expected == actual)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
