"""What the batches of a dry run wrote, kept beside the database: each is rolled back, and the next has to see it.

Later calls depend on earlier ones only through keys: which call has a message, which event an idempotency id, and which
ids became free. They are kept in a temporary file of SQLite's own, which is gone with its connection; memory holds its
cache only, however many calls there are. `conn` first.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from app.replay.decide import Decision
from app.replay.sql_replays import renew_claims
from app.store.arrays import slices
from app.store.events import find_claims, find_stored, give_up_ids, to_revision_id
from app.store.inserts import Insert
from app.store.schema import claims, events

_TABLES = """
CREATE TABLE claims (message_id TEXT, lane TEXT, call_id INTEGER, content BLOB, digest BLOB,
                     PRIMARY KEY (message_id, lane)) WITHOUT ROWID;
CREATE TABLE events (idempotency_id TEXT PRIMARY KEY, id INTEGER, call_id INTEGER, lane TEXT, position INTEGER,
                     content BLOB, digest BLOB) WITHOUT ROWID;
CREATE TABLE freed (idempotency_id TEXT PRIMARY KEY, base_id TEXT, revision INTEGER, id INTEGER) WITHOUT ROWID;
"""
_NOT_READ = ("", "", 0, "{}", b"", "")
"""In place of the event's name, customer, time, properties, and its transform: no other call looks at them."""

_CLAIMS = Insert(claims, ("message_id", "lane", "call_id", "content", "transform_digest"), skip_known=True)
_EVENTS = Insert(
    events,
    (
        "id",
        "idempotency_id",
        "call_id",
        "lane",
        "position",
        "event_name",
        "customer_id",
        "time_created",
        "properties",
        "content",
        "transform",
        "transform_digest",
    ),
    skip_known=True,
)


class Rehearsal:
    """The keys that the batches of one dry run took and freed so far."""

    def __init__(self) -> None:
        # The empty name means a temporary file. A dry run may be made on another thread than it is closed on.
        self._file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._file.executescript(_TABLES)
        self._is_empty = True

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def restore(self, conn: sa.Connection, decisions: Sequence[Decision]) -> None:
        """Write what earlier batches wrote under the keys of these decisions, in a transaction to be rolled back."""
        if self._is_empty:
            return
        held = sorted(self._select("claims", "message_id", _message_ids(decisions)))
        _CLAIMS.run(conn, held)
        renew_claims(conn, [(content, digest, key, lane, call_id) for key, lane, call_id, content, digest in held])
        self._restore_ids(conn, _idempotency_ids(decisions))
        # A correction passes over the ids of revisions that are taken.
        revised = [
            (replacement.base_id, replacement.revision)
            for decision in decisions
            if decision.correction is not None
            for replacement in decision.correction.replacements
            if replacement.revision > 1
        ]
        while revised:
            taken = find_stored(conn, {to_revision_id(*pair) for pair in revised})
            revised = [(base, number + 1) for base, number in revised if to_revision_id(base, number) in taken]
            self._restore_ids(conn, {to_revision_id(*pair) for pair in revised})

    def _restore_ids(self, conn: sa.Connection, ids: set[str]) -> None:
        give_up_ids(conn, [row[1:] for row in self._select("freed", "idempotency_id", ids)])
        name, customer, time, properties, _, transform = _NOT_READ
        rows = [
            (id_, key, call_id, lane, position, name, customer, time, properties, content, transform, digest)
            for key, id_, call_id, lane, position, content, digest in self._select("events", "idempotency_id", ids)
        ]
        _EVENTS.run(conn, sorted(rows, key=lambda row: row[1]))

    def note(self, conn: sa.Connection, decisions: Sequence[Decision], blocked: set[int]) -> None:
        """Keep what these decisions wrote in this transaction, before it is rolled back; `blocked` calls wrote none."""
        call_ids = {decision.row.id for decision in decisions}
        held = [
            (*key, claim.call_id, claim.content, claim.transform_digest)
            for key, claim in find_claims(conn, _message_ids(decisions)).items()
            if claim.call_id in call_ids
        ]
        stored = [
            (key, event.id, event.call_id, event.lane, event.position, event.content, event.transform_digest)
            for key, event in find_stored(conn, _idempotency_ids(decisions)).items()
            if event.call_id in call_ids
        ]
        freed = [
            (event.idempotency_id, event.base, event.revision or 1, event.id)
            for decision in decisions
            if decision.correction is not None and decision.row.id not in blocked
            for replacement in decision.correction.replacements
            if replacement.moves
            for event in decision.correction.chain(replacement)
        ]
        self._is_empty = self._is_empty and not (held or stored or freed)
        self._file.execute("BEGIN")
        self._file.executemany("INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?)", held)
        self._file.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", stored)
        self._file.executemany("INSERT OR REPLACE INTO freed VALUES (?, ?, ?, ?)", freed)
        self._file.execute("COMMIT")

    def _select(self, table: str, column: str, keys: Iterable[str]) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        for part in slices(keys):
            marks = ", ".join("?" * len(part))
            rows += self._file.execute(f"SELECT * FROM {table} WHERE {column} IN ({marks})", part)  # noqa: S608
        return rows


def _message_ids(decisions: Sequence[Decision]) -> set[str]:
    return {key for decision in decisions if (key := decision.row.message_id) is not None}


def _idempotency_ids(decisions: Sequence[Decision]) -> set[str]:
    return {
        event.idempotency_id
        for decision in decisions
        for lane in (
            *(decision.run.lanes if decision.run is not None else ()),
            *(decision.correction.to_lanes() if decision.correction is not None else ()),
        )
        for event in lane.events
    }
