"""The batch of a backfill: which file it is of, and what became of the calls."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from app.backfill.formats import Content, FileRow, Format
from app.core.arrival import BACKFILL, BACKFILL_EVENTS, describe
from app.core.credentials import Auth
from app.core.native import NativeEvent
from app.core.outcome import Outcome
from app.core.pipeline import run
from app.core.transform.transform import TransformSet
from app.store.corrections import Correction, CorrectionState
from app.store.events import NewEvent
from app.store.record import Record, Request
from app.store.tally import CorrectionTally, Measure

_LINES_SHOWN = 10


class FileSelection(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in `corrections.selection` for a backfill."""

    file: str
    sha256: str
    format: Format
    of: Content
    rows: int
    """Calls or events that are to be loaded."""
    bad: int
    """Lines that are left out, since they are bad."""

    @property
    def noun(self) -> str:
        """Return what one of its rows is called."""
        return {Content.CALLS: "call", Content.EVENTS: "event"}[self.of]

    def is_same_file(self, other: "FileSelection") -> bool:
        """Tell whether both mean the same rows."""
        return (self.sha256, self.format, self.of) == (other.sha256, other.format, other.of)


class Loaded(NamedTuple):
    """A row that was run, on its way into the database."""

    line: int
    record: Record


def to_selection(correction: Correction) -> FileSelection:
    """Return the file of a backfill."""
    return msgspec.json.decode(correction.selection, type=FileSelection)


def to_tally(correction: Correction) -> CorrectionTally:
    """Return the counts of a batch."""
    return msgspec.json.decode(correction.counts, type=CorrectionTally)


def find_same(backfills: Sequence[Correction], selection: FileSelection, *, running: bool) -> Correction | None:
    """Return the first of `backfills` that is of the same file, and `running` or not."""
    return next(
        (
            correction
            for correction in backfills
            if (correction.state == CorrectionState.RUNNING) is running
            and to_selection(correction).is_same_file(selection)
        ),
        None,
    )


def map_row(row: FileRow, content: Content, transforms: TransformSet, received_at: int) -> Loaded:
    """Run the pipeline on a row; its ids are given later, by `to_request`."""
    native = content is Content.EVENTS
    document = NativeEvent(row.document) if native else row.document
    result = run(row.raw, document, transforms, received_at)
    read = result.call or describe(document)
    route = BACKFILL_EVENTS if native else BACKFILL
    record = Record(0, received_at, result, read.message_id, read.user_id, 0, 0, route, row.raw, read.type, read.event)
    return Loaded(row.line, record)


def to_request(id_: int, correction: Correction, loaded: Sequence[Loaded]) -> Request:
    """Return the request that the calls of one commit share: it says which batch and lines they are of."""
    selection = to_selection(correction)
    envelope = {
        "correction": str(correction.id),
        "file": selection.file,
        "sha256": selection.sha256,
        "lines": [loaded[0].line, loaded[-1].line],
    }
    records = [record for _, record in loaded]
    for position, record in enumerate(records):
        record.request_id, record.position = id_, position
    received_at = records[0].received_at
    return Request(id_, received_at, Auth.BACKFILL, selection.format, msgspec.json.encode(envelope), records)


def add_loaded(tally: CorrectionTally, loaded: Sequence[Loaded], new: Sequence[NewEvent], effect: Measure) -> None:
    """Count settled rows, and their new events; `effect` is what those add to the metrics."""
    for outcome, count in Counter([str(record.outcome) for _, record in loaded]).items():
        tally.calls[outcome] = tally.calls.get(outcome, 0) + count
        if outcome != Outcome.STORED:
            lines = tally.lines.setdefault(outcome, [])
            more = (line for line, record in loaded if record.outcome == outcome)
            lines += islice(more, _LINES_SHOWN - len(lines))
    events = [event.lane.events[event.position] for event in new]
    tally.add_new([(event.customer_id, event.event_name) for event in events], effect)
