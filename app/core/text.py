"""Text for people: plural forms, and senders' text made safe for terminals, logs and pages."""

import json
import re
from collections.abc import Collection, Sequence
from typing import Any

import msgspec


def counted(number: int, noun: str, nouns: str | None = None) -> str:
    """Write a number with its noun: `1 call`, `1,200 calls`; `nouns` is the plural where it is not `noun` + s."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def short(digest: bytes | str | None) -> str:
    """Return the digits by which people recognize a version: the first 12 of its digest; without one, no text."""
    return ((digest.hex() if isinstance(digest, bytes) else digest) or "")[:12]


def printable(text: str) -> str:
    """Replace control characters in a sender's text, so that it cannot move a terminal's cursor or ring its bell."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def printable_lines(text: str) -> str:
    """Return a text of several lines with the control characters in its lines replaced."""
    return "\n".join(map(printable, text.split("\n")))


def table_lines(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Return rows as the lines of a table for a terminal; `right` are the columns aligned on their right side."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        printable(
            "  ".join(
                f"{text:{'>' if at in right else '<'}{width}}"
                for at, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
        )
        for row in rows
    ]


def readable(value: Any) -> Any:
    """Replace each lone surrogate in a value by a question mark, so that UTF-8 can hold it."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {readable(key): readable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [readable(inner) for inner in value]
    return value


def json_lines(text: bytes) -> list[str]:
    """Return JSON as indented lines, numbers and escapes as written; text that is not JSON unchanged."""
    try:
        pretty = msgspec.json.format(text, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pretty = text.decode(errors="backslashreplace")
    return [f"  {printable(line)}" for line in pretty.split("\n")]


def schema_text(schema: dict[str, Any]) -> str:
    """Return a JSON Schema as text, as in `docs/`, ready to be written to a file."""
    return json.dumps(schema, indent=2) + "\n"


# Control characters except tab and newline, direction marks, byte order mark, surrogates, noncharacters.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufdd0-\ufdef\ufff9-\uffff"
    "\ud800-\udfff" + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(1, 17)) + "]"
)


def to_visible(text: str) -> str:
    r"""Return a text in which every character is visible: what a browser hides, reorders or refuses is escaped.

    Control characters are not valid HTML, and a direction mark could make one value look like another. The escapes are
    those of JSON, such as \u202e, so what is shown is still what was received.
    """
    return text if text.isascii() and text.isprintable() else _HIDDEN.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"  # noqa: PLR2004  the basic plane
