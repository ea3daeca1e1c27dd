"""NDJSON and CSV: the lines of a file become JSON objects, or the reason why one does not.

A cell of CSV is text in the columns of TEXT_COLUMNS. Elsewhere it is JSON if it can be read as that (`12`, `true`,
`[1,2]`), else text; an empty cell is left out.
"""

import csv
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

import msgspec

from app.backfill.source import Source, TextLine
from app.core.json_numbers import is_finite
from app.core.json_text import decode, encode, trim
from app.core.segment import MAX_CALL_BYTES, read
from app.errors import FileInvalid, UnparsableJson


class Format(StrEnum):
    """How a file holds its calls or events."""

    NDJSON = "ndjson"
    CSV = "csv"


class Content(StrEnum):
    """What a file holds."""

    CALLS = "calls"
    EVENTS = "events"


class FileRow(msgspec.Struct, frozen=True, gc=False):
    """One call or event of a file."""

    line: int
    """Where it begins, from 1."""
    raw: bytes
    """Its JSON: the line itself, or what became of the cells."""
    document: Any
    """The JSON, decoded as `app.core.segment.read` does."""


class BadLine(msgspec.Struct, frozen=True):
    """A line that cannot be loaded."""

    line: int
    why: str
    path: str | None = None
    """The field at fault."""


TEXT_COLUMNS = frozenset(
    {
        *("messageId", "type", "event", "userId", "anonymousId", "groupId", "previousId", "name", "category"),
        *("timestamp", "originalTimestamp", "sentAt", "receivedAt"),
        *("event_name", "idempotency_id", "customer_id", "time_created"),
    }
)
"""Ids, names and times: `1e5` and `007` stay what they are."""

REQUIRED = {
    Content.CALLS: ("messageId", "type", "timestamp"),
    Content.EVENTS: ("event_name", "idempotency_id", "customer_id", "time_created"),
}

_FIELDS_OF_EVENTS = {*REQUIRED[Content.EVENTS], "properties"}

_COLUMNS_MAX = 1000
_BEGINS_JSON = frozenset('-0123456789{["tfn')
_TOO_LONG = f"it is longer than {MAX_CALL_BYTES:,} bytes"


def read_rows(
    source: Source, format_: Format, content: Content, advance: Callable[[int], object] = lambda _bytes: None
) -> Iterator[FileRow | BadLine]:
    """Yield what stands in a file, in order, without blank lines. `advance` gets how many bytes of it were read.

    Raises:
        FileInvalid: as `Source.lines`; or its header cannot be used.

    """
    lines = source.lines(advance)
    return _read_ndjson(lines) if format_ is Format.NDJSON else _read_csv(source.name, lines, content)


def _read_ndjson(lines: Iterator[TextLine]) -> Iterator[FileRow | BadLine]:
    for number, line in lines:
        if line is None:
            yield BadLine(number, _TOO_LONG)
            continue
        raw = trim(line)
        if not raw:
            continue
        yield _find_foreign(number, line) or FileRow(number, raw, read(raw))


def _find_foreign(number: int, line: bytes) -> BadLine | None:
    """Return what is wrong with a line that is not UTF-8."""
    if line.isascii():
        return None
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return BadLine(number, f"byte {line[error.start]:02x} at column {error.start + 1} is not UTF-8")
    return None


class _Texts:
    """The lines of a file as text for the csv module, which reads several where a cell has line breaks."""

    def __init__(self, lines: Iterator[TextLine]) -> None:
        self._lines = lines
        self.number = 0
        """Of the line that was read last."""

    def __iter__(self) -> "_Texts":
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        if line is None:
            raise _Unreadable(BadLine(self.number, _TOO_LONG))
        if (foreign := _find_foreign(self.number, line)) is not None:
            raise _Unreadable(foreign)
        return line.decode() + "\n"


class _Unreadable(Exception):
    def __init__(self, bad: BadLine) -> None:
        super().__init__(bad)
        self.bad = bad


def _read_csv(name: str, lines: Iterator[TextLine], content: Content) -> Iterator[FileRow | BadLine]:
    csv.field_size_limit(MAX_CALL_BYTES)
    texts = _Texts(lines)
    reader = csv.reader(texts, strict=True)
    columns: list[str] | None = None
    while True:
        begins = texts.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (_Unreadable, csv.Error) as error:
            bad = error.bad if isinstance(error, _Unreadable) else BadLine(begins, f"it is no CSV: {error}")
            if columns is None:
                raise FileInvalid(f"{name}: the header, line {bad.line}: {bad.why}") from error
            yield bad
            continue
        if not any(cells):
            continue
        if columns is None:
            columns = cells
            paths = _parse_header(name, begins, columns, content)
        elif len(cells) != len(columns):
            yield BadLine(begins, f"it has {len(cells):,} cells, and the header {len(columns):,}")
        else:
            yield _to_row(begins, columns, paths, cells)


def _parse_header(name: str, number: int, columns: list[str], content: Content) -> list[tuple[str, ...]]:
    """Return the path of each column. Raises FileInvalid."""

    def refuse(why: str) -> FileInvalid:
        return FileInvalid(f"{name}: the header, line {number}: {why}")

    if len(columns) > _COLUMNS_MAX:
        raise refuse(f"it has {len(columns):,} columns: {_COLUMNS_MAX:,} at most")
    if missing := [column for column in REQUIRED[content] if column not in columns]:
        hint = "; cells are separated by commas" if len(columns) == 1 else ""
        raise refuse(f"there is no column {missing[0]}{hint}")
    paths = [tuple(column.split(".")) for column in columns]
    for at, (column, path) in enumerate(zip(columns, paths, strict=True)):
        if not all(path):
            raise refuse(f"column {at + 1}, {column[:40]!a}, is no path such as properties.tokens")
        if columns.index(column) != at:
            raise refuse(f"the column {column[:40]!a} is there twice")
        if content is Content.EVENTS and path[0] not in _FIELDS_OF_EVENTS:
            raise refuse(f"an event has no {column[:40]!a}: write properties.{column[:40]}")
        for other in paths:
            if other != path and other[: len(path)] == path:
                raise refuse(f"the column {column[:40]!a} holds {'.'.join(other)[:40]!a}, which is there, too")
    return paths


def _to_row(number: int, columns: list[str], paths: list[tuple[str, ...]], cells: list[str]) -> FileRow | BadLine:
    document: dict[str, Any] = {}
    for column, path, cell in zip(columns, paths, cells, strict=True):
        if not cell:
            continue
        value = cell if column in TEXT_COLUMNS else to_value(cell)
        if not is_finite(value):
            return BadLine(number, "the number is too large", column)
        place = document
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value
    raw = encode(document)
    if len(raw) > MAX_CALL_BYTES:
        return BadLine(number, _TOO_LONG)
    return FileRow(number, raw, read(raw))


def to_value(cell: str) -> Any:
    """Return the value of a cell: JSON if it can be read as that, else its text."""
    if cell[0] not in _BEGINS_JSON:
        return cell
    try:
        return decode(cell.encode())
    except UnparsableJson:
        return cell
