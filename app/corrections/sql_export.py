"""The events of a batch with what stands for them, in the order of their ids, streamed in bounded memory."""

from collections.abc import Iterator
from typing import Any

import msgspec
import sqlalchemy as sa

from app.store.events import public_id
from app.store.schema import corrected_events, events

# Rows fetched from a server at a time.
_FETCH_ROWS = 1000


class BatchValues(msgspec.Struct, frozen=True, gc=False):
    """The values of an event that a batch changed, or put in the place of another one."""

    idempotency_id: str
    event_name: str
    customer_id: str
    time_created: int
    properties: str
    """A JSON object as text."""


class BatchEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event of a batch."""

    event_id: int
    call_id: int
    state: str
    voided_at: int | None
    revived_at: int | None
    old: BatchValues
    new: BatchValues | None
    """What the batch put in its place."""


_new = events.alias("new")
_BATCH = ("event_id", "state", "voided_at", "revived_at")
_VALUES = ("base_id", "revision", *BatchValues.__struct_fields__)


def list_batch_events(conn: sa.Connection, correction_id: int, after: int, limit: int) -> list[BatchEvent]:
    """Return the next `limit` events of a batch with ids above `after`."""
    query = _select(correction_id).where(corrected_events.c.event_id > after).limit(limit)
    return [_to_batch_event(row) for row in conn.execute(query)]


def stream_batch_events(conn: sa.Connection, correction_id: int) -> Iterator[BatchEvent]:
    """Yield all events of a batch."""
    with conn.execute(_select(correction_id).execution_options(yield_per=_FETCH_ROWS)) as rows:
        yield from map(_to_batch_event, rows)


def _select(correction_id: int) -> sa.Select[Any]:
    return (
        sa.select(
            *(corrected_events.c[name] for name in _BATCH),
            events.c.call_id,
            *(events.c[name] for name in _VALUES),
            _new.c.id,
            *(_new.c[name] for name in _VALUES),
        )
        .join(events, events.c.id == corrected_events.c.event_id)
        .outerjoin(_new, _new.c.id == corrected_events.c.replacement_id)
        .where(corrected_events.c.correction_id == correction_id)
        .order_by(corrected_events.c.event_id)
    )


def _to_batch_event(row: sa.Row[Any]) -> BatchEvent:
    event_id, state, voided_at, revived_at, call_id, *rest = tuple(row)
    old, new_id, new = rest[: len(_VALUES)], rest[len(_VALUES)], rest[len(_VALUES) + 1 :]
    return BatchEvent(
        event_id=event_id,
        call_id=call_id,
        state=state,
        voided_at=voided_at,
        revived_at=revived_at,
        old=_to_values(old),
        new=None if new_id is None else _to_values(new),
    )


def _to_values(columns: list[Any]) -> BatchValues:
    base_id, revision, idempotency_id, *more = columns
    return BatchValues(public_id(idempotency_id, base_id, revision), *more)
