"""Queries for lookalikes. `conn` first."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.corrections.lookalikes import AROUND_MICROS, Question, Scan
from app.store.arrays import look_up
from app.store.events import public_id
from app.store.record import to_key
from app.store.schema import events

_CHUNK = 50_000
"""Events in one packed row of a file."""

_FETCH_ROWS = 5_000
"""Rows fetched from a server at a time."""


class EventDetails(msgspec.Struct, frozen=True):
    """What is shown of an event."""

    id: int
    idempotency_id: str
    """That it was made with."""
    call_id: int
    event_name: str
    properties: str


def find_next_customer(conn: sa.Connection, after: str | None) -> str | None:
    """Return the first customer that has events, or the first after another one; one look into the index."""
    query = sa.select(sa.func.min(events.c.customer_id))
    if after is not None:
        query = query.where(events.c.customer_id > after)
    customer: str | None = conn.execute(query).scalar()
    return customer


def scan_events(conn: sa.Connection, question: Question, customer: str, event_name: str | None) -> Scan:
    """Read a customer's events that count, in the period of a question and around it. Raises BadQuery."""
    conditions = [
        events.c.customer_id == to_key(customer),
        events.c.voided_at.is_(None),
        events.c.time_created >= question.since - AROUND_MICROS,
    ]
    if question.until is not None:
        conditions.append(events.c.time_created < question.until + AROUND_MICROS)
    if event_name is not None:
        conditions.append(events.c.event_name == to_key(event_name))
    scan = Scan()
    (_scan_server if conn.dialect.name == "postgresql" else _scan_file)(conn, conditions, scan)
    return scan


def _scan_server(conn: sa.Connection, conditions: Sequence[sa.ColumnElement[bool]], scan: Scan) -> None:
    query = sa.select(events.c.content, events.c.time_created, events.c.id).where(*conditions)
    with conn.execute(query.execution_options(yield_per=_FETCH_ROWS)) as rows:
        for part in rows.partitions():
            contents, times, ids = zip(*part, strict=True)
            scan.add(b"".join(contents), ",".join(map(str, times)), ",".join(map(str, ids)))


def _scan_file(conn: sa.Connection, conditions: Sequence[sa.ColumnElement[bool]], scan: Scan) -> None:
    """Read many events as one row: Python takes longer for a row than SQLite for the event."""
    place = (-1, -1)
    columns = (events.c.call_id, events.c.id, events.c.content, events.c.time_created)
    while True:
        call_id, event_id = place
        part = (
            sa.select(*columns)
            .where(*conditions, events.c.call_id >= call_id, sa.or_(events.c.call_id > call_id, events.c.id > event_id))
            .order_by(events.c.call_id, events.c.id)
            .limit(_CHUNK)
            .subquery()
        )
        packed: list[sa.ColumnElement[Any]] = [
            sa.func.count(),
            sa.func.max(part.c.call_id),
            sa.cast(sa.func.group_concat(part.c.content, ""), sa.LargeBinary),
            sa.cast(sa.func.group_concat(part.c.time_created), sa.Text),
            sa.cast(sa.func.group_concat(part.c.id), sa.Text),
        ]
        count, last_call, contents, times, ids = conn.execute(sa.select(*packed)).one()
        if count:
            scan.add(contents, times, ids)
            # The rows come in the order of the subquery, which has a limit.
            place = last_call, int(ids.rpartition(",")[2])
        if count < _CHUNK:
            return


def read_details(conn: sa.Connection, event_ids: Iterable[int]) -> dict[int, EventDetails]:
    """Return what is shown of events, by id."""
    columns = (
        events.c.id,
        events.c.idempotency_id,
        events.c.base_id,
        events.c.revision,
        events.c.call_id,
        events.c.event_name,
        events.c.properties,
    )
    return {
        row.id: EventDetails(row.id, public_id(row.idempotency_id, row.base_id, row.revision), *row[4:])
        for row in look_up(conn, sa.select(*columns), events.c.id, event_ids)
    }
