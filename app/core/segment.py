"""What Segment sends: a request body becomes calls, each with its own bytes.

The forms are those of docs/segment.md: one object; an array (Webhooks); an array of `{"json": call}`
(Extensible Webhook); `{"batch": [...]}` (SDKs). Nothing here fails a body for the sake of one call in it.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from enum import Enum, StrEnum
from typing import Any

import msgspec

from app.core.json_oddities import describe, mask, mend
from app.core.json_spans import Checkpoint, is_whole, no_checkpoint, split_array, split_object
from app.core.json_text import MAX_DEPTH, TooDeep, decode, encode_canonical, trim, whole_digits
from app.core.outcome import Reason
from app.errors import CallRejected, TooLarge, UnparsableJson

MAX_CALL_BYTES = 1 << 20
"""1 MiB. Segment's own limit is 32 KB a call; the rest is room for senders that are not Segment. Nothing longer is
decoded, since a decoded call can take thirty times its bytes in memory."""

MAX_CALLS = 50_000
"""Calls in one body. Segment sends 4,000 at most; 16 MB of `[1,1,1,...]` would be 8 million rejected calls."""


class Shape(StrEnum):
    """How a body holds its calls."""

    SINGLE = "single"
    ARRAY = "array"
    EXTENSIBLE = "extensible"
    BATCH = "batch"


class Unread(Enum):
    """Stands for the document of a call whose bytes are not read; the value is the sentence why."""

    TOO_LARGE = f"The call is larger than {MAX_CALL_BYTES} bytes."
    OVER_TRACKING_LIMIT = "The call is larger than 32768 bytes, Segment's limit for its tracking API."
    TOO_DEEP = f"The call nests deeper than {MAX_DEPTH} levels."


class Unparsed(msgspec.Struct, frozen=True):
    """Stands for the document of a call that is no JSON, mostly for the sake of one token in it."""

    sentence: str
    """Which token, and where."""
    mended: Any = None
    """The document with null in the place of what is no JSON, for telling the call from others; None: there is none."""


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A request body, cut into calls."""

    shape: Shape
    """How the calls stood in it. An empty body is `single` with no items."""

    items: Sequence[bytes]
    """Each call's own bytes as they came; inside `{"json": ...}` the inner value's."""

    envelope: bytes | None = None
    """Of a batch: a JSON object of all that stood beside `batch`, except writeKey; values as they came. Else None."""

    documents: Sequence[Any] | None = None
    """What was decoded on the way, one for each item; None when nothing was."""

    def __iter__(self) -> Iterator[tuple[bytes, Any]]:
        """Each call's bytes and its document as `read` gives it: decoded once, and only when its turn comes."""
        if self.documents is not None:
            return zip(self.items, self.documents, strict=True)
        return ((raw, read(raw)) for raw in self.items)


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call that can be looked at by transforms. Not tracked by the garbage collector: it cannot form a cycle."""

    document: dict[str, Any]
    """The whole call."""

    type: str
    """`track`, `identify`, ...; any text that is not empty."""

    message_id: str | None
    """Segment's `messageId`, None when there is none. As long as it came, and not yet clean for a database."""

    event: str | None
    """The name of a track call; None for other types."""

    user_id: str | None
    """`userId`, for logs and look-ups."""


class Sketch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What can be told about a call that was rejected. Each field as in Call, None where it cannot be read."""

    type: str | None = None
    message_id: str | None = None
    event: str | None = None
    user_id: str | None = None


class _Outline(msgspec.Struct, gc=False):
    """The few members of an object that decide what it is, as raw text; msgspec skips the others."""

    type: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    batch: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    json: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_ABSENT = object()

_ORDINARY_CALL_BYTES = 32 << 10
"""Segment's limit for a call. A larger object is rather a batch, and is looked through before anything is decoded."""

_CALLS_BETWEEN_CHECKPOINTS = 1_000

_STARTS_WITH_JSON = re.compile(rb'\{[ \t\n\r]*"json"')


def parse_body(raw: bytes, checkpoint: Checkpoint = no_checkpoint) -> Body:
    """Cut a request body (inflated) into its calls.

    An empty body has no calls. A top-level scalar or null is one call, and every element of an array is one, whatever
    it is: `parse_call` rejects those that are none.

    An object is a batch when its `batch` is an array and it has no text as `type`. An object, of an array each element
    on its own, is unwrapped when its first key is `json`, that is an object or null, and it has no `type`.

    Raises UnparsableJson when the body is no JSON, TooLarge for more than MAX_CALLS calls, or for more than
    MAX_CALL_BYTES beside a batch. `checkpoint` is called now and then while a large body is cut.
    """
    text = trim(raw)
    if not text:
        return Body(shape=Shape.SINGLE, items=())
    if text.startswith(b"["):
        return _parse_array(text, checkpoint)
    if len(text) > _ORDINARY_CALL_BYTES and text.startswith(b"{"):
        return _parse_object(text, None, checkpoint)
    try:
        document = _read_only_call(text, checkpoint)
    except UnparsableJson as error:
        if not text.startswith(b"{"):
            raise
        try:
            return _parse_object(text, None, checkpoint)  # it may be a batch in which one call is not UTF-8
        except UnparsableJson:
            raise error from None  # the first one knows the place
    if type(document) is dict and "batch" not in document and "json" not in document:
        return Body(shape=Shape.SINGLE, items=(text,), documents=(document,))
    return (
        _parse_object(text, document, checkpoint)
        if text.startswith(b"{")
        else _one_call(Shape.SINGLE, text, document, checkpoint)
    )


def read(raw: bytes) -> Any:
    """Decode one call's bytes, fresh or kept, into what `parse_call` and `sketch` take.

    Never fails: gives an `Unread` where the bytes are too many or nest too deep, an `Unparsed` where they are no JSON.
    """
    if len(raw) > MAX_CALL_BYTES:
        return Unread.TOO_LARGE
    try:
        return decode(raw)
    except TooDeep:
        return Unread.TOO_DEEP
    except UnparsableJson as error:
        return _unparsed(raw, error)


def parse_call(raw: bytes, document: Any) -> Call:
    """Check one call: its bytes and its document, from iterating a Body or from `read`.

    Raises CallRejected with a `Reason` and a sentence that names the field and what came, never the value.
    """
    if len(raw) > MAX_CALL_BYTES:
        raise CallRejected(Reason.CALL_TOO_LARGE, Unread.TOO_LARGE.value)
    if type(document) is not dict:
        raise _no_document(document)
    kind = document.get("type")
    if type(kind) is not str or not kind:
        raise CallRejected(Reason.TYPE_MISSING, f"`type` must be text, such as track; it is {_name(document, 'type')}.")
    event = None
    if kind == "track":
        event = document.get("event")
        if type(event) is not str or not event:
            raise _no_event(document)
        properties = document.get("properties")
        if properties is not None and type(properties) is not dict:
            raise CallRejected(
                Reason.PROPERTIES_NOT_OBJECT,
                f"`properties` must be an object; it is {_name(document, 'properties')}.",
            )
    return Call(
        document=document,
        type=kind,
        message_id=_id(document.get("messageId")),
        event=event,
        user_id=_id(document.get("userId")),
    )


def sketch(document: Any) -> Sketch:
    """What a log line can say of a call that `parse_call` rejects. Takes any document, and never fails."""
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


_decode_outline = msgspec.json.Decoder(_Outline).decode


def _parse_array(text: bytes, checkpoint: Checkpoint) -> Body:
    items = split_array(text, MAX_CALLS, checkpoint)
    shape = Shape.ARRAY
    for index, item in enumerate(items):
        if index % _CALLS_BETWEEN_CHECKPOINTS == 0:
            checkpoint()
        if _STARTS_WITH_JSON.match(item):
            inner = _inner(_outline(item, checkpoint))
            if inner is not None:
                items[index] = inner
                shape = Shape.EXTENSIBLE
    return Body(shape=shape, items=items)


def _parse_object(text: bytes, document: Any, checkpoint: Checkpoint) -> Body:
    """An object that may hold calls: its text, and its document if that was already decoded."""
    members = _outline(text, checkpoint)
    known = document if type(document) is dict else {}
    batch = members.get("batch", b"")
    if batch.startswith(b"[") and not members.get("type", b"").startswith(b'"'):
        return _parse_batch(text, batch, known.get("batch"), checkpoint)
    inner = _inner(members) if _STARTS_WITH_JSON.match(text) else None
    if inner is None:
        return _one_call(Shape.SINGLE, text, document, checkpoint)
    return _one_call(Shape.EXTENSIBLE, inner, known.get("json"), checkpoint)


def _outline(text: bytes, checkpoint: Checkpoint) -> dict[str, bytes]:
    """The raw text of `type`, `batch` and `json`, those of them that an object has. Raises UnparsableJson."""
    try:
        outline = _decode_outline(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return split_object(text, checkpoint)
    members = {"type": outline.type, "batch": outline.batch, "json": outline.json}
    return {key: bytes(value) for key, value in members.items() if value is not msgspec.UNSET}


def _inner(outline: dict[str, bytes]) -> bytes | None:
    """The raw text of the call inside `{"json": call}`, or None when the object is no such wrapping."""
    inner = outline.get("json", b"")
    return inner if "type" not in outline and (inner.startswith(b"{") or inner == b"null") else None


def _parse_batch(text: bytes, batch: bytes, documents: Sequence[Any] | None, checkpoint: Checkpoint) -> Body:
    if len(text) - len(batch) > MAX_CALL_BYTES:
        raise TooLarge(f"What stands beside `batch` is larger than {MAX_CALL_BYTES} bytes.")
    beside = {key: value for key, value in split_object(text, checkpoint).items() if key not in ("batch", "writeKey")}
    envelope = b"{" + b",".join(encode_canonical(key) + b":" + value for key, value in beside.items()) + b"}"
    # What is kept of a request must be readable, but for its tokens: the calls for which it counts are rejected.
    decode(mask(envelope, checkpoint))
    return Body(
        shape=Shape.BATCH, items=split_array(batch, MAX_CALLS, checkpoint), envelope=envelope, documents=documents
    )


def _one_call(shape: Shape, text: bytes, document: Any, checkpoint: Checkpoint) -> Body:
    read_document = _read_only_call(text, checkpoint) if document is None else document
    return Body(shape=shape, items=(text,), documents=(read_document,))


def _read_only_call(text: bytes, checkpoint: Checkpoint) -> Any:
    """As `read`, but what has not even the structure of JSON, or is no object, refuses the request: it is no call.

    Raises UnparsableJson.
    """
    if len(text) > MAX_CALL_BYTES:
        return Unread.TOO_LARGE
    try:
        return decode(text)
    except TooDeep:
        split_object(text, checkpoint)  # only an object gets here; raises when it is not even whole
        return Unread.TOO_DEEP
    except UnparsableJson as error:
        if not text.startswith(b"{") or not is_whole(text, checkpoint):
            raise
        return _unparsed(text, error)


def _unparsed(raw: bytes, error: UnparsableJson) -> Unparsed:
    mended = None
    with contextlib.suppress(UnparsableJson):
        mended = decode(mend(raw))
    return Unparsed(describe(raw) or error.message.replace("The body", "The call", 1), mended)


def _no_document(document: Any) -> CallRejected:
    if isinstance(document, Unread):
        return CallRejected(Reason.CALL_TOO_LARGE, document.value)
    if type(document) is Unparsed:
        return CallRejected(Reason.UNSTORABLE, document.sentence)
    return CallRejected(
        Reason.NOT_AN_OBJECT, f"A call must be an object; this is {_KINDS.get(type(document), 'none')}."
    )


def _no_event(document: dict[str, Any]) -> CallRejected:
    event = document.get("event")
    reason = Reason.EVENT_MISSING if event is None or event == "" else Reason.EVENT_NOT_STRING
    return CallRejected(reason, f"`event` of a track call must be text; it is {_name(document, 'event')}.")


_KINDS: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _name(document: dict[str, Any], key: str) -> str:
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
