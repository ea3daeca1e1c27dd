"""The tail: what each commit did to events, until a fold has added it to the buckets. `conn` first.

A row holds ids alone: who stores a call evaluates no metric, and pays one row per commit.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa

from app.core.outcome import Outcome
from app.store import ledger
from app.store.commit import OnEvents
from app.store.events import BASE_ID, NewEvent
from app.store.inserts import Insert
from app.store.keys import to_key
from app.store.lookup import among
from app.store.schema import events, usage_tail
from app.store.settle import NextId

# Bound parameters per statement are limited (SQLite: 32,766); look up in slices.
_SLICE = 1000

LAST_ID = (1 << 63) - 1

_TAIL = Insert(usage_tail, ("id", "events", "voids", "first_call"))


class TailRow(msgspec.Struct, frozen=True):
    """What one commit did."""

    id: int
    events: tuple[int, ...]
    """Ids of the events it stored."""
    voids: tuple[int, ...]
    """Ids of the events it made void."""
    first_call: int
    """Of the calls that made its events, the smallest id."""


class FoldEvent(msgspec.Struct, frozen=True, gc=False):
    """What a fold needs of an event."""

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


def append_tail(conn: sa.Connection, tail_id: int, stored: Sequence[NewEvent], voided: Sequence[int] = ()) -> None:
    """Write down what this transaction does to events."""
    first_call = min((one.call_id for one in stored), default=LAST_ID)
    _TAIL.run(conn, [(tail_id, _pack([one.id for one in stored]), _pack(voided), first_call)])


def tail_of(next_id: NextId) -> OnEvents:
    """Return what writes down, with each transaction, what it does to events; `next_id` gives an id for a time."""

    def note(conn: sa.Connection, stored: Sequence[NewEvent], voided: Sequence[int], now: int) -> Counter[ledger.Entry]:
        append_tail(conn, next_id(now), stored, voided)
        return Counter()

    return note


def list_tail(conn: sa.Connection, limit: int | None = None) -> list[TailRow]:
    """Return what is not folded yet."""
    columns = (usage_tail.c.id, usage_tail.c.events, usage_tail.c.voids, usage_tail.c.first_call)
    query = sa.select(*columns).order_by(usage_tail.c.id).limit(limit)
    return [TailRow(row[0], _unpack(row[1]), _unpack(row[2]), row[3]) for row in conn.execute(query)]


def delete_tail(conn: sa.Connection, ids: Sequence[int]) -> int:
    """Delete rows; return how many were there."""
    delete = sa.delete(usage_tail)
    return sum(conn.execute(delete.where(among(conn, usage_tail.c.id, part))).rowcount for part in _slices(ids))


def list_events(conn: sa.Connection, ids: Iterable[int]) -> list[FoldEvent]:
    """Return events, those that are void included."""
    return [
        FoldEvent(*row)
        for part in _slices(sorted(ids))
        for row in conn.execute(sa.select(*_COLUMNS).where(among(conn, events.c.id, part)))
    ]


def list_named(conn: sa.Connection, ids: Iterable[int], names: Iterable[str]) -> list[FoldEvent]:
    """Return those of some names that are among `ids` and not void."""
    wanted = _keys(names)
    if not wanted:
        return []
    query = sa.select(*_COLUMNS).where(among(conn, events.c.event_name, wanted), events.c.voided_at.is_(None))
    return [
        FoldEvent(*row)
        for part in _slices(sorted(ids))
        for row in conn.execute(query.where(among(conn, events.c.id, part)))
    ]


def any_named(conn: sa.Connection, ids: Iterable[int], event_name: str) -> bool:
    """Tell whether an event of a name is among `ids`."""
    query = sa.select(events.c.id).where(events.c.event_name == to_key(event_name)).limit(1)
    return any(
        conn.execute(query.where(among(conn, events.c.id, part))).first() is not None for part in _slices(sorted(ids))
    )


def list_after(
    conn: sa.Connection, cursor: int, until: int, limit: int, names: Iterable[str]
) -> tuple[list[FoldEvent], int, int | None]:
    """Return events of some names with ids above `cursor` and up to `until`, and how many of all names were passed.

    The third is the id up to which they were; None: there are no more.
    """
    ids = sa.select(events.c.id).where(events.c.id.between(cursor + 1, until)).order_by(events.c.id)
    last = conn.execute(ids.offset(limit - 1).limit(1)).scalar()
    query = sa.select(*_COLUMNS).where(
        events.c.id.between(cursor + 1, until if last is None else last),
        among(conn, events.c.event_name, _keys(names)),
        events.c.voided_at.is_(None),
    )
    found = [FoldEvent(*row) for row in conn.execute(query)]
    if last is not None:
        return found, limit, last
    return found, conn.execute(sa.select(sa.func.count()).select_from(ids.subquery())).scalar_one(), None


def list_between(
    conn: sa.Connection,
    calls: tuple[int, int],
    period: tuple[int, int],
    event_name: str,
    customer_id: str | None = None,
) -> list[FoldEvent]:
    """Return events that are not void, of a period [since, until), made by the calls from one id to another."""
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
    """Return how many events there are, as the ledger says, and the largest id: neither looks at all of them."""
    last = conn.execute(sa.select(sa.func.max(events.c.id))).scalar()
    return ledger.sum_counts(conn)[ledger.EVENT, Outcome.STORED, ""], last or 0


def _keys(names: Iterable[str]) -> list[str]:
    """Return names as they can stand in a query: a metric may ask for one that no event can have."""
    return sorted(key for name in names if (key := to_key(name)) is not None)


def _slices(ids: Iterable[int]) -> Iterable[list[int]]:
    listed = list(ids)
    return (listed[start : start + _SLICE] for start in range(0, len(listed), _SLICE))


def _pack(ids: Sequence[int]) -> bytes:
    return array("q", ids).tobytes()


def _unpack(packed: bytes) -> tuple[int, ...]:
    return tuple(array("q", packed))
