"""What nodes tell each other and the commands of an operator: ended sessions and sightings. `conn` first.

All times are microseconds since 1970.
"""

import sqlalchemy as sa

from app.store.inserts import Insert
from app.store.schema import ended_sessions, sightings, spent_links

UNTRUSTED_PROXY = "untrusted_proxy"
"""A request had the header X-Forwarded-For, and no proxy is trusted to set it."""

ARRIVED = "arrived:"
"""An accepted request of a sender: `app.store.refusals.Sender` follows."""

SECRET_USED = "secret:"  # noqa: S105  the beginning of a name
"""A request was signed with a shared secret: its fingerprint follows."""

REFUSALS_ACKNOWLEDGED = "refusals_acknowledged"
"""A person has seen the refused requests; the time is that of the last of them."""

DAY = 86_400_000_000

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
    query = sa.select(sightings.c.seen_at).where(sightings.c.name == name, sightings.c.seen_at > now - DAY)
    return conn.execute(query).scalar_one_or_none()


def list_sightings(conn: sa.Connection, *names: str) -> dict[str, int]:
    """Return when each of these was last seen, however long ago; without those that never were."""
    query = sa.select(sightings.c.name, sightings.c.seen_at).where(sightings.c.name.in_(names))
    return {row.name: row.seen_at for row in conn.execute(query)}
