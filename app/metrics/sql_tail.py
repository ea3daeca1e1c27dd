"""Queries for the tail: the changes of each commit to events, until a fold has added them to the buckets.

A row holds only ids: storing a call evaluates no metric and costs one row per commit.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa

from app.core.outcome import Outcome
from app.store import ledger
from app.store.arrays import among, look_up, slices
from app.store.commit import OnEvents
from app.store.events import BASE_ID, NewEvent
from app.store.inserts import Insert
from app.store.record import to_key
from app.store.schema import events, usage_tail
from app.store.settle import NextId

LAST_ID = (1 << 63) - 1

_TAIL = Insert(usage_tail, ("id", "events", "voids", "first_call"))


class TailRow(msgspec.Struct, frozen=True):
    """The changes of one commit."""

    id: int
    events: tuple[int, ...]
    """Ids of the events it stored."""
    voids: tuple[int, ...]
    """Ids of the events it voided, or revived: their buckets are rebuilt."""
    first_call: int
    """The smallest id of the calls that made its events."""


class FoldEvent(msgspec.Struct, frozen=True, gc=False):
    """The columns of an event that a fold reads."""

    id: int
    call_id: int
    base_id: str
    """Its idempotency id before any correction."""
    event_name: str
    customer_id: str
    time_created: int
    properties: str
    voided_at: int | None


_COLUMNS = [BASE_ID if name == "base_id" else events.c[name] for name in FoldEvent.__struct_fields__]


def tail_of(next_id: NextId) -> OnEvents:
    """Return the hook that adds a tail row for each transaction's events; `next_id` makes an id from a time."""

    def note(conn: sa.Connection, stored: Sequence[NewEvent], voided: Sequence[int], now: int) -> Counter[ledger.Entry]:
        first_call = min((event.call_id for event in stored), default=LAST_ID)
        changes = _pack([event.id for event in stored]), _pack(voided), first_call
        _TAIL.run(conn, [(next_id(now), *changes)])
        return Counter()

    return note


def list_tail(conn: sa.Connection, limit: int | None = None) -> list[TailRow]:
    """Return the rows that are not folded yet, oldest first."""
    columns = (usage_tail.c.id, usage_tail.c.events, usage_tail.c.voids, usage_tail.c.first_call)
    query = sa.select(*columns).order_by(usage_tail.c.id).limit(limit)
    return [TailRow(row[0], _unpack(row[1]), _unpack(row[2]), row[3]) for row in conn.execute(query)]


def delete_tail(conn: sa.Connection, ids: Sequence[int]) -> int:
    """Delete rows; return how many existed."""
    delete = sa.delete(usage_tail)
    return sum(conn.execute(delete.where(among(conn, usage_tail.c.id, part))).rowcount for part in slices(ids))


def list_events(conn: sa.Connection, ids: Iterable[int]) -> list[FoldEvent]:
    """Return events by id, including void ones."""
    return [FoldEvent(*row) for row in look_up(conn, sa.select(*_COLUMNS), events.c.id, ids)]


def list_named_events(conn: sa.Connection, ids: Iterable[int], names: Iterable[str]) -> list[FoldEvent]:
    """Return the events among `ids` that have one of `names` and are not void."""
    keys = _keys(names)
    if not keys:
        return []
    query = sa.select(*_COLUMNS).where(among(conn, events.c.event_name, keys), events.c.voided_at.is_(None))
    return [FoldEvent(*row) for row in look_up(conn, query, events.c.id, ids)]


def has_named_event(conn: sa.Connection, ids: Iterable[int], event_name: str) -> bool:
    """Tell whether any of the events `ids` has this name."""
    query = sa.select(events.c.id).where(events.c.event_name == to_key(event_name)).limit(1)
    return any(look_up(conn, query, events.c.id, ids))


def list_events_after(
    conn: sa.Connection, cursor: int, until: int, limit: int, names: Iterable[str]
) -> tuple[list[FoldEvent], int, int | None]:
    """Return the events of `names` among the next `limit` events with ids in (`cursor`, `until`].

    Also returns how many events of any name were passed, and the id of the last one; None if there are no more.
    """
    ids = sa.select(events.c.id).where(events.c.id.between(cursor + 1, until)).order_by(events.c.id)
    last = conn.execute(ids.offset(limit - 1).limit(1)).scalar()
    query = sa.select(*_COLUMNS).where(
        events.c.id.between(cursor + 1, until if last is None else last),
        among(conn, events.c.event_name, _keys(names)),
        events.c.voided_at.is_(None),
    )
    fold_events = [FoldEvent(*row) for row in conn.execute(query)]
    if last is not None:
        return fold_events, limit, last
    return fold_events, conn.execute(sa.select(sa.func.count()).select_from(ids.subquery())).scalar_one(), None


def list_events_between(
    conn: sa.Connection,
    calls: tuple[int, int],
    period: tuple[int, int],
    event_name: str,
    customer_id: str | None = None,
) -> list[FoldEvent]:
    """Return the events in a period [since, until), made by calls within a range of ids, that are not void."""
    query = sa.select(*_COLUMNS).where(
        events.c.call_id.between(*calls),
        events.c.event_name == to_key(event_name),
        events.c.time_created >= period[0],
        events.c.time_created < period[1],
        events.c.voided_at.is_(None),
    )
    if customer_id is not None:
        query = query.where(events.c.customer_id == customer_id)
    return [FoldEvent(*row) for row in conn.execute(query)]


def count_events(conn: sa.Connection) -> tuple[int, int]:
    """Return the number of events, from the ledger, and the largest id: neither scans the table."""
    last = conn.execute(sa.select(sa.func.max(events.c.id))).scalar()
    return ledger.sum_counts(conn)[ledger.EVENT, Outcome.STORED, ""], last or 0


def _keys(names: Iterable[str]) -> list[str]:
    """Return names as query parameters, without those that no stored event can have."""
    return sorted(key for name in names if (key := to_key(name)) is not None)


def _pack(ids: Sequence[int]) -> bytes:
    return array("q", ids).tobytes()


def _unpack(packed: bytes) -> tuple[int, ...]:
    return tuple(array("q", packed))
