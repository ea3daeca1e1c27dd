"""The Lotus event and its rules as in Lotus's own handlers (https://github.com/uselotus/lotus)."""

from decimal import Decimal
from hashlib import blake2b
from math import isfinite
from typing import Any

import msgspec

from app.core.fault import ELLIPSIS, any_index
from app.core.json_numbers import NotFinite, whole_digits, with_numbers_by_value
from app.core.json_text import MAX_DEPTH, contains_nul, decode, encode_both, encode_canonical, nests_too_deep
from app.core.times import TimeInvalid, format_time, parse_time
from app.errors import EventInvalid, UnparsableJson

EVENT_NAME_MAX = 100
IDEMPOTENCY_ID_MAX = 255
CUSTOMER_ID_MAX = 50

FIRST_MICROS = parse_time("2000-01-01")
"""Earlier times stand for a time that is not set: year 1, 1970, 1899. Nothing that is billed is older."""

# 128 bits: no accidental collisions, and half the bytes of a full digest on every row.
DIGEST_BYTES = 16

_KINDS = {
    bool: "a boolean",
    dict: "an object",
    list: "an array",
    int: "a number",
    float: "a number",
    Decimal: "a number",
}


class LotusEvent(msgspec.Struct, frozen=True, gc=False):
    """A checked event as Lotus receives it, under Lotus's own field names."""

    event_name: str
    idempotency_id: str
    customer_id: str
    time_created: int
    """Microseconds since 1970 in UTC."""
    properties: str
    """A JSON object as text with sorted keys, so that equal properties are equal text."""
    content: bytes
    """Digest of event_name, customer_id and properties: two events with the same digest have the same content. Time is
    not part of it, and equal numbers count as equal (2 and 2.0), though `properties` keep them as received."""

    def to_document(self) -> dict[str, object]:
        """Return it as values that JSON can encode, its time as RFC 3339; its properties stay JSON."""
        return {
            "event_name": self.event_name,
            "idempotency_id": self.idempotency_id,
            "customer_id": self.customer_id,
            "time_created": format_time(self.time_created),
            "properties": msgspec.Raw(self.properties.encode()),
        }


def make_event(
    event_name: object, idempotency_id: object, customer_id: object, time_created: object, properties: object
) -> LotusEvent:
    """Make a checked event from the values of its fields.

    Numbers become text for the two ids (42 and 42.0 are "42"); `properties` may be None.

    Raises:
        EventInvalid: names the first field that breaks a rule, and says how.

    """
    if type(event_name) is not str:
        raise EventInvalid("event_name", f"event_name is {_kind_name(event_name)}; it must be text")
    name = _check_text("event_name", event_name, EVENT_NAME_MAX)
    idempotency = _check_text("idempotency_id", to_id_text("idempotency_id", idempotency_id), IDEMPOTENCY_ID_MAX)
    customer = _check_text("customer_id", to_id_text("customer_id", customer_id), CUSTOMER_ID_MAX)
    try:
        micros = parse_time(time_created)
    except TimeInvalid as error:
        raise EventInvalid("time_created", _time_sentence(time_created)) from error
    if micros < FIRST_MICROS:
        sentence = "time_created is earlier than 2000, which is how its sender writes a time that is not set"
        raise EventInvalid("time_created", sentence)
    encoded, by_value = _properties_json(properties)
    return LotusEvent(name, idempotency, customer, micros, encoded.decode(), content_digest(name, customer, by_value))


def former_content(event: LotusEvent) -> bytes:
    """Return the digest in its former definition, with numbers as written: older stored digests have this form."""
    return content_digest(event.event_name, event.customer_id, event.properties.encode())


def content_digest(event_name: str, customer_id: str, properties: bytes) -> bytes:
    """Return the 16-byte digest of an event's content. `properties` is canonical JSON with its numbers by value."""
    # The rules above exclude NUL from the parts, so it separates them unambiguously.
    return blake2b(
        b"%b\0%b\0%b" % (event_name.encode(), customer_id.encode(), properties), digest_size=DIGEST_BYTES
    ).digest()


def equals_properties(properties: str, other_properties: str) -> bool:
    """Tell whether the stored properties of two events are equal; 2 and 2.0 are."""
    if properties == other_properties:
        return True
    try:
        values = [with_numbers_by_value(decode(text.encode())) for text in (properties, other_properties)]
    except UnparsableJson:
        # Stored before there was a limit on depth.
        return False
    return encode_canonical(values[0]) == encode_canonical(values[1])


def _kind_name(value: object) -> str:
    return "null" if value is None else _KINDS.get(type(value), "text")


def _time_sentence(value: object) -> str:
    # Not the message of TimeInvalid: it quotes the value, which may be a property.
    if type(value) is str:
        kind = "text that is no time" if value.strip() else "empty"
        return f"time_created is {kind}; write it as 2026-11-01T10:00:00Z"
    if type(value) is int or type(value) is float:
        return "time_created is a number outside the years 1 to 9999"
    return f"time_created is {_kind_name(value)}; it must be a time"


def to_id_text(field: str, value: object) -> str:
    """Return an id as text: 42 and 42.0 are "42". Raises EventInvalid for what is neither text nor a number."""
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    if type(value) is float and isfinite(value):
        return str(whole_digits(value)) if value.is_integer() else repr(value)
    if type(value) is Decimal:
        # From our own arithmetic, if a JSON number would not be exact.
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    raise EventInvalid(field, f"{field} is {_kind_name(value)}; it must be text or a number")


def _check_text(field: str, text: str, longest: int) -> str:
    if not text:
        raise EventInvalid(field, f"{field} is empty")
    if len(text) > longest:
        limit = f"characters; Lotus takes at most {longest}"
        raise EventInvalid(field, f"{field} has {len(text)} {limit}", kind=f"{field} has {ELLIPSIS} {limit}")
    if "\0" in text:
        # Lotus accepts it, and its consumer then crashes.
        raise EventInvalid(field, f"{field} holds a NUL character, which Lotus cannot store")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise EventInvalid(field, f"{field} holds half of a surrogate pair, which is no text") from error
    return text


def _properties_json(properties: object) -> tuple[bytes, bytes]:
    """Return properties as canonical JSON twice: with numbers as received, and with numbers by value."""
    if properties is None:
        return b"{}", b"{}"
    if type(properties) is not dict:
        raise EventInvalid("properties", f"properties is {_kind_name(properties)}; it must be an object")
    try:
        encoded, by_value = encode_both(properties)
    except NotFinite as error:
        raise EventInvalid("properties", f"properties: {error}", kind=f"properties: {any_index(str(error))}") from error
    except RecursionError as error:
        raise _too_deep() from error
    if len(encoded) > 2 * MAX_DEPTH and nests_too_deep(properties, encoded):
        raise _too_deep()
    if contains_nul(encoded):
        where = _nul_path(properties, "properties") or "properties"
        why = "holds a NUL character, which Lotus cannot store"
        everywhere = any_index(where)
        path = everywhere.removeprefix(_A_KEY)
        raise EventInvalid("properties", f"{where} {why}", path=path, kind=f"{everywhere} {why}")
    return encoded, by_value


def _too_deep() -> EventInvalid:
    """Make the error for properties that could be stored, but not be read again by `decode`."""
    return EventInvalid("properties", f"properties nest deeper than {MAX_DEPTH} levels")


_A_KEY = "a key of "


def _nul_path(value: Any, path: str) -> str | None:
    """Return where the NUL is. Only called for the error message of an event that is already invalid."""
    if isinstance(value, str):
        return path if "\0" in value else None
    if isinstance(value, dict):
        for key, inner in value.items():
            nul_path = f"{_A_KEY}{path}" if "\0" in key else _nul_path(inner, f"{path}.{key}")
            if nul_path:
                return nul_path
    if isinstance(value, list):
        for index, inner in enumerate(value):
            if nul_path := _nul_path(inner, f"{path}[{index}]"):
                return nul_path
    return None
