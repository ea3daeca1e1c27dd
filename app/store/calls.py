"""Calls and the requests they came in. `conn` first."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.store.engine import insert
from app.store.keys import to_key
from app.store.record import Record, Request
from app.store.schema import calls, requests

_TYPE_MAX = 32


def append_requests(conn: sa.Connection, taken: Iterable[Request]) -> None:
    """Store what the calls of each request share."""
    rows = [
        {"id": one.id, "received_at": one.received_at, "auth": one.auth, "shape": one.shape, "envelope": one.envelope}
        for one in taken
    ]
    insert(conn, requests, rows)


def append_calls(conn: sa.Connection, records: Sequence[Record]) -> None:
    """Store settled calls."""
    insert(conn, calls, [_row(record) for record in records])


def _row(record: Record) -> dict[str, Any]:
    run = record.run
    return {
        "id": record.id,
        "request_id": record.request_id,
        "position": record.position,
        "received_at": record.received_at,
        "route": record.route,
        "raw": record.raw,
        "type": to_key(record.type[:_TYPE_MAX]) if record.type else None,
        "message_id": record.message_key,
        "event": to_key(record.event),
        "customer_id": to_key(record.customer_id),
        "outcome": record.outcome,
        "reason": record.reason,
        "detail": to_detail(record.detail),
        "transform": run.transform,
        "transform_digest": run.digest,
        "results": msgspec.json.encode(record.results).decode() if record.results else None,
    }


def to_detail(sentence: str | None) -> str | None:
    """Return a sentence that either database takes: it may quote what a sender wrote."""
    if sentence is None or (sentence.isascii() and "\0" not in sentence):
        return sentence
    return sentence.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
