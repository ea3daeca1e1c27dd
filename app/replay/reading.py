"""Reading the calls of a replay batch by batch, and ahead of the writing."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from app.core.outcome import Outcome
from app.replay.judging import Judge, Judged
from app.replay.planning import Plan, to_scope
from app.store.engine import Database
from app.store.kept import find_ids, list_own_events, read_kept

BATCH = 2000
"""Calls in one transaction, on a server."""

BATCH_IN_FILE = 5000
"""The same on SQLite: pages of random keys are then written once for more calls (at a million calls, 14,000 a second in
place of 10,000); calls that come in meanwhile wait for some 0.3 s."""

Batch = tuple[list[Judged], int]
"""Calls, and the id of the last one."""

_WITH_EVENTS = {Outcome.STORED, Outcome.CONFLICT}


def read_batch(database: Database, plan: Plan, judge: Judge, cursor: int, done: int) -> Batch:
    """Read and run the calls after the id `cursor`; `done` were read before. Raises Unavailable."""
    most = BATCH if database.file is None else BATCH_IN_FILE
    if plan.asked.limit is not None:
        most = min(most, plan.asked.limit - done)
    if most <= 0:
        return [], cursor
    with database.reading() as conn:
        ids = find_ids(conn, to_scope(plan.asked), cursor, plan.replay.until_id, most)
        rows = read_kept(conn, ids)
        made = list_own_events(conn, [row.id for row in rows if row.outcome in _WITH_EVENTS])
    return [judge.judge(row, made.get(row.id, ())) for row in rows], rows[-1].id if rows else cursor


class Ahead:
    """The next batch, read by a thread while the database writes this one.

    On a server that is the whole transaction. SQLite works in this process: it gives the interpreter's lock away and
    takes it back for each row, and a thread that reads meanwhile would make it wait each time. (Measured: 18 us for
    the events of a call in place of 6.) There only the commit, which waits for the disk, leaves time to read.
    """

    def __init__(self, thread: ThreadPoolExecutor, read: Callable[[], Batch]) -> None:
        self._thread = thread
        self._read = read
        self._future: Future[Batch] | None = None

    def begin(self) -> Future[Batch]:
        """Begin to read, if that was not done before."""
        if self._future is None:
            self._future = self._thread.submit(self._read)
        return self._future

    def result(self) -> Batch:
        """Return the batch. Raises what reading raised."""
        return self.begin().result()
