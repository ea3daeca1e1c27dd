"""The outbox: which events are to be sent to Lotus, which worker has claimed them, and the results. `conn` first.

A worker claims rows in a short transaction, sends them outside any transaction, and records the results in another. A
claim is a lease: once it has expired, another worker takes over the rows of a worker that died, in the old order.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec
import sqlalchemy as sa

from app.store.arrays import among
from app.store.events import NewEvent
from app.store.inserts import Insert
from app.store.ledger import DELIVERY, Entry
from app.store.schema import attempted, attempts, deliveries, events
from app.store.updates import Update


class DeliveryState(StrEnum):
    """The state of a delivery."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"
    """Lotus refused the event for good."""
    UNFORWARDABLE = "unforwardable"
    """Lotus accepts no event as old as this one; it was never sent."""
    VOIDED = "voided"
    """The event was voided before it was sent, and waits again if it is revived."""


class DueDelivery(msgspec.Struct, frozen=True):
    """A delivery that a worker has claimed, with its event."""

    event_id: int
    due_at: int
    tries: int
    event_name: str
    idempotency_id: str
    customer_id: str
    time_created: int
    properties: str
    voided_at: int | None = None


class DeliveryResult(msgspec.Struct, frozen=True):
    """The new state of a delivery that a worker had claimed."""

    event_id: int
    state: DeliveryState
    due_at: int
    tries: int
    attempt_id: int | None = None
    reason: str | None = None


class Attempt(msgspec.Struct, frozen=True):
    """One request to Lotus."""

    id: int
    started_at: int
    milliseconds: int
    events: int
    status: int | None
    answer: str


_BATCH = 1000
_LONGEST_LEASE_MICROS = 3_600_000_000
_REASON_MAX = 500

# A literal: with a bound parameter neither database would use its partial index.
IS_WAITING = deliveries.c.state == sa.literal_column("'waiting'")

_DELIVERIES = Insert(deliveries, ("event_id", "state", "due_at", "tries"))
_LATER = Insert(deliveries, ("event_id", "state", "due_at", "tries"), skip_known=True)
_ATTEMPTS = Insert(attempts, Attempt.__struct_fields__)
_ATTEMPTED = Insert(attempted, ("event_id", "attempt_id"), skip_known=True)
_CLAIM = Update(deliveries, new=("claim", "claimed_until"), known=("event_id", "state"))
_RELEASE = Update(deliveries, new=("claim", "claimed_until"), known=("event_id", "state", "claim"))
_ENDED = ("state", "due_at", "tries", "claim", "claimed_until", "attempt_id", "reason", "settled_at")
_SETTLE = Update(deliveries, new=_ENDED, known=("event_id", "state", "claim"))
# Voiding a delivery removes its claim.
_SETTLE_VOIDED = Update(deliveries, new=_ENDED, known=("event_id", "state"))
_VOID = Update(deliveries, new=("state", "settled_at"), known=("event_id", "state"))


def queue_events(conn: sa.Connection, stored: Sequence[NewEvent], voided: Sequence[int], now: int) -> Counter[Entry]:
    """Queue the events stored in this transaction, due `now`, and void those of `voided`; return the ledger's changes.

    Delivered events stay delivered.
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


def claim(conn: sa.Connection, token: int, now: int, until: int, limit: int) -> list[DueDelivery]:
    """Claim up to `limit` due deliveries, the oldest first; no other worker gets them before `until`."""
    query = (
        sa.select(
            deliveries.c.event_id,
            deliveries.c.due_at,
            deliveries.c.tries,
            events.c.event_name,
            events.c.idempotency_id,
            events.c.customer_id,
            events.c.time_created,
            events.c.properties,
            events.c.voided_at,
        )
        .join(events, events.c.id == deliveries.c.event_id)
        .where(IS_WAITING, deliveries.c.due_at <= now)
        .where(_is_free(now))
        .order_by(deliveries.c.due_at, deliveries.c.event_id)
        .limit(limit)
        .with_for_update(of=deliveries, skip_locked=True)
    )
    due = [DueDelivery(*row) for row in conn.execute(query)]
    _CLAIM.run(conn, sorted((token, until, delivery.event_id, DeliveryState.WAITING.value) for delivery in due))
    return due


def _is_free(now: int) -> sa.ColumnElement[bool]:
    """Not claimed, or the claim has expired, or it was made by a clock that was ahead: no lease is that long."""
    until = deliveries.c.claimed_until
    return sa.or_(until.is_(None), until < now, until > now + _LONGEST_LEASE_MICROS)


def release(conn: sa.Connection, token: int, held: Iterable[DueDelivery]) -> None:
    """Release claimed deliveries that were not sent, as if they had never been claimed."""
    rows = [(None, None, delivery.event_id, DeliveryState.WAITING.value, token) for delivery in held]
    _RELEASE.run(conn, sorted(rows, key=_event_id))


def record_results(
    conn: sa.Connection,
    token: int,
    now: int,
    attempt: Attempt | None,
    results: Sequence[DeliveryResult],
    undecided: Iterable[int] = (),
) -> Counter[Entry]:
    """Write the results of claimed deliveries, and their attempt; return the ledger's changes.

    The `undecided` event ids were in the attempt too, and stay claimed.

    A delivery that another worker has claimed by now is left to it. One whose event was voided while it was in flight
    becomes delivered if Lotus accepted it.
    """
    counts: Counter[Entry] = Counter()
    if attempt is not None:
        _ATTEMPTS.run(conn, [msgspec.structs.astuple(attempt)])
        failed = [
            result.event_id for result in results if result.attempt_id and result.state is not DeliveryState.DELIVERED
        ]
        _ATTEMPTED.run(conn, [(id_, attempt.id) for id_ in sorted([*failed, *undecided])])
    for state in DeliveryState:
        rows = [
            _result_row(result, now)
            for result in sorted(results, key=lambda result: result.event_id)
            if result.state is state
        ]
        changed = _SETTLE.run(conn, [(*row, DeliveryState.WAITING.value, token) for row in rows])
        if state is not DeliveryState.WAITING:
            _move(counts, DeliveryState.WAITING, state, changed)
        if state is DeliveryState.DELIVERED and changed < len(rows):
            _move(
                counts,
                DeliveryState.VOIDED,
                state,
                _SETTLE_VOIDED.run(conn, [(*row, DeliveryState.VOIDED.value) for row in rows]),
            )
    return counts


def is_in_use(conn: sa.Connection) -> bool:
    """Whether the outbox has any row: how a process without LOTUS_API_KEY tells that events are forwarded."""
    return conn.execute(sa.select(deliveries.c.event_id).limit(1)).first() is not None


def void_deliveries(conn: sa.Connection, event_ids: Iterable[int], now: int) -> Counter[Entry]:
    """Void the deliveries of these events, except delivered ones; return the ledger's changes."""
    counts: Counter[Entry] = Counter()
    ids = sorted(event_ids)
    for state in (DeliveryState.WAITING, DeliveryState.FAILED, DeliveryState.UNFORWARDABLE):
        rows = [(DeliveryState.VOIDED.value, now, id_, state.value) for id_ in ids]
        _move(counts, state, DeliveryState.VOIDED, _VOID.run(conn, rows))
    return counts


def retry(conn: sa.Connection, event_ids: Sequence[int], now: int) -> Counter[Entry]:
    """Queue failed and unforwardable deliveries again, due `now`; return the ledger's changes."""
    return _queue_again(conn, event_ids, now, (DeliveryState.FAILED, DeliveryState.UNFORWARDABLE))


def restore_deliveries(conn: sa.Connection, event_ids: Sequence[int], now: int) -> Counter[Entry]:
    """Queue voided deliveries again, due `now`, since their events count again; return the ledger's changes."""
    return _queue_again(conn, event_ids, now, (DeliveryState.VOIDED,))


def hasten(conn: sa.Connection, event_id: int, now: int) -> bool:
    """Make a waiting delivery due now; False if it is claimed, due already, or not waiting."""
    changed = conn.execute(
        sa.update(deliveries)
        .where(deliveries.c.event_id == event_id, IS_WAITING, deliveries.c.due_at > now)
        .where(_is_free(now))
        .values(due_at=now)
    )
    return bool(changed.rowcount)


def send_again(conn: sa.Connection, event_ids: Sequence[int], now: int) -> Counter[Entry]:
    """Queue delivered events again, since Lotus does not have them; return the ledger's changes."""
    return _queue_again(conn, event_ids, now, (DeliveryState.DELIVERED,))


def _queue_again(
    conn: sa.Connection, event_ids: Sequence[int], now: int, states: Iterable[DeliveryState]
) -> Counter[Entry]:
    counts: Counter[Entry] = Counter()
    for state in states:
        changed = conn.execute(
            sa.update(deliveries)
            .where(among(conn, deliveries.c.event_id, list(event_ids)), deliveries.c.state == state.value)
            .values(
                state=DeliveryState.WAITING.value, due_at=now, tries=0, claim=None, claimed_until=None, settled_at=None
            )
        )
        _move(counts, state, DeliveryState.WAITING, changed.rowcount)
    return counts


def find_next_due(conn: sa.Connection) -> int | None:
    """Return when the next delivery is due; None if none is waiting."""
    query = sa.select(deliveries.c.due_at).where(IS_WAITING).order_by(deliveries.c.due_at).limit(1)
    return conn.execute(query).scalar_one_or_none()


def to_storable(text: str) -> str:
    """Return text from Lotus as both databases accept it: no NUL, no half of a surrogate pair."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _result_row(result: DeliveryResult, now: int) -> tuple[Any, ...]:
    reason = None if result.reason is None else to_storable(result.reason)[:_REASON_MAX]
    at = None if result.state is DeliveryState.WAITING else now
    return (result.state.value, result.due_at, result.tries, None, None, result.attempt_id, reason, at, result.event_id)


def _event_id(row: tuple[Any, ...]) -> int:
    number: int = row[2]
    return number


def _move(counts: Counter[Entry], before: DeliveryState, now: DeliveryState, number: int) -> None:
    counts[DELIVERY, before.value, ""] -= number
    counts[DELIVERY, now.value, ""] += number
