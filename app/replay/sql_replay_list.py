"""Queries on replays: list, progress, and requests to stop. `conn` first."""

from collections.abc import Sequence

import sqlalchemy as sa

from app.errors import NotFound
from app.replay.sql_replays import Replay
from app.store.arrays import among
from app.store.corrections import Correction
from app.store.schema import corrections, replays


def list_replays(conn: sa.Connection, limit: int, before: int | None = None) -> list[Replay]:
    """Return the last `limit` replays below the id `before`, newest first."""
    query = sa.select(replays).order_by(replays.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(replays.c.id < before)
    return [Replay(**row._mapping) for row in conn.execute(query)]  # noqa: SLF001  SQLAlchemy's own name


def get_replay(conn: sa.Connection, replay_id: int) -> Replay:
    """Return one replay. Raises NotFound."""
    row = conn.execute(sa.select(replays).where(replays.c.id == replay_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no replay {replay_id}")
    return Replay(**row._mapping)  # noqa: SLF001


def find_corrections(conn: sa.Connection, replay_ids: Sequence[int]) -> dict[int, Correction]:
    """Return the batch of each replay that corrects, by the id that both have."""
    query = sa.select(corrections).where(among(conn, corrections.c.id, replay_ids))
    return {row.id: Correction(**row._mapping) for row in conn.execute(query)}  # noqa: SLF001


def mark_running(conn: sa.Connection, replay_id: int, now: int) -> None:
    """Store that a process runs this replay from now on; clears an earlier request to stop."""
    _set(conn, replay_id, progress_at=now, stop_asked_at=None)


def mark_idle(conn: sa.Connection, replay_id: int) -> None:
    """Store that no process runs this replay any more."""
    _set(conn, replay_id, progress_at=None)


def ask_to_stop(conn: sa.Connection, replay_id: int, now: int) -> None:
    """Ask the process that runs a replay to end after its batch; does nothing to a finished replay."""
    conn.execute(
        sa.update(replays)
        .where(replays.c.id == replay_id, replays.c.finished_at.is_(None), replays.c.stop_asked_at.is_(None))
        .values(stop_asked_at=now)
    )


def is_stop_asked(conn: sa.Connection, replay_id: int) -> bool:
    """Return whether this replay was asked to stop."""
    return conn.execute(sa.select(replays.c.stop_asked_at).where(replays.c.id == replay_id)).scalar() is not None


def _set(conn: sa.Connection, replay_id: int, **values: int | None) -> None:
    conn.execute(sa.update(replays).where(replays.c.id == replay_id).values(**values))
