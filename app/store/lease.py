"""Who has a SQLite file open: each process shares a lease as long as it does, and all of them have the same file.

SQLite goes on happily in a file that was moved away, and lets the next process open another one beside the same log.
So the lease file says which file is open (device and inode), and whoever comes later opens that one or none.
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
    """One share of a lease, or all of it. For one process; not for several threads at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _CLOSED

    def take_all(self, until: float = 0.0) -> bool:
        """Take the whole lease; False where another process still has a share of it `until` (of time.monotonic)."""
        return self._take(fcntl.LOCK_EX, until)

    def share(self, identity: Identity, until: float) -> bool:
        """Take a share, for the database file `identity`; return whether nobody else had one.

        Where nobody had, the whole lease is kept until `let_others_in`.

        Raises:
            Unavailable: another file is open under this name, or somebody has all of the lease `until`.

        """
        # Of one length: on a full disk it can still be written over that of before.
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
        """Let nobody else in until all shares were given back. Never raises."""
        with contextlib.suppress(OSError):
            os.pwrite(self._file, b"spoilt", 0)

    def leave(self) -> None:
        """Give the share back."""
        if self._file != _CLOSED:
            os.close(self._file)
            self._file = _CLOSED

    def is_in_place(self) -> bool:
        """Tell whether the lease file that is held is the one at its path."""
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
