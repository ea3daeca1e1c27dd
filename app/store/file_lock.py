"""The queue of those who want to write to a SQLite file: a lock beside it, waited for in steps that let others run."""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from app.errors import Unavailable

# How long a writer that waits for another process lets its own greenlets run before it asks again.
_LOCK_STEP_SECONDS = 0.0005


class FileLock:
    """One writer at a time among all threads and processes on this machine; waiting lets greenlets run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inside = threading.Lock()
        self._file: IO[bytes] | None = None

    @contextlib.contextmanager
    def held(self, until: float) -> Iterator[None]:
        """Hold the lock. Raises Unavailable where that takes longer than `until` (of time.monotonic)."""
        if not self._inside.acquire(timeout=max(0.0, until - time.monotonic())):
            raise Unavailable("the database is busy: another writer of this process holds it")
        try:
            self._open()
            self._wait(until)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)  # type: ignore[arg-type]
        finally:
            self._inside.release()

    def _open(self) -> None:
        try:
            if self._file is None:
                self._file = self._path.open("ab")
        except OSError as error:
            trouble = os.strerror(error.errno or 0)
            raise Unavailable(f"the lock file beside the database cannot be used: {trouble}") from error

    def _wait(self, until: float) -> None:
        while not self._taken():
            if time.monotonic() > until:
                raise Unavailable("the database is busy: another process holds it")
            time.sleep(_LOCK_STEP_SECONDS)

    def close(self) -> None:
        """Close the lock file; the next writer opens it again."""
        with self._inside:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
        except BlockingIOError:
            return False
        except OSError as error:
            raise Unavailable(f"the lock file cannot be locked: {os.strerror(error.errno or 0)}") from error
        return True
