"""Reading the calls of a replay batch by batch, and ahead of the writing."""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from app.core.outcome import Outcome
from app.replay.decide import Decider, Decision
from app.replay.plan import Plan, to_scope
from app.store.engine import Connection, Database
from app.store.kept import KeptCall, OwnEvent, find_ids, list_own_events, read_kept

BATCH = 2000
"""Calls in one transaction, on a server."""

BATCH_IN_FILE = 15_000
"""The same on SQLite: pages of random keys are then written once for more calls; calls that come in meanwhile wait for
some 0.5 s."""

Batch = tuple[list[Decision], int]
"""Calls, and the id of the last one."""

_Kept = tuple[list[KeptCall], dict[int, list[OwnEvent]]]
"""Calls as they are kept, and the events that they made."""

_WITH_EVENTS = {Outcome.STORED, Outcome.CONFLICT}


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the calls that a plan is about."""

    database: Database
    plan: Plan
    judge: Decider
    seen: set[int] = field(default_factory=set)
    """Calls that are passed over: they were read before."""

    def read(self, cursor: int, done: int) -> Batch:
        """Read and run the calls after the id `cursor`; `done` were read before. Raises Unavailable."""
        return self.run(self.look(cursor, done), cursor)

    def look(self, cursor: int, done: int) -> _Kept:
        """Read calls: all that is asked of the database. Raises Unavailable."""
        most = BATCH if self.database.file is None else BATCH_IN_FILE
        if self.plan.asked.limit is not None:
            most = min(most, self.plan.asked.limit - done)
        if most <= 0:
            return [], {}
        with self.database.reading() as conn:
            ids = self._find_ids(conn, cursor, most)
            rows = read_kept(conn, ids)
            return rows, list_own_events(conn, [row.id for row in rows if row.outcome in _WITH_EVENTS])

    def _find_ids(self, conn: Connection, cursor: int, most: int) -> list[int]:
        while True:
            ids = find_ids(conn, to_scope(self.plan), cursor, self.plan.replay.until_id, most)
            unseen = [id_ for id_ in ids if id_ not in self.seen] if self.seen else ids
            if unseen or not ids:
                return unseen
            cursor = ids[-1]

    def run(self, kept: _Kept, cursor: int) -> Batch:
        """Run calls by today's transforms."""
        rows, made = kept
        return [self.judge.judge(row, made.get(row.id, ())) for row in rows], rows[-1].id if rows else cursor


class Ahead:
    """The next batch, read by a thread while the database writes this one.

    On a server that is the whole transaction. SQLite works in this process: it gives the interpreter's lock away and
    takes it back for each row, and a thread that reads meanwhile would make it wait each time. (Measured: 18 us for
    the events of a call in place of 6.) There only the commit and the checkpoint, which wait for the disk, leave time.
    """

    def __init__(self, thread: ThreadPoolExecutor, reader: Reader, cursor: int, done: int) -> None:
        """`thread` is one; what it reads are the calls after the id `cursor`, where `done` were read before."""
        self._thread = thread
        self._reader = reader
        self._cursor = cursor
        self._done = done
        self._begun: tuple[Future[_Kept], Future[Batch]] | None = None

    def begin(self) -> Future[Batch]:
        """Begin to read, if that was not done before."""
        if self._begun is None:
            kept = self._thread.submit(self._reader.look, self._cursor, self._done)
            # By the same thread, so its first step is done when it comes to this one.
            self._begun = kept, self._thread.submit(lambda: self._reader.run(kept.result(), self._cursor))
        return self._begun[1]

    def wait_for_database(self) -> None:
        """Return when it reads nothing more from the database; it may still run what it read."""
        if self._begun is not None:
            wait(self._begun[:1])

    def result(self) -> Batch:
        """Return the batch. Raises what reading raised."""
        return self.begin().result()
