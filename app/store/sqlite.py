"""A SQLite file that stays open while an operator moves, deletes, replaces or damages it.

SQLite itself goes on storing into a file that has no name any more. So each transaction looks whether the files that
are open are those at their paths, and what cannot be read to be whole is told to all processes by the lock file.
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
    """The file that is open does not stand at its path any more."""


class Damaged(Unavailable):
    """The database is damaged."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the database is damaged: {what}. Restore a backup (`segment-lotus restore FILE`), "
            "or look closer with `segment-lotus doctor --full`"
        )


class _Place(NamedTuple):
    """Which files stand at the paths of a database."""

    main: Identity | None
    log: Identity | None
    shared: Identity | None


class SqliteFile:
    """The file of a database with all that belongs to it."""

    def __init__(self, url: sa.URL, path: Path, *, bulk: bool) -> None:
        """`bulk`: as for `app.store.engine.connect`."""
        self.path = path
        self.lock = FileLock(path.with_name(path.name + LOCK))
        self.engine = self._make_engine(url)
        self._lease = Lease(path.with_name(path.name + LEASE))
        self._pragmas = (*PRAGMAS, *BULK_PRAGMAS) if bulk else PRAGMAS
        self._main = str(path)
        self._log = self._index = ""
        self._open: _Place | None = None
        self._anchor: sqlite3.Connection | None = None
        """Open for as long as the file is: SQLite deletes its log with the last connection, and one that a kill or a
        Ctrl-C breaks off may be the last of the pool."""
        self._size = self._largest = 0
        """Bytes of the database: at the last look, and at most. It never becomes smaller but by VACUUM."""
        self._opening = threading.Lock()

    def check(self) -> None:
        """Look whether the files that are open are those at their paths; costs 4 us.

        Raises:
            Displaced: they are not.
            Damaged: another database was written over this one.

        """
        if self._open is None:
            return
        if self._look() != self._open:
            raise Displaced(self._complaint())
        self._check_size()

    def recover(self) -> None:
        """Save what was committed, where a file is not at its path any more; nothing where all is well.

        The log that is open may have no name, or be left behind beside another database. So it is written into the
        database that is open, wherever that is now. Going on from there is for the next start: connections of this
        process share what SQLite knows of the log, and cannot open another one beside it.

        Raises:
            Displaced: a file is not at its path.
            Damaged: another database was written over this one.

        """
        if self._open is None:
            return
        if (place := self._look()) == self._open:
            self._check_size()
            return
        complaint = self._complaint()
        only_database = place == self._open._replace(main=place.main)
        # Not where another lease is in force: the log at the path may be that of another database by now.
        if self._lease.is_in_place():
            with contextlib.suppress(Unavailable, sqlite3.Error, DBAPIError):
                # A log that stays at its path is emptied, so that it cannot be taken for that of another database.
                self._write_log_back("TRUNCATE" if only_database else "PASSIVE")
            if place.main == self._open.main:
                self._lease.spoil()
        raise Displaced(complaint)

    def close(self) -> None:
        """Close all files."""
        self.engine.dispose()
        self._let_go()
        self.lock.close()

    def look_into(self, error: Unavailable) -> None:
        """Do what can be done about trouble before its user hears of it.

        Of damage all processes hear: none stores anything until `check_integrity` has found all well. And where the
        file is gone, that is what is to be said, and not that the lock beside it is gone, too. Raises Displaced.
        """
        if isinstance(error, Damaged):
            self.lock.note(error.message)
        else:
            self.recover()
            self._find()

    def copy_to(self, copy: Path) -> None:
        """Copy the database, as it is at one moment, into an empty file.

        In one step: a copy in several begins anew with each commit of another process, and never ends. Writers do not
        wait for it; the log cannot begin anew before it ends. Raises sqlite3.Error where the copy cannot be written.
        """
        with self.engine.connect() as conn, contextlib.closing(open_file(copy, "rw")) as target:
            target.execute("PRAGMA synchronous=OFF")
            driver: Any = conn.connection.driver_connection
            driver.backup(target, pages=-1)

    def check_integrity(self, seconds: float | None) -> Integrity:
        """Look through all pages, for so many seconds at most (None: to the end).

        What is found wrong is noted for all processes; a note is taken back where all was read and is well.
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
        # A connection to a file costs little, and one that is not shared needs no care about threads.
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
        """Open the file that stands at the path, and no other than the one that is open already."""
        with self._opening:
            return self._connect_next()

    def _connect_next(self) -> sqlite3.Connection:
        self.check()
        until = time.monotonic() + WAIT_SECONDS
        main = self._find()
        first = self._open is None
        alone = first and self._lease.share(main, until)
        try:
            connection = self._prepare(main, until, alone=alone)
            if first:
                self._anchor = open_patiently(self.path, self._pragmas, until)
        except BaseException:
            if first:
                self._let_go()
            raise
        if alone:
            self._lease.let_others_in()
        return connection

    def _find(self) -> Identity:
        """Return which file stands at the path. Raises Unavailable where that can be no database."""
        try:
            status = self.path.stat()
        except OSError:
            raise Unavailable(
                f"there is no database at {self.path}: put it back, or `segment-lotus restore` a backup; "
                "`segment-lotus migrate` makes an empty one"
            ) from None
        if not status.st_size:
            # SQLite takes it for a new database, and deletes the log beside it.
            raise Unavailable(f"{self.path} is empty: put the database back, or `segment-lotus restore` a backup")
        return status.st_dev, status.st_ino

    def _prepare(self, main: Identity, until: float, *, alone: bool) -> sqlite3.Connection:
        if alone:
            tighten(self.path)
        # Whoever had it open last did not close it, or knew it to be damaged. Nobody else has it open while we look.
        doubtful = alone and (self._has_log() or self.lock.read_note() is not None)
        connection = open_patiently(self.path, self._pragmas, until)
        try:
            self._settle(main)
            if doubtful:
                self._note(check_pages(connection, WAIT_SECONDS))
        except BaseException:
            connection.close()
            raise
        return connection

    def _let_go(self) -> None:
        if self._anchor is not None:
            self._anchor.close()
        self._open = self._anchor = None
        self._lease.leave()

    def _settle(self, main: Identity) -> None:
        """Remember which files are open now. Raises Displaced where they are not those of before."""
        real = os.path.realpath(self._main)
        self._log, self._index = real + LOG, real + INDEX
        place = self._look()
        if place.main != main or (self._open is not None and place != self._open):
            raise Displaced(self._complaint())
        self._open, self._largest = place, self._size

    def _look(self) -> _Place:
        try:
            status = os.stat(self._main)  # noqa: PTH116  with each commit
        except OSError:
            main = None
        else:
            main, self._size = (status.st_dev, status.st_ino), status.st_size
        return _Place(main, _identify(self._log), _identify(self._index))

    def _check_size(self) -> None:
        """Notice `cp backup database`: what stands in the log is not of that file, and the log is not in it."""
        size = self._size
        if size < self._largest:
            # Again: another thread may have looked earlier, and said so later.
            with contextlib.suppress(OSError):
                size = self.path.stat().st_size
        if size < self._largest:
            overwritten = Damaged("its file became smaller while it was open, so another one was copied over it")
            self.lock.note(overwritten.message)
            raise overwritten
        self._largest = size

    def _complaint(self) -> str:
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
