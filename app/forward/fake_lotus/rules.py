"""Lotus's answer to a batch. Values in, values out."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from app.core.lotus import EVENT_NAME_MAX
from app.core.times import TimeInvalid, parse_time

MAX_EVENTS = 100
MAX_BYTES = 475_000

WHOLE = "no_idempotency_id"
"""The id under which Lotus reports a batch that it could not read at all."""
INVALID_JSON = "Invalid JSON"
NO_ID = "No idempotency_id provided"
NO_CUSTOMER = "No customer_id provided"
INVALID_TIME = "Invalid time_created"
OUTSIDE = (
    "Time created too far in the past or future. Events must be within 30 days before or 1 day ahead of current time."
)
BROKER = "Failed to produce event to kafka: broker is down"

DAY = 86_400_000_000
LOOKS_BACK = 30 * DAY
LOOKS_AHEAD = DAY

_TEXTS = ("event_name", "idempotency_id", "customer_id", "time_created")


@dataclass(slots=True, kw_only=True)
class RequestVerdict:
    """The answer to a request, and the events accepted."""

    status: int
    answer: dict[str, Any]
    taken: list[dict[str, Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    """What Lotus accepts, but would suffer from."""


def refuse_whole(sentence: str = INVALID_JSON) -> RequestVerdict:
    """Reject a batch as a whole."""
    return RequestVerdict(status=400, answer={"success": "none", "failed_events": {WHOLE: sentence}})


def decide(body: bytes, now: int, broken: frozenset[int] = frozenset()) -> RequestVerdict:
    """Decide on a body at `now` (microseconds since 1970); the broker refuses the events at the indices `broken`."""
    if len(body) > MAX_BYTES:
        return RequestVerdict(status=413, answer={"message": f"{len(body)} bytes in one request"})
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return refuse_whole()
    batch = document.get("batch") if isinstance(document, dict) else None
    if not isinstance(batch, list) or not batch:
        return refuse_whole()
    if len(batch) > MAX_EVENTS:
        return RequestVerdict(status=413, answer={"message": f"{len(batch)} events in one request"})
    if any(_is_unreadable(event) for event in batch):
        return refuse_whole()
    failed: dict[str, str] = {}
    verdict = RequestVerdict(status=201, answer={})
    for place, event in enumerate(batch):
        reason = _find_reason(event, now) or (BROKER if place in broken else None)
        if reason is not None:
            failed[event.get("idempotency_id") or WHOLE] = reason
        else:
            verdict.taken.append(event)
            verdict.violations += _find_violations(event)
    if len(failed) == len(batch):
        verdict.status, verdict.answer = 400, {"success": "none", "failed_events": failed}
    elif failed:
        verdict.answer = {"success": "some", "failed_events": failed}
    else:
        verdict.answer = {"success": "all", "failed_events": None}
    return verdict


def _is_unreadable(event: object) -> bool:
    """Whether the event has a wrong type or an invalid time: Lotus then refuses the whole batch."""
    if not isinstance(event, dict):
        return True
    if any(event.get(name) is not None and not isinstance(event[name], str) for name in _TEXTS):
        return True
    if not isinstance(event.get("properties") or {}, dict):
        return True
    time_created = event.get("time_created")
    return time_created is not None and _to_micros(time_created) is None


def _find_reason(event: dict[str, Any], now: int) -> str | None:
    if not event.get("idempotency_id"):
        return NO_ID
    if not event.get("customer_id"):
        return NO_CUSTOMER
    created = _to_micros(event.get("time_created") or "")
    if created is None:
        return INVALID_TIME
    return None if now - LOOKS_BACK <= created <= now + LOOKS_AHEAD else OUTSIDE


def is_since(event: dict[str, Any] | None, since: int) -> bool:
    """Whether there is such an event, of `since` (microseconds since 1970) or later: Lotus looks back by its time."""
    created = None if event is None else _to_micros(event.get("time_created") or "")
    return created is not None and created >= since


def _find_violations(event: dict[str, Any]) -> list[str]:
    """Return the violations of the contract that Lotus does not check."""
    violations = []
    name = event.get("event_name")
    if not name or len(name) > EVENT_NAME_MAX:
        violations.append(f"event_name is {name!r}")
    if not str(event.get("time_created")).endswith("Z"):
        violations.append(f"time_created is {event.get('time_created')!r}")
    if b"\\u0000" in msgspec.json.encode(event):
        violations.append(f"a NUL in {event['idempotency_id']!r}: the consumer is dead")
    return violations


def _to_micros(text: str) -> int | None:
    if "T" not in text:
        return None
    try:
        return parse_time(text)
    except TimeInvalid:
        return None
