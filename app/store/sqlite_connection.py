"""Connections to a SQLite file: their settings, and how they wait while another program locks the file."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from app.store.sqlite_files import open_file

# Segment waits 5 s for an answer; after 3 s of waiting for the database there is still time to answer 503.
WAIT_SECONDS = 3.0

PRAGMAS = (
    "journal_mode=WAL",
    # FULL: a commit is on the disk before the call is answered. NORMAL would lose answered calls on power loss.
    "synchronous=FULL",
    "cache_size=-16000",
    "temp_store=MEMORY",
    # 32 MB of log between checkpoints, so that index pages of random keys are written once for many commits. Measured:
    # a commit takes a quarter of the time it takes with SQLite's default of 4 MB.
    "wal_autocheckpoint=8000",
    "busy_timeout=0",
)

# For one process that writes thousands of rows per commit. They touch some 120 MB of index pages of random keys, which
# a smaller cache would spill and read again within a transaction. `checkpoint` writes its log back between commits: an
# automatic checkpoint during a commit could never reset the log, because a thread is reading ahead.
BULK_PRAGMAS = ("cache_size=-150000", "wal_autocheckpoint=0")

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def open_patiently(path: Path, pragmas: Sequence[str], until: float) -> sqlite3.Connection:
    """Open an existing file and its log, and set the connection up; `until` as for `run_patiently`.

    Raises sqlite3.Error.
    """
    connection = open_file(path, "rw")
    try:
        for pragma in pragmas:
            run_patiently(partial(connection.execute, f"PRAGMA {pragma}"), until)
        # A file without a log gets one only at the first read.
        run_patiently(lambda: connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall(), until)
    except BaseException:
        connection.close()
        raise
    return connection


def run_patiently(step: Callable[[], object], until: float) -> None:
    """Run a SQLite statement, retrying until `until` (of time.monotonic) while another program locks the file."""
    while True:
        try:
            step()
        except (sqlite3.OperationalError, DBAPIError) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if getattr(cause, "sqlite_errorcode", 0) & 0xFF not in _BUSY or time.monotonic() > until:
                raise
            time.sleep(0.005)
        else:
            return
