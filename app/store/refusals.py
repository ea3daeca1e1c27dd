"""The last refused requests, so that a person can see why no calls arrive. `conn` first."""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec
import sqlalchemy as sa

from app.store.inserts import Insert
from app.store.nodes import REFUSALS_ACKNOWLEDGED
from app.store.schema import refusals, sightings

KEPT = 1000
BODY_START_BYTES = 2048


_REFUSALS = Insert(
    refusals,
    (
        "id",
        "received_at",
        "code",
        "message",
        "method",
        "path",
        "headers",
        "body_start",
        "client",
        "sender",
        "diagnosis",
    ),
)


class Sender(StrEnum):
    """Who sent a request, as far as can be told."""

    SEGMENT = "segment"
    """By its User-Agent."""
    SDK = "sdk"
    """One of Segment's SDKs, by its User-Agent."""
    MACHINE = "machine"
    """This machine itself, such as `segment-lotus send`."""
    AUTHENTIC = "authentic"
    """Somebody else with a valid credential."""
    STRANGER = "stranger"


_QUIET = (Sender.MACHINE, Sender.STRANGER)
"""Whoever scans the internet for open doors loses no calls, nor does this machine."""


class Refusal(msgspec.Struct):
    """One refused request. `headers` hold no credentials."""

    id: int
    received_at: int
    code: str
    message: str
    method: str
    path: str
    headers: str
    """JSON object."""
    body_start: bytes
    client: str | None = None
    """The address that it came from; None if it was refused before this was kept."""
    sender: Sender | None = None
    diagnosis: str | None = None
    """Why its signature does not match, for people; None if nobody knows."""

    @property
    def is_loss(self) -> bool:
        """Whether somebody's calls are lost with it: it is from Segment, an SDK, or another one with a credential."""
        return self.sender not in _QUIET


def append_refusals(conn: sa.Connection, refused: Iterable[Refusal]) -> None:
    """Store refusals, and delete all but the last KEPT."""
    _REFUSALS.run(conn, [msgspec.structs.astuple(refusal) for refusal in refused])
    oldest = sa.select(refusals.c.id).order_by(refusals.c.id.desc()).offset(KEPT - 1).limit(1).scalar_subquery()
    conn.execute(sa.delete(refusals).where(refusals.c.id < oldest))


def list_refusals(conn: sa.Connection, limit: int) -> list[Refusal]:
    """Return the last `limit` refusals, newest first."""
    return _read(conn, sa.select(refusals).order_by(refusals.c.id.desc()).limit(limit))


def list_losses(conn: sa.Connection, limit: int, since: int) -> list[Refusal]:
    """Return the last `limit` refusals since a time that are losses and not acknowledged, newest first."""
    is_loss = sa.or_(refusals.c.sender.is_(None), refusals.c.sender.not_in(_QUIET))
    query = sa.select(refusals).where(*_unacknowledged(since), is_loss)
    return _read(conn, query.order_by(refusals.c.id.desc()).limit(limit))


def count_refusals(conn: sa.Connection, since: int) -> tuple[Counter[str], int]:
    """Count the refusals since a time that nobody has acknowledged: losses by code, and all others."""
    query = (
        sa.select(refusals.c.sender, refusals.c.code, sa.func.count().label("total"))
        .where(*_unacknowledged(since))
        .group_by(refusals.c.sender, refusals.c.code)
    )
    losses: Counter[str] = Counter()
    others = 0
    for row in conn.execute(query):
        if row.sender in _QUIET:
            others += row.total
        else:
            losses[row.code] += row.total
    return losses, others


class RefusalGroup(msgspec.Struct, frozen=True):
    """The refused requests of one kind of sender."""

    count: int
    last: Refusal


def group_refusals(conn: sa.Connection, since: int = 0) -> list[RefusalGroup]:
    """Group the refusals since a time that nobody has acknowledged by sender: how many, and the last one."""
    query = (
        sa.select(sa.func.count().label("total"), sa.func.max(refusals.c.id).label("last_id"))
        .where(*_unacknowledged(since))
        .group_by(refusals.c.sender)
    )
    counts = {row.last_id: row.total for row in conn.execute(query)}
    if not counts:
        return []
    rows = _read(conn, sa.select(refusals).where(refusals.c.id.in_(counts)).order_by(refusals.c.id.desc()))
    return [RefusalGroup(counts[row.id], row) for row in rows]


def _unacknowledged(since: int) -> tuple[sa.ColumnElement[bool], ...]:
    acknowledged = sa.select(sightings.c.seen_at).where(sightings.c.name == REFUSALS_ACKNOWLEDGED).scalar_subquery()
    return refusals.c.received_at >= since, refusals.c.received_at > sa.func.coalesce(acknowledged, 0)


def _read(conn: sa.Connection, query: sa.Select[Any]) -> list[Refusal]:
    return [Refusal(**row._mapping) for row in conn.execute(query)]  # noqa: SLF001
