"""Reading calls for people: newest first by any filter, and one call whole. `conn` first.

Nothing here may walk a million calls where an index leads to the ones that are asked for. No one index holds all calls
of a customer or of a message: the hot path pays for each index, so stored calls are found through `events` and
`claims`, the others through partial indexes. Hence *sources*: each is one query that reads call ids, newest first,
from one index; a page is the newest of what its sources give.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from app.core.outcome import REASONS_OF, Outcome, Reason
from app.errors import NotFound
from app.store.history import OutcomeChange, list_outcome_changes
from app.store.keys import to_key
from app.store.review_events import ID_MAX, EventRow, first_id_since, list_call_events
from app.store.schema import calls, claims, events, requests

_ID_DIGITS = len(str(ID_MAX))

# Bound parameters per statement are limited (SQLite: 32,766); look up in slices.
_SLICE = 500

_OUTCOME_OF = {reason: outcome for outcome, reasons in REASONS_OF.items() for reason in reasons}

# Word for word the condition of the partial indexes, and a literal: a bound value would not prove that they hold it.
_NOT_STORED = calls.c.outcome != sa.literal_column("'stored'")


class CallFilters(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls are asked for; None or () leaves a thing open."""

    outcomes: tuple[Outcome, ...] = ()
    reason: Reason | None = None
    event: str | None = None
    """Segment's event name."""
    customer: str | None = None
    id: str | None = None
    """A call id, a message id or an idempotency id."""
    transform: str | None = None
    since: int | None = None
    """Microseconds since 1970, included."""
    until: int | None = None
    """Microseconds since 1970, excluded."""


class StoredResult(msgspec.Struct, frozen=True):
    """What became of one event of a call, as it is kept in `calls.results`."""

    lane: str
    position: int
    idempotency_id: str
    result: Outcome
    rival: int | None = None
    """Id of the call whose event was there first."""
    event: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """JSON of the event as it would have been, for a conflict."""


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
    results: tuple[StoredResult, ...]
    """The result of each event; empty where all were simply stored."""
    idempotency_ids: tuple[str, ...]
    """Of the events it made, or would have made."""


class WholeCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call with all that is stored about it."""

    call: CallRow
    raw: bytes | None
    """The call's own bytes; None after retention."""
    auth: str | None
    shape: str | None
    envelope: bytes | None
    events: tuple[EventRow, ...]
    same_message: tuple[CallRow, ...]
    """The newest other calls with the same message id."""
    changes: tuple[OutcomeChange, ...] = ()
    """What replays changed about it, the first change first."""


@dataclass(frozen=True, slots=True)
class _Source:
    """One index that leads to calls."""

    key: sa.ColumnElement[int]
    """The column that holds the call's id in this index, by which it is ordered."""
    conditions: tuple[sa.ColumnElement[bool], ...]
    joined: bool = False
    """The index is not of `calls`: a call can be there more than once."""


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
    low = max(-1 if after is None else after, first_id_since(filters.since, 0) - 1)
    high = min(ID_MAX if before is None else before, first_id_since(filters.until, ID_MAX))
    found: set[int] = set()
    for source in _sources(filters):
        found.update(_read_source(conn, source, low, high, limit))
    return sorted(found, reverse=True)[:limit]


def read_calls(conn: sa.Connection, ids: Sequence[int]) -> list[CallRow]:
    """Return the calls with these ids, in the order of the ids; those that are not there are left out."""
    columns = [column for column in calls.c if column is not calls.c.raw]
    rows: dict[int, sa.Row[Any]] = {}
    for start in range(0, len(ids), _SLICE):
        some = sa.select(*columns).where(calls.c.id.in_(ids[start : start + _SLICE]))
        rows.update((row.id, row) for row in conn.execute(some))
    made = _idempotency_ids(conn, [row.id for row in rows.values() if row.results is None])
    return [_to_call(rows[one], made.get(one, ())) for one in ids if one in rows]


def newest_call_id(conn: sa.Connection) -> int:
    """Return the highest call id, 0 where there is no call."""
    return conn.execute(sa.select(sa.func.max(calls.c.id))).scalar_one() or 0


def get_call(conn: sa.Connection, call_id: int, same_message_limit: int = 20) -> WholeCall:
    """Return a call with its bytes, its request, its events, and other calls of its message. Raises NotFound."""
    found = read_calls(conn, [call_id]) if 0 <= call_id <= ID_MAX else []
    if not found:
        raise NotFound(f"there is no call {call_id}")
    call = found[0]
    request = conn.execute(sa.select(requests).where(requests.c.id == call.request_id)).one_or_none()
    return WholeCall(
        call=call,
        raw=conn.execute(sa.select(calls.c.raw).where(calls.c.id == call_id)).scalar_one(),
        auth=request.auth if request else None,
        shape=request.shape if request else None,
        envelope=request.envelope if request else None,
        events=tuple(list_call_events(conn, call_id)),
        same_message=tuple(_list_same_message(conn, call, same_message_limit)),
        changes=tuple(list_outcome_changes(conn, call_id)),
    )


def _list_same_message(conn: sa.Connection, call: CallRow, limit: int) -> list[CallRow]:
    if call.message_id is None:
        return []
    found: set[int] = set()
    for source in _message_sources(call.message_id):
        found.update(_read_source(conn, source, -1, ID_MAX, limit + 1))
    found.discard(call.id)
    return read_calls(conn, sorted(found, reverse=True)[:limit])


def _read_source(conn: sa.Connection, source: _Source, low: int, high: int, limit: int) -> Iterable[int]:
    query = sa.select(source.key).where(source.key > low, source.key < high, *source.conditions)
    if source.joined:
        query = query.join(calls, calls.c.id == source.key).distinct()
    return conn.execute(query.order_by(source.key.desc()).limit(limit)).scalars()


def _sources(filters: CallFilters) -> list[_Source]:
    """Choose the indexes that lead to what is asked for; every other filter is a condition on the calls found there."""
    outcomes = set(filters.outcomes or Outcome)
    if filters.reason is not None:
        outcomes &= {_OUTCOME_OF[filters.reason]}
    if not outcomes:
        return []
    narrow = _narrow(filters, outcomes)
    if filters.id is not None:
        leading = _id_sources(filters.id)
    elif filters.customer is not None:
        leading = _customer_sources(filters.customer, outcomes)
    elif len(outcomes) < len(Outcome):
        # One source for each: an index that is ordered by outcome and then by id gives the newest of one outcome.
        return [_outcome_source(outcome, narrow) for outcome in sorted(outcomes)]
    else:
        leading = [_Source(calls.c.id, ())]
    if len(outcomes) < len(Outcome):
        narrow = (*narrow, calls.c.outcome.in_(sorted(outcomes)))
    return [_Source(one.key, (*one.conditions, *narrow), one.joined) for one in leading]


def _narrow(filters: CallFilters, outcomes: set[Outcome]) -> tuple[sa.ColumnElement[bool], ...]:
    conditions: list[sa.ColumnElement[bool]] = []
    if filters.reason is not None and REASONS_OF[next(iter(outcomes))] != (filters.reason,):
        conditions.append(calls.c.reason == filters.reason)
    if filters.event is not None:
        conditions.append(calls.c.event == to_key(filters.event))
    if filters.transform is not None:
        conditions.append(calls.c.transform == to_key(filters.transform))
    if filters.customer is not None and filters.id is not None:
        conditions.append(calls.c.customer_id == to_key(filters.customer))
    return tuple(conditions)


def _outcome_source(outcome: Outcome, narrow: tuple[sa.ColumnElement[bool], ...]) -> _Source:
    # Stored calls are most of all calls: walking down from the newest meets them soon, without an index.
    partial = () if outcome is Outcome.STORED else (_NOT_STORED,)
    return _Source(calls.c.id, (calls.c.outcome == outcome.value, *partial, *narrow))


def _customer_sources(customer: str, outcomes: set[Outcome]) -> list[_Source]:
    key = to_key(customer)
    sources = []
    if Outcome.STORED in outcomes:
        sources.append(_Source(events.c.call_id, (events.c.customer_id == key,), joined=True))
    if outcomes != {Outcome.STORED}:
        sources.append(_Source(calls.c.id, (calls.c.customer_id == key, _NOT_STORED)))
    return sources


def _message_sources(message_key: str | None) -> list[_Source]:
    return [
        _Source(claims.c.call_id, (claims.c.message_id == message_key,), joined=True),
        _Source(calls.c.id, (calls.c.message_id == message_key, _NOT_STORED)),
    ]


def _id_sources(text: str) -> list[_Source]:
    key = to_key(text)
    sources = [
        *_message_sources(key),
        _Source(events.c.call_id, (events.c.idempotency_id == key,), joined=True),
    ]
    if text.isascii() and text.isdecimal() and len(text) <= _ID_DIGITS and int(text) <= ID_MAX:
        sources.append(_Source(calls.c.id, (calls.c.id == int(text),)))
    return sources


def _idempotency_ids(conn: sa.Connection, call_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    made: dict[int, tuple[str, ...]] = {}
    for start in range(0, len(call_ids), _SLICE):
        where = events.c.call_id.in_(call_ids[start : start + _SLICE])
        query = sa.select(events.c.call_id, events.c.idempotency_id).where(where).order_by(events.c.id)
        for row in conn.execute(query):
            made[row.call_id] = (*made.get(row.call_id, ()), row.idempotency_id)
    return made


_decode_results = msgspec.json.Decoder(tuple[StoredResult, ...]).decode


def _to_call(row: sa.Row[Any], made: tuple[str, ...]) -> CallRow:
    results = _decode_results(row.results) if row.results else ()
    columns = {**row._mapping, "outcome": Outcome(row.outcome), "results": results}  # noqa: SLF001  SQLAlchemy's own name
    return CallRow(**columns, idempotency_ids=tuple(one.idempotency_id for one in results) or made)
