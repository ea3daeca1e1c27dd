"""Queries of the outbox for the API, the pages and the commands. `conn` first."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.forward.sql_claims import Attempt
from app.forward.sql_deliveries import IS_WAITING, DeliveryState
from app.forward.sql_search import ENDED_BADLY, DeliveryFilters, id_range
from app.store.arrays import among
from app.store.events import public_id
from app.store.schema import attempted, attempts, deliveries, differences, events

ATTEMPTS = 100
"""The most attempts that are read at once."""


GROUPED = 5000
"""The most deliveries of each state that are grouped: each one is a look-up in the table."""

_SLICE = 1000


class DeliveryRow(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery, with columns of its event or difference."""

    event_id: int
    state: str
    due_at: int
    tries: int
    reason: str | None
    settled_at: int | None
    attempt_id: int | None
    note: str | None
    note_author: str | None
    noted_at: int | None
    held_for: int | None
    idempotency_id: str
    event_name: str
    customer_id: str
    time_created: int
    properties: str
    call_id: int | None
    """None: it is a difference, and no event."""
    correction_id: int | None
    """Of a difference: the correction that made it."""
    corrected_id: int | None
    """Of a difference: the event whose number it corrects."""


class LastAttempt(msgspec.Struct, frozen=True):
    """The last request that an event was in, as a list shows it."""

    started_at: int
    milliseconds: int
    status: int | None


class DeliveryGroup(msgspec.Struct, frozen=True):
    """Undelivered events with the same state and reason."""

    state: DeliveryState
    reason: str
    count: int
    first_at: int
    last_at: int
    sample: int
    """The newest of its events."""


def read_deliveries(conn: sa.Connection, ids: Sequence[int]) -> list[DeliveryRow]:
    """Return the deliveries of these events, in the order of the ids; missing ones are left out."""
    query = _rows().where(among(conn, deliveries.c.event_id, ids))
    rows = {row.event_id: _to_row(**row._mapping) for row in conn.execute(query)}  # noqa: SLF001  SQLAlchemy's own
    return [rows[id_] for id_ in ids if id_ in rows]


def get_delivery(conn: sa.Connection, event_id: int) -> DeliveryRow | None:
    """Return the delivery of an event; None if it has none."""
    return next(iter(read_deliveries(conn, [event_id])), None)


def list_attempts(conn: sa.Connection, event_ids: Sequence[int], limit: int = ATTEMPTS) -> dict[int, list[Attempt]]:
    """Return the attempts of each event, the oldest first; in total the newest `limit`."""
    last = sa.select(deliveries.c.event_id, deliveries.c.attempt_id).where(
        among(conn, deliveries.c.event_id, event_ids), deliveries.c.attempt_id.is_not(None)
    )
    earlier = sa.select(attempted.c.event_id, attempted.c.attempt_id).where(
        among(conn, attempted.c.event_id, event_ids)
    )
    pairs = last.union(earlier).subquery()
    columns = [attempts.c[name] for name in Attempt.__struct_fields__]
    query = sa.select(pairs.c.event_id.label("of"), *columns).join(pairs, attempts.c.id == pairs.c.attempt_id)
    attempts_of: dict[int, list[Attempt]] = {event_id: [] for event_id in event_ids}
    for event_id, *values in reversed(conn.execute(query.order_by(attempts.c.id.desc()).limit(limit)).all()):
        attempts_of[event_id].append(Attempt(*values))
    return attempts_of


def read_last_attempts(conn: sa.Connection, ids: Sequence[int]) -> dict[int, LastAttempt]:
    """Return attempts by their ids, without their answers."""
    columns = [attempts.c[name] for name in LastAttempt.__struct_fields__]
    query = sa.select(attempts.c.id, *columns).where(among(conn, attempts.c.id, ids))
    return {number: LastAttempt(*values) for number, *values in conn.execute(query)}


def read_newest_attempt(conn: sa.Connection) -> LastAttempt | None:
    """Return the last request that any worker made; None if there was none."""
    columns = [attempts.c[name] for name in LastAttempt.__struct_fields__]
    row = conn.execute(sa.select(*columns).order_by(attempts.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else LastAttempt(*row)


def find_groups(
    conn: sa.Connection, filters: DeliveryFilters, most: int = GROUPED
) -> tuple[list[DeliveryGroup], int | None]:
    """Group failed and unforwardable deliveries of the filters' period by reason, the largest group first.

    Examines the newest `most` of each state. Returns the groups, and the oldest event examined if there are older
    ones.
    """
    groups: list[DeliveryGroup] = []
    edge: int | None = None
    low, high = id_range(filters)
    for state in (DeliveryState.FAILED, DeliveryState.UNFORWARDABLE):
        newest = (
            sa.select(deliveries.c.event_id, deliveries.c.reason, deliveries.c.settled_at)
            .where(deliveries.c.state == state, ENDED_BADLY)
            .where(deliveries.c.event_id > low, deliveries.c.event_id < high)
            .order_by(deliveries.c.event_id.desc())
            .limit(most)
            .subquery()
        )
        columns = (sa.func.min(newest.c.settled_at), sa.func.max(newest.c.settled_at), sa.func.max(newest.c.event_id))
        query = sa.select(newest.c.reason, sa.func.count(), *columns, sa.func.min(newest.c.event_id))
        rows = conn.execute(query.group_by(newest.c.reason)).all()
        groups += [DeliveryGroup(state, reason or "", *values) for reason, *values, _oldest in rows]
        if sum(row[1] for row in rows) == most:
            edge = max(edge or 0, min(row[-1] for row in rows))
    return sorted(groups, key=lambda group: (-group.count, group.state, group.reason)), edge


def count_states(conn: sa.Connection) -> Counter[str]:
    """Count deliveries by state, reading the whole table: some 0.1 s for a million."""
    query = sa.select(deliveries.c.state, sa.func.count().label("count")).group_by(deliveries.c.state)
    return Counter({row.state: row[1] for row in conn.execute(query)})


def count_delivered(conn: sa.Connection, event_ids: Iterable[int]) -> int:
    """Count how many of these events are in the state delivered."""
    return count_deliveries(conn, event_ids)[0]


def count_deliveries(conn: sa.Connection, event_ids: Iterable[int]) -> tuple[int, int]:
    """Count how many of these events are delivered, and how many are in the outbox and not delivered."""
    query = sa.select(deliveries.c.state, sa.func.count()).group_by(deliveries.c.state)
    ids = sorted(event_ids)
    counts: Counter[str] = Counter()
    for start in range(0, len(ids), _SLICE):
        for state, count in conn.execute(query.where(among(conn, deliveries.c.event_id, ids[start : start + _SLICE]))):
            counts[state] += count
    undelivered = (DeliveryState.WAITING, DeliveryState.FAILED, DeliveryState.UNFORWARDABLE, DeliveryState.HELD)
    return counts[DeliveryState.DELIVERED.value], sum(counts[state.value] for state in undelivered)


def count_events(conn: sa.Connection) -> int:
    """Count events."""
    return conn.execute(sa.select(sa.func.count()).select_from(events)).scalar_one()


def count_undelivered(conn: sa.Connection) -> Counter[str]:
    """Count deliveries by state, without those that are delivered, which are not read."""
    waiting = conn.execute(sa.select(sa.func.count()).select_from(deliveries).where(IS_WAITING)).scalar_one()
    query = (
        sa.select(deliveries.c.state, sa.func.count().label("total")).where(ENDED_BADLY).group_by(deliveries.c.state)
    )
    return Counter({DeliveryState.WAITING.value: waiting, **{row.state: row.total for row in conn.execute(query)}})


def find_by_idempotency_ids(conn: sa.Connection, ids: Sequence[str]) -> list[int]:
    """Return the ids of the events that have these idempotency ids."""
    return list(conn.execute(sa.select(events.c.id).where(among(conn, events.c.idempotency_id, list(ids)))).scalars())


def newest_event_id(conn: sa.Connection) -> int:
    """Return the id of the newest event; 0 if there is none."""
    return conn.execute(sa.select(sa.func.max(events.c.id))).scalar_one() or 0


_EVENT = ("idempotency_id", "event_name", "customer_id", "time_created", "properties")
_DIFFERENCE = ("correction_id", "corrected_id")


def _rows() -> sa.Select[Any]:
    own = [deliveries.c[name] for name in DeliveryRow.__struct_fields__ if name in deliveries.c]
    either = [sa.func.coalesce(events.c[name], differences.c[name]).label(name) for name in _EVENT]
    only = [events.c.call_id, events.c.base_id, events.c.revision, *(differences.c[name] for name in _DIFFERENCE)]
    return (
        sa.select(*own, *either, *only)
        .outerjoin(events, events.c.id == deliveries.c.event_id)
        .outerjoin(differences, differences.c.event_id == deliveries.c.event_id)
    )


def _to_row(*, idempotency_id: str, base_id: str | None, revision: int | None, **columns: Any) -> DeliveryRow:
    # A void event may be stored under another id, so that its own one is free.
    return DeliveryRow(idempotency_id=public_id(idempotency_id, base_id, revision), **columns)
