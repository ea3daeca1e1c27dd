"""Forgetting the bytes of old calls. Rows, events, ids and the ledger stay as they are. `conn` first.

Two steps for each batch: find rows in a transaction that only reads, however long it takes, then blank them by id in
one that writes and is short.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from app.store.ids import TAG_BITS
from app.store.schema import calls, requests

BATCH = 1000
"""Rows in one writing transaction: some 10 ms, for which calls that come in have to wait."""


_BATCH_IDS = 600_000_000 << TAG_BITS
"""Ten minutes of ids: no request takes so long from its own id to that of its last call."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A column that retention blanks."""

    table: sa.Table
    column: sa.Column[Any]


RAW = Kept(calls, calls.c.raw)
ENVELOPE = Kept(requests, requests.c.envelope)


def count_kept(conn: sa.Connection, kept: Kept, below: int) -> int:
    """Count rows with an id below `below` that still hold their bytes."""
    query = sa.select(sa.func.count()).select_from(kept.table).where(_holds(kept, -1, below))
    return conn.execute(query).scalar_one()


def first_envelope(conn: sa.Connection, below: int) -> int:
    """Return the id below which requests may lose their envelopes, where calls below `below` lose their bytes.

    A batch can lie across that edge: its later calls keep their bytes, and without the envelope they would be read as
    somebody else's. Its calls have ids of a few seconds.
    """
    query = sa.select(sa.func.min(calls.c.request_id)).where(calls.c.id >= below, calls.c.id < below + _BATCH_IDS)
    return min(below, conn.execute(query).scalar() or below)


def find_kept(conn: sa.Connection, kept: Kept, after: int, below: int) -> list[int]:
    """Return the next ids, at most BATCH, of rows that still hold their bytes, between `after` and `below`."""
    query = sa.select(kept.table.c.id).where(_holds(kept, after, below)).order_by(kept.table.c.id).limit(BATCH)
    return list(conn.execute(query).scalars())


def blank(conn: sa.Connection, kept: Kept, ids: list[int]) -> None:
    """Forget the bytes of these rows."""
    conn.execute(sa.update(kept.table).where(kept.table.c.id.in_(ids)).values({kept.column.name: None}))


def _holds(kept: Kept, after: int, below: int) -> sa.ColumnElement[bool]:
    return sa.and_(kept.table.c.id > after, kept.table.c.id < below, kept.column.is_not(None))
