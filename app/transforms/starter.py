"""A first transform file for an event, made from real calls: every property with its type, and one call as example."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from app.catalog.check import Parse
from app.core.json_text import decode
from app.core.pipeline import run
from app.core.times import parse_time
from app.core.transform.examples import to_call, to_document
from app.core.transform.transform import Transform, TransformSet
from app.core.yaml_text import YamlInvalid, parse_yaml

# As for the examples of a file.
_RECEIVED_AT = parse_time("2026-01-01T00:00:01Z")

_PROPERTIES_MAX = 200
_LONG_TEXT = 40
_ITEMS_MAX = 3
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# What a text may look like without quotes, in a list, in a map or as a key, whatever reads the YAML.
_CUSTOMER = re.compile(r"(?i)(customer|account|user|group|tenant|org|workspace|team)\w*id|^(customer|account|tenant)$")
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_/.-]*( [A-Za-z0-9_/.-]+)*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}

# Of a call's context: what says where it was made, and by whom, but not what is billed.
# fmt: off
_ABOUT_THE_SENDER = frozenset({
    "active", "app", "campaign", "device", "ip", "library", "locale", "location", "network", "os", "page",
    "referrer", "screen", "timezone", "traits", "userAgent", "userAgentData", "protocols",
})
# fmt: on


def to_name(event: str) -> str:
    """Return the name of a file for an event: `API Call` gives api_call."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", event)
    return "_".join(re.findall(r"[a-z0-9]+", words.lower()))[:80] or "an_event"


def make_starter(
    event: str, calls: Sequence[dict[str, Any]], default: Transform, parse: Parse, schema_path: str
) -> str:
    """Return the text of a file that takes `event`; `calls` are real calls of it, the newest first, or none.

    `default` is the `_default` that it will inherit from.
    """
    name = to_name(event)
    # A question mark stands for any character, and so for half of a surrogate pair, which no file can hold.
    event = event.encode(errors="replace").decode()
    text = "\n".join([*_head(event, name, calls, schema_path), *_properties(calls), ""])
    example: dict[str, Any] = max(calls, key=lambda call: len(_properties_of(call)), default={"properties": {}})
    given = _given(example)
    if "*" in event or "?" in event:
        # As a pattern it names no event that could be the usual one.
        given = {"event": event, **given}
    transform = parse(name, text, default)
    done = run(
        raw := msgspec.json.encode(to_call(given, transform)), decode(raw), TransformSet([transform]), _RECEIVED_AT
    )
    events = [to_document(event) for lane in done.lanes for event in lane.events]
    for one in events:
        del one["idempotency_id"], one["time_created"]
    expect: Any = str(done.reason or done.outcome) if not events else events[0] if len(events) == 1 else events
    about = "a real call, with made-up texts where they were long or a person's" if calls else "change me"
    said = {"name": about, "given": given, "expect": expect}
    comment = (
        "# A call, and what is to become of it; `segment-lotus check` runs all. What is left out of a call is usual."
    )
    return "\n".join([text + comment, "examples:", *_item(said, 2), ""])


def _head(event: str, name: str, calls: Sequence[dict[str, Any]], schema_path: str) -> Iterator[str]:
    yield f"# yaml-language-server: $schema={schema_path}"
    seen = f"Made from {len(calls)} stored calls of this event." if calls else "No call was looked at."
    yield f"# {seen} Below, each value is a JMESPath expression over the call."
    yield f"description: {_scalar(f'What {event} is billed for, in a line.')}"
    yield "match:"
    # A star or a question mark would be a pattern.
    yield f"  event: {_scalar(event)}"
    yield "event:"
    yield f"  event_name: {{const: {_scalar(name)}}}"
    yield "  # idempotency_id, customer_id and time_created come from _default.yaml; write them here to change them."
    if calls and all(call.get("userId") is None for call in calls):
        yield "  # No call that was looked at has a userId: say who is billed, or each of them is rejected."
        yield f"  # customer_id: {_guess_customer(calls)}"
    else:
        yield "  # customer_id: context.groupId"


def _guess_customer(calls: Sequence[dict[str, Any]]) -> str:
    """Return where the customer may be: a property of all calls with a name like one, else the usual other place."""
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
        yield "  properties: properties          # all of them; or one by one: {tokens: properties.tokens}"
        return
    yield "  properties:"
    shown = list(kinds.items())[:_PROPERTIES_MAX]
    lines = [(f"    {_scalar(key)}: {_path(key)}", _told(found, len(calls))) for key, found in shown]
    width = min(60, max(len(line) for line, _ in lines))
    for line, told in lines:
        yield f"{line:<{width}}  # {told}"
    if len(kinds) > _PROPERTIES_MAX:
        yield f'    # and {len(kinds) - _PROPERTIES_MAX} more; {{"*": {{}}}} takes all'


def _told(found: Counter[str], calls: int) -> str:
    seen = found.total()
    kinds = " or ".join(kind for kind, _ in found.most_common())
    return kinds if seen == calls else f"{kinds}, in {seen} of {calls} calls"


def _properties_of(call: dict[str, Any]) -> dict[str, Any]:
    found = call.get("properties")
    return {key: value for key, value in found.items() if _is_text(key)} if isinstance(found, dict) else {}


def _is_text(value: str) -> bool:
    """Tell half of a surrogate pair from text: nobody can write it into a file."""
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


def _given(call: dict[str, Any]) -> dict[str, Any]:
    """Return what matters of a call; ids are made up, and so is what a person may have typed."""
    scrubber = _Scrubber()
    given: dict[str, Any] = {"userId": "customer-1" if call.get("userId", "") is not None else None}
    context = call.get("context")
    if isinstance(context, dict):
        kept = {key: value for key, value in context.items() if key not in _ABOUT_THE_SENDER}
        if kept:
            given["context"] = scrubber.scrub(kept)
    given["properties"] = scrubber.scrub(_properties_of(call))
    return given


@dataclass(slots=True)
class _Scrubber:
    """Puts made-up texts in place of long ones and of e-mail addresses; the same one for the same."""

    known: dict[str, str] = field(default_factory=dict)

    def scrub(self, value: Any) -> Any:
        """Return a value without them; of a list only the first few items."""
        if isinstance(value, dict):
            return {key: self.scrub(inner) for key, inner in value.items() if _is_text(key)}
        if isinstance(value, list):
            return [self.scrub(inner) for inner in value[:_ITEMS_MAX]]
        if not isinstance(value, str):
            return value
        if _EMAIL.search(value):
            return self.known.setdefault(value, f"person-{len(self.known) + 1}@example.com")
        if len(value) > _LONG_TEXT or not _is_text(value):
            return self.known.setdefault(value, f"some text {len(self.known) + 1}")
        return value


# --- YAML in the block style that people write, with quotes wherever there could be a doubt.


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
        first, *others = _lines(item, indent + 2)
        yield f"{' ' * indent}- {first.lstrip(' ')}"
        yield from others
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
    # JSON is YAML but for some characters that YAML does not take as they are.
    return text if read == value else "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in text)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
