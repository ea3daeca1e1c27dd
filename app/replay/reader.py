"""Reads the calls of a replay batch by batch, ahead of the writing."""

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from app.core.outcome import Outcome
from app.replay.decide import NOT_MAPPED, Decider, Decision
from app.replay.plan import Plan, to_scope
from app.store.engine import Connection, Database
from app.store.kept import KeptCall, OwnEvent, find_ids, list_own_events, read_kept

BATCH = 2000
"""Calls in one transaction, on a server."""

BATCH_IN_FILE = 15_000
"""Calls in one transaction on SQLite: each page of random keys is then written once for more calls. Incoming calls wait
for some 0.5 s meanwhile."""

Batch = tuple[list[Decision], int]
"""Decisions, and the id of the last call."""

_FetchedCalls = tuple[list[KeptCall], dict[int, list[OwnEvent]]]
"""Stored calls, and the events that they made by call id."""

_WITH_EVENTS = {Outcome.STORED, Outcome.CONFLICT}


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the calls of a plan."""

    database: Database
    plan: Plan
    decider: Decider
    is_dry: bool = False
    """Whether it is read for a dry run, whose batches are small: it must not hold up incoming calls."""
    read_ids: set[int] = field(default_factory=set)
    """Calls to skip: they were read before."""

    def read(self, cursor: int, read_before: int) -> Batch:
        """Read calls after the id `cursor`, and run them; `read_before` were read so far. Raises Unavailable."""
        return self.run(self.fetch(cursor, read_before), cursor)

    def fetch(self, cursor: int, read_before: int) -> _FetchedCalls:
        """Read calls and their events: all database access of a batch's reading. Raises Unavailable."""
        most = BATCH if self.database.file is None or self.is_dry else BATCH_IN_FILE
        if self.plan.request.limit is not None:
            most = min(most, self.plan.request.limit - read_before)
        if most <= 0:
            return [], {}
        with self.database.reading() as conn:
            ids = self._find_ids(conn, cursor, most)
            rows = read_kept(conn, ids)
            return rows, list_own_events(conn, [row.id for row in rows if row.outcome in _WITH_EVENTS])

    def count_mapped(self, cursor: int, seconds: float) -> tuple[int, int]:
        """Map calls after the id `cursor` for some seconds; return how many are for this plan, and of how many.

        Raises Unavailable.
        """
        until, mapped, read = time.monotonic() + seconds, 0, 0
        while time.monotonic() < until:
            decisions, cursor = self.read(cursor, read)
            if not decisions:
                break
            read += len(decisions)
            mapped += sum(decision.note != NOT_MAPPED for decision in decisions)
        return mapped, read

    def _find_ids(self, conn: Connection, cursor: int, most: int) -> list[int]:
        while True:
            ids = find_ids(conn, to_scope(self.plan), cursor, self.plan.replay.until_id, most)
            unseen = [id_ for id_ in ids if id_ not in self.read_ids] if self.read_ids else ids
            if unseen or not ids:
                return unseen
            cursor = ids[-1]

    def run(self, fetched: _FetchedCalls, cursor: int) -> Batch:
        """Run the fetched calls by the live transforms."""
        rows, events_of = fetched
        return [self.decider.decide(row, events_of.get(row.id, ())) for row in rows], rows[-1].id if rows else cursor


class ReadAhead:
    """The next batch, read by a thread while the database writes this one.

    On a server it reads during the whole transaction. SQLite works in this process: it releases the interpreter's lock
    and takes it back for each row, and a thread that reads meanwhile would make it wait each time. (Measured: 18 us for
    the events of a call instead of 6.) There it only reads during the commit and checkpoint, which wait for the disk.
    """

    def __init__(self, thread: ThreadPoolExecutor, reader: Reader, cursor: int, read_before: int) -> None:
        """`thread` has one worker; it reads the calls after the id `cursor`; `read_before` were read so far."""
        self._thread = thread
        self._reader = reader
        self._cursor = cursor
        self._read_before = read_before
        self._futures: tuple[Future[_FetchedCalls], Future[Batch]] | None = None

    def begin(self) -> Future[Batch]:
        """Start reading, unless started already."""
        if self._futures is None:
            fetched = self._thread.submit(self._reader.fetch, self._cursor, self._read_before)
            # On the same thread, so `fetched` is done when this starts.
            self._futures = fetched, self._thread.submit(lambda: self._reader.run(fetched.result(), self._cursor))
        return self._futures[1]

    def wait_for_database(self) -> None:
        """Wait until it no longer reads from the database; it may still run what it read."""
        if self._futures is not None:
            wait(self._futures[:1])

    def result(self) -> Batch:
        """Return the batch. Raises what reading raised."""
        return self.begin().result()
