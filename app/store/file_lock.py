"""The writers' lock of a SQLite file: a file beside it, polled so that other greenlets run meanwhile.

The lock file also holds a note if the database is damaged. Each commit checks the file anyway, so no process stores
into a database that another one knows to be damaged.
"""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from app.errors import Unavailable

OWNER_ONLY = 0o600
"""The mode of all files of a database, and of `.env`."""

# The polling interval while another process holds the lock; other greenlets run meanwhile.
_LOCK_STEP_SECONDS = 0.0005

_NOTE_BYTES = 2000
_CLOSED = -1


class FileLock:
    """Admits one writer at a time among all threads and processes on this machine; greenlets run while it waits."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._inside = threading.Lock()
        self._file = _CLOSED
        self._identity: tuple[int, int] | None = None

    @contextlib.contextmanager
    def held(self, until: float) -> Iterator[None]:
        """Hold the lock.

        Raises:
            Unavailable: it is not free by `until` (of time.monotonic), or there is a note.

        """
        if not self._inside.acquire(timeout=max(0.0, until - time.monotonic())):
            raise Unavailable("the database is busy: another writer of this process holds it")
        try:
            self._wait(until)
            try:
                yield
            finally:
                self._release()
        finally:
            self._inside.release()

    def note(self, sentence: str) -> None:
        """Make every writer on this machine fail with this message instead of getting the lock. Never raises."""
        with contextlib.suppress(OSError):
            file = self._open()
            try:
                os.ftruncate(file, 0)
                os.pwrite(file, sentence.encode(errors="replace")[:_NOTE_BYTES], 0)
            finally:
                os.close(file)

    def read_note(self) -> str | None:
        """Return the note; None if there is none."""
        try:
            with open(self._path, "rb") as file:  # noqa: PTH123  for each commit that a note refuses
                return file.read().decode(errors="replace") or None
        except OSError:
            return None

    def clear_note(self) -> None:
        """Remove the note, so that writers get the lock again. Never raises."""
        with contextlib.suppress(OSError):
            os.truncate(self._path, 0)

    def close(self) -> None:
        """Close the lock file; the next writer opens it again."""
        with self._inside:
            self._drop()

    def _wait(self, until: float) -> None:
        while not self._try_lock():
            if time.monotonic() > until:
                raise Unavailable("the database is busy: another process holds it")
            time.sleep(_LOCK_STEP_SECONDS)

    def _try_lock(self) -> bool:
        """Try to lock the file now at the path: a lock on a deleted file excludes nobody."""
        try:
            if self._file == _CLOSED:
                self._file = self._open()
                status = os.fstat(self._file)
                self._identity = status.st_dev, status.st_ino
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # The locked file may have been deleted: waiting for its holder would be pointless.
            self._drop_if_replaced()
            return False
        except OSError as error:
            trouble = os.strerror(error.errno or 0)
            raise Unavailable(f"the lock file beside the database cannot be used: {trouble}") from error
        size = self._drop_if_replaced()
        if size:
            self._release()
            raise Unavailable(self.read_note() or "the database is damaged")
        return size is not None

    def _drop_if_replaced(self) -> int | None:
        """Return the size of the file if it is still the one at its path; otherwise close it and return None."""
        try:
            status = os.stat(self._path)  # noqa: PTH116  for each commit
        except OSError:
            status = None
        if status is not None and (status.st_dev, status.st_ino) == self._identity:
            return status.st_size
        self._drop()
        return None

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)

    def _release(self) -> None:
        if self._file != _CLOSED:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _drop(self) -> None:
        if self._file != _CLOSED:
            os.close(self._file)
            self._file = _CLOSED
