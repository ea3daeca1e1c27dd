"""Text for people: plural forms, and what a terminal or a log can show of what a sender wrote."""

import json
from typing import Any

import msgspec


def counted(number: int, noun: str, nouns: str | None = None) -> str:
    """Write a number with what it counts: `1 call`, `1,200 calls`; `nouns` is the plural where it is no `noun` + s."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def printable(text: str) -> str:
    """Return `text` without what would move the cursor or ring the bell of whoever reads it: a sender wrote it."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def readable(value: Any) -> Any:
    """Return a value in which each half of a surrogate pair is a question mark, so that UTF-8 can hold it."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {readable(key): readable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [readable(inner) for inner in value]
    return value


def json_lines(text: bytes) -> list[str]:
    """JSON on several lines with its numbers and escapes as they were written; what is no JSON as it is."""
    try:
        pretty = msgspec.json.format(text, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pretty = text.decode(errors="backslashreplace")
    return [f"  {printable(line)}" for line in pretty.split("\n")]


def schema_text(schema: dict[str, Any]) -> str:
    """Return a JSON Schema as it stands in `docs/`, ready to be written to a file."""
    return json.dumps(schema, indent=2) + "\n"
