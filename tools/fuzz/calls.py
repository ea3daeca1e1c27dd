"""Stored calls, and what anybody would say of the good ones: read anew from their bytes, not as the service reads."""

import json
import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

MAIN = "main"
_NATIVE = "/api/track/"
_TRACKING = "/v1/"
TYPE_OF = {"track": "track", "t": "track"}
"""Of the tracking API's routes, the ones that make a track call of a call without a type."""

_COPIED_WHOLE = {"API Call", "Seats", "Storage", "Report Exported"}
_TIME = re.compile(r"2026-1[01]-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z")
_PLAIN = re.compile(r"[ -~]{1,50}")
_TRACKING_BYTES = 30_000
_DEPTH = 90
_TOP = 1 << 53
# docs/functions.md: the bounds of the numbers that arithmetic takes.
_SMALLEST, _BEYOND = 1e-30, 1e39


class Event(NamedTuple):
    """An event that a call should make."""

    id: str
    content: bytes
    """Equal where name, customer and properties are written equally."""
    loose: bytes
    """Equal where they mean the same: 2 and 2.0."""


class StoredCall(NamedTuple):
    """A call as the database has it."""

    id: int
    route: str
    raw: bytes
    outcome: str
    reason: str | None
    detail: str | None
    results: str | None
    events: tuple[tuple[str, int, str], ...]
    """(lane, position, idempotency id) of the events that it made."""
    envelope: bytes | None = None
    """What stood beside its batch."""


def to_call(row: Sequence[Any], events: Sequence[tuple[str, int, str]]) -> StoredCall:
    """Return a call from its columns, in the order of StoredCall, and from the events that it made."""
    identifier, route, raw, outcome, reason, detail, results, envelope = row[:8]
    beside = None if envelope is None else bytes(envelope)
    return StoredCall(identifier, route, bytes(raw), outcome, reason, detail, results, tuple(events), beside)


Lanes = dict[str, list[Event]]


def read_call(call: StoredCall) -> tuple[str | None, Lanes] | None:
    """Return the message id and the events of a good call, by lane; None for one that is odd in any way."""
    document = _read(call.raw)
    if document is None or _is_odd(document) or not _is_well_beside(call):
        return None
    return _read_lotus_event(document) if call.route == _NATIVE else _read_segment_call(call, document)


def _is_well_beside(call: StoredCall) -> bool:
    if call.envelope is None or not call.route.startswith(_TRACKING):
        return True
    beside = _read(call.envelope)
    return beside is not None and not _is_odd(beside)


def inherits_no_json(call: StoredCall) -> bool:
    """Whether a call is said to hold what stood beside its batch, and no reader of JSON reads that."""
    if call.envelope is None or not call.route.startswith(_TRACKING):
        return False
    try:
        json.loads(call.envelope.decode(), parse_constant=_refuse)
    except (UnicodeDecodeError, json.JSONDecodeError, _NoNumber):
        return True
    except (ValueError, RecursionError):
        # A number of more digits than Python reads, or too many levels: others may read it.
        return False
    return False


def _read(raw: bytes) -> dict[str, Any] | None:
    try:
        # Of bytes Python's reader takes half a surrogate pair, which is no UTF-8.
        document = json.loads(raw.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return document if type(document) is dict else None


def _read_segment_call(call: StoredCall, document: dict[str, Any]) -> tuple[str | None, Lanes] | None:
    kind = document.get("type")
    if call.route.startswith(_TRACKING):
        if len(call.raw) > _TRACKING_BYTES:
            return None
        kind = kind if kind is not None else TYPE_OF.get(call.route.removeprefix(_TRACKING))
    message, event = document.get("messageId"), document.get("event")
    customer, properties = document.get("userId"), document.get("properties")
    good = kind == "track" and all(map(_is_plain, (message, event, customer))) and _is_time(document)
    if not good or type(properties) is not dict:
        return None
    if event == "Order Completed":
        return _read_order(str(message), str(customer), properties)
    if event not in _COPIED_WHOLE:
        return None
    lanes = {MAIN: [_event(str(event), str(message), str(customer), properties)]}
    if event == "API Call":
        lanes["copies"] = [_event("copied", f"{message}:copy", str(customer), {"n": properties.get("n")})]
    return str(message), lanes


def _read_order(message: str, customer: str, properties: dict[str, Any]) -> tuple[str | None, Lanes] | None:
    order, products = properties.get("order_id"), properties.get("products")
    if not _is_plain(order) or type(products) is not list or not products:
        return None
    events = []
    for product in products:
        if type(product) is not dict or set(product) != {"product_id", "price"} or not _is_plain(product["product_id"]):
            return None
        price = product["price"]
        if type(price) not in {int, float} or (price and not _SMALLEST <= abs(price) < _BEYOND):
            return None
        made = {"order_id": order, "amount": price, "rest": product}
        events.append(_event("product_sold", f"{order}:{product['product_id']}", customer, made))
    return (message, {MAIN: events}) if len({event.id for event in events}) == len(events) else None


def _read_lotus_event(document: dict[str, Any]) -> tuple[str | None, Lanes] | None:
    name, identifier, customer = (document.get(key) for key in ("event_name", "idempotency_id", "customer_id"))
    time, properties = document.get("time_created"), document.get("properties")
    good = all(map(_is_plain, (name, identifier, customer))) and type(time) is str and _TIME.fullmatch(time)
    if not good or type(properties) is not dict:
        return None
    return None, {MAIN: [_event(str(name), str(identifier), str(customer), properties)]}


def find_message(call: StoredCall) -> str | None:
    """Return a message id as plain text; None for any other, whose meetings are not judged."""
    try:
        document = json.loads(call.raw)
    except (ValueError, RecursionError):
        return None
    message = document.get("messageId") if type(document) is dict and call.route != _NATIVE else None
    if type(message) is float and message.is_integer():
        message = int(message)
    message = str(message) if type(message) in {int, float} else message
    return message if _is_plain(message) else None


def _event(name: str, identifier: str, customer: str, properties: dict[str, Any]) -> Event:
    parts = (name, customer, properties)
    return Event(identifier, _write(parts, repr), _write(parts, lambda number: repr(float(number))))


def _write(value: object, number: Callable[[Any], str]) -> bytes:
    return blake2b(json.dumps(_spell(value, number), sort_keys=True).encode(), digest_size=16).digest()


def _spell(value: Any, number: Callable[[Any], str]) -> Any:
    if type(value) is int or type(value) is float:
        return {"number": number(value)}
    if isinstance(value, dict):
        return {key: _spell(inner, number) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_spell(inner, number) for inner in value]
    return value


def _is_odd(document: dict[str, Any]) -> bool:
    """Whether a call holds anything on which two readers may differ."""
    level: list[Any] = [document]
    for _ in range(_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                if any(not key.isprintable() for key in value):
                    return True
                inner += value.values()
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, str):
                if not value.isprintable():
                    return True
            elif type(value) in {int, float} and not -_TOP < value < _TOP:
                return True
        level = inner
        if not level:
            return False
    return True


def _is_plain(value: object) -> bool:
    return type(value) is str and _PLAIN.fullmatch(value) is not None and value.strip() == value


def _is_time(document: dict[str, Any]) -> bool:
    value = document.get("timestamp")
    return type(value) is str and _TIME.fullmatch(value) is not None


class _NoNumber(ValueError):
    """NaN or Infinity stands where a value should."""


def _refuse(token: str) -> float:
    raise _NoNumber(token)
