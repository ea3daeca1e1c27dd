"""The bytes of a call as people read them."""

from typing import Any

import msgspec

from app.core.json_numbers import NotFinite
from app.core.json_text import MAX_DEPTH, decode, encode_canonical
from app.errors import UnparsableJson

SHOWN_BYTES = 65_536
"""Twice what Segment sends at most; of more, the beginning is shown as it is."""


class Pretty(msgspec.Struct, frozen=True, kw_only=True):
    """A text to be shown."""

    text: str
    size: int
    """Bytes of the whole."""
    cut: bool
    """There is more than this."""
    note: str | None
    """Why it is not laid out as JSON."""


def to_pretty(raw: bytes) -> Pretty:
    r"""Lay out JSON, with its numbers and its order of keys as they came; else give the text, or bytes as \xff."""
    if len(raw) > SHOWN_BYTES:
        text = raw[:SHOWN_BYTES].decode(errors="backslashreplace")
        return Pretty(text=text, size=len(raw), cut=True, note=None)
    try:
        # `decode` takes what senders do send, and refuses what nests so deep that laying it out costs megabytes.
        decode(raw)
        text = msgspec.json.format(raw.decode("utf-8-sig"), indent=2)
        return Pretty(text=text, size=len(raw), cut=False, note=None)
    except UnicodeDecodeError:
        note = "This is no text in UTF-8: what is no character is shown as \\x and two digits."
    except (UnparsableJson, msgspec.DecodeError, RecursionError):
        note = f"This is no JSON, or nests deeper than {MAX_DEPTH} levels: it is shown as it came."
    return Pretty(text=raw.decode(errors="backslashreplace"), size=len(raw), cut=False, note=note)


def to_value_text(value: Any, chars: int) -> str:
    """Return a JSON value on one line, cut to so many characters."""
    try:
        text = encode_canonical(value).decode()
    except NotFinite:
        text = str(value)
    return text if len(text) <= chars else f"{text[:chars]}\N{HORIZONTAL ELLIPSIS}"
