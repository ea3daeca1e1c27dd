"""A SQLite file that may be moved, deleted, replaced or damaged while it is open.

SQLite keeps writing to a file that was moved or deleted. So each transaction checks that the open files are still those
at their paths. Damage is recorded in the lock file, where all processes see it.
"""

import contextlib
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from app.errors import Unavailable
from app.store.file_lock import FileLock
from app.store.integrity import Integrity, check_pages
from app.store.lease import Identity, Lease
from app.store.sqlite_connection import BULK_PRAGMAS, PRAGMAS, WAIT_SECONDS, open_patiently, run_patiently
from app.store.sqlite_files import INDEX, LEASE, LOCK, LOG, open_file, tighten


class Displaced(Unavailable):
    """The open file is no longer the one at its path."""


class Damaged(Unavailable):
    """The database is damaged."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the database is damaged: {what}. Restore a backup (`segment-lotus restore FILE`), "
            "or look closer with `segment-lotus doctor --full`"
        )


class _Files(NamedTuple):
    """The identities of the files at the paths of a database."""

    main: Identity | None
    log: Identity | None
    wal_index: Identity | None


class SqliteFile:
    """A database file with its lock, lease and engine."""

    def __init__(self, url: sa.URL, path: Path, *, bulk: bool) -> None:
        """`bulk`: as for `app.store.engine.connect`."""
        self.path = path
        self.lock = FileLock(path.with_name(path.name + LOCK))
        self.engine = self._make_engine(url)
        self._lease = Lease(path.with_name(path.name + LEASE))
        self._pragmas = (*PRAGMAS, *BULK_PRAGMAS) if bulk else PRAGMAS
        self._main = str(path)
        self._log = self._index = ""
        self._open: _Files | None = None
        self._anchor: sqlite3.Connection | None = None
        """Keeps the file open: SQLite deletes the log with the last connection, and a kill or Ctrl-C may close the last
        one of the pool."""
        self._seen = self._checked = (0, 0)
        """Bytes of the database and its time of change, as last seen, and as last compared with the lease."""
        self._opening = threading.Lock()

    def check(self) -> None:
        """Check that the open files are those at their paths; costs 4 us.

        Raises:
            Displaced: they are not.
            Damaged: another database was written over this one.

        """
        if self._open is None:
            return
        if self._identify_files() != self._open:
            raise Displaced(self._describe_displacement())
        self._check_size()

    def recover(self) -> None:
        """Save committed data if a file is no longer at its path; does nothing if all are.

        The open log may be unlinked, or be left beside another database. So it is checkpointed into the open database,
        wherever that is now. This process cannot continue after that, only the next start can: its connections share
        SQLite's state of the log, and cannot open another log.

        Raises:
            Displaced: a file is not at its path.
            Damaged: another database was written over this one.

        """
        if self._open is None:
            return
        if (current := self._identify_files()) == self._open:
            self._check_size()
            return
        reason = self._describe_displacement()
        only_database = current == self._open._replace(main=current.main)
        # Only while our lease is in force: otherwise the log at the path may belong to another database.
        if self._lease.is_in_place():
            with contextlib.suppress(Unavailable, sqlite3.Error, DBAPIError):
                # Truncate a log that stays at its path, so that SQLite cannot apply it to another database.
                self._write_log_back("TRUNCATE" if only_database else "PASSIVE")
            if current.main == self._open.main:
                self._lease.invalidate()
        raise Displaced(reason)

    def close(self) -> None:
        """Close all files."""
        self.engine.dispose()
        self._release()
        self.lock.close()

    def diagnose(self, error: Unavailable) -> None:
        """Look for the cause of an error before it is reported.

        Damage is noted for all processes: none stores anything until `check_integrity` finds none. If the file is gone,
        raises an error that says so, instead of one about the missing lock file. Raises Displaced, Unavailable.
        """
        if isinstance(error, Damaged):
            self.lock.note(error.message)
        else:
            self.recover()
            self._identify_main()

    def copy_to(self, copy: Path) -> None:
        """Copy a snapshot of the database into an empty file.

        In one step: a copy in several steps restarts at each commit of another process, and might never end. Writers do
        not wait for it, but the log cannot be reset until it ends. Raises sqlite3.Error if the copy cannot be written.
        """
        with self.engine.connect() as conn, contextlib.closing(open_file(copy, "rw")) as target:
            target.execute("PRAGMA synchronous=OFF")
            driver: Any = conn.connection.driver_connection
            driver.backup(target, pages=-1)

    def check_integrity(self, seconds: float | None) -> Integrity:
        """Check all pages, for at most `seconds` (None: to the end).

        Damage is noted for all processes; a complete check that finds none clears the note.
        """
        with self.engine.connect() as conn:
            driver: Any = conn.connection.driver_connection
            integrity = check_pages(driver, seconds)
        self._note(integrity)
        return integrity

    def _note(self, integrity: Integrity) -> None:
        if integrity.problem:
            self.lock.note(Damaged(integrity.problem).message)
        elif not integrity.unread:
            self.lock.clear_note()

    def _make_engine(self, url: sa.URL) -> sa.Engine:
        # Connections to a file are cheap, and unshared ones raise no questions of thread safety.
        engine = sa.create_engine(url, creator=self._connect)

        @sa.event.listens_for(engine, "begin")
        def begin(conn: sa.Connection) -> None:
            options = conn.get_execution_options()
            synchronous = options.get("sqlite_synchronous", "FULL")
            if conn.info.get("synchronous", "FULL") != synchronous:
                conn.exec_driver_sql(f"PRAGMA synchronous={synchronous}")
                conn.info["synchronous"] = synchronous
            statement = options.get("sqlite_begin", "BEGIN")
            run_patiently(lambda: conn.exec_driver_sql(statement), options.get("sqlite_until", 0.0))

        return engine

    def _connect(self) -> sqlite3.Connection:
        """Open the file at the path; it must be the one that is open already, if any."""
        with self._opening:
            return self._connect_locked()

    def _connect_locked(self) -> sqlite3.Connection:
        self.check()
        until = time.monotonic() + WAIT_SECONDS
        main = self._identify_main()
        first = self._open is None
        exclusive = first and self._lease.acquire(main, until)
        try:
            connection = self._prepare(main, until, exclusive=exclusive)
            if first:
                self._anchor = open_patiently(self.path, self._pragmas, until)
        except BaseException:
            if first:
                self._release()
            raise
        if exclusive:
            self._lease.downgrade()
        return connection

    def _identify_main(self) -> Identity:
        """Return the identity of the file at the path. Raises Unavailable if it is missing or empty."""
        try:
            status = self.path.stat()
        except OSError:
            raise Unavailable(
                f"there is no database at {self.path}: put it back, or `segment-lotus restore` a backup; "
                "`segment-lotus migrate` makes an empty one"
            ) from None
        if not status.st_size:
            # SQLite would treat it as a new database, and delete the log beside it.
            raise Unavailable(f"{self.path} is empty: put the database back, or `segment-lotus restore` a backup")
        return status.st_dev, status.st_ino

    def _prepare(self, main: Identity, until: float, *, exclusive: bool) -> sqlite3.Connection:
        if exclusive:
            tighten(self.path)
        # Not closed cleanly, or known to be damaged. The lease keeps all others out during the check.
        suspect = exclusive and (self._has_log() or self.lock.read_note() is not None)
        connection = open_patiently(self.path, self._pragmas, until)
        try:
            self._remember_files(main)
            if suspect:
                self._note(check_pages(connection, WAIT_SECONDS))
        except BaseException:
            connection.close()
            raise
        return connection

    def _release(self) -> None:
        if self._anchor is not None:
            self._anchor.close()
        self._open = self._anchor = None
        self._lease.release()

    def _remember_files(self, main: Identity) -> None:
        """Record the identities of the open files. Raises Displaced if they differ from those recorded before."""
        real = os.path.realpath(self._main)
        self._log, self._index = real + LOG, real + INDEX
        current = self._identify_files()
        if current.main != main or (self._open is not None and current != self._open):
            raise Displaced(self._describe_displacement())
        self._open = current

    def _identify_files(self) -> _Files:
        try:
            status = os.stat(self._main)  # noqa: PTH116  with each commit
        except OSError:
            main = None
        else:
            main, self._seen = (status.st_dev, status.st_ino), (status.st_size, status.st_ctime_ns)
        return _Files(main, _identify(self._log), _identify(self._index))

    def _check_size(self) -> None:
        """Detect `cp backup database` by its smaller size: the log does not belong to that file.

        Only VACUUM makes a database smaller.
        """
        seen = self._seen
        if seen == self._checked:
            # Nobody has written to the file since: between two checkpoints commits are in the log only.
            return
        size, largest = seen[0], self._lease.read_largest()
        if size < largest:
            # Measure again: another thread may have stored an older size.
            with contextlib.suppress(OSError):
                size = self.path.stat().st_size
        if size < largest:
            overwritten = Damaged("its file became smaller while it was open, so another one was copied over it")
            self.lock.note(overwritten.message)
            raise overwritten
        if size > largest:
            self._lease.record_size(size)
        self._checked = seen

    def _describe_displacement(self) -> str:
        main = _identify(self._main)
        if main is None:
            return (
                f"the database {self.path} was moved or deleted while it was open: put it back, "
                "or stop the service, `segment-lotus restore` a backup, and start again"
            )
        if self._open is None or main != self._open.main:
            return (
                f"another file stands at {self.path} than the database that is open: put that one back, "
                "or stop the service and start it again with this one"
            )
        return (
            f"the log of the database, {self.path}{LOG} or {INDEX}, was deleted or replaced while it was open: what it "
            "held was written into the database; stop the service and start it again"
        )

    def _has_log(self) -> bool:
        try:
            return os.stat(os.path.realpath(self._main) + LOG).st_size > 0  # noqa: PTH116
        except OSError:
            return False

    def _write_log_back(self, mode: str) -> None:
        with self.lock.held(time.monotonic() + WAIT_SECONDS), self.engine.connect() as conn:
            driver: Any = conn.connection.driver_connection
            driver.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()


def _identify(path: str) -> Identity | None:
    try:
        status = os.stat(path)  # noqa: PTH116  three times with each commit
    except OSError:
        return None
    return status.st_dev, status.st_ino
