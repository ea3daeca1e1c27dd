"""Reads stored calls in ascending order of ids, for replays. `conn` first.

As in app.store.review, each outcome is read from its own index, so that a few rejected calls among millions are found
without a scan.
"""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.core.arrival import WEBHOOK, read_arrived
from app.core.outcome import Outcome, Reason
from app.store.arrays import among, look_up
from app.store.events import EventFields, base_id_of
from app.store.record import to_key
from app.store.schema import calls, events, faults, requests
from app.store.voids import BY_PERSON

BYTES_AT_ONCE = 16 << 20
"""The most raw bytes in memory at a time; a call has at most 1 MiB."""

_SLICE = 100
"""Calls in the first statement: each may be a megabyte. Later statements read more if these were small."""

_LONGEST_SLICE = 300

_NOT_STORED = calls.c.outcome != sa.literal_column("'stored'")


class ReplayScope(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls to read."""

    outcomes: tuple[Outcome, ...]
    event: str | None = None
    """Segment's event name."""
    kinds: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Types of calls, each with names of events, any if there are none; empty: all calls."""
    reason: Reason | None = None
    by: str | None = None
    """Name of the transform that decided."""
    version: bytes | None = None
    """Digest of the version that decided."""
    fault: bytes | None = None
    """Only the calls with the fault that has this key."""
    call_ids: tuple[int, ...] | None = None


class KeptCall(msgspec.Struct, frozen=True, gc=False):
    """The columns of a stored call that a replay needs."""

    id: int
    received_at: int
    raw: bytes | None
    """None after retention."""
    message_id: str | None
    """As an indexable key."""
    customer_id: str | None
    outcome: str
    reason: str | None
    detail: str | None
    transform: str | None
    transform_digest: bytes | None
    results: str | None
    route: str = WEBHOOK
    request_id: int = 0
    envelope: bytes | None = None
    """The envelope of its batch; only read if the call depends on it."""

    def read(self) -> Any:
        """Decode its bytes, which it must have, as when it arrived. Never fails."""
        return read_arrived(
            self.raw or b"",
            route=self.route,
            envelope=self.envelope,
            received_at=self.received_at,
            message_id=self.message_id,
        )


class OwnEvent(EventFields, frozen=True):
    """An event that a call made."""

    base_id: str | None
    revision: int | None
    voided: bool
    by_person: bool
    """A person made it void, and no replay did."""

    @property
    def base(self) -> str:
        """Its idempotency id before any correction."""
        return base_id_of(self.idempotency_id, self.base_id)


_CALL_COLUMNS = tuple(calls.c[name] for name in KeptCall.__struct_fields__[:-1])
_EVENT_COLUMNS = [events.c[name] for name in OwnEvent.__struct_fields__[:-2]]


def find_ids(conn: sa.Connection, scope: ReplayScope, after: int, until: int, limit: int) -> list[int]:
    """Return the lowest `limit` ids above `after`, and not above `until`."""
    ids: list[int] = []
    for conditions in _sources(scope):
        query = sa.select(calls.c.id).where(calls.c.id > after, calls.c.id <= until, *conditions)
        ids += conn.execute(query.order_by(calls.c.id).limit(limit)).scalars()
    return sorted(ids)[:limit]


def count_ids(conn: sa.Connection, scope: ReplayScope, after: int, until: int) -> int:
    """Count the calls of a scope with ids in (after, until]."""
    total = 0
    for conditions in _sources(scope):
        query = sa.select(sa.func.count()).where(calls.c.id > after, calls.c.id <= until, *conditions)
        total += conn.execute(query.select_from(calls)).scalar_one()
    return total


def read_kept(conn: sa.Connection, ids: Sequence[int], most_bytes: int = BYTES_AT_ONCE) -> list[KeptCall]:
    """Return the first of these calls, by id: at least one, and all if they are small."""
    kept_calls: list[KeptCall] = []
    size, start, some_many = 0, 0, _SLICE
    while start < len(ids) and size <= most_bytes:
        batch = ids[start : start + some_many]
        query = sa.select(*_CALL_COLUMNS).where(among(conn, calls.c.id, batch)).order_by(calls.c.id)
        rows = _with_envelopes(conn, [KeptCall(*row) for row in conn.execute(query).all()])
        kept_calls += rows
        size += sum([len(row.raw) for row in rows if row.raw is not None])
        start += some_many
        if size < most_bytes // 16:
            some_many = _LONGEST_SLICE
    return kept_calls


def _with_envelopes(conn: sa.Connection, rows: list[KeptCall]) -> list[KeptCall]:
    """Add the envelopes of batches; calls of the webhook, which are the majority, need none."""
    request_ids = sorted({row.request_id for row in rows if row.route != WEBHOOK})
    if not request_ids:
        return rows
    query = sa.select(requests.c.id, requests.c.envelope).where(among(conn, requests.c.id, request_ids))
    envelopes = {row.id: row.envelope for row in conn.execute(query)}
    return [
        row if row.route == WEBHOOK else msgspec.structs.replace(row, envelope=envelopes.get(row.request_id))
        for row in rows
    ]


def list_own_events(conn: sa.Connection, call_ids: Collection[int]) -> dict[int, list[OwnEvent]]:
    """Return the events that these calls made, including void ones, by call, in order of creation."""
    columns: list[sa.ColumnElement[Any]] = [*_EVENT_COLUMNS, events.c.voided_at.is_not(None), BY_PERSON]
    events_of: dict[int, list[OwnEvent]] = {}
    for row in look_up(conn, sa.select(*columns).order_by(events.c.id), events.c.call_id, call_ids):
        event = OwnEvent(*row)
        events_of.setdefault(event.call_id, []).append(event)
    return {call_id: _without_undone(own) for call_id, own in events_of.items()}


def _without_undone(own: list[OwnEvent]) -> list[OwnEvent]:
    """Take back `by_person` where an undo made an amended event void: the event that it stood for counts again."""
    if not any(event.by_person and event.revision for event in own):
        return own
    live = {(event.lane, event.base): event.revision or 1 for event in own if not event.voided}
    return [
        msgspec.structs.replace(event, by_person=False)
        if event.by_person and live.get((event.lane, event.base), event.revision or 1) < (event.revision or 1)
        else event
        for event in own
    ]


def _is_of_kind(kind: str, names: Sequence[str]) -> sa.ColumnElement[bool]:
    is_of_type = calls.c.type == kind
    return sa.and_(is_of_type, calls.c.event.in_([to_key(name) for name in names])) if names else is_of_type


def _sources(scope: ReplayScope) -> list[tuple[sa.ColumnElement[bool], ...]]:
    """Return the conditions of one query per index."""
    narrow: list[sa.ColumnElement[bool]] = []
    if scope.call_ids is not None:
        narrow.append(calls.c.id.in_(scope.call_ids))
    if scope.event is not None:
        narrow.append(calls.c.event == to_key(scope.event))
    if scope.kinds:
        narrow.append(sa.or_(*(_is_of_kind(*kind) for kind in scope.kinds)))
    if scope.reason is not None:
        narrow.append(calls.c.reason == scope.reason.value)
    if scope.by is not None:
        narrow.append(calls.c.transform == scope.by)
    if scope.version is not None:
        narrow.append(calls.c.transform_digest == scope.version)
    if scope.fault is not None:
        # Not by its outcome, which all its calls share: the planner could take the index of that one.
        outcome = sa.select(faults.c.outcome).where(faults.c.key == scope.fault).scalar_subquery()
        return [(calls.c.fault == scope.fault, outcome.in_(sorted(set(scope.outcomes))), *narrow)]
    return [
        (calls.c.outcome == outcome.value, *(() if outcome is Outcome.STORED else (_NOT_STORED,)), *narrow)
        for outcome in sorted(set(scope.outcomes))
    ]
