"""The newest calls for a transform, found by index, and the number of calls of each transform. `conn` first.

The cost must not grow with the number of stored calls: each query reads a bounded number of rows.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from app.core.arrival import NATIVE_ROUTES
from app.core.outcome import Outcome
from app.store.ids import first_id_at
from app.store.record import to_key
from app.store.schema import calls, ledger

NAMES_MAX = 500
"""Event names that are compared with a pattern."""

LOOKED_AT = 10_000
"""Newest calls that are scanned where no index leads to the right ones."""

_MICROS_A_MINUTE = 60_000_000

# Outcomes of calls that should have become events.
_FAILED = (Outcome.REJECTED.value, Outcome.CONFLICT.value)


class TrafficShare(msgspec.Struct, frozen=True):
    """The calls of one transform among those that were counted."""

    calls: int
    failed: int


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of all transforms since a moment."""

    received: int
    """All calls that were received since then, according to the ledger."""
    looked_at: int
    """The newest of them, which `shares` counts: LOOKED_AT at most."""
    shares: dict[str, TrafficShare]
    """By transform."""

    @property
    def is_whole(self) -> bool:
        """Tell whether all calls since then were counted."""
        return self.looked_at < LOOKED_AT


def list_event_names(conn: sa.Connection, limit: int = NAMES_MAX) -> list[str]:
    """Return the event names of calls, sorted. Jumps from name to name in the index."""
    first = sa.select(sa.func.min(calls.c.event).label("event")).cte("names", recursive=True)
    following = sa.select(sa.func.min(calls.c.event)).where(calls.c.event > first.c.event).scalar_subquery()
    names = first.union_all(sa.select(following).where(first.c.event.is_not(None)))

    events = conn.execute(sa.select(names.c.event).limit(limit + 1)).scalars()
    return [event for event in events if event is not None][:limit]


def list_ids_by_event(conn: sa.Connection, events: Iterable[str], limit: int) -> list[int]:
    """Return the ids of the newest `limit` calls with one of these event names, newest first.

    Reads the newest LOOKED_AT of each name, and leaves out those in Lotus's own form, which no transform maps.
    """
    ids: list[int] = []
    for name in sorted({to_key(event) or "" for event in events}):
        newest = _newest(calls.c.route, where=(calls.c.event == name,))
        query = (
            sa.select(newest.c.id).where(newest.c.route.not_in(NATIVE_ROUTES)).order_by(newest.c.id.desc()).limit(limit)
        )
        ids += conn.execute(query).scalars()
    return sorted(ids, reverse=True)[:limit]


def list_ids_of_type(conn: sa.Connection, kind: str, limit: int) -> list[int]:
    """Return the ids of the newest `limit` calls of a Segment type among the last LOOKED_AT calls, newest first."""
    newest = _newest(calls.c.type, where=() if kind == "track" else (calls.c.event.is_(None),))
    query = sa.select(newest.c.id).where(newest.c.type == kind).order_by(newest.c.id.desc()).limit(limit)
    return list(conn.execute(query).scalars())


def list_ids_decided_by(conn: sa.Connection, transform: str, limit: int) -> list[int]:
    """Return the ids of the newest `limit` calls that a transform decided among the last LOOKED_AT, newest first."""
    newest = _newest(calls.c.transform)
    query = sa.select(newest.c.id).where(newest.c.transform == transform).order_by(newest.c.id.desc()).limit(limit)
    return list(conn.execute(query).scalars())


def read_activity(conn: sa.Connection, since: int) -> Activity:
    """Count the newest LOOKED_AT calls by the transform that decided them; `since` in microseconds since 1970."""
    newest = _newest(calls.c.transform, calls.c.outcome, where=(calls.c.id >= first_id_at(since),))
    failed = sa.func.sum(sa.case((newest.c.outcome.in_(_FAILED), 1), else_=0))
    query = sa.select(newest.c.transform, sa.func.count(), failed).group_by(newest.c.transform)
    rows = [(name, int(total), int(bad)) for name, total, bad in conn.execute(query)]
    # The ledger counts by the minute of the commit; a replay subtracts a call from one outcome and adds it to another.
    received = conn.execute(
        sa.select(sa.func.coalesce(sa.func.sum(ledger.c.count), 0)).where(
            ledger.c.minute >= since // _MICROS_A_MINUTE, ledger.c.subject == "call"
        )
    ).scalar_one()
    looked_at = sum(total for _, total, _ in rows)
    return Activity(
        received=max(int(received), looked_at),
        looked_at=looked_at,
        shares={name: TrafficShare(total, bad) for name, total, bad in rows if name is not None},
    )


def _newest(*columns: sa.Column[Any], where: Sequence[sa.ColumnElement[bool]] = ()) -> sa.Subquery:
    # ORDER BY before LIMIT: without it a database may return any LOOKED_AT of them.
    return sa.select(calls.c.id, *columns).where(*where).order_by(calls.c.id.desc()).limit(LOOKED_AT).subquery()
