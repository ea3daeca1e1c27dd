"""Backups of a SQLite file: copied while others write, and restored over a database that nobody has open."""

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

# The former database is kept in any case; this only decides whether its log is kept as a separate file.
_FORMER_CHECK_SECONDS = 10


@contextlib.contextmanager
def copy_beside(target: Path) -> Iterator[Path]:
    """Yield an empty file in the folder of `target`, for the copy; removes it at the end, unless it was moved.

    Its name is always the same, so that killed processes leave at most one.

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
    """Copy the bytes of a backup, and of its log if there is one. Does not change the backup."""
    shutil.copyfile(backup, copy)
    log = Path(f"{backup}{LOG}")
    if log.exists():
        shutil.copyfile(log, f"{copy}{LOG}")
        Path(f"{copy}{LOG}").chmod(OWNER_ONLY)


def seal(copy: Path) -> None:
    """Turn a copy that nobody has open into a single file without a log; returns once it is on disk."""
    with contextlib.closing(open_file(copy, "rw")) as connection:
        connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    _remove_beside(copy)
    with copy.open("rb") as file:
        os.fsync(file.fileno())


def publish(copy: Path, target: Path) -> None:
    """Rename a sealed copy to its final name, atomically; returns once that is on disk."""
    copy.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def exclusive_use(file: Path) -> Iterator[None]:
    """Prevent all processes from opening a database. Raises Unavailable if one has it open."""
    lease = Lease(file.with_name(file.name + LEASE))
    if not lease.take_exclusive():
        raise Unavailable(
            f"{file} is in use: stop the service, its workers and all other `segment-lotus` commands first"
        )
    try:
        yield
    finally:
        if not file.exists():
            # A lease file without a database means that the database was deleted.
            file.with_name(file.name + LEASE).unlink(missing_ok=True)
        lease.release()


def replace_database(copy: Path, file: Path, former: Path) -> bool:
    """Replace a database with a sealed copy, and keep it as `former`; return whether there was one.

    Only within `exclusive_use`. A process that is killed midway leaves one or the other intact. Raises OSError or
    sqlite3.Error: nothing was replaced.
    """
    existed = file.exists()
    if existed:
        _hand_over(copy, file)
        _write_log_back(file)
        former.hardlink_to(file)
    # A log that is still here belongs to a damaged database, or to one that is gone.
    with contextlib.suppress(FileNotFoundError):
        Path(f"{file}{LOG}").rename(f"{former}{LOG}")
    Path(f"{file}{INDEX}").unlink(missing_ok=True)
    publish(copy, file)
    FileLock(file.with_name(file.name + LOCK)).clear_note()
    return existed


def _write_log_back(file: Path) -> None:
    """Checkpoint the log into the database and delete it; leave it unchanged if the database is damaged."""
    with contextlib.suppress(sqlite3.DatabaseError):
        # A read-only connection does not checkpoint when it is closed.
        with contextlib.closing(open_file(file, "ro")) as connection:
            damaged = check_pages(connection, _FORMER_CHECK_SECONDS).problem
        if not damaged:
            with contextlib.closing(open_file(file, "rw")) as connection:
                busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise Unavailable(f"{file} is in use: another program reads it")
            Path(f"{file}{LOG}").unlink(missing_ok=True)


def _hand_over(copy: Path, file: Path) -> None:
    """Give the copy the owner of the database: the user who restores it may not be the one of the service."""
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
