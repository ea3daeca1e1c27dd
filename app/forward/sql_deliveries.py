"""The outbox: which events are to be sent to Lotus, and how corrections and people move them. `conn` first.

What workers do with it: `app.forward.sql_claims`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec
import sqlalchemy as sa

from app.store.arrays import among, look_up
from app.store.events import NewEvent
from app.store.inserts import Insert
from app.store.ledger import DELIVERY, WAITING, Entry
from app.store.schema import deliveries, events
from app.store.updates import Update


class DeliveryState(StrEnum):
    """The state of a delivery."""

    WAITING = WAITING
    DELIVERED = "delivered"
    """Lotus has the event, and it counts."""
    FAILED = "failed"
    """Lotus refused the event for good."""
    UNFORWARDABLE = "unforwardable"
    """Lotus accepts no event as old as this one; it was never sent."""
    VOIDED = "voided"
    """The event was voided before it was sent, and waits again if it is revived."""
    SURPLUS = "surplus"
    """Lotus has the event, which is void here: it bills too much."""
    CREDITED = "credited"
    """A surplus that was settled, by a person's note or by a difference."""
    HELD = "held"
    """The event replaces another one, which Lotus has: it is not sent until a person releases it."""


IN_LOTUS = (DeliveryState.DELIVERED.value, DeliveryState.SURPLUS.value, DeliveryState.CREDITED.value)
"""States of what Lotus has."""


class OutboxRow(msgspec.Struct, frozen=True, gc=False):
    """A delivery, as a correction finds it."""

    event_id: int
    state: str
    due_at: int
    claim: int | None
    claimed_until: int | None
    attempt_id: int | None
    note: str | None
    held_for: int | None

    def is_in_flight(self, now: int) -> bool:
        """Tell whether a worker may be sending it."""
        until = self.claimed_until
        is_claimed = until is not None and now <= until <= now + _LONGEST_LEASE_MICROS
        return self.state == DeliveryState.WAITING and is_claimed


_BATCH = 1000
_LONGEST_LEASE_MICROS = 3_600_000_000

# A literal: with a bound parameter neither database would use its partial index.
IS_WAITING = deliveries.c.state == sa.literal_column("'waiting'")

_ROWS = sa.select(*(deliveries.c[name] for name in OutboxRow.__struct_fields__))
_DELIVERIES = Insert(deliveries, ("event_id", "state", "due_at", "tries"))
_LATER = Insert(deliveries, ("event_id", "state", "due_at", "tries"), skip_known=True)
_HELD = Insert(deliveries, ("event_id", "state", "due_at", "tries", "held_for"))
_STATES = Update(deliveries, new=("state",), known=("event_id", "state"))
_VOID = Update(deliveries, new=("state", "settled_at"), known=("event_id", "state"))


def queue_events(conn: sa.Connection, stored: Sequence[NewEvent], voided: Sequence[int], now: int) -> Counter[Entry]:
    """Queue the events stored in this transaction, due `now`, and void those of `voided`; return the ledger's changes.

    Of those, what Lotus has becomes surplus.
    """
    counts = void_deliveries(conn, voided, now) if voided else Counter[Entry]()
    if stored:
        # Sorted: a row that goes to the end of its tree costs least.
        _DELIVERIES.run(
            conn, [(id_, DeliveryState.WAITING.value, now, 0) for id_ in sorted(event.id for event in stored)]
        )
        counts.update(count_waiting(len(stored)))
    return counts


def queue_events_if_used(
    conn: sa.Connection, stored: Sequence[NewEvent], voided: Sequence[int], now: int
) -> Counter[Entry]:
    """`queue_events` for a process that may not have LOTUS_API_KEY: queues only if the outbox is in use."""
    return queue_events(conn, stored if is_in_use(conn) else (), voided, now)


def count_waiting(number: int) -> Counter[Entry]:
    """Return the ledger's change for this number of newly queued deliveries."""
    return Counter({(DELIVERY, DeliveryState.WAITING.value, ""): number})


def request_later(conn: sa.Connection, after: int, until: int, now: int) -> tuple[int, int | None]:
    """Queue one batch of stored events with ids in (after, until], except those already queued.

    Returns how many are new, and the last id examined; None if there are no more.
    """
    query = (
        sa.select(events.c.id, events.c.voided_at)
        .where(events.c.id > after, events.c.id <= until)
        .order_by(events.c.id)
        .limit(_BATCH)
        # A concurrent correction that voids an event waits, and then finds the delivery; or it was first, and is seen.
        .with_for_update(read=True)
    )
    candidates = conn.execute(query).all()
    if not candidates:
        return 0, None
    rows = [(row.id, DeliveryState.WAITING.value, now, 0) for row in candidates if row.voided_at is None]
    return _LATER.run(conn, rows), candidates[-1].id


def is_in_use(conn: sa.Connection) -> bool:
    """Whether the outbox has any row: how a process without LOTUS_API_KEY tells that events are forwarded."""
    return conn.execute(sa.select(deliveries.c.event_id).limit(1)).first() is not None


def read_deliveries_of(conn: sa.Connection, event_ids: Iterable[int]) -> dict[int, OutboxRow]:
    """Return the deliveries of these events, by event id."""
    return {row[0]: OutboxRow(*row) for row in look_up(conn, _ROWS, deliveries.c.event_id, event_ids)}


def request_events(conn: sa.Connection, event_ids: Sequence[int], now: int) -> int:
    """Queue those of these events that count and were never queued; return how many."""
    query = sa.select(events.c.id).where(among(conn, events.c.id, list(event_ids)), events.c.voided_at.is_(None))
    ids = conn.execute(query.order_by(events.c.id).with_for_update(read=True)).scalars()
    return _LATER.run(conn, [(id_, DeliveryState.WAITING.value, now, 0) for id_ in ids])


def lock_deliveries(conn: sa.Connection, event_ids: Iterable[int]) -> dict[int, OutboxRow]:
    """Return the deliveries of these events, by event id; nobody else changes them until the transaction ends."""
    query = _ROWS.order_by(deliveries.c.event_id).with_for_update()
    return {row[0]: OutboxRow(*row) for row in look_up(conn, query, deliveries.c.event_id, event_ids)}


def void_deliveries(conn: sa.Connection, event_ids: Iterable[int], now: int) -> Counter[Entry]:
    """Void the deliveries of these events; those that Lotus has become surplus. Return the ledger's changes."""
    return void_locked(conn, lock_deliveries(conn, event_ids), now)


def void_locked(conn: sa.Connection, rows: Mapping[int, OutboxRow], now: int) -> Counter[Entry]:
    """Do what `void_deliveries` does with deliveries that are locked."""
    counts: Counter[Entry] = Counter()
    for state in (DeliveryState.WAITING, DeliveryState.FAILED, DeliveryState.UNFORWARDABLE, DeliveryState.HELD):
        ids = [row.event_id for row in rows.values() if row.state == state]
        changed = _VOID.run(conn, [(DeliveryState.VOIDED.value, now, id_, state.value) for id_ in sorted(ids)])
        move(counts, state, DeliveryState.VOIDED, changed)
    ids = [row.event_id for row in rows.values() if row.state == DeliveryState.DELIVERED]
    counts.update(set_states(conn, ids, DeliveryState.DELIVERED, DeliveryState.SURPLUS))
    return counts


def restore_deliveries(conn: sa.Connection, event_ids: Sequence[int], now: int) -> Counter[Entry]:
    """Undo what `void_deliveries` did, since the events count again; return the ledger's changes.

    What Lotus has is delivered, what was not sent is queued, due `now`, and what was held back is held again.
    """
    rows = lock_deliveries(conn, event_ids)
    counts: Counter[Entry] = Counter()
    for state in (DeliveryState.SURPLUS, DeliveryState.CREDITED):
        ids = [row.event_id for row in rows.values() if row.state == state]
        counts.update(set_states(conn, ids, state, DeliveryState.DELIVERED))
    voided = [row for row in rows.values() if row.state == DeliveryState.VOIDED]
    held = [row.event_id for row in voided if row.held_for is not None]
    counts.update(set_states(conn, held, DeliveryState.VOIDED, DeliveryState.HELD))
    free = [row.event_id for row in voided if row.held_for is None]
    counts.update(queue_again(conn, free, now, DeliveryState.VOIDED))
    return counts


def hold_back(conn: sa.Connection, held: Mapping[int, int], now: int) -> Counter[Entry]:
    """Store deliveries that are not sent: by event id, the event for which it stands, and which Lotus has."""
    rows = [(event_id, DeliveryState.HELD.value, now, 0, root) for event_id, root in sorted(held.items())]
    _HELD.run(conn, rows)
    return Counter({(DELIVERY, DeliveryState.HELD.value, ""): len(rows)})


def set_states(
    conn: sa.Connection, event_ids: Iterable[int], before: DeliveryState, after: DeliveryState
) -> Counter[Entry]:
    """Move deliveries from a state to another one; return the ledger's changes."""
    counts: Counter[Entry] = Counter()
    rows = [(after.value, event_id, before.value) for event_id in sorted(event_ids)]
    move(counts, before, after, _STATES.run(conn, rows))
    return counts


def retry(conn: sa.Connection, event_ids: Sequence[int], now: int) -> Counter[Entry]:
    """Queue failed deliveries again, due `now`; return the ledger's changes."""
    return queue_again(conn, event_ids, now, DeliveryState.FAILED)


def hasten(conn: sa.Connection, event_id: int, now: int) -> bool:
    """Make a waiting delivery due now; False if it is claimed, due already, or not waiting."""
    changed = conn.execute(
        sa.update(deliveries)
        .where(deliveries.c.event_id == event_id, IS_WAITING, deliveries.c.due_at > now)
        .where(is_free(now))
        .values(due_at=now)
    )
    return bool(changed.rowcount)


def send_again(conn: sa.Connection, event_ids: Sequence[int], now: int) -> Counter[Entry]:
    """Queue delivered events again, since Lotus does not have them; return the ledger's changes."""
    return queue_again(conn, event_ids, now, DeliveryState.DELIVERED)


def mark_as_surplus(conn: sa.Connection, event_ids: Sequence[int], _now: int) -> Counter[Entry]:
    """Mark void deliveries as surplus, since Lotus has them all the same; return the ledger's changes."""
    return set_states(conn, event_ids, DeliveryState.VOIDED, DeliveryState.SURPLUS)


def queue_again(conn: sa.Connection, event_ids: Sequence[int], now: int, state: DeliveryState) -> Counter[Entry]:
    """Queue those of these deliveries that have a state, due `now`; return the ledger's changes."""
    counts: Counter[Entry] = Counter()
    if event_ids:
        changed = conn.execute(
            sa.update(deliveries)
            .where(among(conn, deliveries.c.event_id, list(event_ids)), deliveries.c.state == state.value)
            .values(
                state=DeliveryState.WAITING.value,
                due_at=now,
                tries=0,
                claim=None,
                claimed_until=None,
                settled_at=None,
                held_for=None,
            )
        )
        move(counts, state, DeliveryState.WAITING, changed.rowcount)
    return counts


def find_next_due(conn: sa.Connection) -> int | None:
    """Return when the next delivery is due; None if none is waiting."""
    query = sa.select(deliveries.c.due_at).where(IS_WAITING).order_by(deliveries.c.due_at).limit(1)
    return conn.execute(query).scalar_one_or_none()


def is_free(now: int) -> sa.ColumnElement[bool]:
    """Not claimed, or the claim has expired, or it was made by a clock that was ahead: no lease is that long."""
    until = deliveries.c.claimed_until
    return sa.or_(until.is_(None), until < now, until > now + _LONGEST_LEASE_MICROS)


def move(counts: Counter[Entry], before: DeliveryState, now: DeliveryState, number: int) -> None:
    """Count deliveries that went from a state to another one."""
    counts[DELIVERY, before.value, ""] -= number
    counts[DELIVERY, now.value, ""] += number
