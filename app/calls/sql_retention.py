"""Removing the bytes of old calls. Rows, events, ids and the ledger are not changed. `conn` first.

Two steps for each batch: find the rows in a read-only transaction, however long it takes, then blank them by id in a
short writing one.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from app.store.ids import TAG_BITS
from app.store.schema import calls, requests

BATCH = 1000
"""Rows in one writing transaction: some 10 ms, for which incoming calls have to wait."""

_BATCH_IDS = 600_000_000 << TAG_BITS
"""Ten minutes of ids: no request takes that long from its own id to the id of its last call."""


@dataclass(frozen=True, slots=True)
class RetentionTarget:
    """A column that retention blanks."""

    table: sa.Table
    column: sa.Column[Any]


RAW = RetentionTarget(calls, calls.c.raw)
ENVELOPE = RetentionTarget(requests, requests.c.envelope)


def count_filled(conn: sa.Connection, target: RetentionTarget, below: int) -> int:
    """Count rows with an id below `below` that still hold their bytes."""
    query = sa.select(sa.func.count()).select_from(target.table).where(_holds(target, -1, below))
    return conn.execute(query).scalar_one()


def first_envelope(conn: sa.Connection, below: int) -> int:
    """Return the id below which requests may lose their envelopes if calls below `below` lose their bytes.

    A batch can lie across that edge: its later calls keep their bytes, and without the envelope they would be read as
    somebody else's. The ids of its calls span a few seconds.
    """
    query = sa.select(sa.func.min(calls.c.request_id)).where(calls.c.id >= below, calls.c.id < below + _BATCH_IDS)
    return min(below, conn.execute(query).scalar() or below)


def find_filled(conn: sa.Connection, target: RetentionTarget, after: int, below: int) -> list[int]:
    """Return up to BATCH ids of rows that still hold their bytes, between `after` and `below` (both exclusive)."""
    query = sa.select(target.table.c.id).where(_holds(target, after, below)).order_by(target.table.c.id).limit(BATCH)
    return list(conn.execute(query).scalars())


def blank(conn: sa.Connection, target: RetentionTarget, ids: list[int]) -> None:
    """Remove the bytes of these rows."""
    conn.execute(sa.update(target.table).where(target.table.c.id.in_(ids)).values({target.column.name: None}))


def _holds(target: RetentionTarget, after: int, below: int) -> sa.ColumnElement[bool]:
    return sa.and_(target.table.c.id > after, target.table.c.id < below, target.column.is_not(None))
