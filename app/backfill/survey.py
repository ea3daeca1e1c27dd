"""The first pass over a file: every line is checked before anything of it is loaded."""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from app.backfill.formats import BadLine, Content, FileRow, Format, read_rows
from app.backfill.repeats import Repeats
from app.backfill.source import Source
from app.core.native import NativeEvent, check_event
from app.core.segment import parse_call
from app.core.times import TimeInvalid, parse_time
from app.errors import CallFailed, EventInvalid, FileInvalid
from app.store.record import to_key

SHOWN = 20
"""Bad lines that are shown; `--bad` writes all of them."""


@dataclass(slots=True, kw_only=True)
class Survey:
    """What a file holds."""

    rows: int = 0
    """Calls or events, with the bad ones."""
    bad: "array[int]" = field(default_factory=lambda: array("Q"))
    """The numbers of the bad lines, ascending: eight bytes each."""
    first: list[BadLine] = field(default_factory=list)
    """The first of them."""

    def note(self, bad_line: BadLine) -> None:
        """Take down a bad line."""
        self.bad.append(bad_line.line)
        self.first.append(bad_line)
        if len(self.first) > 2 * SHOWN:
            self._shorten()

    def _shorten(self) -> None:
        self.first = sorted(self.first, key=lambda bad_line: bad_line.line)[:SHOWN]

    def close(self) -> None:
        """Put the bad lines in order."""
        self._shorten()
        self.bad = array("Q", sorted(self.bad))


def check_source(
    source: Source,
    format_: Format,
    content: Content,
    *,
    note_bad: Callable[[BadLine], object],
    advance: Callable[[int], object],
) -> Survey:
    """Check every line of a file.

    `note_bad` gets each bad line, those with an id of an earlier line last; `advance` how many bytes were read.

    Raises:
        FileInvalid: the file as a whole cannot be used, or nothing stands in it.

    """
    survey = Survey()
    check, id_name = _CHECKS[content]

    def note(bad_line: BadLine) -> None:
        survey.note(bad_line)
        note_bad(bad_line)

    with Repeats() as repeats:
        for row in read_rows(source, format_, content, advance):
            survey.rows += 1
            checked = row if isinstance(row, BadLine) else check(row)
            if isinstance(checked, BadLine):
                note(checked)
            else:
                repeats.add(checked, row.line)
        for line, first in repeats.find():
            note(BadLine(line, f"line {first:,} has the same {id_name}", id_name))
    if not survey.rows:
        raise FileInvalid(f"{source.name} holds no {content.value}")
    survey.close()
    return survey


def read_good(source: Source, format_: Format, content: Content, bad: "array[int]", after: int) -> Iterator[FileRow]:
    """Yield the good rows behind the line `after`. Raises FileInvalid."""
    bad_lines = iter(bad)
    next_bad = next(bad_lines, 0)
    for row in read_rows(source, format_, content):
        while next_bad and next_bad < row.line:
            next_bad = next(bad_lines, 0)
        if row.line > after and row.line != next_bad and isinstance(row, FileRow):
            yield row


def _check_call(row: FileRow) -> str | BadLine:
    """Return the key of a call's message id, or why it cannot be loaded."""
    try:
        call = parse_call(row.raw, row.document)
    except CallFailed as error:
        return BadLine(row.line, error.message, error.path or None)
    key = to_key(call.message_id)
    if key is None:
        return BadLine(row.line, "messageId is missing: by it the call is recognised where it came before", "messageId")
    time = call.document.get("timestamp")
    try:
        parse_time(time)
    except TimeInvalid as error:
        why = f"timestamp: {error}" if time is not None else "timestamp is missing: the time of a call is what it says"
        return BadLine(row.line, why, "timestamp")
    return key


def _check_event(row: FileRow) -> str | BadLine:
    """Return the idempotency id of an event, or why it cannot be loaded."""
    try:
        return check_event(NativeEvent(row.document)).idempotency_id
    except CallFailed as error:
        # Lotus's own wording of a time says less.
        cause = error.__cause__
        why = cause.message if isinstance(cause, EventInvalid) else error.message
        return BadLine(row.line, why, error.path or None)


_CHECKS: dict[Content, tuple[Callable[[FileRow], str | BadLine], str]] = {
    Content.CALLS: (_check_call, "messageId"),
    Content.EVENTS: (_check_event, "idempotency_id"),
}
