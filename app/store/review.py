"""Reads stored calls for display: lists by any filter, newest first, and single calls in full. `conn` first.

Which index answers a filter is chosen in app.store.review_sources.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.core.arrival import read_arrived
from app.core.outcome import Outcome
from app.errors import NotFound, UnparsableJson
from app.store.amendments import EventOrigin, find_origins
from app.store.arrays import look_up
from app.store.history import OutcomeChange, list_outcome_changes
from app.store.ids import ID_MAX
from app.store.results import StoredResult, read_results
from app.store.review_events import EventRow, list_call_events
from app.store.review_sources import CallFilters, call_sources, id_range, message_sources
from app.store.schema import calls, events, requests
from app.store.voids import VoidAuthor, find_void_authors
from app.store.walk import read_source

__all__ = ["CallFilters", "CallRow", "StoredResult", "WholeCall", "get_call"]
__all__ += ["get_call_ids", "get_raw", "list_call_ids", "list_calls", "newest_call_id", "read_calls"]


class CallRow(msgspec.Struct, frozen=True, kw_only=True):
    """One stored call, without its bytes."""

    id: int
    request_id: int
    position: int
    received_at: int
    route: str
    type: str | None
    message_id: str | None
    event: str | None
    customer_id: str | None
    outcome: Outcome
    reason: str | None
    detail: str | None
    transform: str | None
    transform_digest: bytes | None
    fault: bytes | None
    """Identifies the way it fails; None if it made its events, or another call did."""
    results: tuple[StoredResult, ...]
    """The result of each event; empty if all were simply stored."""
    mapped_after: int | None
    """Microseconds after it was received."""
    idempotency_ids: tuple[str, ...]
    """The ids of the events it made, or would have made."""


class WholeCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call with everything stored about it."""

    call: CallRow
    raw: bytes | None
    """The call's own bytes; None after retention."""
    auth: str | None
    shape: str | None
    envelope: bytes | None
    verified_at: int | None
    """When this step ended, as the next three, in microseconds since 1970; None if it was not recorded."""
    parsed_at: int | None
    mapped_at: int | None
    """Its transform was chosen, and its events were made and checked."""
    stored_at: int | None
    """Its rows were handed to the database; the commit followed."""
    events: tuple[EventRow, ...]
    same_message: tuple[CallRow, ...]
    """The newest other calls with the same message id."""
    changes: tuple[OutcomeChange, ...] = ()
    """The changes that replays made, the oldest first."""
    void_authors: Mapping[int, VoidAuthor] = {}
    """By event id: the people who made events of it void."""
    origins: Mapping[int, EventOrigin] = {}
    """By event id: who put events of it in the place of others."""

    def read(self) -> Any:
        """Decode its bytes, which it must have, as when it arrived. Never fails."""
        return read_arrived(
            self.raw or b"",
            route=self.call.route,
            envelope=self.envelope,
            received_at=self.call.received_at,
            message_id=self.call.message_id,
        )


def list_calls(conn: sa.Connection, filters: CallFilters, before: int | None = None, limit: int = 50) -> list[CallRow]:
    """Return the newest `limit` calls below the id `before`, newest first."""
    return read_calls(conn, list_call_ids(conn, filters, before=before, limit=limit))


def list_call_ids(
    conn: sa.Connection,
    filters: CallFilters,
    *,
    after: int | None = None,
    before: int | None = None,
    limit: int,
) -> list[int]:
    """Return the newest `limit` call ids between `after` and `before` (both excluded), newest first."""
    low, high = id_range(filters, after, before)
    ids: set[int] = set()
    for source in call_sources(filters):
        ids.update(read_source(conn, source, low, high, limit))
    return sorted(ids, reverse=True)[:limit]


def get_call_ids(conn: sa.Connection, text: str, limit: int) -> list[int]:
    """Return the newest `limit` calls with this call id, message id or idempotency id. Raises NotFound."""
    ids = list_call_ids(conn, CallFilters(id=text), limit=limit)
    if not ids:
        raise NotFound(f"there is no call, message or event with the id {text[:100]!r}")
    return ids


def read_calls(conn: sa.Connection, ids: Sequence[int]) -> list[CallRow]:
    """Return the calls with these ids, in the order given, without missing ones."""
    columns = [calls.c[name] for name in CallRow.__struct_fields__ if name != "idempotency_ids"]
    rows = {row.id: row for row in look_up(conn, sa.select(*columns), calls.c.id, ids)}
    idempotency_ids = _idempotency_ids(conn, [row.id for row in rows.values() if row.results is None])
    return [_to_call(rows[id_], idempotency_ids.get(id_, ())) for id_ in ids if id_ in rows]


def newest_call_id(conn: sa.Connection) -> int:
    """Return the highest call id; 0 if there is no call."""
    return conn.execute(sa.select(sa.func.max(calls.c.id))).scalar_one() or 0


def get_raw(conn: sa.Connection, call_id: int) -> bytes | None:
    """Return the bytes of a call; None after retention. Raises NotFound."""
    row = conn.execute(sa.select(calls.c.raw).where(calls.c.id == min(call_id, ID_MAX))).one_or_none()
    if row is None:
        raise NotFound(f"there is no call {call_id}")
    raw: bytes | None = row.raw
    return raw


def get_call(conn: sa.Connection, call_id: int, same_message_limit: int = 20) -> WholeCall:
    """Return a call with its bytes, its request, its events, and other calls of its message. Raises NotFound."""
    rows = read_calls(conn, [call_id]) if 0 <= call_id <= ID_MAX else []
    if not rows:
        raise NotFound(f"there is no call {call_id}")
    call = rows[0]

    def at(after: int | None) -> int | None:
        return None if after is None else call.received_at + after

    call_events = list_call_events(conn, call_id)
    request = conn.execute(sa.select(requests).where(requests.c.id == call.request_id)).one_or_none()
    return WholeCall(
        call=call,
        raw=conn.execute(sa.select(calls.c.raw).where(calls.c.id == call_id)).scalar_one(),
        auth=request.auth if request else None,
        shape=request.shape if request else None,
        envelope=request.envelope if request else None,
        verified_at=at(request.verified_after) if request else None,
        parsed_at=at(request.parsed_after) if request else None,
        mapped_at=at(call.mapped_after),
        stored_at=at(request.stored_after) if request else None,
        events=tuple(call_events),
        same_message=tuple(_list_same_message(conn, call, same_message_limit)),
        changes=tuple(list_outcome_changes(conn, call_id)),
        void_authors=find_void_authors(conn, (event.id for event in call_events if event.is_void_by_person)),
        origins=find_origins(conn, (event.id for event in call_events if event.revision is not None)),
    )


def _list_same_message(conn: sa.Connection, call: CallRow, limit: int) -> list[CallRow]:
    if call.message_id is None:
        return []
    ids: set[int] = set()
    for source in message_sources(call.message_id):
        ids.update(read_source(conn, source, -1, ID_MAX, limit + 1))
    ids.discard(call.id)
    return read_calls(conn, sorted(ids, reverse=True)[:limit])


def _idempotency_ids(conn: sa.Connection, call_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    ids_of: dict[int, tuple[str, ...]] = {}
    query = sa.select(events.c.call_id, events.c.idempotency_id).order_by(events.c.id)
    for row in look_up(conn, query, events.c.call_id, call_ids):
        ids_of[row.call_id] = (*ids_of.get(row.call_id, ()), row.idempotency_id)
    return ids_of


def _to_call(row: sa.Row[Any], idempotency_ids: tuple[str, ...]) -> CallRow:
    columns = {**row._mapping, "outcome": Outcome(row.outcome), "results": ()}  # noqa: SLF001  SQLAlchemy's own name
    try:
        columns["results"] = results = read_results(row.results) if row.results else ()
    except UnparsableJson as error:
        # One damaged row must not break the whole list: it is shown with its error.
        columns["detail"] = "; ".join(filter(None, (row.detail, error.message)))
        results = ()
    return CallRow(**columns, idempotency_ids=tuple(result.idempotency_id for result in results) or idempotency_ids)
