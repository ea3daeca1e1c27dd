"""Segment's tracking API, `/v1/*`: complete a call from an SDK with the fields that Segment itself would add.

The values come only from what is stored of a call: its bytes, the members beside its batch, its route, its message
id, and its time of arrival. So a replay a year later reads the same call.
"""

import contextlib
import re
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import msgspec

from app.core.json_oddities import Oddity, describe
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
    # The paths of analytics.js in a browser: the first letter.
    **{f"{PREFIX}{kind[0]}": kind for kind in _TYPES},
    **{f"{PREFIX}{name}": None for name in ("batch", "import", "b")},
}
"""By route: the type of a call that has none; None for a batch, whose items have their own."""

HIDDEN = "(hidden)"
"""Replaces a write key in the stored bytes: the key gives access to this service and is not part of the event."""

_DAY = 86_400_000_000
_LARGE_CORRECTION = _DAY
"""The clocks of people's devices are seldom off by more than this."""
_LOOKS_BACK = 30 * _DAY
_LOOKS_AHEAD = _DAY

# For bytes that are not a JSON object: hides whatever might be read as a key, anywhere.
_WRITE_KEY = re.compile(rb'("writeKey"\s*:\s*)"(?:[^"\\]|\\.)*+"?', re.DOTALL)


# Anything that looks like the member `writeKey` of an object, in any text. Group 1 is its value as JSON.
_KEY_TEXT = re.compile(rb'"writeKey"\s*:\s*("(?:[^"\\]|\\.)*+")', re.DOTALL)

_KEY_TEXTS_MAX = 4_096
_KEYS_MAX = 16
"""Most different write keys read from one body. An SDK's body has one, even where each item repeats it."""


class Envelope(msgspec.Struct, frozen=True):
    """The members beside `batch` that apply to all its items."""

    context: dict[str, Any] | None = None
    integrations: dict[str, Any] | None = None
    sent_at: Any = None
    oddity: Oddity | None = None
    """Why it cannot be read; then no call of the batch can be."""


class _KeyOutline(msgspec.Struct, gc=False):
    writeKey: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # noqa: N815  Segment's name


_decode_key_outline = msgspec.json.Decoder(_KeyOutline).decode


def list_write_keys(body: bytes) -> list[str]:
    """Return the first few values that look like a write key anywhere in a body, which need not be JSON.

    Stops early: half a megabyte takes some milliseconds, whatever it contains. Only `find_write_key` can tell whether
    a key belongs to the body itself and not to something inside it.
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
    """Return a request body's own write key, or None. Raises UnparsableJson if the body is no valid JSON object."""
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
    """Return a call's bytes with its own write key hidden, and the document that a replay will read from them.

    `document` is the decoded `raw`, and may be changed.
    """
    if type(document) is dict:
        if "writeKey" not in document:
            return raw, document
        document["writeKey"] = HIDDEN
        return replace_member(raw, "writeKey", f'"{HIDDEN}"'.encode()), document
    hidden = hide_write_keys(raw)
    # If the key was not UTF-8, the rest may be JSON without it.
    return hidden, document if hidden == raw else read(hidden)


def hide_write_keys(text: bytes) -> bytes:
    """Hide what looks like a write key in bytes that may be no JSON, or only the beginning of it."""
    return _WRITE_KEY.sub(rb'\1"(hidden)"', text) if b"writeKey" in text else text


# Few: each may be half a megabyte of JSON.
@lru_cache(8)
def read_envelope(envelope: bytes | None) -> Envelope:
    """Read the stored envelope of a batch. Cached: the items of one batch are read one after the other."""
    if envelope is None:
        return Envelope()
    try:
        document = decode(envelope)
    except UnparsableJson as error:
        what = "The data beside its batch is not JSON"
        oddity = describe(envelope)
        if oddity is None:
            return Envelope(oddity=Oddity(f"{what}: {error.message}", "", what))
        return Envelope(oddity=Oddity(f"{what}: {oddity.sentence}", oddity.path, f"{what}: {oddity.kind}"))
    context, integrations = document.get("context"), document.get("integrations")
    return Envelope(
        context if type(context) is dict else None,
        integrations if type(integrations) is dict else None,
        document.get("sentAt"),
    )


def has_message_id(document: Any) -> bool:
    """Tell whether a call has its own message id; also true for what is not an object, and cannot have one."""
    return type(document) is not dict or document.get("messageId") not in (None, "")


def complete(
    raw: bytes, document: Any, *, route: str, envelope: Envelope, received_at: int, message_id: str | None
) -> Any:
    """Return a call as Segment would have passed it on. `document` is the decoded `raw` and is changed in place.

    `message_id` is used if the call has none. What is not an object is returned unchanged; a call beyond Segment's
    limit becomes an Unread, and one whose envelope is not JSON an Unparsed.
    """
    if len(raw) > MAX_CALL_BYTES:
        return Unread.OVER_TRACKING_LIMIT
    if type(document) is Unparsed:
        _set_type(document.mended, route)
        return document
    if type(document) is not dict:
        return document
    _set_type(document, route)
    if envelope.oddity is not None:
        return Unparsed(*envelope.oddity, document)
    if envelope.context:
        document["context"] = _merge(envelope.context, document.get("context"))
    if envelope.integrations:
        document["integrations"] = _merge(envelope.integrations, document.get("integrations"))
    _set_times(document, envelope.sent_at, received_at)
    if message_id is not None and not has_message_id(document):
        document["messageId"] = message_id
    return document


def describe_completion(route: str, document: Any) -> str | None:
    """Describe what `complete` changed in a call; None for other routes, and for what is not an object."""
    if route not in TYPE_OF or type(document) is not dict:
        return None
    changes = [f"it was received at {document['receivedAt']}"]
    sender_time = document.get("originalTimestamp")
    if sender_time is None:
        changes.append("it had no timestamp")
    elif (corrected_micros := _micros(document["timestamp"])) != _micros(sender_time):
        changes.append(f"its timestamp, corrected from the sender's clock to ours, is {document['timestamp']}")
    elif corrected_micros is not None and _is_far(_micros(document.get("sentAt")), parse_time(document["receivedAt"])):
        changes.append("its sentAt differs from our clock by more than a day, so its timestamp is not corrected")
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
    """Merge an item's value over the batch's, object by object."""
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
    # The batch's value wins: it is that of the request, while an SDK does not change the items of a retry.
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

    A correction of more than a day is applied only where the original time cannot be right because it lies in the
    future, and the corrected one lies within the month before arrival. So no old call becomes a new one (a backfill
    gives each call's own time as `sentAt`), and no new one an old one.
    """
    corrected = received_at - (sent_at - timestamp)
    if abs(corrected - timestamp) <= _LARGE_CORRECTION:
        return corrected
    lies_ahead = timestamp > received_at + _LOOKS_AHEAD
    plausible = received_at - _LOOKS_BACK <= corrected <= received_at + _LOOKS_AHEAD
    return corrected if lies_ahead and plausible else timestamp
