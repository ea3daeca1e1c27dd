"""The files of a SQLite database: their names, creation, opening and permissions."""

import contextlib
import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from app.errors import Unavailable
from app.store.file_lock import OWNER_ONLY

_EVERYBODY = 0o007

LOG, INDEX, LOCK, LEASE = "-wal", "-shm", ".lock", ".lease"
"""Suffixes of the files beside the database. The first two are SQLite's own."""


def open_file(path: Path, mode: str) -> sqlite3.Connection:
    """Open an existing file; `mode` is SQLite's. Never creates one, whatever the mode."""
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=0,
        check_same_thread=False,
        # None: Python's sqlite3 must not begin transactions implicitly.
        isolation_level=None,
    )


def create_file(path: Path) -> None:
    """Create an empty database that only its owner can access; does nothing if the file exists.

    Raises:
        Unavailable: files of a former database are still there, or no file can be created.

    """
    if path.exists():
        return
    left = [name for suffix in (LOG, INDEX, LEASE) if (name := path.with_name(path.name + suffix)).exists()]
    if left:
        raise Unavailable(
            f"there was a database at {path}, and {left[0].name} is still beside it: put it back, `segment-lotus "
            f"restore` a backup, or remove {' and '.join(name.name for name in left)} to begin with an empty one"
        )
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY))
        connection = open_file(draft, "rw")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        # If two processes create it at once, the second uses the file of the first.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    except OSError as error:
        raise Unavailable(f"no database can be made at {path}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def tighten(path: Path) -> None:
    """Remove access for others, which old versions of this program granted. Access of the group is kept."""
    for suffix in ("", LOG, INDEX, LOCK):
        file = path.with_name(path.name + suffix)
        # The file may be missing, or belong to another user.
        with contextlib.suppress(OSError):
            if file.stat().st_mode & _EVERYBODY:
                file.chmod(OWNER_ONLY)
