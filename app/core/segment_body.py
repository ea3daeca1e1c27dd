"""Cuts a request body into its calls, each with its original bytes.

The forms are those of Segment's destinations and libraries: one object; an array (Webhooks); an array of
`{"json": call}` (Extensible Webhook); `{"batch": [...]}` (SDKs). One bad call never makes the whole body fail.
"""

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from app.core.json_oddities import Checkpoint, mask, no_checkpoint
from app.core.json_spans import is_whole, split_array, split_object
from app.core.json_text import TooDeep, decode, encode_canonical, trim
from app.core.segment import MAX_CALL_BYTES, Unread, read, to_unparsed
from app.errors import TooLarge, UnparsableJson

MAX_CALLS = 50_000
"""Calls in one body. Segment sends 4,000 at most; 16 MB of `[1,1,1,...]` would be 8 million rejected calls."""


class Shape(StrEnum):
    """How a body holds its calls."""

    SINGLE = "single"
    ARRAY = "array"
    EXTENSIBLE = "extensible"
    BATCH = "batch"


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A request body, cut into calls."""

    shape: Shape
    """How the body held its calls. An empty body is `single` with no items."""

    items: Sequence[bytes]
    """Each call's bytes as received; inside `{"json": ...}`, those of the inner value."""

    envelope: bytes | None = None
    """For a batch: a JSON object of the members beside `batch`, except writeKey, values as received. Else None."""

    documents: Sequence[Any] | None = None
    """The documents, one per item, if the body had to be decoded to be cut; else None."""

    def __iter__(self) -> Iterator[tuple[bytes, Any]]:
        """Yield each call's bytes and its document as from `read`: decoded once, and only when it is reached."""
        if self.documents is not None:
            return zip(self.items, self.documents, strict=True)
        return ((raw, read(raw)) for raw in self.items)


class _Outline(msgspec.Struct, gc=False):
    """The members that decide whether an object is a batch, as raw text; msgspec skips the others."""

    type: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    batch: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    json: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_ORDINARY_CALL_BYTES = 32 << 10
"""Segment's limit for a call. A larger object is probably a batch, and its outline is read before decoding it."""

_CALLS_BETWEEN_CHECKPOINTS = 1_000

_STARTS_WITH_JSON = re.compile(rb'\{[ \t\n\r]*"json"')


def parse_body(raw: bytes, checkpoint: Checkpoint = no_checkpoint) -> Body:
    """Cut a request body (inflated) into its calls.

    An empty body has no calls. A top-level scalar or null is one call, and so is every element of an array, whatever it
    is: `parse_call` rejects those that are not calls.

    An object is a batch if its `batch` is an array and its `type` is not text. An object, or each element of an array,
    is unwrapped if its first key is `json`, with an object or null as value, and it has no `type`.

    Raises UnparsableJson when the body is not JSON, TooLarge for more than MAX_CALLS calls or more than MAX_CALL_BYTES
    beside a batch. `checkpoint` is called regularly while a large body is cut.
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
            raise error from None  # the first error has the position
    if type(document) is dict and "batch" not in document and "json" not in document:
        return Body(shape=Shape.SINGLE, items=(text,), documents=(document,))
    return (
        _parse_object(text, document, checkpoint)
        if text.startswith(b"{")
        else _one_call(Shape.SINGLE, text, document, checkpoint)
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
    """Cut an object that may hold calls; `document` is the decoded `text`, or None if it was not decoded yet."""
    members = _outline(text, checkpoint)
    decoded = document if type(document) is dict else {}
    batch = members.get("batch", b"")
    if batch.startswith(b"[") and not members.get("type", b"").startswith(b'"'):
        return _parse_batch(text, batch, decoded.get("batch"), checkpoint)
    inner = _inner(members) if _STARTS_WITH_JSON.match(text) else None
    if inner is None:
        return _one_call(Shape.SINGLE, text, document, checkpoint)
    return _one_call(Shape.EXTENSIBLE, inner, decoded.get("json"), checkpoint)


def _outline(text: bytes, checkpoint: Checkpoint) -> dict[str, bytes]:
    """Return the raw text of those of `type`, `batch` and `json` that an object has. Raises UnparsableJson."""
    try:
        outline = _decode_outline(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return split_object(text, checkpoint)
    members = {"type": outline.type, "batch": outline.batch, "json": outline.json}
    return {key: bytes(value) for key, value in members.items() if value is not msgspec.UNSET}


def _inner(outline: dict[str, bytes]) -> bytes | None:
    """Return the raw text of the call inside `{"json": call}`; None when the object is not wrapped like that."""
    inner = outline.get("json", b"")
    return inner if "type" not in outline and (inner.startswith(b"{") or inner == b"null") else None


def _parse_batch(text: bytes, batch: bytes, documents: Sequence[Any] | None, checkpoint: Checkpoint) -> Body:
    if len(text) - len(batch) > MAX_CALL_BYTES:
        raise TooLarge(f"The data beside `batch` is larger than {MAX_CALL_BYTES} bytes.")
    beside = {key: value for key, value in split_object(text, checkpoint).items() if key not in ("batch", "writeKey")}
    envelope = b"{" + b",".join(encode_canonical(key) + b":" + value for key, value in beside.items()) + b"}"
    # The stored envelope must have the structure of JSON; a bad token in it only rejects the calls that use it.
    decode(mask(envelope, checkpoint))
    return Body(
        shape=Shape.BATCH, items=split_array(batch, MAX_CALLS, checkpoint), envelope=envelope, documents=documents
    )


def _one_call(shape: Shape, text: bytes, document: Any, checkpoint: Checkpoint) -> Body:
    read_document = _read_only_call(text, checkpoint) if document is None else document
    return Body(shape=shape, items=(text,), documents=(read_document,))


def _read_only_call(text: bytes, checkpoint: Checkpoint) -> Any:
    """Read the only call of a body as `read` does, but raise UnparsableJson where it cannot be a call at all.

    That is: where it lacks the structure of JSON, or is not JSON and no object either.
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
        return to_unparsed(text, error)
