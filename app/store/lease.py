"""A lease on a SQLite file: each process that has it open holds a shared lock, and all of them have the same file open.

SQLite keeps using a file that was moved away, while the next process opens another file with the same log. So the lease
file records which file is open (device and inode), and later processes open that one or none. It also records the
largest size of that file that any of them saw: a smaller one is another database, copied over it.
"""

import contextlib
import fcntl
import os
import time
from pathlib import Path

from app.errors import Unavailable
from app.store.file_lock import OWNER_ONLY

Identity = tuple[int, int]
"""Device and inode."""

_STEP_SECONDS = 0.005
_CLOSED = -1

# Three numbers of fixed length with spaces between, so that they can be overwritten even on a full disk.
_NUMBER_LENGTH = 20
_SIZE_PLACE = 2 * (_NUMBER_LENGTH + 1)


class Lease:
    """The lease of one process, shared or exclusive. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _CLOSED

    def take_exclusive(self, until: float = 0.0) -> bool:
        """Take the lease exclusively; False if another process still holds it at `until` (of time.monotonic)."""
        return self._take(fcntl.LOCK_EX, until)

    def acquire(self, identity: Identity, until: float) -> bool:
        """Take the lease for the database file `identity`; return whether it is exclusive.

        It is if no other process holds it, and stays so until `downgrade`; otherwise it is shared.

        Raises:
            Unavailable: another file is open under this name, or a process still holds it exclusively at `until`.

        """
        name = b"%20d %20d" % identity
        while True:
            if self._take(fcntl.LOCK_EX, 0.0):
                self._write(name + b" %20d" % 0)
                return True
            if self._take(fcntl.LOCK_SH, 0.0):
                break
            if time.monotonic() > until:
                raise Unavailable("the database is being checked or restored by another process")
            time.sleep(_STEP_SECONDS)
        if os.pread(self._file, len(name), 0) != name:
            self.release()
            raise Unavailable(
                "the files of the database were moved or replaced while other processes have them open: "
                "put them back, or stop all of them and start again"
            )
        return False

    def downgrade(self) -> None:
        """Turn an exclusive lease into a shared one."""
        if self._file != _CLOSED:
            fcntl.flock(self._file, fcntl.LOCK_SH)

    def read_largest(self) -> int:
        """Return the largest size that a process recorded, in bytes; 0 if none did."""
        try:
            return int(os.pread(self._file, _NUMBER_LENGTH, _SIZE_PLACE) or b"0")
        except OSError:
            # Another thread released the lease.
            return 0

    def record_size(self, size: int) -> None:
        """Record a size larger than all recorded before, in bytes. Never raises."""
        with contextlib.suppress(OSError):
            os.pwrite(self._file, b"%20d" % size, _SIZE_PLACE)

    def invalidate(self) -> None:
        """Refuse other processes until all holders have released the lease. Never raises."""
        with contextlib.suppress(OSError):
            os.pwrite(self._file, b"spoilt", 0)

    def release(self) -> None:
        """Release the lease."""
        if self._file != _CLOSED:
            os.close(self._file)
            self._file = _CLOSED

    def is_in_place(self) -> bool:
        """Whether the locked lease file is the one at its path."""
        try:
            return self._file != _CLOSED and os.path.samestat(os.fstat(self._file), self._path.stat())
        except OSError:
            return False

    def _write(self, name: bytes) -> None:
        try:
            os.pwrite(self._file, name, 0)
        except OSError as error:
            self.release()
            trouble = os.strerror(error.errno or 0)
            raise Unavailable(f"the lease file beside the database cannot be written: {trouble}") from error

    def _take(self, kind: int, until: float) -> bool:
        while True:
            if self._file == _CLOSED:
                self._file = self._open()
            try:
                fcntl.flock(self._file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            except OSError as error:
                trouble = os.strerror(error.errno or 0)
                raise Unavailable(f"the lease file beside the database cannot be locked: {trouble}") from error
            else:
                if self.is_in_place():
                    return True
            self.release()
            if time.monotonic() > until:
                return False
            time.sleep(_STEP_SECONDS)

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
        except OSError as error:
            trouble = os.strerror(error.errno or 0)
            raise Unavailable(f"the lease file beside the database cannot be used: {trouble}") from error
