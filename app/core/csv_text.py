"""Rows as CSV for spreadsheets: no text of a sender runs as a formula there."""

import csv
from collections.abc import Iterable, Sequence

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def to_cell(text: str) -> str:
    """Escape a text for spreadsheets: one that would run as a formula gets a leading apostrophe."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def to_lines(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as lines of a CSV file. None is an empty cell."""
    lines = _Lines()
    # The csv module quotes only characters of its line terminator: CRLF, so that a carriage return is quoted.
    csv.writer(lines, lineterminator="\r\n").writerows(rows)
    return "".join(line.removesuffix("\r\n") + "\n" for line in lines)


class _Lines(list[str]):
    """What the csv module writes to."""

    def write(self, line: str) -> None:
        self.append(line)
