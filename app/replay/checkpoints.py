"""Writing SQLite's log back into its file, while a replay goes on."""

from concurrent.futures import Future, ThreadPoolExecutor

from app.replay.reader import Ahead
from app.store.engine import Database

_BATCHES_TO_A_WAIT = 4
"""The log begins anew only where all of it was written back and nobody reads from it, so now and then the next batch
waits for that. (At a million calls a batch leaves 100 MB of log, and writing it back takes as long as half a batch.)"""


class Checkpoints:
    """Checkpoints after each batch, by a thread: the disk works while the next batch is made. On a server, nothing."""

    def __init__(self, thread: ThreadPoolExecutor, database: Database) -> None:
        """`thread` is one, and does nothing else."""
        self._thread = thread
        self._database = database
        self._batches = 0
        self._last: Future[None] | None = None

    def after_batch(self, following: Ahead) -> None:
        """Begin to write back what a batch left, once `following` reads no more. Raises Unavailable."""
        if self._database.file is None:
            return
        following.wait_for_database()
        if self._last is not None:
            self._last.result()
        self._last = self._thread.submit(self._database.checkpoint)
        self._batches += 1
        if self._batches % _BATCHES_TO_A_WAIT == 0:
            self._last.result()
