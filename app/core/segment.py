"""Decodes and checks one Segment call."""

import contextlib
from enum import Enum
from typing import Any

import msgspec

from app.core.json_numbers import whole_digits
from app.core.json_oddities import Oddity, describe, mend
from app.core.json_text import MAX_DEPTH, TooDeep, decode
from app.core.outcome import Reason
from app.errors import CallRejected, UnparsableJson

MAX_CALL_BYTES = 1 << 20
"""1 MiB. Segment's own limit is 32 KB a call; the rest is room for senders that are not Segment. Nothing longer is
decoded, since a decoded call can take thirty times its bytes in memory."""


class Unread(Enum):
    """Stands for the document of a call that is not decoded; the value is the error sentence."""

    TOO_LARGE = f"The call is larger than {MAX_CALL_BYTES} bytes."
    OVER_TRACKING_LIMIT = "The call is larger than 32768 bytes, Segment's limit for its tracking API."
    TOO_DEEP = f"The call nests deeper than {MAX_DEPTH} levels."


class Unparsed(msgspec.Struct, frozen=True):
    """Stands for the document of a call that is not JSON, usually because of one token."""

    sentence: str
    """Which token, and where."""
    path: str
    kind: str
    """The sentence without what differs from call to call."""
    mended: Any = None
    """The document with null for each token that is not JSON, to identify the call; None if that fails too."""


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One valid call, ready for transforms. Not tracked by the garbage collector: it cannot form a cycle."""

    document: dict[str, Any]
    """The whole call."""

    type: str
    """`track`, `identify`, ...; any text that is not empty."""

    message_id: str | None
    """Segment's `messageId`, or None. Neither shortened nor cleaned for a database."""

    event: str | None
    """The name of a track call; None for other types."""

    user_id: str | None
    """`userId`, for logs and look-ups."""


class Sketch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The readable fields of a rejected call. Each as in Call; None if it cannot be read."""

    type: str | None = None
    message_id: str | None = None
    event: str | None = None
    user_id: str | None = None


_ABSENT = object()


def read(raw: bytes) -> Any:
    """Decode one call's bytes, new or stored, into the document that `parse_call` and `sketch` take.

    Never fails: returns an `Unread` for too many bytes or too many levels, an `Unparsed` for what is not JSON.
    """
    if len(raw) > MAX_CALL_BYTES:
        return Unread.TOO_LARGE
    try:
        return decode(raw)
    except TooDeep:
        return Unread.TOO_DEEP
    except UnparsableJson as error:
        return to_unparsed(raw, error)


def parse_call(raw: bytes, document: Any) -> Call:
    """Check one call: its bytes, and its document from iterating a Body or from `read`.

    Raises CallRejected with a `Reason` and a sentence that names the field and its type, never its value.
    """
    if len(raw) > MAX_CALL_BYTES:
        raise CallRejected(Reason.CALL_TOO_LARGE, Unread.TOO_LARGE.value)
    if type(document) is not dict:
        raise _document_error(document)
    kind = document.get("type")
    if type(kind) is not str or not kind:
        raise CallRejected(
            Reason.TYPE_MISSING,
            f"`type` must be text, such as track; it is {_value_kind(document, 'type')}.",
            path="type",
        )
    event = None
    if kind == "track":
        event = document.get("event")
        if type(event) is not str or not event:
            raise _event_error(document)
        properties = document.get("properties")
        if properties is not None and type(properties) is not dict:
            raise CallRejected(
                Reason.PROPERTIES_NOT_OBJECT,
                f"`properties` must be an object; it is {_value_kind(document, 'properties')}.",
                path="properties",
            )
    return Call(
        document=document,
        type=kind,
        message_id=_id(document.get("messageId")),
        event=event,
        user_id=_id(document.get("userId")),
    )


def sketch(document: Any) -> Sketch:
    """Return the readable fields of a call that `parse_call` rejects. Takes any document, and never fails."""
    if type(document) is Unparsed:
        document = document.mended
    if type(document) is not dict:
        return Sketch()
    kind = document.get("type")
    event = document.get("event")
    return Sketch(
        type=kind if isinstance(kind, str) and kind else None,
        message_id=_id(document.get("messageId")),
        event=event if isinstance(event, str) and event else None,
        user_id=_id(document.get("userId")),
    )


def to_unparsed(raw: bytes, error: UnparsableJson) -> Unparsed:
    """Describe a call that `decode` refused with `error`: the faulty token, and what can still be read."""
    mended = None
    with contextlib.suppress(UnparsableJson):
        mended = decode(mend(raw))
    oddity = describe(raw) or Oddity(error.message.replace("The body", "The call", 1), "", "The call is not JSON")
    return Unparsed(*oddity, mended)


def _document_error(document: Any) -> CallRejected:
    if isinstance(document, Unread):
        return CallRejected(Reason.CALL_TOO_LARGE, document.value)
    if type(document) is Unparsed:
        return CallRejected(Reason.UNSTORABLE, document.sentence, path=document.path, kind=document.kind)
    return CallRejected(
        Reason.NOT_AN_OBJECT, f"A call must be an object; this is {_KINDS.get(type(document), 'none')}."
    )


def _event_error(document: dict[str, Any]) -> CallRejected:
    event = document.get("event")
    reason = Reason.EVENT_MISSING if event is None or event == "" else Reason.EVENT_NOT_STRING
    sentence = f"`event` of a track call must be text; it is {_value_kind(document, 'event')}."
    return CallRejected(reason, sentence, path="event")


_KINDS: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _value_kind(document: dict[str, Any], key: str) -> str:
    value = document.get(key, _ABSENT)
    if value is _ABSENT:
        return "missing"
    return "empty" if value == "" else _KINDS[type(value)]


def _id(value: Any) -> str | None:
    """An id as text: a whole number without its `.0`; None for "" and for what is neither text nor a finite number."""
    if type(value) is str:
        return value or None
    if type(value) is int:
        return str(value)
    if type(value) is float and value - value == 0:
        return str(whole_digits(value)) if value.is_integer() else repr(value)
    return None
