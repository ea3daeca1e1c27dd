"""Segment's tracking API, `/v1/*`: what Segment adds to a call that an SDK sends it, added here.

Its values come from what is kept of a call and nothing else: its bytes, what stood beside its batch, its route, its
message id, and when it came. So a replay a year later reads the same call.
"""

import contextlib
import re
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import msgspec

from app.core.json_oddities import describe
from app.core.json_spans import replace_member, split_object
from app.core.json_text import decode, trim
from app.core.segment import Unparsed, Unread, read
from app.core.times import TimeInvalid, format_time, parse_time
from app.errors import UnparsableJson

MAX_CALL_BYTES: Final = 32 << 10
"""Segment's limit for a call."""

MAX_BATCH_BYTES: Final = 500 << 10
"""Segment's limit for a batch."""

PREFIX: Final = "/v1/"

_TYPES = ("track", "identify", "page", "screen", "group", "alias")

TYPE_OF: dict[str, str | None] = {
    **{f"{PREFIX}{kind}": kind for kind in _TYPES},
    # What analytics.js calls in a browser: the first letter.
    **{f"{PREFIX}{kind[0]}": kind for kind in _TYPES},
    **{f"{PREFIX}{name}": None for name in ("batch", "import", "b")},
}
"""The type of a call that says none, by route; None where each item of the batch says its own."""

HIDDEN = "(hidden)"
"""Stands in the kept bytes where a write key stood: it opens this service, and is not part of what happened."""

_DAY = 86_400_000_000
_LARGE_CORRECTION = _DAY
"""Clocks of people's devices are seldom off by more."""
_LOOKS_BACK = 30 * _DAY
_LOOKS_AHEAD = _DAY

# In bytes that are no JSON object; what a reader may take for a key is hidden there, wherever it stands.
_WRITE_KEY = re.compile(rb'("writeKey"\s*:\s*)"(?:[^"\\]|\\.)*+"?', re.DOTALL)


# What reads as the member `writeKey` of an object, in any text: its value as JSON.
_KEY_TEXT = re.compile(rb'"writeKey"\s*:\s*("(?:[^"\\]|\\.)*+")', re.DOTALL)

_KEY_TEXTS_MAX = 4_096
_KEYS_MAX = 16
"""Different write keys that are looked at in one body. A body of an SDK has one, also where each item repeats it."""


class Beside(msgspec.Struct, frozen=True):
    """What a batch says for all its items."""

    context: dict[str, Any] | None = None
    integrations: dict[str, Any] | None = None
    sent_at: Any = None
    fault: str | None = None
    """Why it cannot be read, and with it no call of the batch."""


class _KeyOutline(msgspec.Struct, gc=False):
    writeKey: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # noqa: N815  Segment's name


_decode_key_outline = msgspec.json.Decoder(_KeyOutline).decode


def list_write_keys(body: bytes) -> list[str]:
    """Return what reads like a write key somewhere in a body, in text that need not be JSON; the first few.

    Gives up early: half a megabyte takes some milliseconds, whatever is in it. That a key is the body's own, and not
    that of something in it, only `find_write_key` can say.
    """
    texts: set[bytes] = set()
    for match in islice(_KEY_TEXT.finditer(body), _KEY_TEXTS_MAX):
        texts.add(match[1])
        if len(texts) == _KEYS_MAX:
            break
    keys = []
    for text in texts:
        with contextlib.suppress(UnparsableJson):
            keys.append(decode(text))
    return [key for key in keys if key]


def find_write_key(body: bytes) -> str | None:
    """Return the write key that a request body gives for itself. Raises UnparsableJson where it is no JSON object."""
    text = trim(body)
    if not text.startswith(b"{"):
        return None
    try:
        member = _decode_key_outline(text).writeKey
        value = None if member is msgspec.UNSET else bytes(member)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = split_object(text).get("writeKey")
    try:
        key = None if value is None else decode(value)
    except UnparsableJson:
        return None
    return key if type(key) is str and key else None


def hide_write_key(raw: bytes, document: Any) -> tuple[bytes, Any]:
    """Return a call's bytes without the write key that it may hold itself, and the document that a replay reads there.

    `document` is the decoded `raw`, and may be changed.
    """
    if type(document) is dict:
        if "writeKey" not in document:
            return raw, document
        document["writeKey"] = HIDDEN
        return replace_member(raw, "writeKey", f'"{HIDDEN}"'.encode()), document
    hidden = hide_write_keys(raw)
    # Without a key that was no UTF-8 it may be JSON.
    return hidden, document if hidden == raw else read(hidden)


def hide_write_keys(text: bytes) -> bytes:
    """Return bytes that may be no JSON, or the beginning of one, without what seems to be a write key."""
    return _WRITE_KEY.sub(rb'\1"(hidden)"', text) if b"writeKey" in text else text


# Few: each may be half a megabyte of JSON.
@lru_cache(8)
def read_beside(envelope: bytes | None) -> Beside:
    """Read what is kept of a batch; the items of one batch ask for the same one after the other."""
    if envelope is None:
        return Beside()
    try:
        document = decode(envelope)
    except UnparsableJson as error:
        return Beside(fault=f"What stands beside its batch is no JSON: {describe(envelope) or error.message}")
    context, integrations = document.get("context"), document.get("integrations")
    return Beside(
        context if type(context) is dict else None,
        integrations if type(integrations) is dict else None,
        document.get("sentAt"),
    )


def has_message_id(document: Any) -> bool:
    """Tell whether a call brings a message id, or is none that could."""
    return type(document) is not dict or document.get("messageId") not in (None, "")


def complete(raw: bytes, document: Any, *, route: str, beside: Beside, received_at: int, message_id: str | None) -> Any:
    """Return a call as Segment would have passed it on. `document` is the decoded `raw`, and is changed.

    `message_id` is taken where the call has none. What is no object stays what it is, and a call beyond Segment's
    limit is not read; nor is one whose batch says something for it that is no JSON.
    """
    if len(raw) > MAX_CALL_BYTES:
        return Unread.OVER_TRACKING_LIMIT
    if type(document) is Unparsed:
        _set_type(document.mended, route)
        return document
    if type(document) is not dict:
        return document
    _set_type(document, route)
    if beside.fault is not None:
        return Unparsed(beside.fault, document)
    if beside.context:
        document["context"] = _merge(beside.context, document.get("context"))
    if beside.integrations:
        document["integrations"] = _merge(beside.integrations, document.get("integrations"))
    _set_times(document, beside.sent_at, received_at)
    if message_id is not None and not has_message_id(document):
        document["messageId"] = message_id
    return document


def tell_added(route: str, document: Any) -> str | None:
    """Say what `complete` changed about a call that it can change; None for another route, or what is no call."""
    if route not in TYPE_OF or type(document) is not dict:
        return None
    changes = [f"it came at {document['receivedAt']}"]
    sender_time = document.get("originalTimestamp")
    if sender_time is None:
        changes.append("it said no time")
    elif (corrected_micros := _micros(document["timestamp"])) != _micros(sender_time):
        changes.append(f"its timestamp, by the sender's clock, is {document['timestamp']} by ours")
    elif corrected_micros is not None and _is_far(_micros(document.get("sentAt")), parse_time(document["receivedAt"])):
        changes.append("its sentAt is more than a day off our clock, and is not believed: its timestamp stays")
    return "; ".join(changes)


def _set_type(document: Any, route: str) -> None:
    kind = TYPE_OF[route]
    if kind is not None and type(document) is dict and document.get("type") in (None, ""):
        document["type"] = kind


def _micros(time: Any) -> int | None:
    try:
        return parse_time(time)
    except TimeInvalid:
        return None


def _is_far(sent_at: int | None, received_at: int) -> bool:
    return sent_at is not None and abs(sent_at - received_at) > _LARGE_CORRECTION


def _merge(below: dict[str, Any], above: Any) -> Any:
    """Lay an item's value over the batch's, object by object."""
    if above is None or above == {}:
        return below
    if type(above) is not dict:
        return above
    merged = {**below, **above}
    for key, value in above.items():
        if type(value) is dict and type(under := below.get(key)) is dict:
            merged[key] = _merge(under, value)
    return merged


def _set_times(document: dict[str, Any], sent_with_batch: Any, received_at: int) -> None:
    # The batch's goes first: it is of the request, and an SDK that tries again leaves its items as they are.
    sent_at = document.get("sentAt") if _is_empty(sent_with_batch) else sent_with_batch
    if _is_empty(document.get("sentAt")) and not _is_empty(sent_at):
        document["sentAt"] = sent_at
    document["receivedAt"] = format_time(received_at)
    sender_time = document.get("timestamp")
    if _is_empty(sender_time):
        document["timestamp"] = document["receivedAt"]
        return
    document["originalTimestamp"] = sender_time
    try:
        corrected = _correct(parse_time(sender_time), parse_time(sent_at), received_at)
        document["timestamp"] = format_time(corrected)
    except TimeInvalid:
        return


def _is_empty(time: Any) -> bool:
    return time is None or time == ""


def _correct(timestamp: int, sent_at: int, received_at: int) -> int:
    """Move a time from the sender's clock to ours, as Segment does: receivedAt - (sentAt - timestamp).

    A clock that is wrong by more than a day is believed to be that only where the time as it stands cannot be right,
    since it lies ahead, and the moved one lies in the month before the call came. So no old call becomes a new one (a
    backfill gives each call's own time as `sentAt`), and no new one an old one.
    """
    corrected = received_at - (sent_at - timestamp)
    if abs(corrected - timestamp) <= _LARGE_CORRECTION:
        return corrected
    lies_ahead = timestamp > received_at + _LOOKS_AHEAD
    plausible = received_at - _LOOKS_BACK <= corrected <= received_at + _LOOKS_AHEAD
    return corrected if lies_ahead and plausible else timestamp
