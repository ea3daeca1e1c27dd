"""Text for people: plural forms, and senders' text made safe for terminals and logs."""

import json
from typing import Any

import msgspec


def counted(number: int, noun: str, nouns: str | None = None) -> str:
    """Write a number with its noun: `1 call`, `1,200 calls`; `nouns` is the plural where it is not `noun` + s."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def printable(text: str) -> str:
    """Replace control characters in a sender's text, so that it cannot move a terminal's cursor or ring its bell."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


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
    """Return a JSON Schema as it stands in `docs/`, ready to be written to a file."""
    return json.dumps(schema, indent=2) + "\n"
