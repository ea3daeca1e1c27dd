"""Every difference between SQLite and PostgreSQL, in one place.

`connect(url)` gives a Database; `database.writing()` and `database.reading()` give a connection inside a transaction.
Only one process may write to a SQLite file at a time. SQLite's own waiting has no order and would block a whole gevent
loop, so writers first queue for a file lock beside the database, waiting in steps that let other greenlets run.
"""

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.errors import SettingInvalid, Unavailable
from app.store.integrity import Integrity
from app.store.postgresql import SILENT, Patience, ServerSilent, Silence, create_engine
from app.store.sqlite import Damaged, SqliteFile
from app.store.sqlite_connection import WAIT_SECONDS
from app.store.sqlite_files import LOG, create_file

# Codes that mean an invalid value. Everything else is a fault of the database, or of our use of it, that passes or is
# repaired; treating that as a refused row would permanently reject a call that could be stored later.
# https://www.sqlite.org/rescode.html
_SQLITE_VALUE = {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH}
_SQLITE_UNIQUE = {
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
    sqlite3.SQLITE_CONSTRAINT_UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_ROWID,
}
_SQLITE_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
# Classes of data, of constraints, and of limits (an indexed text that is too long).
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRESQL_VALUE = ("22", "23", "54")

Connection = sa.Connection
"""For the layers above, which use no SQL and only pass a connection on."""


class Database:
    """An engine with the specifics of its dialect. Made by `connect`."""

    def __init__(self, engine: sa.Engine, sqlite: SqliteFile | None, commits: sa.Engine | None = None) -> None:
        """`sqlite`: the SQLite file, None for a server; `commits`: the engine of `committing`, if it has its own."""
        self.engine = engine
        self._commits = commits
        self._sqlite = sqlite
        self.file = sqlite.path if sqlite else None
        """The SQLite file, None for a server."""
        # A SQLite transaction always reads one snapshot. In PostgreSQL each statement would read its own, and the live
        # versions could be a mixture from before and after a publication.
        self._snapshot_options = {} if sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    @contextlib.contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[sa.Connection]:
        """Yield a connection in a transaction that may write; commits at the end, rolls back on an error.

        Not `durable`: it is atomic and in order, but a power cut may lose it and all that follow it, up to the next
        durable one. For work that can simply be repeated.

        Raises:
            Unavailable: the database cannot be reached, is locked for 3 s, is full, damaged, or not at its path.
            RowRefused: the database does not take a value.

        """
        # One deadline for both: time spent waiting for our lock is not available for another program's.
        until = time.monotonic() + WAIT_SECONDS
        lock = self._sqlite.lock.held(until) if self._sqlite else contextlib.nullcontext()
        synchronous = "FULL" if durable else "NORMAL"
        try:
            with lock, plain_errors(), self._begun("BEGIN IMMEDIATE", until, sqlite_synchronous=synchronous) as conn:
                if not durable and self.file is None:
                    conn.exec_driver_sql("SET LOCAL synchronous_commit = off")
                yield conn
                if self._sqlite:
                    self._sqlite.check()
        except Unavailable as error:
            if self._sqlite:
                self._sqlite.diagnose(error)
            raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Yield a connection in a read-only transaction on one snapshot. Raises Unavailable."""
        if self._sqlite:
            self._sqlite.recover()
        try:
            with (
                plain_errors(),
                self._begun("BEGIN", time.monotonic() + WAIT_SECONDS, **self._snapshot_options) as conn,
            ):
                yield conn
        except Unavailable as error:
            if self._sqlite:
                self._sqlite.diagnose(error)
            raise

    def committing(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """Yield a connection as `writing` does, for short work that a sender waits for.

        A server that does not answer a statement within 3 s is given up: Unavailable, and the transaction's outcome is
        unknown. A server that does not hear from us for 9 s rolls back and releases the locks.
        """
        return self.writing() if self._commits is None else self._committing(self._commits)

    @contextlib.contextmanager
    def _committing(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        with plain_errors(), engine.connect() as conn, conn.begin():
            yield conn

    @contextlib.contextmanager
    def _begun(self, begin: str, until: float, **more: Any) -> Iterator[sa.Connection]:
        with self.engine.connect() as plain:
            conn = plain.execution_options(sqlite_begin=begin, sqlite_until=until, **more)
            with conn.begin():
                yield conn

    def checkpoint(self) -> None:
        """Write a SQLite log back into its file, as far as no reader needs it; no-op on a server.

        It blocks neither writers nor readers. Raises Unavailable.
        """
        if self.file:
            with plain_errors(), self.engine.connect() as conn:
                driver: Any = conn.connection.driver_connection
                driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def check_writable(self) -> None:
        """Raise Unavailable if nothing could be stored now: unreachable, locked, or read-only."""
        with self.committing() as conn:
            # Changes nothing, but a read-only server refuses it.
            conn.execute(sa.text("DELETE FROM refusals WHERE 1 = 0"))

    def close(self) -> None:
        """Close all connections, and the lock file."""
        if self._sqlite:
            self._sqlite.close()
        else:
            self.engine.dispose()
        if self._commits:
            self._commits.dispose()

    def free_bytes(self) -> int | None:
        """Return the bytes free on the disk of a SQLite file; None for a server, whose disk cannot be seen.

        Raises Unavailable.
        """
        if self.file is None:
            return None
        try:
            return shutil.disk_usage(self.file.parent).free
        except OSError as error:
            raise Unavailable(f"the folder of the database, {self.file.parent}: {error.strerror}") from error

    def size_bytes(self, conn: sa.Connection) -> int:
        """Return the bytes that the database takes: of a SQLite file, with its log. Raises Unavailable."""
        if self.file is None:
            return int(conn.execute(sa.select(sa.func.pg_database_size(sa.func.current_database()))).scalar_one())
        try:
            log = self.file.with_name(self.file.name + LOG)
            return self.file.stat().st_size + (log.stat().st_size if log.exists() else 0)
        except OSError as error:
            raise Unavailable(f"{self.file}: {error.strerror}") from error

    def create(self) -> None:
        """Create the SQLite file if there is none. Nothing else ever does.

        Raises:
            Unavailable: it cannot be created, or files of a former database are still there.

        """
        if self.file:
            create_file(self.file)

    def copy_to(self, copy: Path) -> None:
        """Copy a snapshot of a SQLite file into an empty file, while others write.

        For use within `app.store.backup.copy_beside`, which reports errors.
        """
        if self._sqlite:
            self._sqlite.copy_to(copy)

    def check_integrity(self, seconds: float | None) -> Integrity:
        """Check all pages of a SQLite file, for at most `seconds`; None: to the end.

        If it finds damage, no process stores anything in the file until a complete check finds none. A server checks
        its own pages: the result is always empty. Raises Unavailable.
        """
        if self._sqlite is None:
            return Integrity(None, ())
        with plain_errors():
            return self._sqlite.check_integrity(seconds)


class RowRefused(Exception):
    """The database refuses a value of this statement. The connection is still usable."""


class DuplicateKey(RowRefused):
    """A unique key exists already."""


def connect(url: str, *, bulk: bool = False, serving: bool = False) -> Database:
    """Connect to `sqlite:///path` or `postgresql+psycopg://...`. Opens nothing yet.

    `bulk`: for a process that writes thousands of rows with each commit, and calls `checkpoint` now and then.
    `serving`: for one that answers requests, where nothing may wait for a PostgreSQL that does not respond.

    Raises:
        SettingInvalid: another kind of database.

    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return _postgresql(parsed, serving=serving)
    if parsed.get_backend_name() == "sqlite" and parsed.database not in {None, "", ":memory:"}:
        file = Path(str(parsed.database)).absolute()
        sqlite = SqliteFile(parsed, file, bulk=bulk)
        return Database(sqlite.engine, sqlite)
    raise SettingInvalid("DATABASE_URL must be sqlite:///a-file or postgresql://user:password@host/name")


def _postgresql(url: sa.URL, *, serving: bool) -> Database:
    silence = Silence()
    patience = Patience.WATCHFUL if serving else Patience.ENDLESS
    engine, commits = (create_engine(url, silence, kind, WAIT_SECONDS) for kind in (patience, Patience.SHORT))
    return Database(engine, None, commits)


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Turn a driver's error into Unavailable (a fault of the database) or RowRefused (an invalid value)."""
    try:
        yield
    except DBAPIError as error:
        raise _plain(error.orig) from error
    except (sqlite3.Error, psycopg.Error) as error:
        # From app.store.inserts, which uses the driver directly.
        raise _plain(error) from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise RowRefused(type(error).__name__) from error
    except SQLAlchemyError as error:
        cause = error.__cause__ or getattr(error, "orig", None)
        if isinstance(cause, (UnicodeEncodeError, OverflowError)):
            raise RowRefused(type(cause).__name__) from error
        raise Unavailable(f"the database cannot be used: {type(error).__name__}") from error


def _plain(cause: BaseException | None) -> Exception:
    name = type(cause).__name__
    if isinstance(cause, sqlite3.Error):
        return _plain_sqlite(cause)
    state = getattr(cause, "sqlstate", None) or ""
    if state == "23505":
        return DuplicateKey(name)
    # A DataError has no state where psycopg itself refuses to send the value.
    if state.startswith(_POSTGRESQL_VALUE) or isinstance(cause, psycopg.DataError):
        return RowRefused(name)
    is_silent = isinstance(cause, (ServerSilent, psycopg.errors.ConnectionTimeout))
    return Unavailable(SILENT if is_silent else f"the database cannot store now: {name}")


def _plain_sqlite(cause: sqlite3.Error) -> Exception:
    name = type(cause).__name__
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_MISUSE)
    if code in _SQLITE_UNIQUE:
        return DuplicateKey(name)
    if code & 0xFF in _SQLITE_VALUE or isinstance(cause, sqlite3.DataError):
        return RowRefused(name)
    if code & 0xFF in _SQLITE_DAMAGED:
        return Damaged(str(cause))
    return Unavailable(f"the database cannot store now: {cause}")
