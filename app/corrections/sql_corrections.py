"""Queries of corrections: the events of a selection, and what became of those of a batch. `conn` first."""

import sqlalchemy as sa

from app.corrections.selection import Selection
from app.store.arrays import among
from app.store.corrections import Correction, CorrectionState, EventState
from app.store.events import BASE_ID, EventFields, EventValues, base_id_of, public_id
from app.store.record import to_key
from app.store.review_events import first_id_since
from app.store.schema import calls, claims, corrected_events, corrections, events


class SelectedEvent(EventFields, frozen=True):
    """An event of a selection."""

    transform: str
    transform_digest: bytes
    base_id: str | None
    revision: int | None
    voided_at: int | None
    stored_at: int | None

    @property
    def base(self) -> str:
        """Its idempotency id before any correction."""
        return base_id_of(self.idempotency_id, self.base_id)

    def to_values(self) -> EventValues:
        """Return what metrics read of it."""
        return EventValues(self.id, self.base, self.event_name, self.customer_id, self.time_created, self.properties)


_SELECTED = [events.c[name] for name in SelectedEvent.__struct_fields__]

_batch = corrected_events.alias("batch")
_REPLACED = sa.exists().where(
    _batch.c.event_id == events.c.id, _batch.c.voided_at == events.c.voided_at, _batch.c.replacement_id.is_not(None)
)
"""Another event stands for it."""
_REMOVED = sa.exists().where(_batch.c.replacement_id == events.c.id, _batch.c.state == EventState.REVIVED.value)
"""It stood for another one, which counts again."""


def list_selected(
    conn: sa.Connection,
    selection: Selection,
    cursor: tuple[int, int],
    until_call: int,
    limit: int,
    correction_id: int | None = None,
) -> list[SelectedEvent]:
    """Return the next events of a selection after `cursor` (call id, event id), by both; those replaced are left out.

    `until_call` is the last call that it is about; what the batch `correction_id` itself made is not part of it.
    """
    call_id, event_id = cursor
    call = events.c.call_id
    query = sa.select(*_SELECTED)
    if selection.call_event is not None or selection.route is not None:
        # Led by the index of calls by event where there is an event.
        query, call = query.join(calls, calls.c.id == events.c.call_id), calls.c.id
        query = query.where(*_call_conditions(selection))
    own = sa.exists().where(_batch.c.correction_id == correction_id, _batch.c.replacement_id == events.c.id)
    query = (
        query.where(
            call.between(max(call_id, first_id_since(selection.received_since, 0)), _last_call(selection, until_call)),
            sa.or_(call > call_id, events.c.id > event_id),
            sa.or_(events.c.voided_at.is_(None), sa.and_(events.c.voided_by.is_(None), ~_REPLACED, ~_REMOVED)),
            *(() if correction_id is None else (sa.or_(events.c.revision.is_(None), ~own),)),
            *_conditions(conn, selection),
        )
        .order_by(call, events.c.id)
        .limit(limit)
    )
    return [SelectedEvent(*row) for row in conn.execute(query)]


def _last_call(selection: Selection, until_call: int) -> int:
    return min(until_call, first_id_since(selection.received_until, until_call + 1) - 1)


def _call_conditions(selection: Selection) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if selection.call_event is not None:
        conditions.append(calls.c.event == to_key(selection.call_event))
    if selection.route is not None:
        conditions.append(calls.c.route == selection.route)
    return conditions


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
    if selection.transform is not None:
        conditions.append(events.c.transform == selection.transform)
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


def find_running(conn: sa.Connection, correction: Correction) -> Correction | None:
    """Return the latest batch that began and did not finish, with the selection and the values of this one."""
    same = [
        corrections.c[name].is_not_distinct_from(getattr(correction, name))
        for name in ("kind", "selection", "amendment", "lotus")
    ]
    query = (
        sa.select(corrections)
        .where(*same, corrections.c.state == CorrectionState.RUNNING.value)
        .order_by(corrections.c.id.desc())
        .limit(1)
    )
    row = conn.execute(query).one_or_none()
    return None if row is None else Correction(**row._mapping)  # noqa: SLF001


_VALUES = [BASE_ID if name == "base_id" else events.c[name] for name in EventValues.__struct_fields__]


def list_voided_values(conn: sa.Connection, correction_id: int) -> list[EventValues]:
    """Return the events that a batch has made void so far, as metrics read them."""
    return _list_values(conn, correction_id, corrected_events.c.event_id)


def list_replacement_values(conn: sa.Connection, correction_id: int) -> list[EventValues]:
    """Return the events that a batch has put in their place so far, as metrics read them."""
    return _list_values(conn, correction_id, corrected_events.c.replacement_id)


def _list_values(conn: sa.Connection, correction_id: int, id_: sa.Column[int]) -> list[EventValues]:
    query = (
        sa.select(*_VALUES)
        .select_from(corrected_events.join(events, events.c.id == id_))
        .where(corrected_events.c.correction_id == correction_id)
    )
    return [EventValues(*row) for row in conn.execute(query)]


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
