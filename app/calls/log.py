"""The log of calls: one line per call, on standard output.

JSON when a program reads it, short and aligned on a terminal. Values of properties only with LOG_PROPERTIES; secrets
never. Lines are rendered here and not by structlog's chain of processors: there is one for every call, and the chain
costs more than mapping the call.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import IO

import msgspec
import structlog

from app.core.outcome import Outcome
from app.core.text import printable, readable
from app.core.times import format_time
from app.store.record import KEY_MAX, Record
from app.store.writer import Commit

_LEVEL_OF = {
    Outcome.STORED: "info",
    Outcome.DUPLICATE: "info",
    Outcome.IGNORED: "info",
    Outcome.CONFLICT: "warning",
    Outcome.REJECTED: "warning",
}
_COLOUR_OF = {
    Outcome.STORED: "32",
    Outcome.DUPLICATE: "36",
    Outcome.IGNORED: "90",
    Outcome.CONFLICT: "33",
    Outcome.REJECTED: "31",
}
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_LOG = structlog.get_logger("log")

_time_text = lru_cache(maxsize=1)(format_time)
"""Cached: the calls of a request have the same time, and formatting it costs as much as the rest of a line."""

# A pipe writes this much atomically (POSIX's PIPE_BUF on Linux), so that the lines of two workers do not mix.
_PIECE_BYTES = 4096


class CallLine(msgspec.Struct, omit_defaults=True, tag_field="logger", tag="calls"):
    """The log line of one call."""

    timestamp: str
    level: str
    call_id: str
    outcome: str
    reason: str | None = None
    detail: str | None = None
    type: str | None = None
    event: str | None = None
    transform: str | None = None
    transform_digest: str | None = None
    message_id: str | None = None
    idempotency_id: str | None = None
    event_name: str | None = None
    customer_id: str | None = None
    events: int | None = None
    """How many events the call made, unless it is one."""
    ms: float | None = None
    """Milliseconds from its arrival to its commit."""
    properties: list[msgspec.Raw] | None = None


def to_line(record: Record, now: int, *, properties: bool) -> CallLine:
    """Return the log line of a call committed at `now` (microseconds since 1970).

    `properties`: include the properties of the events.
    """
    run = record.run
    outcome = record.outcome or Outcome.REJECTED
    line = CallLine(
        _time_text(record.received_at),
        _LEVEL_OF[outcome],
        str(record.id),
        outcome,
        record.reason,
        record.detail,
        _cut(record.type),
        _cut(record.event),
        run.transform,
        run.digest.hex() if run.digest else None,
        _cut(record.message_id),
        ms=(now - record.received_at) / 1000,
    )
    if run.lanes:
        events = [event for lane in run.lanes for event in lane.events]
        line.idempotency_id, line.event_name = events[0].idempotency_id, events[0].event_name
        line.events = len(events) if len(events) != 1 else None
        if properties:
            # Half of a surrogate pair is written as JSON escapes it.
            line.properties = [msgspec.Raw(event.properties.encode(errors="backslashreplace")) for event in events]
        line.customer_id = events[0].customer_id
    else:
        line.customer_id = _cut(record.user_id)
    return line


def _cut(text: str | None) -> str | None:
    """Cut a sender's text to the length of a key: a name may be a megabyte."""
    return text[:KEY_MAX] if text is not None else None


def to_text(line: CallLine, *, colour: bool) -> str:
    """Return a line for people: time, outcome, event, customer, id, and the reason if it was not stored."""
    begin, end = (f"\x1b[{_COLOUR_OF[Outcome(line.outcome)]}m", "\x1b[0m") if colour else ("", "")
    parts = [
        f"{line.event or line.type or '-':<22}",
        f"{line.customer_id or '-':<16}",
        line.idempotency_id or line.message_id or "-",
    ]
    if line.transform:
        parts.append(f"[{line.transform}@{(line.transform_digest or '')[:8]}]")
    if line.reason:
        parts.append(f"{line.reason}: {line.detail}" if line.detail else line.reason)
    parts += [bytes(properties).decode(errors="replace") for properties in line.properties or ()]
    time = f"{line.timestamp[:10]} {line.timestamp[11:23]}"
    return "  ".join([time, f"{begin}{line.outcome:<9}{end}", *map(printable, parts)])


class CallLog:
    """Writes the line of each call to a stream."""

    def __init__(
        self, stream: IO[str], clock: Callable[[], int], *, level: str, properties: bool, colour: bool
    ) -> None:
        """`clock` gives microseconds since 1970. `colour`: on a terminal, the outcome of each call has one."""
        self._stream = stream
        self._clock = clock
        self._terminal = stream.isatty()
        self._colour = colour
        self._least = _LEVELS[level.lower()]
        self._properties = properties

    def watch_commit(self, commit: Commit) -> None:
        """Write one line per call whose level is enabled, all in one go."""
        now = self._clock()
        texts = [text for record in commit.records if (text := self._text(record, now))]
        for piece in _pieces(texts):
            # The calls are stored: a log that cannot be written (full disk, closed pipe) must not make them fail.
            with contextlib.suppress(OSError):
                self._stream.write(piece)
                self._stream.flush()

    def _text(self, record: Record, now: int) -> str | None:
        """Return the line of one call, None below the level. A line that cannot be rendered never loses the others."""
        try:
            line = to_line(record, now, properties=self._properties)
            if _LEVELS[line.level] < self._least:
                return None
            return to_text(line, colour=self._colour) if self._terminal else _json(line)
        except Exception as error:  # noqa: BLE001  the other lines of the commit must be written
            # Only the type: the message may quote what a sender wrote.
            why = type(error).__name__
            _LOG.error(
                "the log line of a call could not be rendered; `segment-lotus show` has the call",
                call_id=str(record.id),
                why=why,
            )
            return None


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    """Join whole lines, as many at a time as a pipe writes atomically."""
    piece: list[str] = []
    size = 0
    for text in texts:
        length = (len(text) if text.isascii() else 4 * len(text)) + 1
        if piece and size + length > _PIECE_BYTES:
            yield "".join(piece)
            piece, size = [], 0
        piece.append(text + "\n")
        size += length
    if piece:
        yield "".join(piece)


def _json(line: CallLine) -> str:
    try:
        return msgspec.json.encode(line).decode()
    except UnicodeEncodeError:
        # Half of a surrogate pair in what a sender wrote.
        return msgspec.json.encode(CallLine(**readable(msgspec.structs.asdict(line)))).decode()
