"""Copies of a SQLite file: taken while others write, and put in the place of a database that nobody has open."""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from app.errors import Unavailable
from app.store.file_lock import OWNER_ONLY, FileLock
from app.store.integrity import check_pages
from app.store.lease import Lease
from app.store.sqlite_files import INDEX, LEASE, LOCK, LOG, open_file

# The former database is kept whatever it is like; this only decides whether its log is kept apart.
_FORMER_CHECK_SECONDS = 10


@contextlib.contextmanager
def copy_beside(target: Path) -> Iterator[Path]:
    """Give an empty file in the folder of `target`, to become a copy; it is removed at the end, unless it was moved.

    Always of the same name, so that a process that is killed leaves no more than one.

    Raises:
        Unavailable: a file cannot be written.

    """
    copy = target.with_name(f".{target.name}.copy")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove(copy)
        os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY))
        yield copy
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"the copy beside {target} cannot be made: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            _remove(copy)


def copy_backup(backup: Path, copy: Path) -> None:
    """Copy the bytes of a backup, and of the log beside it where it has one. The backup is not touched."""
    shutil.copyfile(backup, copy)
    log = Path(f"{backup}{LOG}")
    if log.exists():
        shutil.copyfile(log, f"{copy}{LOG}")
        Path(f"{copy}{LOG}").chmod(OWNER_ONLY)


def seal(copy: Path) -> None:
    """Make one file of a copy that nobody has open, which needs no log beside it; returns when it is on the disk."""
    with contextlib.closing(open_file(copy, "rw")) as connection:
        connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    _remove_beside(copy)
    with copy.open("rb") as file:
        os.fsync(file.fileno())


def publish(copy: Path, target: Path) -> None:
    """Give a sealed copy its name, in one step; returns when that is on the disk."""
    copy.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def nobody_else(file: Path) -> Iterator[None]:
    """Keep every process from opening a database. Raises Unavailable where one has it open."""
    lease = Lease(file.with_name(file.name + LEASE))
    if not lease.take_all():
        raise Unavailable(
            f"{file} is in use: stop the service, its workers and all other `segment-lotus` commands first"
        )
    try:
        yield
    finally:
        if not file.exists():
            # It would tell of a database that was here.
            file.with_name(file.name + LEASE).unlink(missing_ok=True)
        lease.leave()


def replace_database(copy: Path, file: Path, former: Path) -> bool:
    """Put a sealed copy in the place of a database, which is kept as `former`; return whether there was one.

    For whoever keeps others out by `nobody_else`. A process that is killed in the middle leaves the one or the other,
    whole. Raises OSError or sqlite3.Error: nothing was replaced.
    """
    existed = file.exists()
    if existed:
        _hand_over(copy, file)
        _write_log_back(file)
        former.hardlink_to(file)
    # A log that is left belongs to a database that is damaged, or not here any more.
    with contextlib.suppress(FileNotFoundError):
        Path(f"{file}{LOG}").rename(f"{former}{LOG}")
    Path(f"{file}{INDEX}").unlink(missing_ok=True)
    publish(copy, file)
    FileLock(file.with_name(file.name + LOCK)).clear_note()
    return existed


def _write_log_back(file: Path) -> None:
    """Make a database one file, unless it is damaged: then its log stays as it is."""
    with contextlib.suppress(sqlite3.DatabaseError):
        # Closing a connection that only reads writes nothing back.
        with contextlib.closing(open_file(file, "ro")) as connection:
            damaged = check_pages(connection, _FORMER_CHECK_SECONDS).problem
        if not damaged:
            with contextlib.closing(open_file(file, "rw")) as connection:
                busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise Unavailable(f"{file} is in use: another program reads it")
            Path(f"{file}{LOG}").unlink(missing_ok=True)


def _hand_over(copy: Path, file: Path) -> None:
    """Let the copy belong to whom the database belongs: who restores it may be another user than the service."""
    owner = file.stat()
    with contextlib.suppress(PermissionError):
        for name in (copy, file.with_name(file.name + LEASE)):
            os.chown(name, owner.st_uid, owner.st_gid)


def _remove(copy: Path) -> None:
    copy.unlink(missing_ok=True)
    _remove_beside(copy)


def _remove_beside(copy: Path) -> None:
    for suffix in (LOG, INDEX, LOCK, LEASE):
        Path(f"{copy}{suffix}").unlink(missing_ok=True)
