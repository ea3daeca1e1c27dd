"""Queries of backfills: the batches of a file, and whether others take calls now. `conn` first."""

import sqlalchemy as sa

from app.store import ledger
from app.store.corrections import BACKFILL, Correction
from app.store.schema import corrections
from app.store.schema import ledger as counts

_RECENT_MINUTES = 1


def list_backfills(conn: sa.Connection) -> list[Correction]:
    """Return all backfills, the newest first."""
    query = sa.select(corrections).where(corrections.c.kind == BACKFILL).order_by(corrections.c.id.desc())
    return [Correction(**row._mapping) for row in conn.execute(query)]  # noqa: SLF001  SQLAlchemy's own name


def others_take_calls(conn: sa.Connection, node: int, now: int) -> bool:
    """Tell whether processes other than `node` counted calls in this minute or the one before."""
    query = (
        sa.select(sa.literal(1))
        .where(
            counts.c.minute >= now // ledger.MINUTE - _RECENT_MINUTES,
            counts.c.node != node,
            counts.c.subject == ledger.CALL,
        )
        .limit(1)
    )
    return conn.execute(query).scalar() is not None
