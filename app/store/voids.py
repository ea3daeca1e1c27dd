"""Voids by people: events that a correction made void, and who did it. `conn` first.

An event that a replay replaced has the version that did it in `voided_by`; where it is NULL, a person made it void.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
import sqlalchemy as sa

from app.store.arrays import look_up
from app.store.schema import corrected_events, corrections, events
from app.store.updates import Update

BY_PERSON = sa.and_(events.c.voided_at.is_not(None), events.c.voided_by.is_(None))
"""Whether a person made the event void."""

_VOID = Update(events, new=("voided_at", "void_reason"), known=("id", "voided_at"))
_REVIVE = Update(events, new=("voided_at", "voided_by", "void_reason"), known=("id", "voided_at"))


class VoidAuthor(msgspec.Struct, frozen=True):
    """Who made an event void."""

    event_id: int
    correction_id: int
    author: str


def lock_replays(conn: sa.Connection) -> None:
    """Block writes of other replays and corrections until this transaction ends; incoming calls do not wait.

    SQLite has one writer at a time anyway.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(sa.text("LOCK TABLE replays IN SHARE ROW EXCLUSIVE MODE"))


def void_by_person(conn: sa.Connection, event_ids: Iterable[int], now: int, reason: str) -> int:
    """Make events void that count; return how many did."""
    return _VOID.run(conn, [(now, reason, event_id, None) for event_id in sorted(event_ids)])


def revive(conn: sa.Connection, voids: Iterable[tuple[int, int]]) -> int:
    """Make events count again that are void since these times, (event id, time); return how many were."""
    return _REVIVE.run(conn, [(None, None, None, event_id, at) for event_id, at in sorted(voids)])


def find_void_times(conn: sa.Connection, event_ids: Iterable[int]) -> dict[int, int | None]:
    """Return since when these events are void, by id; None for those that count."""
    query = sa.select(events.c.id, events.c.voided_at)
    return {row.id: row.voided_at for row in look_up(conn, query, events.c.id, event_ids)}


def find_void_authors(conn: sa.Connection, event_ids: Iterable[int]) -> dict[int, VoidAuthor]:
    """Return who made events void that a person made void, by event id."""
    columns: list[Any] = [corrected_events.c.event_id, corrections.c.id, corrections.c.author]
    query = (
        sa.select(*columns)
        .join(corrections, corrections.c.id == corrected_events.c.correction_id)
        .join(events, events.c.id == corrected_events.c.event_id)
        .where(BY_PERSON, events.c.voided_at == corrected_events.c.voided_at)
    )
    return {row[0]: VoidAuthor(*row) for row in look_up(conn, query, corrected_events.c.event_id, event_ids)}
