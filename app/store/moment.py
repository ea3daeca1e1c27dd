"""What was stored, and counted, at a moment of the past: the ground of every answer as of a moment.

A moment is far enough back once nothing that is stored later can have a time before it. So an answer never changes.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from app.core.times import format_time
from app.errors import BadQuery, Unavailable
from app.store.clock import read_clock
from app.store.engine import Connection, Database
from app.store.ids import first_id_at, micros_of
from app.store.schema import corrected_events, events, sightings

MARGIN = 30_000_000
"""How far back a moment must lie, in microseconds: longer than a commit takes, and than the clocks of servers leap."""

ID_SLACK = 3_600_000_000
"""At most so much earlier than it is stored does a node draw the id of an event: requests wait, and clocks differ."""

_SIGHTING = "stored_at"


@contextlib.contextmanager
def reading_at(database: Database, moment: int | None) -> Iterator[Connection]:
    """Yield a snapshot in which nothing of a moment (microseconds since 1970) can change any more; None: of now.

    Raises:
        BadQuery: the moment is not far enough back.
        Unavailable: something that may be part of it is still being written, or the clock is behind.

    """
    check_moment(database, moment)
    with database.reading() as conn:
        yield conn


def latest_moment(database: Database) -> int:
    """Return the last moment that is far enough back now."""
    with database.reading() as conn:
        return read_clock(conn) - MARGIN


def check_moment(database: Database, moment: int | None) -> None:
    """Raise BadQuery or Unavailable unless a snapshot that begins now has all that is of a moment, as `reading_at`.

    A file has one writer at a time: who gets its turn is after all others. A server tells which transactions write.
    """
    if moment is None:
        return
    with database.writing(durable=False) if database.file else database.reading() as conn:
        now = read_clock(conn)
        newest = _find_newest(conn)
        is_writing = database.file is None and _is_being_written(conn, moment)
    if newest > now:
        raise Unavailable(
            f"the clock is behind: it is {format_time(now)}, and something was stored at {format_time(newest)};"
            " set the clock right, or wait until then"
        )
    if moment > now - MARGIN:
        raise BadQuery(
            f"as_of must be at least {MARGIN // 1_000_000} s ago, so that the answer can never change: now it may be"
            f" {format_time(now - MARGIN)} at most"
        )
    if is_writing:
        raise Unavailable(f"something that began before {format_time(moment)} is still being stored: ask again")


def _find_newest(conn: Connection) -> int:
    """Return the last time at which something was stored, made void, or made to count again; 0 if nothing was."""
    newest = [
        sa.select(events.c.stored_at).order_by(events.c.id.desc()).limit(1),
        sa.select(sa.func.max(events.c.voided_at)).where(events.c.voided_at.is_not(None)),
        sa.select(sa.func.max(corrected_events.c.revived_at)).where(corrected_events.c.revived_at.is_not(None)),
    ]
    return max(conn.execute(query).scalar() or 0 for query in newest)


def _is_being_written(conn: Connection, moment: int) -> bool:
    """Tell whether a transaction writes that began by a moment. Of other users' ones, a server may not tell."""
    query = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_xid IS NOT NULL AND extract(epoch FROM xact_start) * 1000000 <= :moment"
    )
    return bool(conn.execute(query, {"moment": moment}).scalar_one())


def was_by_arrival(conn: Connection, moment: int) -> bool:
    """Tell whether a moment is older than the times of storing: then the arrival of its call dates an event."""
    since = conn.execute(sa.select(sightings.c.seen_at).where(sightings.c.name == _SIGHTING)).scalar()
    return since is not None and moment < since


def stored_by(moment: int) -> sa.ColumnElement[bool]:
    """Return the condition that an event was stored by a moment; without a time, that its call had arrived."""
    return sa.func.coalesce(events.c.stored_at <= moment, events.c.call_id < first_id_at(moment + 1))


def counted_at(moment: int) -> sa.ColumnElement[bool]:
    """Return the condition that an event was stored and not void at a moment."""
    void_later = sa.or_(events.c.voided_at.is_(None), events.c.voided_at > moment)
    return sa.and_(void_later, stored_by(moment), events.c.id.not_in(revived_since(moment)))


def revived_since(moment: int) -> sa.Select[Any]:
    """Return the ids of the events that were void at a moment, and counted again later."""
    return sa.select(corrected_events.c.event_id).where(
        corrected_events.c.revived_at > moment, corrected_events.c.voided_at <= moment
    )


def first_id_since(conn: Connection, moment: int) -> int | None:
    """Return an id that is below those of all events stored after a moment; None if ids do not tell that here."""
    query = sa.select(events.c.id, events.c.stored_at).order_by(events.c.id.desc()).limit(1)
    newest = conn.execute(query).one_or_none()
    if newest is None or newest.stored_at is None or abs(micros_of(newest.id) - newest.stored_at) > ID_SLACK:
        return None
    return first_id_at(moment - ID_SLACK)
