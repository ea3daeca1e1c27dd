"""Writes lists as CSV for spreadsheets, and names the files. A text that a spreadsheet would run is made harmless."""

import csv
import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo

from app.zones import to_local

_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""What a spreadsheet may run as a formula, their full-width forms too. After apostrophes: so `to_plain` is exact."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_PART_CHARS = 60


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, text: str) -> str:
        return text


_CRLF = "\r\n"
# The csv module quotes only characters of its line terminator: CRLF, so that a carriage return is quoted.
_WRITER = csv.writer(_Echo(), lineterminator=_CRLF)


def to_csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as lines of a CSV file. None is an empty cell. Texts of senders have to be `to_cell` already."""
    return "".join(f"{str(_WRITER.writerow(row)).removesuffix(_CRLF)}\n" for row in rows)


def to_cell(text: str | None) -> str:
    """Return a text as a cell: one that would run as a formula gets a leading apostrophe; None is empty."""
    if text is None:
        return ""
    return f"'{text}" if _FORMULA.match(text) else text


def to_plain(cell: str) -> str:
    """Return the text of a cell; the inverse of `to_cell`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def to_file_name(*parts: str | None, suffix: str) -> str:
    """Return a file name of these parts in characters that are safe everywhere; empty parts are left out."""
    safe = [_UNSAFE.sub("-", part).strip("-.")[:_PART_CHARS] for part in parts if part]
    return f"{'_'.join(filter(None, safe)) or 'list'}{suffix}"


def to_name_part(zone: tzinfo, micros: int | None) -> str | None:
    """Return a moment as part of a file name: `2026-10-01`, or `2026-10-01T143000` where no day begins in the zone."""
    if micros is None:
        return None
    return to_local(zone, micros)[:19].removesuffix("T00:00:00").replace(":", "")
