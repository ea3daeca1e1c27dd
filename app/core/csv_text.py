"""CSV for spreadsheets: lines of cells, none of which a spreadsheet would run."""

import csv
from collections.abc import Iterable, Sequence

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class _Lines:
    """A file for the csv module that keeps what is written."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line.removesuffix("\r\n"))


def to_cell(text: str) -> str:
    """Escape a text for spreadsheets: one that would run as a formula gets a leading apostrophe."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def csv_lines(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as lines of CSV."""
    kept = _Lines()
    # The csv module quotes only characters of its line terminator: CRLF, so that a carriage return is quoted.
    csv.writer(kept, lineterminator="\r\n").writerows(rows)
    return "\n".join([*kept.lines, ""])
