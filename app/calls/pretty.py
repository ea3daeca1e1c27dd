"""The bytes of a call, laid out for people."""

from typing import Any

import msgspec

from app.core.json_numbers import NotFinite
from app.core.json_text import MAX_DEPTH, decode, encode_canonical
from app.errors import UnparsableJson

SHOWN_BYTES = 65_536
"""Twice Segment's limit; of a longer call only the beginning is shown, not laid out."""


class Pretty(msgspec.Struct, frozen=True, kw_only=True):
    """A text to show."""

    text: str
    size: int
    """Bytes of the whole value."""
    cut: bool
    """Whether `text` is only the beginning."""
    note: str | None
    """Why it is not laid out as JSON."""


def to_pretty(raw: bytes) -> Pretty:
    r"""Indent JSON, keeping its numbers and key order; return other text as it is, and non-UTF-8 bytes as \xff."""
    if len(raw) > SHOWN_BYTES:
        text = raw[:SHOWN_BYTES].decode(errors="backslashreplace")
        return Pretty(text=text, size=len(raw), cut=True, note=None)
    try:
        # `decode` accepts what senders really send, and rejects nesting so deep that indenting it costs megabytes.
        decode(raw)
        text = msgspec.json.format(raw.decode("utf-8-sig"), indent=2)
        return Pretty(text=text, size=len(raw), cut=False, note=None)
    except UnicodeDecodeError:
        note = "This is not UTF-8 text: bytes that are not characters are shown as \\x and two digits."
    except (UnparsableJson, msgspec.DecodeError, RecursionError):
        note = f"This is not JSON, or nests deeper than {MAX_DEPTH} levels: it is shown as received."
    return Pretty(text=raw.decode(errors="backslashreplace"), size=len(raw), cut=False, note=note)


def to_value_text(value: Any, chars: int) -> str:
    """Return a JSON value on one line, cut to `chars` characters."""
    try:
        text = encode_canonical(value).decode()
    except NotFinite:
        text = str(value)
    return text if len(text) <= chars else f"{text[:chars]}\N{HORIZONTAL ELLIPSIS}"
