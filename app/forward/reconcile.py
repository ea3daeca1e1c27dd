"""Asks Lotus which of the events that it accepted it has stored: its 201 only means queued."""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from app.errors import Unavailable
from app.forward.lotus import Lotus
from app.forward.sql_lists import list_delivered, newest_event_id
from app.store.engine import Database

MAX_DAYS = 30
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class ReconcileBatch:
    """The result for one batch of delivered events."""

    checked: int
    missing: list[tuple[int, str]]
    """(event id, idempotency id)."""


class _Document(msgspec.Struct):
    status: str
    ids_not_found: list[str]


def find_missing(database: Database, lotus: Lotus, after: int) -> Iterator[ReconcileBatch]:
    """Ask about all delivered events with an id above `after`, in batches. Raises Unavailable."""
    with database.reading() as conn:
        until = newest_event_id(conn)
    while True:
        with database.reading() as conn:
            rows = list_delivered(conn, after, until, _BATCH)
        if not rows:
            return
        answer = lotus.find_missing([id_ for _, id_ in rows], MAX_DAYS)
        try:
            document = msgspec.json.decode(answer.body, type=_Document) if answer.status == 200 else None  # noqa: PLR2004
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            document = None
        if document is None or document.status != "success":
            raise Unavailable(f"Lotus does not say which events it has: {answer.status or ''} {answer.text()[:200]}")
        lost = set(document.ids_not_found)
        yield ReconcileBatch(len(rows), [(event_id, id_) for event_id, id_ in rows if id_ in lost])
        after = rows[-1][0]
