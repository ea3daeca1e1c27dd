"""Counts of the calls that made no event, by what is wrong with them. `conn` first."""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.store.arrays import among
from app.store.schema import calls, events, faults


class FaultCount(msgspec.Struct, frozen=True):
    """A fault, and the calls of a range that have it."""

    key: bytes
    outcome: str
    reason: str | None
    transform: str | None
    transform_digest: bytes | None
    path: str
    sentence: str
    count: int
    first_id: int
    last_id: int


class SharedIdRow(msgspec.Struct, frozen=True):
    """Events that count under an id that many senders may share."""

    field: str
    """`customer_id` or `idempotency_id`."""
    id: str
    count: int
    """At most `most`."""
    last_id: int
    """Of their newest call."""


def count_faults(conn: sa.Connection, first: int) -> list[FaultCount]:
    """Count the calls from the id `first` on by their fault; most calls first.

    It reads one index, some five million calls a second.
    """
    counted = (
        sa.select(
            calls.c.fault,
            sa.func.count().label("count"),
            sa.func.min(calls.c.id).label("first_id"),
            sa.func.max(calls.c.id).label("last_id"),
        )
        .where(calls.c.fault.is_not(None), calls.c.id >= first)
        .group_by(calls.c.fault)
        .subquery()
    )
    query: sa.Select[Any] = (
        sa.select(*faults.columns, counted.c["count"], counted.c.first_id, counted.c.last_id)
        .join(counted, counted.c.fault == faults.c.key)
        .order_by(counted.c["count"].desc(), counted.c.last_id.desc())
    )
    return [FaultCount(*row) for row in conn.execute(query)]


def list_types(conn: sa.Connection, ids: Sequence[int]) -> dict[int, tuple[str | None, str | None]]:
    """Return type and event of calls, by id."""
    query = sa.select(calls.c.id, calls.c.type, calls.c.event).where(among(conn, calls.c.id, ids))
    return {row.id: (row.type, row.event) for row in conn.execute(query)}


def list_shared_ids(conn: sa.Connection, ids: Sequence[str], first: int, most: int) -> list[SharedIdRow]:
    """Return which of `ids` are used by events of calls from the id `first` on; at most `most` events of each count.

    It costs a few index lookups, however many events there are.
    """
    queries = []
    for column in (events.c.customer_id, events.c.idempotency_id):
        for one_id in ids:
            newest = (
                sa.select(events.c.call_id)
                .where(column == one_id, events.c.call_id >= first, events.c.voided_at.is_(None))
                .order_by(events.c.call_id.desc())
                .limit(most)
                .subquery()
            )
            name, text = (sa.literal(value, sa.Text) for value in (column.name, one_id))
            queries.append(sa.select(name, text, sa.func.count(newest.c.call_id), sa.func.max(newest.c.call_id)))
    rows = conn.execute(sa.union_all(*queries))
    return [SharedIdRow(*row) for row in rows if row[2]]
