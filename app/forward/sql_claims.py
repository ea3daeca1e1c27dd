"""Claims of the outbox: which deliveries a worker sends now, and what became of them. `conn` first.

A worker claims rows in a short transaction, sends them outside any transaction, and records the results in another. A
claim is a lease: once it has expired, another worker takes over the rows of a worker that died, in the old order.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.forward.sql_deliveries import IS_WAITING, DeliveryState, is_free, move
from app.store.arrays import look_up
from app.store.inserts import Insert
from app.store.ledger import Entry
from app.store.schema import attempted, attempts, deliveries, differences, events
from app.store.updates import Update


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


_REASON_MAX = 500

_ATTEMPTS = Insert(attempts, Attempt.__struct_fields__)
_ATTEMPTED = Insert(attempted, ("event_id", "attempt_id"), skip_known=True)
_CLAIM = Update(deliveries, new=("claim", "claimed_until"), known=("event_id", "state"))
_RELEASE = Update(deliveries, new=("claim", "claimed_until"), known=("event_id", "state", "claim"))
_ENDED = ("state", "due_at", "tries", "claim", "claimed_until", "attempt_id", "reason", "settled_at")
_SETTLE = Update(deliveries, new=_ENDED, known=("event_id", "state", "claim"))
# Whoever made the event void did not look at the claim.
_SETTLE_VOIDED = Update(deliveries, new=_ENDED, known=("event_id", "state"))

_EVENT = ("event_name", "idempotency_id", "customer_id", "time_created", "properties")


def claim(conn: sa.Connection, token: int, now: int, until: int, limit: int) -> list[DueDelivery]:
    """Claim up to `limit` due deliveries, the oldest first; no other worker gets them before `until`."""
    query = (
        sa.select(deliveries.c.event_id, deliveries.c.due_at, deliveries.c.tries)
        .where(IS_WAITING, deliveries.c.due_at <= now)
        .where(is_free(now))
        .order_by(deliveries.c.due_at, deliveries.c.event_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = conn.execute(query).all()
    _CLAIM.run(conn, sorted((token, until, row.event_id, DeliveryState.WAITING.value) for row in rows))
    contents = _read_contents(conn, [row.event_id for row in rows])
    return [DueDelivery(*row, *contents[row.event_id]) for row in rows if row.event_id in contents]


def _read_contents(conn: sa.Connection, ids: Sequence[int]) -> dict[int, tuple[Any, ...]]:
    """Return what Lotus gets of these deliveries, events and differences, and when an event was made void."""
    query = sa.select(events.c.id, *(events.c[name] for name in _EVENT), events.c.voided_at)
    contents = {row[0]: tuple(row[1:]) for row in look_up(conn, query, events.c.id, ids)}
    others = [id_ for id_ in ids if id_ not in contents]
    query = sa.select(differences.c.event_id, *(differences.c[name] for name in _EVENT))
    return contents | {row[0]: tuple(row[1:]) for row in look_up(conn, query, differences.c.event_id, others)}


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
    becomes surplus if Lotus accepted it.
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
            move(counts, DeliveryState.WAITING, state, changed)
        if state is DeliveryState.DELIVERED and changed < len(rows):
            surplus = [(DeliveryState.SURPLUS.value, *row[1:], DeliveryState.VOIDED.value) for row in rows]
            move(counts, DeliveryState.VOIDED, DeliveryState.SURPLUS, _SETTLE_VOIDED.run(conn, surplus))
    return counts


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
