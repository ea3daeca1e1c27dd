"""The last refused requests, so that a person can see why no calls arrive. `conn` first."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec
import sqlalchemy as sa

from app.store.inserts import Insert
from app.store.schema import refusals

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


def append_refusals(conn: sa.Connection, refused: Iterable[Refusal]) -> None:
    """Store refusals, and delete all but the last KEPT."""
    _REFUSALS.run(conn, [msgspec.structs.astuple(refusal) for refusal in refused])
    oldest = sa.select(refusals.c.id).order_by(refusals.c.id.desc()).offset(KEPT - 1).limit(1).scalar_subquery()
    conn.execute(sa.delete(refusals).where(refusals.c.id < oldest))


def list_refusals(conn: sa.Connection, limit: int) -> list[Refusal]:
    """Return the last `limit` refusals, newest first."""
    query = sa.select(refusals).order_by(refusals.c.id.desc()).limit(limit)
    return [Refusal(**row._mapping) for row in conn.execute(query)]  # noqa: SLF001
