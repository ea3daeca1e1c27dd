"""Exports of deliveries for an invoice line by hand: what Lotus does not take or has too much, and its sums."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from enum import StrEnum

import msgspec

from app.core.csv_text import to_cell, to_csv_text
from app.core.json_text import encode
from app.core.lotus import LotusEvent
from app.core.times import format_time
from app.forward.sql_lists import DeliveryRow, read_deliveries
from app.forward.sql_search import DeliveryFilters, search_deliveries
from app.store.engine import Connection, Database
from app.store.tally import Measure, add_exactly, exact_text

MeasureValues = Callable[[Connection, Iterable[LotusEvent]], Measure]
"""Returns what events add to the metrics."""

_PIECE = 1000
_EVENTS = ("customer_id", "event_name", "time_created", "idempotency_id", "state", "reason", "note", "properties")
_SUMS = ("customer_id", "metric", "month", "events", "amount")


class ExportFormat(StrEnum):
    """The form of an export."""

    CSV = "csv"
    """A row for each event."""
    SUMS = "sums"
    """CSV, too: a row for each customer, metric and month."""
    JSON = "json"
    """Both."""


class ExportedEvent(msgspec.Struct, kw_only=True):
    """One event, as an invoice line needs it."""

    customer_id: str
    event_name: str
    time_created: str
    idempotency_id: str
    state: str
    reason: str | None
    note: str | None
    properties: msgspec.Raw


class MeasuredSum(msgspec.Struct, kw_only=True):
    """What events add to a metric, for one customer and month (UTC)."""

    customer_id: str
    metric: str
    month: str
    events: int
    amount: str | None
    """An exact decimal; None where it depends on other events."""


class MeasuredSums:
    """Adds up what events add to the metrics."""

    def __init__(self, measure: MeasureValues) -> None:
        self._measure = measure
        self._sums: dict[tuple[str, str, str], tuple[int, Decimal | None]] = {}

    def add(self, conn: Connection, values: Iterable[LotusEvent]) -> None:
        """Add events."""
        for key, (count, amount) in self._measure(conn, values).items():
            before, total = self._sums.get(key, (0, Decimal(0)))
            self._sums[key] = before + count, None if amount is None or total is None else add_exactly(total, amount)

    def list(self) -> list[MeasuredSum]:
        """Return the sums, by customer, metric and month."""
        sums = [
            MeasuredSum(
                customer_id=customer,
                metric=metric,
                month=month,
                events=count,
                amount=None if amount is None else exact_text(amount),
            )
            for (metric, customer, month), (count, amount) in self._sums.items()
        ]
        return sorted(sums, key=lambda row: (row.customer_id, row.metric, row.month))


class DeliveryExport:
    """An export of the deliveries that match, made piece by piece, the newest first."""

    def __init__(self, filters: DeliveryFilters, shape: ExportFormat, measure: MeasureValues) -> None:
        self._filters = filters
        self._shape = shape
        self._sums = MeasuredSums(measure)
        self._before: int | None = None
        self._begun = self._ended = False
        self._empty = True

    def read_piece(self, database: Database) -> str | None:
        """Return the next piece of the text, which may be empty; None after the last one. Raises Unavailable."""
        if self._ended:
            return None
        with database.reading() as conn:
            step = search_deliveries(conn, self._filters, before=self._before, limit=_PIECE)
            rows = read_deliveries(conn, step.ids)
            if self._shape is not ExportFormat.CSV:
                self._sums.add(conn, map(to_lotus_event, rows))
        text = ("" if self._begun else self._begin()) + self._write(rows)
        self._before, self._begun, self._ended = step.reached, True, step.reached is None
        return text + self._end() if self._ended else text

    def _begin(self) -> str:
        if self._shape is ExportFormat.JSON:
            return '{"events":['
        return to_csv_text([_EVENTS if self._shape is ExportFormat.CSV else _SUMS])

    def _write(self, rows: Iterable[DeliveryRow]) -> str:
        exported = [_to_event(row) for row in rows]
        if self._shape is ExportFormat.CSV:
            return to_csv_text(map(_to_cells, exported)) if exported else ""
        if self._shape is ExportFormat.SUMS or not exported:
            return ""
        comma, self._empty = "" if self._empty else ",", False
        return comma + ",".join(encode(event).decode() for event in exported)

    def _end(self) -> str:
        sums = self._sums.list()
        if self._shape is ExportFormat.JSON:
            return f'],"sums":{encode(sums).decode()}}}\n'
        if self._shape is ExportFormat.CSV or not sums:
            return ""
        return to_csv_text((to_cell(row.customer_id), row.metric, row.month, row.events, row.amount) for row in sums)


def to_lotus_event(row: DeliveryRow) -> LotusEvent:
    """Return the event of a delivery."""
    return LotusEvent(row.event_name, row.idempotency_id, row.customer_id, row.time_created, row.properties, b"")


def _to_event(row: DeliveryRow) -> ExportedEvent:
    return ExportedEvent(
        customer_id=row.customer_id,
        event_name=row.event_name,
        time_created=format_time(row.time_created),
        idempotency_id=row.idempotency_id,
        state=row.state,
        reason=row.reason,
        note=row.note,
        properties=msgspec.Raw(row.properties.encode()),
    )


def _to_cells(event: ExportedEvent) -> list[str]:
    texts = (
        event.customer_id,
        event.event_name,
        event.time_created,
        event.idempotency_id,
        event.state,
        event.reason or "",
        event.note or "",
        bytes(event.properties).decode(),
    )
    return [to_cell(text) for text in texts]
