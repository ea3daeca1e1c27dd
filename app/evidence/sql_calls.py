"""The calls of a customer and month that made no event: duplicates, conflicts and rejected ones. `conn` first."""

from collections.abc import Iterator
from datetime import tzinfo
from itertools import islice
from typing import Any

import sqlalchemy as sa

from app.core.csv_text import to_cell, to_csv_text
from app.core.outcome import Outcome
from app.errors import UnparsableJson
from app.store.arrays import look_up
from app.store.event_histories import to_time_cell
from app.store.ids import first_id_at
from app.store.record import to_key
from app.store.results import StoredResult, read_results
from app.store.schema import calls, events

_HEAD = (
    "call_id",
    "received",
    "outcome",
    "reason",
    "event",
    "message_id",
    "idempotency_ids",
    "counted_call_ids",
    "transform",
    "transform_version",
)
_PIECE = 1000
_OUTCOMES = (Outcome.DUPLICATE.value, Outcome.CONFLICT.value, Outcome.REJECTED.value)
# Exactly the condition of the partial index, with a literal: with a bound value it could not be used.
_NOT_STORED = calls.c.outcome != sa.literal_column("'stored'")


def read_calls_not_counted(
    conn: sa.Connection, customer_id: str, event_name: str, period: tuple[int, int], zone: tzinfo
) -> Iterator[str]:
    """Yield a CSV file in pieces: calls that were received in a period and made none of these events.

    Of duplicates and conflicts, those of events of this name; of rejected calls all, since no event of them is known.
    Their properties are not part of it, nor sentences that may quote them.
    """
    yield to_csv_text([_HEAD])
    columns = [calls.c[name] for name in ("id", "received_at", "outcome", "reason", "event", "message_id", "results")]
    query = (
        sa.select(*columns, calls.c.transform, calls.c.transform_digest)
        .where(
            calls.c.customer_id == to_key(customer_id),
            _NOT_STORED,
            calls.c.outcome.in_(_OUTCOMES),
            calls.c.id >= first_id_at(period[0]),
            calls.c.id < first_id_at(period[1]),
        )
        .order_by(calls.c.id)
        .execution_options(yield_per=_PIECE)
    )
    with conn.execute(query) as rows:
        while page := list(islice(rows, _PIECE)):
            results = {row.id: _read_results(row.results) for row in page}
            names = _find_event_names(conn, results)
            yield to_csv_text(
                _to_cells(row, results[row.id], zone)
                for row in page
                if row.outcome == Outcome.REJECTED or event_name in names[row.id]
            )


def _read_results(text: str | None) -> tuple[StoredResult, ...]:
    try:
        return read_results(text) if text else ()
    except UnparsableJson:
        return ()


def _find_event_names(conn: sa.Connection, results: dict[int, tuple[StoredResult, ...]]) -> dict[int, set[str]]:
    """Return the names of the events that calls would have made, by call: those of the events stored first."""
    ids = {result.idempotency_id for of_call in results.values() for result in of_call}
    query = sa.select(events.c.idempotency_id, events.c.event_name)
    name_of = {row[0]: row[1] for row in look_up(conn, query, events.c.idempotency_id, ids)}
    return {
        call_id: {name_of[result.idempotency_id] for result in of_call if result.idempotency_id in name_of}
        for call_id, of_call in results.items()
    }


def _to_cells(row: Any, results: tuple[StoredResult, ...], zone: tzinfo) -> list[str]:
    rivals = {str(result.rival) for result in results if result.rival is not None}
    return [
        str(row.id),
        to_time_cell(row.received_at, zone),
        row.outcome,
        row.reason or "",
        to_cell(row.event),
        to_cell(row.message_id),
        to_cell(" ".join(result.idempotency_id for result in results)),
        " ".join(sorted(rivals)),
        to_cell(row.transform),
        row.transform_digest.hex() if row.transform_digest else "",
    ]
