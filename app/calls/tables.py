"""Calls and refused requests as CSV files: the filters of the lists, all their rows, newest first."""

from datetime import tzinfo

from app.calls.review import to_refusal_document
from app.calls.sql_search import search_calls
from app.core.csv_text import to_cell, to_file_name, to_name_part
from app.store.csv_table import PAGE_ROWS, CsvTable
from app.store.engine import Connection
from app.store.event_histories import EventHistory, find_events_of_calls, find_histories, to_time_cell
from app.store.refusals import KEPT, list_refusals
from app.store.review import CallFilters, CallRow, read_calls

_CALLS_HEAD = (
    "call_id",
    "received",
    "outcome",
    "reason",
    "detail",
    "type",
    "event",
    "customer_id",
    "message_id",
    "idempotency_ids",
    "transform",
    "transform_version",
    "events",
    "void_events",
    "delivery_states",
    "correction_ids",
    "route",
    "problem",
)
_REFUSALS_HEAD = ("id", "received", "code", "message", "method", "path", "headers", "body_start")


def make_calls_table(filters: CallFilters, text: str | None, zone: tzinfo, limit: int | None = None) -> CsvTable[int]:
    """Return the calls of these filters whose bytes hold `text`, at most `limit`; times in a zone."""
    left = limit

    def read_page(conn: Connection, before: int | None) -> tuple[list[list[str]], int | None]:
        nonlocal left
        size = PAGE_ROWS if left is None else min(PAGE_ROWS, left)
        step = search_calls(conn, filters, text, before=before, limit=size)
        rows = read_calls(conn, step.ids)
        events_of = find_events_of_calls(conn, step.ids)
        histories = find_histories(conn, (event_id for ids in events_of.values() for event_id in ids))
        cells = [_to_call_cells(row, [histories[id_] for id_ in events_of.get(row.id, ())], zone) for row in rows]
        if left is not None:
            left -= len(step.ids)
        return cells, None if left == 0 else step.reached

    return CsvTable(_CALLS_HEAD, read_page)


def make_refusals_table(zone: tzinfo, limit: int = KEPT) -> CsvTable[int]:
    """Return the last refused requests; there are never more than KEPT."""

    def read_page(conn: Connection, _before: int | None) -> tuple[list[list[str]], None]:
        return [
            [
                row.id,
                to_time_cell(refusal.received_at, zone),
                *(to_cell(text) for text in (row.code, row.message, row.method, row.path)),
                to_cell(bytes(row.headers).decode()),
                to_cell(row.body_start),
            ]
            for refusal in list_refusals(conn, limit)
            for row in [to_refusal_document(refusal)]
        ], None

    return CsvTable(_REFUSALS_HEAD, read_page)


def to_calls_name(filters: CallFilters, zone: tzinfo) -> str:
    """Return the file name of a list of calls: what it is narrowed to, and its period."""
    outcomes = "-".join(filters.outcomes)
    period = (to_name_part(zone, at) for at in (filters.since, filters.until))
    narrowed = (outcomes, filters.event, filters.transform, filters.customer)
    return to_file_name("calls", *narrowed, *period, suffix=".csv")


def _to_call_cells(call: CallRow, histories: list[EventHistory], zone: tzinfo) -> list[str]:
    return [
        str(call.id),
        to_time_cell(call.received_at, zone),
        call.outcome.value,
        call.reason or "",
        *map(to_cell, (call.detail, call.type, call.event, call.customer_id, call.message_id)),
        to_cell(" ".join(call.idempotency_ids)),
        to_cell(call.transform),
        call.transform_digest.hex() if call.transform_digest else "",
        str(len(histories)),
        str(sum(history.voided_at is not None for history in histories)),
        " ".join(sorted({history.delivery for history in histories})),
        " ".join(sorted({str(history.correction.id) for history in histories if history.correction})),
        to_cell(call.route),
        call.fault.hex() if call.fault else "",
    ]
