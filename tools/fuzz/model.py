"""What should have become of each call, computed anew from its stored bytes, by other means than the service's.

Of a call that anybody would take for a good one (`read_call` says which), the model knows the events by itself, and
tells new from duplicate from conflict by two dictionaries on disk. Of other calls it believes the service what events
they made, and goes on from there; whether they are well kept is for the readers to say.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from tools.fuzz.target import Fault

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


class Model:
    """Knows who came first."""

    def __init__(self, file: Path) -> None:
        """`file`: where it remembers; a million calls must not stand in the memory that is measured."""
        self._db = sqlite3.connect(file, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "PRAGMA cache_size = -4096",
            "CREATE TABLE IF NOT EXISTS seen (key BLOB PRIMARY KEY, content BLOB, loose BLOB) WITHOUT ROWID",
            # One for all: nobody else reads it, and each change would be a transaction.
            "BEGIN EXCLUSIVE",
        ):
            self._db.execute(statement)
        self.judged = 0
        """Calls of which it knew the events."""

    def judge(self, calls: Sequence[StoredCall]) -> None:
        """Hold the calls of one request, in their order, against what should have become of them. Raises Fault."""
        conflicts = len(calls) > 1 and any(call.outcome == "conflict" for call in calls)
        shared = _shared_keys(calls) if conflicts else set()
        for call in calls:
            known = read_call(call)
            if call.outcome not in {"rejected", "ignored"} and _inherits_no_json(call):
                raise Fault(
                    f"judge beside: {call.outcome}, and beside its batch is no JSON: {(call.envelope or b'')[:2000]!a}"
                )
            if known is None:
                self._believe(call)
                continue
            self.judged += 1
            message, lanes = known
            if call.outcome in {"rejected", "ignored"}:
                raise Fault(f"judge {call.outcome} {call.reason}: a good call, {call.detail}: {call.raw[:2000]!a}")
            self._judge_lanes(call, message, lanes, ambiguous=shared)

    def _judge_lanes(self, call: StoredCall, message: str | None, lanes: Lanes, *, ambiguous: set[str]) -> None:
        actual = _actual_results(call, lanes)
        may_differ = message in ambiguous or any(event.id in ambiguous for lane in lanes.values() for event in lane)
        # A message is claimed once, whatever lanes it has.
        claimed = message is not None and self._find("claim", message, MAIN) is not None
        for name, events in lanes.items():
            allowed = [self._compare_lane(message, name, events)] * len(events) if claimed else self._try(events)
            for event, results, got in zip(events, allowed, actual[name], strict=True):
                if got not in results and not may_differ:
                    raise Fault(
                        f"judge {got}: of {event.id!a} in lane {name} it should be {' or '.join(sorted(results))}: "
                        f"{call.raw[:2000]!a}"
                    )
                if got == "stored":
                    self._keep(event, "event", event.id)
        if (
            message is not None
            and not claimed
            and {result for lane in actual.values() for result in lane} != {"conflict"}
        ):
            self._keep(_sum_up(next(iter(lanes.values()))), "claim", message, MAIN)
            for name, events in lanes.items():
                if set(actual[name]) != {"conflict"}:
                    self._keep(_sum_up(events), "claim", message, name)

    def _compare_lane(self, message: str | None, name: str, events: Sequence[Event]) -> set[str]:
        """Say what may become of the events of a lane whose message is claimed."""
        claim = self._find("claim", message or "", name)
        # The first call had no such lane: what it made first decides, and that takes more than is known here.
        return {"duplicate", "conflict"} if claim is None else self._compare(claim, _sum_up(events))

    def _try(self, events: Sequence[Event]) -> list[set[str]]:
        """Say what may become of each event of a lane whose message is new."""
        allowed = []
        for event in events:
            there = self._find("event", event.id)
            allowed.append(self._compare(there, event) if there else {"stored"})
        return allowed

    def _compare(self, there: tuple[bytes | None, bytes | None], event: Event) -> set[str]:
        content, loose = there
        if content is None or (content != event.content and loose == event.loose):
            # Unknown; or the same, spelled otherwise: today a conflict.
            return {"duplicate", "conflict"}
        return {"duplicate"} if content == event.content else {"conflict"}

    def _believe(self, call: StoredCall) -> None:
        """Take over what a call made of which only the service knows the events."""
        for _, _, identifier in call.events:
            self._keep(Event(identifier, b"", b""), "event", identifier, unknown=True)
        if call.outcome in {"rejected", "ignored"}:
            return
        message = find_message(call)
        if message is not None:
            results = json.loads(call.results) if call.results else []
            lanes = {str(result["lane"]) for result in results} | {lane for lane, _, _ in call.events}
            made = {
                lane
                for lane in lanes
                if {result["result"] for result in results if result["lane"] == lane} != {"conflict"}
            }
            for lane in {MAIN, *made} if made else ():
                self._keep(Event("", b"", b""), "claim", message, lane, unknown=True)

    def _find(self, *key: str) -> tuple[bytes | None, bytes | None] | None:
        row: tuple[bytes | None, bytes | None] | None = self._db.execute(
            "SELECT content, loose FROM seen WHERE key = ?", (_digest(key),)
        ).fetchone()
        return row

    def _keep(self, event: Event, *key: str, unknown: bool = False) -> None:
        values = (None, None) if unknown else (event.content, event.loose)
        self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (_digest(key), *values))

    def close(self) -> None:
        """Close its file."""
        self._db.execute("COMMIT")
        self._db.close()


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


def _inherits_no_json(call: StoredCall) -> bool:
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
        document = json.loads(raw, parse_constant=_refuse)
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
        if type(product["price"]) not in {int, float}:
            return None
        made = {"order_id": order, "amount": product["price"], "rest": product}
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


def _sum_up(events: Sequence[Event]) -> Event:
    if len(events) == 1:
        return events[0]
    return Event("", b"".join(event.content for event in events), b"".join(event.loose for event in events))


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


def _actual_results(call: StoredCall, lanes: Lanes) -> dict[str, list[str]]:
    """Return what became of each event, as the database says. Raises Fault where that is not whole."""
    if call.results is None:
        made = {(lane, position): identifier for lane, position, identifier in call.events}
        should = {(lane, place): event.id for lane, events in lanes.items() for place, event in enumerate(events)}
        if call.outcome != "stored" or made != should:
            raise Fault(f"judge events: {made!a} and not {should!a}: {call.raw[:2000]!a}")
        return {lane: ["stored"] * len(events) for lane, events in lanes.items()}
    rows = {(row["lane"], row["position"]): (row["idempotency_id"], row["result"]) for row in json.loads(call.results)}
    found: dict[str, list[str]] = {}
    for lane, events in lanes.items():
        found[lane] = []
        for place, event in enumerate(events):
            identifier, result = rows.pop((lane, place), (None, ""))
            if identifier != event.id:
                raise Fault(f"judge results: {identifier!a} and not {event.id!a}: {call.raw[:2000]!a}")
            found[lane].append(result)
    results = {result for results in found.values() for result in results}
    outcome = next((word for word in ("conflict", "stored", "duplicate") if word in results), "")
    if rows or outcome != call.outcome:
        raise Fault(f"judge outcome: {call.outcome}, of {sorted(results)}: {call.raw[:2000]!a}")
    return found


def _shared_keys(calls: Sequence[StoredCall]) -> set[str]:
    """Return ids that several calls of a request have, where one of these calls conflicts: their order is free."""
    owners: dict[str, set[int]] = {}
    conflicting: set[int] = set()
    for call in calls:
        known = read_call(call)
        keys = {find_message(call) or ""} | {event[2] for event in call.events}
        if known is not None:
            keys |= {event.id for lane in known[1].values() for event in lane}
        for key in keys - {""}:
            owners.setdefault(key, set()).add(call.id)
        if call.outcome == "conflict":
            conflicting.add(call.id)
    return {key for key, ids in owners.items() if len(ids) > 1 and ids & conflicting}


def _digest(key: Sequence[str]) -> bytes:
    return blake2b(json.dumps(key).encode(), digest_size=16).digest()
