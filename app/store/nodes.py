"""What nodes tell each other and the commands of an operator: ended sessions and sightings. `conn` first.

All times are microseconds since 1970.
"""

import sqlalchemy as sa

from app.store.inserts import Insert
from app.store.schema import ended_sessions, sightings, spent_links

UNTRUSTED_PROXY = "untrusted_proxy"
"""A request had the header X-Forwarded-For, and no proxy is trusted to set it."""

_DAY = 86_400_000_000

_ENDED = Insert(ended_sessions, ("id", "expires_at"), skip_known=True)
_SPENT = Insert(spent_links, ("id", "expires_at"), skip_known=True)
_SIGHTINGS = Insert(sightings, ("name", "seen_at"), replace=True)


def append_ended_session(conn: sa.Connection, session_id: str, expires_at: int, now: int) -> None:
    """Store that a session has ended, and delete those whose cookies have expired."""
    conn.execute(sa.delete(ended_sessions).where(ended_sessions.c.expires_at <= now))
    _ENDED.run(conn, [(session_id, expires_at)])


def list_ended_sessions(conn: sa.Connection, now: int) -> list[str]:
    """Return the ids of all ended sessions whose cookies have not expired."""
    return list(conn.execute(sa.select(ended_sessions.c.id).where(ended_sessions.c.expires_at > now)).scalars())


def spend_link(conn: sa.Connection, link_id: str, expires_at: int, now: int) -> bool:
    """Store that a sign-in link was used, and tell whether that was the first time; delete those that have expired."""
    conn.execute(sa.delete(spent_links).where(spent_links.c.expires_at <= now))
    return _SPENT.run(conn, [(link_id, expires_at)]) == 1


def save_sighting(conn: sa.Connection, name: str, now: int) -> None:
    """Store that something was seen now."""
    _SIGHTINGS.run(conn, [(name, now)])


def find_sighting(conn: sa.Connection, name: str, now: int) -> int | None:
    """Return when something was last seen, to the hour; None if not within a day before `now`."""
    query = sa.select(sightings.c.seen_at).where(sightings.c.name == name, sightings.c.seen_at > now - _DAY)
    return conn.execute(query).scalar_one_or_none()
