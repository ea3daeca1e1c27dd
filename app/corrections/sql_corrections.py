"""Queries of corrections: the events of a selection, and what became of those of a batch. `conn` first."""

import msgspec
import sqlalchemy as sa

from app.corrections.selection import Selection
from app.store.arrays import among
from app.store.corrections import Correction, CorrectionState
from app.store.events import public_id
from app.store.record import to_key
from app.store.schema import claims, corrected_events, corrections, events


class SelectedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of a selection."""

    id: int
    call_id: int
    customer_id: str
    event_name: str
    voided_at: int | None


def list_selected(
    conn: sa.Connection, selection: Selection, cursor: tuple[int, int], until_call: int, limit: int
) -> list[SelectedEvent]:
    """Return the next events of a selection after `cursor` (call id, event id), by both; those replaced are left out.

    `until_call` is the last call that it is about.
    """
    call_id, event_id = cursor
    query = (
        sa.select(*(events.c[name] for name in SelectedEvent.__struct_fields__))
        .where(
            events.c.call_id.between(call_id, until_call),
            sa.or_(events.c.call_id > call_id, events.c.id > event_id),
            sa.or_(events.c.voided_at.is_(None), events.c.voided_by.is_(None)),
            *_conditions(conn, selection),
        )
        .order_by(events.c.call_id, events.c.id)
        .limit(limit)
    )
    return [SelectedEvent(*row) for row in conn.execute(query)]


def _conditions(conn: sa.Connection, selection: Selection) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if selection.ids:
        keys = [to_key(id_) for id_ in selection.ids]
        conditions.append(sa.or_(among(conn, events.c.idempotency_id, keys), among(conn, events.c.base_id, keys)))
    if selection.call is not None:
        conditions.append(events.c.call_id == selection.call)
    if selection.message is not None:
        made_by = sa.select(claims.c.call_id).where(claims.c.message_id == to_key(selection.message))
        conditions.append(events.c.call_id.in_(made_by))
    if selection.event_name is not None:
        conditions.append(events.c.event_name == to_key(selection.event_name))
    if selection.customer is not None:
        conditions.append(events.c.customer_id == to_key(selection.customer))
    if selection.since is not None:
        conditions.append(events.c.time_created >= selection.since)
    if selection.until is not None:
        conditions.append(events.c.time_created < selection.until)
    return conditions


def find_missing_ids(conn: sa.Connection, selection: Selection) -> list[str]:
    """Return the idempotency ids of a selection that no event has, or had before a correction."""
    keys = {to_key(id_): id_ for id_ in selection.ids}
    columns = (events.c.idempotency_id, events.c.base_id)
    for column in columns if keys else ():
        for row in conn.execute(sa.select(*columns).where(among(conn, column, list(keys)))):
            keys.pop(row.idempotency_id, None)
            keys.pop(row.base_id, None)
        if not keys:
            break
    return sorted(keys.values())


def find_running(conn: sa.Connection, selection: str) -> Correction | None:
    """Return the latest batch of a selection that began and did not finish."""
    query = (
        sa.select(corrections)
        .where(corrections.c.selection == selection, corrections.c.state == CorrectionState.RUNNING.value)
        .order_by(corrections.c.id.desc())
        .limit(1)
    )
    row = conn.execute(query).one_or_none()
    return None if row is None else Correction(**row._mapping)  # noqa: SLF001


def list_event_ids(conn: sa.Connection, correction_id: int, limit: int) -> list[tuple[str, str]]:
    """Return the first events of a batch: (idempotency id, what became of it)."""
    columns = (events.c.idempotency_id, events.c.base_id, events.c.revision, corrected_events.c.state)
    query = (
        sa.select(*columns)
        .join(events, events.c.id == corrected_events.c.event_id)
        .where(corrected_events.c.correction_id == correction_id)
        .order_by(corrected_events.c.event_id)
        .limit(limit)
    )
    return [(public_id(*row[:3]), row[3]) for row in conn.execute(query)]
