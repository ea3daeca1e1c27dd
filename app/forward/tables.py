"""Deliveries as a CSV file: the filters of the list, all its rows, newest first."""

from datetime import tzinfo

from app.core.csv_text import to_cell, to_file_name, to_name_part
from app.forward.sql_lists import DeliveryRow, read_deliveries
from app.forward.sql_search import DeliveryFilters, search_deliveries
from app.store.csv_table import PAGE_ROWS, CsvTable
from app.store.engine import Connection
from app.store.event_histories import HISTORY_HEAD, EventHistory, find_histories, to_history_cells, to_time_cell

_HEAD = (
    "event_id",
    "time",
    "event_name",
    "customer_id",
    "idempotency_id",
    "call_id",
    "reason",
    "tries",
    "settled",
    *HISTORY_HEAD,
)


def make_deliveries_table(filters: DeliveryFilters, zone: tzinfo, limit: int | None = None) -> CsvTable[int]:
    """Return the deliveries of these filters, at most `limit`; times in a zone."""
    left = limit

    def read_page(conn: Connection, before: int | None) -> tuple[list[list[str]], int | None]:
        nonlocal left
        size = PAGE_ROWS if left is None else min(PAGE_ROWS, left)
        step = search_deliveries(conn, filters, before=before, limit=size)
        histories = find_histories(conn, step.ids)
        cells = [_to_cells(row, histories.get(row.event_id), zone) for row in read_deliveries(conn, step.ids)]
        if left is not None:
            left -= len(step.ids)
        return cells, None if left == 0 else step.reached

    return CsvTable(_HEAD, read_page)


def to_deliveries_name(filters: DeliveryFilters, zone: tzinfo) -> str:
    """Return the file name of a list of deliveries: what it is narrowed to, and its period."""
    period = (to_name_part(zone, at) for at in (filters.since, filters.until))
    narrowed = (filters.state, filters.event_name, filters.customer)
    return to_file_name("deliveries", *narrowed, *period, suffix=".csv")


def _to_cells(row: DeliveryRow, history: EventHistory | None, zone: tzinfo) -> list[str]:
    return [
        str(row.event_id),
        to_time_cell(row.time_created, zone),
        *map(to_cell, (row.event_name, row.customer_id, row.idempotency_id)),
        str(row.call_id),
        to_cell(row.reason),
        str(row.tries),
        to_time_cell(row.settled_at, zone),
        *to_history_cells(history, zone),
    ]
