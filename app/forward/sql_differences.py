"""Differences: further deliveries that correct sums in Lotus, and what Lotus has of an event. `conn` first."""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa

from app.core.lotus import LotusEvent
from app.forward.sql_deliveries import (
    DeliveryState,
    OutboxRow,
    count_waiting,
    lock_deliveries,
    move,
    queue_again,
)
from app.store.arrays import look_up
from app.store.differences import LotusShare
from app.store.events import BASE_ID
from app.store.inserts import Insert
from app.store.ledger import DIFFERENCE, QUEUED, Entry
from app.store.schema import deliveries, differences, events
from app.store.updates import Update

UNDO = "-undo"
"""What the id of a difference ends with that takes another one back."""


class OutboxDifference(msgspec.Struct, frozen=True, gc=False):
    """A further event for Lotus."""

    event_id: int
    """An id of its own, as in its delivery."""
    correction_id: int
    corrected_id: int
    """Id of the event that Lotus has, and whose number it corrects."""
    idempotency_id: str
    event_name: str
    customer_id: str
    time_created: int
    properties: str

    def to_event(self) -> LotusEvent:
        """Return it as Lotus has it."""
        return _to_event(self.event_name, self.idempotency_id, self.customer_id, self.time_created, self.properties)


_COLUMNS = tuple(differences.c[name] for name in OutboxDifference.__struct_fields__)
_EVENT = ("event_name", "idempotency_id", "customer_id", "time_created", "properties")
_BASES = sa.select(events.c.id, BASE_ID, events.c.call_id, events.c.lane, events.c.position)
_DIFFERENCES = Insert(differences, OutboxDifference.__struct_fields__)
_DELIVERIES = Insert(deliveries, ("event_id", "state", "due_at", "tries"))
_SETTLE = Update(deliveries, new=("state", "note", "note_author", "noted_at"), known=("event_id", "state"))
_REOPEN = Update(deliveries, new=("state", "note", "note_author", "noted_at"), known=("event_id", "state", "note"))


def append_differences(conn: sa.Connection, further: Sequence[OutboxDifference], now: int) -> Counter[Entry]:
    """Queue differences, due `now`; return the ledger's changes."""
    rows = sorted((msgspec.structs.astuple(difference) for difference in further), key=lambda row: row[0])
    _DIFFERENCES.run(conn, rows)
    _DELIVERIES.run(conn, [(row[0], DeliveryState.WAITING.value, now, 0) for row in rows])
    counts = count_waiting(len(rows))
    counts[DIFFERENCE, QUEUED, ""] += len(rows)
    return counts


def read_shares(conn: sa.Connection, event_ids: Iterable[int]) -> dict[int, LotusShare]:
    """Return what Lotus has, or will have, of these events, by event id."""
    ids = sorted(event_ids)
    query = (
        sa.select(differences.c.corrected_id, differences.c.properties)
        .join(deliveries, deliveries.c.event_id == differences.c.event_id)
        .where(deliveries.c.state != DeliveryState.VOIDED.value)
    )
    sent: dict[int, tuple[str, ...]] = {}
    for event_id, properties in look_up(conn, query, differences.c.corrected_id, ids):
        sent[event_id] = (*sent.get(event_id, ()), properties)
    query = sa.select(events.c.id, *(events.c[name] for name in _EVENT))
    rows = look_up(conn, query, events.c.id, ids)
    return {row[0]: LotusShare(event=_to_event(*row[1:]), differences=sent.get(row[0], ())) for row in rows}


def find_told(conn: sa.Connection, event_ids: Iterable[int]) -> set[int]:
    """Return which of these events have a difference that is not taken back."""
    other = differences.alias()
    taken_back = sa.select(other.c.event_id).where(other.c.idempotency_id == differences.c.idempotency_id + UNDO)
    query = (
        sa.select(differences.c.corrected_id)
        .join(deliveries, deliveries.c.event_id == differences.c.event_id)
        .where(
            deliveries.c.state != DeliveryState.VOIDED.value,
            differences.c.idempotency_id.not_like(f"%{UNDO}"),
            ~taken_back.exists(),
        )
    )
    return {row[0] for row in look_up(conn, query, differences.c.corrected_id, event_ids)}


def list_differences(
    conn: sa.Connection, correction_id: int, event_ids: Iterable[int]
) -> list[tuple[OutboxDifference, OutboxRow]]:
    """Return the differences that a correction made for these events, and their deliveries, which are then locked."""
    query = sa.select(*_COLUMNS).where(
        differences.c.correction_id == correction_id, differences.c.idempotency_id.not_like(f"%{UNDO}")
    )
    further = [OutboxDifference(*row) for row in look_up(conn, query, differences.c.corrected_id, event_ids)]
    rows = lock_deliveries(conn, [difference.event_id for difference in further])
    return [(difference, rows[difference.event_id]) for difference in further]


def credit(conn: sa.Connection, event_ids: Sequence[int], note: str, author: str, now: int) -> Counter[Entry]:
    """Settle surplus deliveries with a person's note; return the ledger's changes."""
    counts: Counter[Entry] = Counter()
    move(
        counts,
        DeliveryState.SURPLUS,
        DeliveryState.CREDITED,
        settle(conn, ((id_, note) for id_ in event_ids), author, now),
    )
    return counts


def release_held(conn: sa.Connection, event_ids: Sequence[int], now: int) -> Counter[Entry]:
    """Queue deliveries that are held back, due `now`; return the ledger's changes.

    Those whose number reached Lotus as a difference stay: it would count them twice.
    """
    rows = lock_deliveries(conn, event_ids)
    told = find_told(conn, [row.held_for for row in rows.values() if row.held_for is not None])
    return queue_again(conn, [id_ for id_, row in rows.items() if row.held_for not in told], now, DeliveryState.HELD)


def count_doubled(conn: sa.Connection, event_ids: Sequence[int]) -> int:
    """Return how many of these held deliveries stand for an event whose surplus is not settled."""
    root = deliveries.alias()
    query = (
        sa.select(deliveries.c.event_id)
        .join(root, root.c.event_id == deliveries.c.held_for)
        .where(root.c.state == DeliveryState.SURPLUS.value, deliveries.c.state == DeliveryState.HELD.value)
    )
    return sum(1 for _ in look_up(conn, query, deliveries.c.event_id, event_ids))


def settle(conn: sa.Connection, notes: Iterable[tuple[int, str]], author: str, now: int) -> int:
    """Mark surplus deliveries, (event id, note), as settled; return how many were surplus."""
    rows = [
        (DeliveryState.CREDITED.value, note, author, now, event_id, DeliveryState.SURPLUS.value)
        for event_id, note in sorted(notes)
    ]
    return _SETTLE.run(conn, rows)


def unsettle(conn: sa.Connection, notes: Iterable[tuple[int, str]], before: DeliveryState, after: DeliveryState) -> int:
    """Undo `settle` for deliveries that still have their note; return how many had it."""
    rows = [(after.value, None, None, None, event_id, before.value, note) for event_id, note in sorted(notes)]
    return _REOPEN.run(conn, rows)


def to_note(difference_id: str) -> str:
    """Return the note of an event whose surplus a difference settles."""
    return f"difference {difference_id}"


def _to_event(event_name: str, idempotency_id: str, customer_id: str, time_created: int, properties: str) -> LotusEvent:
    return LotusEvent(event_name, idempotency_id, customer_id, time_created, properties, b"")
