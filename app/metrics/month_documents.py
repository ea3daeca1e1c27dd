"""Closed months, their adjustments and the events behind these as documents, for the JSON API and the command line."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from app.core.csv_text import to_cell, to_csv_text
from app.core.times import format_time
from app.metrics.adjustments import (
    Adjustment,
    ChangePage,
    MonthReport,
    ReceivedAdjustment,
    list_received,
    read_group_key,
    read_report,
)
from app.metrics.documents import to_group_cell
from app.metrics.month_note import MonthNote
from app.metrics.months import Month
from app.metrics.parameters import to_after
from app.metrics.sql_months import CarriedAdjustment, ChangedEvent, ClosedMonth, ClosedNumber, find_closed_month
from app.metrics.values import format_number
from app.store.engine import Connection

_ROWS = 1000
"""Rows per piece of a CSV file."""

CSV_HEAD = ("closed", "closed_events", "today", "today_events", "adjustment", "carried", "open")


class ClosedMonthDocument(msgspec.Struct, kw_only=True):
    """One time that a month was closed."""

    id: str
    metric: str
    month: str
    tz: str
    state: str
    """closed or reopened."""
    as_of: str
    version: str
    digest: str
    """SHA-256 over all numbers."""
    closed_at: str
    author: str
    reopened_at: str | None
    reopen_author: str | None
    reopen_reason: str | None


class ReceivedDocument(msgspec.Struct, kw_only=True):
    """What was carried into a month: a line of its own, in no number."""

    closed_id: str
    month: str
    """The month whose adjustment it is."""
    customer_id: str
    group: dict[str, str | None]
    amount: str
    carried_at: str
    author: str


def to_month_document(closed: ClosedMonth) -> ClosedMonthDocument:
    """Return the document of a closed month."""
    return ClosedMonthDocument(
        id=str(closed.id),
        metric=closed.metric,
        month=closed.month,
        tz=closed.tz,
        state=to_state(closed),
        as_of=format_time(closed.as_of),
        version=closed.metric_digest.hex(),
        digest=closed.numbers_digest.hex(),
        closed_at=format_time(closed.closed_at),
        author=closed.author,
        reopened_at=None if closed.reopened_at is None else format_time(closed.reopened_at),
        reopen_author=closed.reopen_author,
        reopen_reason=closed.reopen_reason,
    )


def to_state(closed: ClosedMonth) -> str:
    """Return how a month stands, in a word."""
    return "closed" if closed.reopened_at is None else "reopened"


def to_report_document(report: MonthReport) -> dict[str, Any]:
    """Return the document of a closed month beside today's numbers."""
    names = report.metric.group_by
    return {
        **msgspec.structs.asdict(to_month_document(report.closed)),
        "live_version": report.live.digest.hex(),
        "numbers": [_to_line(line, names) for line in report.lines],
        "carried": [to_carried_document(line, names) for line in report.carried],
        "received": [to_received_document(received) for received in report.received],
    }


def to_note_document(note: MonthNote) -> dict[str, Any]:
    """Return what an answer about exactly one month says of it."""
    closed = None
    if note.report is not None:
        closed = {
            "id": str(note.report.closed.id),
            "closed_at": format_time(note.report.closed.closed_at),
            "closed": note.closed_text,
            "adjustments": note.adjustment_text,
        }
    return {
        "month": note.month.text,
        "closed": closed,
        "received": [to_received_document(received) for received in note.received],
    }


def list_adjustment_documents(
    conn: Connection, metric: str, month: Month, customer_id: str
) -> list[dict[str, Any] | ReceivedDocument]:
    """Return what evidence says of a customer's month: its report if it is closed, else what was carried into it."""
    closed = find_closed_month(conn, metric, month.text, month.tz)
    if closed is not None:
        return [to_report_document(read_report(conn, closed, customer_id))]
    return [to_received_document(received) for received in list_received(conn, metric, month, customer_id)]


def to_carried_document(line: CarriedAdjustment, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the document of what was carried of a month."""
    return {
        "customer_id": line.customer_id,
        "group": dict(zip(names, read_group_key(line.grp), strict=True)),
        "amount": line.amount,
        "into": line.month,
        "as_of": format_time(line.as_of),
        "carried_at": format_time(line.carried_at),
        "author": line.author,
    }


def to_received_document(received: ReceivedAdjustment) -> ReceivedDocument:
    """Return the document of what was carried into a month."""
    line = received.line
    return ReceivedDocument(
        closed_id=str(line.closed_id),
        month=received.origin.month,
        customer_id=line.customer_id,
        group=received.group,
        amount=line.amount,
        carried_at=format_time(line.carried_at),
        author=line.author,
    )


def to_changes_document(page: ChangePage, report: MonthReport) -> dict[str, Any]:
    """Return the document of a page of events behind adjustments."""
    return {"events": [_to_change(change, report) for change in page.changes], "next": to_after(page.following)}


def received_text(received: ReceivedAdjustment) -> str:
    """Return what was carried into a month as a line for a terminal."""
    groups = "".join(f" {name}={text}" for name, text in received.group.items())
    return f"carried from {received.origin.month}: {received.line.customer_id}{groups} {received.line.amount}"


def change_text(change: ChangedEvent) -> str:
    """Return what became of an event since its month was closed: stored, voided or revived."""
    if not change.counts:
        return "voided"
    return "revived" if change.was_stored else "stored"


def to_report_csv(report: MonthReport) -> Iterator[str]:
    """Yield a closed month as pieces of a CSV file: its numbers, then what was carried into it, which is in no number.

    The first column tells one from the other; `month` is the month whose adjustment a line is.
    """
    names = report.metric.group_by
    yield to_csv_text([["line", "customer_id", *map(to_cell, names), *CSV_HEAD, "month"]])
    for start in range(0, len(report.lines), _ROWS):
        yield to_csv_text(_to_cells(line, report) for line in report.lines[start : start + _ROWS])
    yield to_csv_text(_to_received_cells(report.received, names))


def to_report_name(closed: ClosedMonth) -> str:
    """Return the file name of a closed month as CSV."""
    return f"{closed.metric}_{closed.month}_{closed.tz.replace('/', '-')}_closed.csv"


def _to_cells(line: Adjustment, report: MonthReport) -> list[object]:
    closed, today = line.closed, line.today
    return [
        "number",
        to_cell(line.customer_id),
        *map(to_group_cell, read_group_key(line.grp)),
        closed and closed.value,
        closed and closed.events_count,
        today and today.value,
        today and today.events_count,
        *map(format_number, (line.total, line.carried, line.open)),
        report.closed.month,
    ]


def _to_received_cells(received: Iterable[ReceivedAdjustment], names: tuple[str, ...]) -> Iterator[list[object]]:
    for entry in received:
        groups = [to_group_cell(entry.group.get(name)) for name in names]
        amounts = ["", "", "", "", entry.line.amount, "", ""]
        yield ["carried", to_cell(entry.line.customer_id), *groups, *amounts, entry.origin.month]


def _to_line(line: Adjustment, names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "customer_id": line.customer_id,
        "group": line.group(names),
        "closed": _to_number(line.closed),
        "today": _to_number(line.today),
        "adjustment": format_number(line.total),
        "carried": format_number(line.carried),
        "open": format_number(line.open),
    }


def _to_number(number: ClosedNumber | None) -> dict[str, Any] | None:
    if number is None:
        return None
    skipped = msgspec.json.decode(number.skipped) if number.skipped else {}
    return {"value": number.value, "events_count": number.events_count, "skipped": skipped}


def _to_change(change: ChangedEvent, report: MonthReport) -> dict[str, Any]:
    event = change.event
    return {
        "id": str(event.id),
        "change": change_text(change),
        "time_created": format_time(event.time_created),
        "before": event.time_created < report.month.start,
        "customer_id": event.customer_id,
        "idempotency_id": event.idempotency_id,
        "call_id": str(event.call_id),
        "properties": msgspec.Raw(event.properties.encode()),
    }
