"""Calls and the requests they came in. `conn` first."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from app.clock import monotonic_micros
from app.core.outcome import Outcome
from app.store.faults import FaultRow, append_faults
from app.store.inserts import Insert
from app.store.record import Record, Request, to_detail, to_key
from app.store.results import results_text
from app.store.schema import calls, requests

_TYPE_MAX = 32


# All columns, in the order of the schema.
_REQUESTS = Insert(requests, requests.columns.keys())
_CALLS = Insert(calls, calls.columns.keys())


def append_requests(conn: sa.Connection, taken: Iterable[Request]) -> None:
    """Store what the calls of each request share, unless that was done with an earlier part of it."""
    now = monotonic_micros()
    _REQUESTS.run(
        conn,
        [
            (
                request.id,
                request.received_at,
                request.auth,
                request.shape,
                request.envelope,
                request.verified_after,
                request.parsed_after,
                None if request.began is None else now - request.began,
            )
            for request in taken
            if not request.continued
        ],
    )


def append_calls(conn: sa.Connection, records: Sequence[Record]) -> None:
    """Store calls with their outcomes and faults."""
    rows = []
    faults = []
    for record in records:
        fault = None
        if record.fault is not None:
            run = record.run
            fault = FaultRow(str(record.outcome), record.reason, run.transform, run.digest, record.fault)
            faults.append(fault)
        rows.append(_row(record, None if fault is None else fault.key))
    _CALLS.run(conn, rows)
    if faults:
        append_faults(conn, faults)


def _row(record: Record, fault: bytes | None) -> tuple[object, ...]:
    run = record.run
    return (
        record.id,
        record.request_id,
        record.position,
        record.received_at,
        record.route,
        record.raw,
        to_key(record.type[:_TYPE_MAX]) if record.type else None,
        record.message_key,
        to_key(record.event),
        to_key(record.customer_id),
        record.outcome,
        record.reason,
        to_detail(record.detail) if record.detail is not None else None,
        run.transform,
        run.digest,
        results_text(record.results) if record.results else None,
        record.mapped_after,
        None if record.outcome is Outcome.STORED else 1,
        fault,
    )
