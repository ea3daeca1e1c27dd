"""Events and the claims that keep a call from making them twice. `conn` first, values in, values out."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.core.lotus import IDEMPOTENCY_ID_MAX
from app.core.pipeline import Lane
from app.store.arrays import look_up
from app.store.clock import find_transaction_time, read_clock
from app.store.inserts import BoundStatement, Insert
from app.store.schema import claims, events
from app.store.updates import Update

_CLAIMS = Insert(claims, ("message_id", "lane", "call_id", "content", "transform_digest"), skip_known=True)


class EventFields(msgspec.Struct, frozen=True):
    """The columns of an event at its creation, except the transform that made it."""

    id: int
    idempotency_id: str
    call_id: int
    lane: str
    position: int
    event_name: str
    customer_id: str
    time_created: int
    properties: str
    """A JSON object as text."""
    content: bytes


_COLUMNS = (*EventFields.__struct_fields__, "transform", "transform_digest")
_EVENTS = Insert(events, (*_COLUMNS, "stored_at"), skip_known=True)
_EVENTS_NOW = Insert(events, _COLUMNS, skip_known=True, stamped="stored_at")
"""Where nothing else of the transaction has this time: asking a server for it would be a round trip."""


BASE_ID = sa.func.coalesce(events.c.base_id, events.c.idempotency_id).label("base_id")
"""An event's base id, as of `base_id_of`."""

_MOVED = Update(events, new=("idempotency_id", "base_id", "revision"), known=("id",))
_REVISED = Update(events, new=("base_id", "revision"), known=("id",))


class RevisedFields(EventFields, frozen=True):
    """The columns of an event that a person put in the place of another one."""

    transform: str
    transform_digest: bytes
    base_id: str
    revision: int
    stored_at: int
    """The moment in which the other became void: an answer as of any moment counts one of them."""


_REPLACEMENTS = Insert(events, RevisedFields.__struct_fields__)


class EventValues(msgspec.Struct, frozen=True, gc=False):
    """What metrics read of an event, stored or not."""

    id: int
    """0: it is not stored."""
    base_id: str
    event_name: str
    customer_id: str
    time_created: int
    properties: str


_VALUES = [BASE_ID if name == "base_id" else events.c[name] for name in EventValues.__struct_fields__]


class Claim(msgspec.Struct, frozen=True):
    """Which call made the events of a message, and their content, in a lane."""

    call_id: int
    content: bytes
    transform_digest: bytes


class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """An event to be stored: number `position` of the lane's events of a call."""

    id: int
    call_id: int
    lane: Lane
    position: int


class StoredEvent(msgspec.Struct, frozen=True):
    """The stored event with an idempotency id."""

    id: int
    call_id: int
    lane: str
    position: int
    content: bytes
    transform_digest: bytes


def to_revision_id(base_id: str, revision: int) -> str:
    """Return the idempotency id of an event: its base id, or `<base id>~<revision>` for what a correction made."""
    return base_id if revision == 1 else f"{base_id}~{revision}"


def base_id_of(idempotency_id: str, base_id: str | None) -> str:
    """Return an event's id before any correction, from its columns: an id may end in `~2` by itself."""
    return idempotency_id if base_id is None else base_id


def public_id(idempotency_id: str, base_id: str | None, revision: int | None) -> str:
    """Return the idempotency id that an event was made with, although it may be stored under another since."""
    return idempotency_id if base_id is None else to_revision_id(base_id, revision or 1)


def prepare_claims(conn: sa.Connection, new_claims: Sequence[tuple[str, str, Lane, int]]) -> BoundStatement:
    """Prepare claims (message key, lane name, lane, call id); the first for a key and lane wins."""
    rows = sorted([(key, name, call_id, lane.content, lane.digest) for key, name, lane, call_id in new_claims])
    return _CLAIMS.prepare(conn, rows)


def find_claims(conn: sa.Connection, keys: Iterable[str]) -> dict[tuple[str, str], Claim]:
    """Return the claims on these message keys, by (message key, lane)."""
    claims_of: dict[tuple[str, str], Claim] = {}
    for row in look_up(conn, sa.select(claims), claims.c.message_id, keys):
        claims_of[row.message_id, row.lane] = Claim(row.call_id, row.content, row.transform_digest)
    return claims_of


def release_claims(conn: sa.Connection, released: Iterable[tuple[str, str]]) -> None:
    """Delete claims (message key, lane) made in this transaction by calls that made no event after all."""
    for key, lane in released:
        conn.execute(sa.delete(claims).where(claims.c.message_id == key, claims.c.lane == lane))


def prepare_events(conn: sa.Connection, new_events: Iterable[NewEvent]) -> BoundStatement:
    """Prepare to store the events whose idempotency id is new; of two, the one with the smaller id."""
    rows = [_row(event) for event in new_events]
    if conn.dialect.name == "postgresql":
        # Two writers that insert the same keys in different orders would deadlock. SQLite has one writer, and appends
        # rows in the order of their ids to the end of its tree (a sixth of the time).
        rows.sort(key=_idempotency_id_and_id)
        if find_transaction_time(conn) is None:
            return _EVENTS_NOW.prepare(conn, rows)
    now = read_clock(conn)
    return _EVENTS.prepare(conn, [(*row, now) for row in rows])


def find_revisions(conn: sa.Connection, base_ids: Iterable[str]) -> dict[str, int]:
    """Return the last revision of each of these base ids that a correction made another event of."""
    revisions: dict[str, int] = {}
    for row in look_up(conn, sa.select(events.c.base_id, events.c.revision), events.c.base_id, base_ids):
        revisions[row.base_id] = max(row.revision or 1, revisions.get(row.base_id, 1))
    return revisions


def append_replacements(conn: sa.Connection, rows: Iterable[RevisedFields]) -> None:
    """Store events in the place of others. Raises DuplicateKey where one of their ids was taken meanwhile."""
    _REPLACEMENTS.run(conn, sorted(map(msgspec.structs.astuple, rows), key=_idempotency_id_and_id))


def note_revisions(conn: sa.Connection, revised: Iterable[tuple[str, int, int]]) -> None:
    """Set the base id and revision of events that a correction made: (base id, revision, event id)."""
    _REVISED.run(conn, sorted(revised, key=_last))


def give_up_ids(conn: sa.Connection, moved: Iterable[tuple[str, int, int]]) -> None:
    """Free the idempotency ids of void events, (base id, revision, event id): a new event may take them.

    The replacement id is longer than Lotus allows, so no event is ever made with it.
    """
    rows = [
        (f"{to_revision_id(base_id, revision)}~moved~{id_:0>{IDEMPOTENCY_ID_MAX}}", base_id, revision, id_)
        for base_id, revision, id_ in moved
    ]
    _MOVED.run(conn, sorted(rows, key=_last))


def find_stored(conn: sa.Connection, idempotency_ids: Iterable[str]) -> dict[str, StoredEvent]:
    """Return the events that have these idempotency ids, by idempotency id."""
    columns = (
        events.c.idempotency_id,
        events.c.id,
        events.c.call_id,
        events.c.lane,
        events.c.position,
        events.c.content,
        events.c.transform_digest,
    )
    rows = look_up(conn, sa.select(*columns), events.c.idempotency_id, idempotency_ids)
    return {idempotency_id: StoredEvent(*values) for idempotency_id, *values in rows}


def list_event_values(conn: sa.Connection, event_ids: Iterable[int]) -> list[EventValues]:
    """Return what metrics read of these events, void or not."""
    return [EventValues(*row) for row in look_up(conn, sa.select(*_VALUES), events.c.id, event_ids)]


def to_event_values(new: NewEvent) -> EventValues:
    """Return what metrics read of an event that was just stored."""
    event = new.lane.events[new.position]
    return EventValues(
        new.id, event.idempotency_id, event.event_name, event.customer_id, event.time_created, event.properties
    )


def _row(new: NewEvent) -> tuple[object, ...]:
    lane = new.lane
    event = lane.events[new.position]
    return (
        new.id,
        event.idempotency_id,
        new.call_id,
        lane.name,
        new.position,
        event.event_name,
        event.customer_id,
        event.time_created,
        event.properties,
        event.content,
        lane.transform,
        lane.digest,
    )


def _idempotency_id_and_id(row: tuple[object, ...]) -> tuple[object, object]:
    return row[1], row[0]


def _last(row: tuple[Any, ...]) -> Any:
    return row[-1]
