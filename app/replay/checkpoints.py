"""Checkpoints of SQLite's write-ahead log during a replay."""

from concurrent.futures import Future, ThreadPoolExecutor

from app.replay.reader import ReadAhead
from app.store.engine import Database

_BATCHES_TO_A_WAIT = 4
"""The log restarts only once all of it was written back and nobody reads from it, so now and then the next
batch waits for that. (At a million calls a batch leaves 100 MB of log, and writing it back takes as long as half a
batch.)"""


class Checkpoints:
    """Checkpoints after each batch in a thread, while the next batch is prepared. Does nothing on a server."""

    def __init__(self, thread: ThreadPoolExecutor, database: Database) -> None:
        """`thread` has one worker, and is used for nothing else."""
        self._thread = thread
        self._database = database
        self._batches = 0
        self._last: Future[None] | None = None

    def after_batch(self, following: ReadAhead) -> None:
        """Start a checkpoint once `following` no longer reads from the database. Raises Unavailable."""
        if self._database.file is None:
            return
        following.wait_for_database()
        if self._last is not None:
            self._last.result()
        self._last = self._thread.submit(self._database.checkpoint)
        self._batches += 1
        if self._batches % _BATCHES_TO_A_WAIT == 0:
            self._last.result()
