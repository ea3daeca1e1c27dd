"""What became of stored events: when their calls came, their deliveries, and who corrected them. `conn` first."""

from collections.abc import Iterable
from datetime import tzinfo

import msgspec
import sqlalchemy as sa

from app.core.csv_text import to_cell
from app.store.arrays import look_up
from app.store.corrections import EventState
from app.store.events import public_id
from app.store.schema import calls, corrected_events, corrections, deliveries, events
from app.zones import to_local

NOT_REQUESTED = "not_requested"
"""The delivery state of an event that was never in the outbox."""

HISTORY_HEAD = (
    "received",
    "delivery_state",
    "voided_at",
    "correction_id",
    "correction_kind",
    "correction_author",
    "correction_reason",
    "replaced_by",
)
"""The columns of `to_history_cells` in CSV files."""


class EventCorrection(msgspec.Struct, frozen=True, kw_only=True):
    """The correction that made an event void, or that stored it."""

    id: int
    kind: str
    author: str
    reason: str
    replaced_by: str | None
    """The idempotency id of the event that stands for it now."""


class EventHistory(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one event."""

    received_at: int | None
    """When its call was received, in microseconds since 1970; None if the call is not there."""
    delivery: str
    """Its state in the outbox, or NOT_REQUESTED."""
    voided_at: int | None
    void_reason: str | None
    """Why it is void, also where a replay did it that is no batch."""
    correction: EventCorrection | None


def find_histories(conn: sa.Connection, event_ids: Iterable[int]) -> dict[int, EventHistory]:
    """Return the histories of these events by their ids, without missing ones."""
    columns = (events.c.id, events.c.voided_at, events.c.void_reason, calls.c.received_at, deliveries.c.state)
    query = (
        sa.select(*columns)
        .outerjoin(calls, calls.c.id == events.c.call_id)
        .outerjoin(deliveries, deliveries.c.event_id == events.c.id)
    )
    rows = {row.id: row for row in look_up(conn, query, events.c.id, event_ids)}
    corrected = _find_corrections(conn, {id_: row.voided_at for id_, row in rows.items()})
    return {
        id_: EventHistory(
            received_at=row.received_at,
            delivery=row.state or NOT_REQUESTED,
            voided_at=row.voided_at,
            void_reason=row.void_reason,
            correction=corrected.get(id_),
        )
        for id_, row in rows.items()
    }


def to_history_cells(history: EventHistory | None, zone: tzinfo) -> list[str]:
    """Return a history as cells of a CSV file, with its times in a zone."""
    if history is None:
        return [""] * len(HISTORY_HEAD)
    made = history.correction
    return [
        to_time_cell(history.received_at, zone),
        history.delivery,
        to_time_cell(history.voided_at, zone),
        str(made.id) if made else "",
        made.kind if made else "",
        to_cell(made.author) if made else "",
        to_cell(made.reason if made else history.void_reason),
        to_cell(made.replaced_by) if made else "",
    ]


def to_time_cell(micros: int | None, zone: tzinfo) -> str:
    """Return a time as a cell, with its offset in a zone; None is empty."""
    return "" if micros is None else to_local(zone, micros)


def find_events_of_calls(conn: sa.Connection, call_ids: Iterable[int]) -> dict[int, list[int]]:
    """Return the ids of the events that these calls made, by call."""
    ids_of: dict[int, list[int]] = {}
    query = sa.select(events.c.call_id, events.c.id).order_by(events.c.id)
    for call_id, event_id in look_up(conn, query, events.c.call_id, call_ids):
        ids_of.setdefault(call_id, []).append(event_id)
    return ids_of


def _find_corrections(conn: sa.Connection, voids: dict[int, int | None]) -> dict[int, EventCorrection]:
    """Return what made each event void, or what brought one that counts; `voids`: since when, None if it counts."""
    if not _has_corrections(conn):
        return {}
    of = corrected_events.c
    columns = (of.event_id, of.voided_at, of.state, of.replacement_id)
    query = sa.select(*columns, corrections.c.id, corrections.c.kind, corrections.c.author, corrections.c.reason).join(
        corrections, corrections.c.id == of.correction_id
    )
    # By their ids: of two that fit, the later one counts.
    matches = look_up(conn, query, of.event_id, voids)
    rows = sorted(
        (row for row in matches if _made(row.state, row.voided_at, voids[row.event_id])), key=lambda row: row.id
    )
    names = _find_names(conn, (row.replacement_id for row in rows if row.replacement_id is not None))
    return {
        row.event_id: EventCorrection(
            id=row.id,
            kind=row.kind,
            author=row.author,
            reason=row.reason,
            replaced_by=names.get(row.replacement_id),
        )
        for row in rows
    }


def _made(state: str, at: int | None, voided_at: int | None) -> bool:
    """Tell whether a row of a batch says why its event is void since `voided_at`, or why there is one that counts."""
    if voided_at is None:
        return state == EventState.ADDED
    return at == voided_at or state == EventState.REMOVED


def _has_corrections(conn: sa.Connection) -> bool:
    return conn.execute(sa.select(corrections.c.id).limit(1)).first() is not None


def _find_names(conn: sa.Connection, event_ids: Iterable[int]) -> dict[int, str]:
    query = sa.select(events.c.id, events.c.idempotency_id, events.c.base_id, events.c.revision)
    return {row[0]: public_id(*row[1:]) for row in look_up(conn, query, events.c.id, event_ids)}
