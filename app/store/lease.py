"""Which processes have a SQLite file open: each holds a share of a lease, and all of them have the same file open.

SQLite keeps using a file that was moved away, and lets the next process open another one beside the same log. So the
lease file records which file is open (device and inode), and later processes open that one or none.
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


class Lease:
    """One share of a lease, or all of it. For one process; not thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _CLOSED

    def take_all(self, until: float = 0.0) -> bool:
        """Take the whole lease; False if another process still has a share of it at `until` (of time.monotonic)."""
        return self._take(fcntl.LOCK_EX, until)

    def share(self, identity: Identity, until: float) -> bool:
        """Take a share, for the database file `identity`; return whether no other process had one.

        If none had, the whole lease is held until `let_others_in`.

        Raises:
            Unavailable: another file is open under this name, or a process still has the whole lease at `until`.

        """
        # Of fixed length, so that it can be overwritten even on a full disk.
        name = b"%20d %20d" % identity
        while True:
            if self._take(fcntl.LOCK_EX, 0.0):
                self._write(name)
                return True
            if self._take(fcntl.LOCK_SH, 0.0):
                break
            if time.monotonic() > until:
                raise Unavailable("the database is being checked or restored by another process")
            time.sleep(_STEP_SECONDS)
        if os.pread(self._file, len(name), 0) != name:
            self.leave()
            raise Unavailable(
                "the files of the database were moved or replaced while other processes have them open: "
                "put them back, or stop all of them and start again"
            )
        return False

    def let_others_in(self) -> None:
        """Keep only a share of the whole lease."""
        if self._file != _CLOSED:
            fcntl.flock(self._file, fcntl.LOCK_SH)

    def spoil(self) -> None:
        """Let no other process in until all shares are released. Never raises."""
        with contextlib.suppress(OSError):
            os.pwrite(self._file, b"spoilt", 0)

    def leave(self) -> None:
        """Release the share."""
        if self._file != _CLOSED:
            os.close(self._file)
            self._file = _CLOSED

    def is_in_place(self) -> bool:
        """Whether the lease file that is held is the one at its path."""
        try:
            return self._file != _CLOSED and os.path.samestat(os.fstat(self._file), self._path.stat())
        except OSError:
            return False

    def _write(self, name: bytes) -> None:
        try:
            os.pwrite(self._file, name, 0)
        except OSError as error:
            self.leave()
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
            self.leave()
            if time.monotonic() > until:
                return False
            time.sleep(_STEP_SECONDS)

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
        except OSError as error:
            trouble = os.strerror(error.errno or 0)
            raise Unavailable(f"the lease file beside the database cannot be used: {trouble}") from error
