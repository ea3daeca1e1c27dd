"""The outbox: what is to reach Lotus, who has it at hand, and how it ended. `conn` first.

A worker claims rows in a short transaction, sends them outside of any, and settles them in another. A claim holds for
a time; of a worker that died, another one takes what is left then, in the old order.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec
import sqlalchemy as sa

from app.store.events import NewEvent
from app.store.inserts import Insert
from app.store.ledger import DELIVERY, Entry
from app.store.lookup import among
from app.store.schema import attempted, attempts, deliveries, events
from app.store.updates import Update


class DeliveryState(StrEnum):
    """How it stands with a delivery."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"
    """Lotus refused the event for good."""
    UNFORWARDABLE = "unforwardable"
    """Lotus takes no event of its time; it was never sent."""
    VOIDED = "voided"
    """The event was made void before it was sent."""


class DueDelivery(msgspec.Struct, frozen=True):
    """A delivery that a worker has at hand, with its event."""

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
    """What became of a delivery that was at hand."""

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

# Written out: with a parameter neither database would see that its partial index answers.
IS_WAITING = deliveries.c.state == sa.literal_column("'waiting'")

_DELIVERIES = Insert(deliveries, ("event_id", "state", "due_at", "tries"))
_LATER = Insert(deliveries, ("event_id", "state", "due_at", "tries"), skip_known=True)
_ATTEMPTS = Insert(attempts, Attempt.__struct_fields__)
_ATTEMPTED = Insert(attempted, ("event_id", "attempt_id"), skip_known=True)
_CLAIM = Update(deliveries, new=("claim", "claimed_until"), known=("event_id", "state"))
_RELEASE = Update(deliveries, new=("claim", "claimed_until"), known=("event_id", "state", "claim"))
_ENDED = ("state", "due_at", "tries", "claim", "claimed_until", "attempt_id", "reason", "settled_at")
_SETTLE = Update(deliveries, new=_ENDED, known=("event_id", "state", "claim"))
# Whoever made it void took the claim away.
_SETTLE_VOIDED = Update(deliveries, new=_ENDED, known=("event_id", "state"))
_VOID = Update(deliveries, new=("state", "settled_at"), known=("event_id", "state"))


def queue_events(conn: sa.Connection, stored: Sequence[NewEvent], voided: Sequence[int], now: int) -> Counter[Entry]:
    """Let events stored in this transaction be sent from `now` on, and take void ones out; return what the ledger adds.

    What was delivered stays delivered.
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
    """Do what `queue_events` does for whoever does not know whether there is a key: where the outbox is in use."""
    return queue_events(conn, stored if is_in_use(conn) else (), voided, now)


def count_waiting(number: int) -> Counter[Entry]:
    """Count, for the ledger, deliveries that were requested."""
    return Counter({(DELIVERY, DeliveryState.WAITING.value, ""): number})


def request_later(conn: sa.Connection, after: int, until: int, now: int) -> tuple[int, int | None]:
    """Request the delivery of stored events with ids in (after, until], those left out that were requested before.

    Return how many are new, and the last id that was looked at; None where there are no more.
    """
    query = (
        sa.select(events.c.id, events.c.voided_at)
        .where(events.c.id > after, events.c.id <= until)
        .order_by(events.c.id)
        .limit(_BATCH)
        # A correction that makes one void meanwhile waits, and then finds the delivery; or it was first, and is seen.
        .with_for_update(read=True)
    )
    candidates = conn.execute(query).all()
    if not candidates:
        return 0, None
    rows = [(row.id, DeliveryState.WAITING.value, now, 0) for row in candidates if row.voided_at is None]
    return _LATER.run(conn, rows), candidates[-1].id


def claim(conn: sa.Connection, token: int, now: int, until: int, limit: int) -> list[DueDelivery]:
    """Take the next deliveries that are due at hand, the oldest first; nobody else gets them before `until`."""
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
    """Whoever had it is done or dead; or he died on a node whose clock was ahead: no lease is that long."""
    until = deliveries.c.claimed_until
    return sa.or_(until.is_(None), until < now, until > now + _LONGEST_LEASE_MICROS)


def release(conn: sa.Connection, token: int, held: Iterable[DueDelivery]) -> None:
    """Give deliveries back that were not sent, as if they had never been at hand."""
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
    """Write down what became of deliveries at hand; return what that changes in the ledger.

    `undecided` events were in the attempt, too, and stay at hand.

    One that another worker has by now stays his. One whose event was made void while it was under way is delivered
    where Lotus took it.
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
    """Tell whether events are sent at all: whoever stores them without knowing of a key asks the outbox."""
    return conn.execute(sa.select(deliveries.c.event_id).limit(1)).first() is not None


def count_delivered(conn: sa.Connection, event_ids: Iterable[int]) -> int:
    """Count those of some events that Lotus has, as far as is known here."""
    query = (
        sa.select(sa.func.count()).select_from(deliveries).where(deliveries.c.state == DeliveryState.DELIVERED.value)
    )
    ids = sorted(event_ids)
    return sum(
        conn.execute(query.where(among(conn, deliveries.c.event_id, ids[start : start + _BATCH]))).scalar_one()
        for start in range(0, len(ids), _BATCH)
    )


def void_deliveries(conn: sa.Connection, event_ids: Iterable[int], now: int) -> Counter[Entry]:
    """Take events that are void out, unless they were delivered; return what that changes in the ledger."""
    counts: Counter[Entry] = Counter()
    ids = sorted(event_ids)
    for state in (DeliveryState.WAITING, DeliveryState.FAILED, DeliveryState.UNFORWARDABLE):
        rows = [(DeliveryState.VOIDED.value, now, id_, state.value) for id_ in ids]
        _move(counts, state, DeliveryState.VOIDED, _VOID.run(conn, rows))
    return counts


def retry(conn: sa.Connection, event_ids: Sequence[int], now: int) -> Counter[Entry]:
    """Let deliveries that failed or could not be forwarded wait again; return what that changes in the ledger."""
    counts: Counter[Entry] = Counter()
    for state in (DeliveryState.FAILED, DeliveryState.UNFORWARDABLE):
        changed = conn.execute(
            sa.update(deliveries)
            .where(among(conn, deliveries.c.event_id, list(event_ids)), deliveries.c.state == state.value)
            .values(
                state=DeliveryState.WAITING.value, due_at=now, tries=0, claim=None, claimed_until=None, settled_at=None
            )
        )
        _move(counts, state, DeliveryState.WAITING, changed.rowcount)
    return counts


def hasten(conn: sa.Connection, event_id: int, now: int) -> bool:
    """Let a delivery that waits for its time be due at once; False where it is at hand, or does not wait."""
    changed = conn.execute(
        sa.update(deliveries)
        .where(deliveries.c.event_id == event_id, IS_WAITING, deliveries.c.due_at > now)
        .where(_is_free(now))
        .values(due_at=now)
    )
    return bool(changed.rowcount)


def send_again(conn: sa.Connection, event_ids: Sequence[int], now: int) -> Counter[Entry]:
    """Let delivered events wait again, since Lotus does not have them; return what that changes in the ledger."""
    changed = conn.execute(
        sa.update(deliveries)
        .where(among(conn, deliveries.c.event_id, list(event_ids)), deliveries.c.state == DeliveryState.DELIVERED.value)
        .values(state=DeliveryState.WAITING.value, due_at=now, tries=0, claim=None, claimed_until=None, settled_at=None)
    )
    counts: Counter[Entry] = Counter()
    _move(counts, DeliveryState.DELIVERED, DeliveryState.WAITING, changed.rowcount)
    return counts


def find_next_due(conn: sa.Connection) -> int | None:
    """Return when the next delivery is due; None where nothing waits."""
    query = sa.select(deliveries.c.due_at).where(IS_WAITING).order_by(deliveries.c.due_at).limit(1)
    return conn.execute(query).scalar_one_or_none()


def to_storable(text: str) -> str:
    """Return text that Lotus said as both databases take it: no NUL, no half of a surrogate pair."""
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
