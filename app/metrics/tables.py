"""The events behind a number as a CSV file: those it counts, those it skips, and those that are void or filtered."""

from collections.abc import Sequence
from datetime import tzinfo

from app.core.csv_text import to_cell, to_file_name, to_name_part
from app.metrics.definition import Aggregation, Metric
from app.metrics.documents import to_group_cell
from app.metrics.explain import Share, ShareReader
from app.metrics.query import Query
from app.store.csv_table import PAGE_ROWS, CsvTable
from app.store.engine import Connection
from app.store.event_histories import HISTORY_HEAD, EventHistory, find_histories, to_history_cells, to_time_cell


def make_events_table(
    metric: Metric, query: Query, now: int, group: dict[str, str | None] | None = None
) -> CsvTable[int]:
    """Return the events of a query, or of one group of its answer, by time and then by arrival; times in its zone."""
    reader: ShareReader | None = None
    ids: Sequence[int] = ()
    zone = query.zone()

    def read_page(conn: Connection, start: int | None) -> tuple[list[list[str]], int | None]:
        nonlocal reader, ids
        if reader is None:
            # Which they are, and what precedes the period, is found out once and not for each page.
            reader = ShareReader(conn, metric, query, now, group=group, whole=True)
            ids = reader.list_ids(conn)
        end = (start or 0) + PAGE_ROWS
        shares = reader.read(conn, ids[start or 0 : end])
        histories = find_histories(conn, (share.event.id for share in shares))
        cells = [to_share_cells(metric, share, histories.get(share.event.id), zone) for share in shares]
        return cells, end if end < len(ids) else None

    return CsvTable(share_head(query.groups(metric)), read_page)


def to_events_name(metric: Metric, query: Query, now: int) -> str:
    """Return the file name of the events of a query: the metric, the customer, the period in its zone."""
    zone = query.zone()
    period = (to_name_part(zone, at) for at in (query.start, max(query.start, query.end_at(now))))
    moment = to_name_part(zone, query.as_of)
    as_of = moment and f"as-of-{moment}"
    return to_file_name(metric.name, "events", query.customer_id, *period, as_of, suffix=".csv")


def share_head(names: Sequence[str]) -> list[str]:
    """Return the columns of `to_share_cells`; `names` are the properties of the groups."""
    groups = map(to_cell, names)
    head = ("value", "standing", "skipped", "before", "idempotency_id", "call_id", "transform", "transform_version")
    return ["time", "customer_id", *groups, *head, *HISTORY_HEAD]


def to_share_cells(metric: Metric, share: Share, history: EventHistory | None, zone: tzinfo) -> list[str]:
    """Return an event behind a number as cells, with its times in a zone. `value` is what the metric reads."""
    event = share.event
    return [
        to_time_cell(event.time_created, zone),
        to_cell(event.customer_id),
        *map(to_group_cell, share.group.values()),
        to_value_cell(metric, share.value),
        share.standing.value,
        share.skipped.value if share.skipped else "",
        "yes" if share.before else "",
        to_cell(event.idempotency_id),
        str(event.call_id),
        to_cell(event.transform),
        event.transform_digest.hex(),
        *to_history_cells(history, zone),
    ]


def to_value_cell(metric: Metric, value: str | None) -> str:
    """Return a value as a cell: a number as it is, so that a spreadsheet can add it up, and a text made harmless."""
    return to_cell(value) if metric.aggregation is Aggregation.UNIQUE else value or ""
