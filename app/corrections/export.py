"""The events of a batch as documents and as CSV: each with its old and its new values."""

from collections.abc import Iterable
from typing import Any

import msgspec

from app.core.csv_text import to_cell, to_csv_text
from app.core.times import format_time
from app.corrections.sql_export import BatchEvent, BatchValues

_VALUES = BatchValues.__struct_fields__
_HEAD = ("event_id", "call_id", "state", "voided_at", "revived_at", *_VALUES, *(f"new_{name}" for name in _VALUES))


def to_event_document(event: BatchEvent) -> dict[str, Any]:
    """Return an event of a batch as JSON values."""
    return {
        "event_id": str(event.event_id),
        "call_id": str(event.call_id),
        "state": event.state,
        "voided_at": None if event.voided_at is None else format_time(event.voided_at),
        "revived_at": None if event.revived_at is None else format_time(event.revived_at),
        "old": _to_document(event.old),
        "new": None if event.new is None else _to_document(event.new),
    }


def _to_document(values: BatchValues) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(values),
        "time_created": format_time(values.time_created),
        "properties": msgspec.Raw(values.properties.encode()),
    }


CSV_HEAD = to_csv_text([_HEAD])


def to_csv(events: Iterable[BatchEvent]) -> str:
    """Return events of a batch as lines of a CSV file for spreadsheets, below CSV_HEAD; times are in UTC."""
    return to_csv_text(map(_to_row, events))


def _to_row(event: BatchEvent) -> list[str]:
    times = ["" if at is None else format_time(at) for at in (event.voided_at, event.revived_at)]
    new = [""] * len(_VALUES) if event.new is None else _to_cells(event.new)
    return [str(event.event_id), str(event.call_id), event.state, *times, *_to_cells(event.old), *new]


def _to_cells(values: BatchValues) -> list[str]:
    name, customer = values.event_name, values.customer_id
    return [
        *map(to_cell, (values.idempotency_id, name, customer)),
        format_time(values.time_created),
        to_cell(values.properties),
    ]
