"""The values that an amendment sets: from options, members of JSON or a form; and the event that they make."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from app.core.json_text import decode, encode
from app.core.lotus import LotusEvent, equals_properties, make_event
from app.core.times import format_time
from app.errors import BadQuery, EventInvalid, UnparsableJson
from app.store.events import EventFields

FIELDS = ("event_name", "customer_id", "time_created")
PROPERTY = "properties."

CHANGES_MAX = 50
"""Values that one amendment sets or removes."""

VALUE_MAX = 10_000
"""Bytes of one value as JSON."""


class Amendment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which values events get. Stored as JSON."""

    fields: dict[str, Any] = {}
    """By name of FIELDS."""
    properties: dict[str, Any] = {}
    unset: tuple[str, ...] = ()
    """Names of properties that are removed."""

    def to_values(self) -> dict[str, Any]:
        """Return it as JSON values: `set` and `unset`, as `parse_amendment` reads them."""
        properties = {f"{PROPERTY}{name}": value for name, value in self.properties.items()}
        return {"set": {**self.fields, **properties}, "unset": [f"{PROPERTY}{name}" for name in self.unset]}

    def apply(self, event: EventFields) -> LotusEvent | None:
        """Return the event with these values, under its own id; None if it has them already.

        Raises:
            EventInvalid: it would break a rule of Lotus events.
            UnparsableJson: its properties cannot be read.

        """
        properties = decode(event.properties.encode())
        if not isinstance(properties, dict):
            raise UnparsableJson("its properties are no object")
        amended = make_event(
            self.fields.get("event_name", event.event_name),
            event.idempotency_id,
            self.fields.get("customer_id", event.customer_id),
            self.fields.get("time_created", format_time(event.time_created)),
            {name: value for name, value in (properties | self.properties).items() if name not in self.unset},
        )
        same = (
            (amended.event_name, amended.customer_id, amended.time_created)
            == (event.event_name, event.customer_id, event.time_created)
        ) and equals_properties(amended.properties, event.properties)
        return None if same else amended


def parse_amendment(values: Mapping[str, Any], unset: Iterable[Any]) -> Amendment:
    """Parse an amendment; `values` by `customer_id` or `properties.tokens`, `unset` names like the latter.

    Raises:
        BadQuery: names the value that is wrong, and says what is accepted.

    """
    removed = list(unset)
    if not 0 < len(values) + len(removed) <= CHANGES_MAX:
        raise BadQuery(f"set 1 to {CHANGES_MAX} values: {', '.join(FIELDS)} or {PROPERTY}NAME")
    for name in (*values, *removed):
        if not (isinstance(name, str) and (name in FIELDS or name.startswith(PROPERTY)) and name != PROPERTY):
            raise BadQuery(f"{name!a:.50} cannot be set: there are {', '.join(FIELDS)} and {PROPERTY}NAME")
    if lasting := next((name for name in removed if name in FIELDS), None):
        raise BadQuery(f"{lasting} cannot be removed: every event has one")
    if both := next((name for name in removed if name in values), None):
        raise BadQuery(f"{both[:100]!a} is set and removed")
    properties = {name.removeprefix(PROPERTY): value for name, value in values.items() if name.startswith(PROPERTY)}
    for name, value in values.items():
        _check_value(name, value)
    fields = {name: values[name] for name in FIELDS if name in values}
    try:
        event = make_event(
            fields.get("event_name", "-"),
            "-",
            fields.get("customer_id", "-"),
            fields.get("time_created", "2026-11-01"),
            properties,
        )
    except EventInvalid as error:
        raise BadQuery(f"no event can have these values: {error.message}") from error
    # As they are stored: 42 as an id is "42", and a time is a moment, whatever is set when it is applied.
    read = {
        "event_name": event.event_name,
        "customer_id": event.customer_id,
        "time_created": format_time(event.time_created),
    }
    return Amendment(
        fields={name: read[name] for name in fields},
        properties=properties,
        unset=tuple(sorted({name.removeprefix(PROPERTY) for name in removed})),
    )


def parse_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Parse texts like `customer_id=c-1`: a value is JSON where it can be read as JSON, else text. Raises BadQuery."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, written = text.partition("=")
        name = name.strip()
        if not equals:
            raise BadQuery(f"{text[:50]!a} sets nothing: write NAME=VALUE, such as properties.tokens=12")
        if name in values:
            raise BadQuery(f"{name[:50]!a} is set twice")
        try:
            values[name] = decode(written.encode())
        except (UnparsableJson, UnicodeEncodeError):
            values[name] = written
    return values


def to_assignment(name: str, value: Any) -> str:
    """Return a text that `parse_assignments` reads as this value."""
    if isinstance(value, str) and value.isprintable() and parse_assignments([f"{name}={value}"])[name] == value:
        return f"{name}={value}"
    return f"{name}={encode(value).decode()}"


def _check_value(name: str, value: Any) -> None:
    try:
        size = len(encode(value))
    except (ValueError, TypeError, RecursionError) as error:
        raise BadQuery(f"{name[:50]!a} must be a value of JSON: {error}") from error
    if size > VALUE_MAX:
        raise BadQuery(f"{name[:50]!a} has {size:,} bytes: {VALUE_MAX:,} at most")
