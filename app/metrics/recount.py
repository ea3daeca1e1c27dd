"""Computes a number again from the files that prove it, without any database, and names what differs."""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

import msgspec

from app.core.csv_text import to_cell, to_plain
from app.core.text import printable, short
from app.core.times import TimeInvalid, format_time, parse_time
from app.errors import BadQuery, MetricInvalid
from app.metrics.definition import Metric, parse_metric
from app.metrics.documents import AnswerDocument, RowDocument, to_answer_document, to_group_cell
from app.metrics.evidence_files import EVENTS, METRIC, NUMBER, evidence_head
from app.metrics.explain import EventStanding, judge
from app.metrics.parameters import parse_month
from app.metrics.query import MetricEvent, Query
from app.metrics.stream import Stream
from app.metrics.tables import to_value_cell
from app.metrics.values import read_properties, read_text

OpenLines = Callable[[str], AbstractContextManager[Iterator[str]]]
"""Opens a file by its name, to read its lines with their ends."""

_CELL_CHARS = 1 << 24
_QUOTED = 60


class NumberClaim(Protocol):
    """What the files say that they are about; times are RFC 3339."""

    @property
    def metric(self) -> str:
        """Its name."""

    @property
    def version(self) -> str:
        """The digest of its definition."""

    @property
    def customer_id(self) -> str:
        """The customer."""

    @property
    def month(self) -> str:
        """Such as 2026-10."""

    @property
    def tz(self) -> str:
        """The zone of the month."""

    @property
    def start(self) -> str:
        """Its first moment."""

    @property
    def end(self) -> str:
        """Its end, or the moment, if that is earlier."""

    @property
    def moment(self) -> str:
        """As of when."""


def recount(claim: NumberClaim, open_lines: OpenLines) -> Iterator[str]:
    """Yield a sentence for each thing that differs; none if the events give the number."""
    try:
        metric = parse_metric(claim.metric, _read(open_lines, METRIC))
        start, end = parse_month(claim.month, claim.tz)
        moment = parse_time(claim.moment)
        query = Query(start=start, end=end, customer_id=claim.customer_id, tz=claim.tz).checked(metric)
    except (MetricInvalid, BadQuery, TimeInvalid) as error:
        yield f"the number cannot be computed: {error}"
        return
    if metric.digest.hex() != claim.version:
        digest = short(metric.digest)
        yield f"{METRIC} is version {digest} of {metric.name}, and the manifest says {short(claim.version)}"
    period = (format_time(start), format_time(query.end_at(moment)))
    if period != (claim.start, claim.end):
        yield f"{claim.month} in {claim.tz} is from {period[0]} to {period[1]}, and the manifest says otherwise"
    stream = Stream(metric, query, moment)
    try:
        yield from _EventReader(metric, query).read(open_lines, stream)
        expected = to_answer_document(stream.answer())
        written = msgspec.json.decode(_read(open_lines, NUMBER), type=AnswerDocument)
    except (BadQuery, msgspec.DecodeError, RecursionError) as error:
        yield f"the number cannot be computed: {printable(str(error))}"
        return
    yield from _compare(expected, written)


class _EventReader:
    """Reads the file of events, and compares each row with what the metric reads from its properties."""

    def __init__(self, metric: Metric, query: Query) -> None:
        self._metric = metric
        self._query = query
        self._head = evidence_head(metric)
        self._last = 0

    def read(self, open_lines: OpenLines, stream: Stream) -> Iterator[str]:
        """Add the events that are not void to a stream; yield what is wrong."""
        csv.field_size_limit(_CELL_CHARS)
        with open_lines(EVENTS) as lines:
            rows = csv.reader(lines, strict=True)
            try:
                if next(rows, None) != self._head:
                    yield f"{EVENTS} has other columns than {', '.join(self._head)}"
                    return
                for row in rows:
                    for problem in self._read_row(row, stream):
                        yield f"{EVENTS}, line {rows.line_num}: {problem}"
            except csv.Error as error:
                yield f"{EVENTS}, line {rows.line_num}: it is not CSV ({error})"

    def _read_row(self, row: Sequence[str], stream: Stream) -> Iterator[str]:
        if len(row) != len(self._head):
            yield f"it has {len(row)} cells in place of {len(self._head)}"
            return
        cells = dict(zip(self._head[-2:], row[-2:], strict=True))
        names = self._query.groups(self._metric)
        time, customer, *groups = row[: 2 + len(names)]
        value, standing, skipped, before = row[2 + len(names) : 6 + len(names)]
        try:
            at = _read_time(time)
        except ValueError:
            yield f"{_quote(time)} is no time"
            return
        if at < self._last:
            yield "it is earlier than the line before"
        self._last = at
        if to_plain(customer) != self._query.customer_id:
            yield f"it is of the customer {_quote(customer)}"
            return
        properties = read_properties(cells["properties"])
        event = MetricEvent(to_plain(cells["base_id"]), self._metric.event_name, to_plain(customer), at, properties)
        expected = self._expect(event, void=standing == EventStanding.VOIDED)
        written = [value, standing, skipped, before, *groups]
        for name, cell, other in zip(expected, written, expected.values(), strict=True):
            if cell != other:
                yield f"{name} is {_quote(cell)}, and the metric makes {_quote(other)} of its properties"
        if standing != EventStanding.VOIDED:
            stream.add(event)

    def _expect(self, event: MetricEvent, *, void: bool) -> dict[str, str]:
        """Return the cells of an event that follow from the others, by the names of their columns."""
        metric, properties = self._metric, event.properties
        standing, value, skip = judge(metric, properties, void=void)
        return {
            "value": to_value_cell(metric, value),
            "standing": standing.value,
            "skipped": skip.value if skip else "",
            "before": "yes" if event.time_created < self._query.start else "",
            **{to_cell(name): to_group_cell(read_text(properties, name)) for name in self._query.groups(metric)},
        }


def _compare(expected: AnswerDocument, written: AnswerDocument) -> Iterator[str]:
    if [_key(row) for row in expected.rows] != [_key(row) for row in written.rows]:
        yield f"{NUMBER} has {len(written.rows)} numbers, and the events give {len(expected.rows)}, or of other groups"
        return
    for row, other in zip(expected.rows, written.rows, strict=True):
        for name in RowDocument.__struct_fields__:
            number, claimed = getattr(row, name), getattr(other, name)
            if number != claimed:
                group = f" of {row.group}" if row.group else ""
                yield f"{NUMBER} says that {name}{group} is {claimed}, and the events give {number}"
    if expected != written and expected.rows == written.rows:
        yield f"{NUMBER} is about another metric, version or period"


def _key(row: RowDocument) -> tuple[Any, ...]:
    return row.customer_id, tuple(row.group.items())


def _read(open_lines: OpenLines, name: str) -> str:
    with open_lines(name) as lines:
        return "".join(lines)


def _read_time(text: str) -> int:
    # Python's own: exact to the microsecond, and strict. A time of ours says its offset.
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError
    return parse_time(text)


def _quote(text: str) -> str:
    return printable(text[:_QUOTED]) or "empty"
