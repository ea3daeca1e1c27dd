"""Starter files for an event, made from real calls: every property with its type, and one call as an example."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from app.catalog.check import Parse
from app.core.json_text import decode
from app.core.pipeline import run
from app.core.text import counted
from app.core.times import parse_time
from app.core.transform.examples import to_call, to_document
from app.core.transform.transform import Transform, TransformSet
from app.core.yaml_text import YamlInvalid, parse_yaml

# The same as for the examples of a file.
_RECEIVED_AT = parse_time("2026-01-01T00:00:01Z")

_PROPERTIES_MAX = 200
_LONG_TEXT = 40
_ITEMS_MAX = 3
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_CUSTOMER = re.compile(r"(?i)(customer|account|user|group|tenant|org|workspace|team)\w*id|^(customer|account|tenant)$")

# Text that needs no quotes in a list, in a map or as a key, whatever reads the YAML.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_/.-]*( [A-Za-z0-9_/.-]+)*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}

# Fields of a call's context that say where it was made, and by whom, but not what is billed.
# fmt: off
_SENDER_FIELDS = frozenset({
    "active", "app", "campaign", "device", "ip", "library", "locale", "location", "network", "os", "page",
    "referrer", "screen", "timezone", "traits", "userAgent", "userAgentData", "protocols",
})
# fmt: on


def to_name(event: str) -> str:
    """Return a file name for an event: `API Call` gives `api_call`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", event)
    return "_".join(re.findall(r"[a-z0-9]+", words.lower()))[:80] or "an_event"


def make_starter(
    event: str, calls: Sequence[dict[str, Any]], default: Transform, parse: Parse, schema_path: str
) -> str:
    """Return the text of a file that takes `event`; `calls` are real calls of it, newest first, and may be empty.

    `default` is the `_default` that the file will inherit from.
    """
    name = to_name(event)
    # A question mark stands for any character, and so for half of a surrogate pair, which no file can hold.
    event = event.encode(errors="replace").decode()
    text = "\n".join([*_head(event, name, calls, schema_path), *_properties(calls), ""])
    example: dict[str, Any] = max(calls, key=lambda call: len(_properties_of(call)), default={"properties": {}})
    sample = _scrubbed_call(example)
    if "*" in event or "?" in event:
        # A pattern names no event, so the example cannot leave the event out.
        sample = {"event": event, **sample}
    transform = parse(name, text, default)
    raw = msgspec.json.encode(to_call(sample, transform))
    result = run(raw, decode(raw), TransformSet([transform]), _RECEIVED_AT)
    events = [to_document(event) for lane in result.lanes for event in lane.events]
    for document in events:
        del document["idempotency_id"], document["time_created"]
    expect: Any = str(result.reason or result.outcome) if not events else events[0] if len(events) == 1 else events
    title = "a real call; long or personal texts are made up" if calls else "change me"
    item = {"name": title, "given": sample, "expect": expect}
    comment = (
        "# A call, and the event to expect; `segment-lotus check` runs all examples. Fields left out have usual values."
    )
    return "\n".join([text + comment, "examples:", *_item(item, 2), ""])


def _head(event: str, name: str, calls: Sequence[dict[str, Any]], schema_path: str) -> Iterator[str]:
    yield f"# yaml-language-server: $schema={schema_path}"
    origin = f"Made from {counted(len(calls), 'stored call')} of this event." if calls else "Made without stored calls."
    yield f"# {origin} Below, each value is a JMESPath expression over the call."
    yield f"description: {_scalar(f'What {event} is billed for, in one line.')}"
    yield "match:"
    # A star or a question mark would be a pattern.
    yield f"  event: {_scalar(event)}"
    yield "event:"
    yield f"  event_name: {{const: {_scalar(name)}}}"
    yield "  # idempotency_id, customer_id and time_created come from _default.yaml; write them here to change them."
    if calls and all(call.get("userId") is None for call in calls):
        yield "  # None of these calls has a userId: say who is billed, or they are all rejected."
        yield f"  # customer_id: {_guess_customer(calls)}"
    else:
        yield "  # customer_id: context.groupId"


def _guess_customer(calls: Sequence[dict[str, Any]]) -> str:
    """Return a path that may hold the customer: a property of all calls with a fitting name, else context.groupId."""
    for key in _properties_of(calls[0]):
        named = _CUSTOMER.search(key)
        if named and all(isinstance(_properties_of(call).get(key), (str, int)) for call in calls):
            return _path(key)
    return "context.groupId"


def _properties(calls: Sequence[dict[str, Any]]) -> Iterator[str]:
    kinds: dict[str, Counter[str]] = {}
    for call in calls:
        for key, value in _properties_of(call).items():
            kinds.setdefault(key, Counter())[_kind(value)] += 1
    if not kinds:
        yield "  properties: properties          # all of them; or chosen ones: {tokens: properties.tokens}"
        return
    yield "  properties:"
    shown = list(kinds.items())[:_PROPERTIES_MAX]
    lines = [(f"    {_scalar(key)}: {_path(key)}", _kinds_text(counts, len(calls))) for key, counts in shown]
    width = min(60, max(len(line) for line, _ in lines))
    for line, kinds_text in lines:
        yield f"{line:<{width}}  # {kinds_text}"
    if len(kinds) > _PROPERTIES_MAX:
        yield f'    # and {len(kinds) - _PROPERTIES_MAX} more; {{"*": {{}}}} takes all'


def _kinds_text(counts: Counter[str], calls: int) -> str:
    having = counts.total()
    kinds = " or ".join(kind for kind, _ in counts.most_common())
    return kinds if having == calls else f"{kinds}, in {having} of {calls} calls"


def _properties_of(call: dict[str, Any]) -> dict[str, Any]:
    properties = call.get("properties")
    if not isinstance(properties, dict):
        return {}
    return {key: value for key, value in properties.items() if _is_text(key)}


def _is_text(value: str) -> bool:
    """Tell whether a string can be written into a file: half of a surrogate pair cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", str: "text", dict: "object", list: "list"}
    return names.get(type(value), "number")


def _path(key: str) -> str:
    quoted = key if _IDENTIFIER.fullmatch(key) else _json(key)
    return _scalar(f"properties.{quoted}")


def _scrubbed_call(call: dict[str, Any]) -> dict[str, Any]:
    """Return the relevant fields of a call; ids are made up, and so are texts that a person may have typed."""
    scrubber = _Scrubber()
    sample: dict[str, Any] = {"userId": "customer-1" if call.get("userId", "") is not None else None}
    context = call.get("context")
    if isinstance(context, dict):
        relevant = {key: value for key, value in context.items() if key not in _SENDER_FIELDS}
        if relevant:
            sample["context"] = scrubber.scrub(relevant)
    sample["properties"] = scrubber.scrub(_properties_of(call))
    return sample


@dataclass(slots=True)
class _Scrubber:
    """Replaces long texts and e-mail addresses with made-up ones; equal texts get the same replacement."""

    replacements: dict[str, str] = field(default_factory=dict)

    def scrub(self, value: Any) -> Any:
        """Return a value with its texts replaced, and with only the first few items of each list."""
        if isinstance(value, dict):
            return {key: self.scrub(inner) for key, inner in value.items() if _is_text(key)}
        if isinstance(value, list):
            return [self.scrub(inner) for inner in value[:_ITEMS_MAX]]
        if not isinstance(value, str):
            return value
        if _EMAIL.search(value):
            return self.replacements.setdefault(value, f"person-{len(self.replacements) + 1}@example.com")
        if len(value) > _LONG_TEXT or not _is_text(value):
            return self.replacements.setdefault(value, f"some text {len(self.replacements) + 1}")
        return value


# --- YAML in the block style that people write, with quotes wherever a plain text could be read as something else.


def _lines(value: Any, indent: int) -> Iterator[str]:
    pad = " " * indent
    if isinstance(value, dict):
        for key, inner in value.items():
            if inner and isinstance(inner, (dict, list)):
                yield f"{pad}{_scalar(key)}:"
                yield from _lines(inner, indent + 2)
            else:
                yield f"{pad}{_scalar(key)}: {_scalar(inner)}"
    else:
        for item in value:
            yield from _item(item, indent)


def _item(item: Any, indent: int) -> Iterator[str]:
    if item and isinstance(item, (dict, list)):
        first, *more = _lines(item, indent + 2)
        yield f"{' ' * indent}- {first.lstrip(' ')}"
        yield from more
    else:
        yield f"{' ' * indent}- {_scalar(item)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    text = _json(value)
    try:
        read = parse_yaml(text).value
    except YamlInvalid:
        read = None
    # JSON is YAML, except for some characters that YAML must have escaped.
    return text if read == value else "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in text)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
