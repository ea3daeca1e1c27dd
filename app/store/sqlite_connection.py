"""One connection to a SQLite file: how it is set up, and how it waits for another program that holds the file."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from app.store.sqlite_files import open_file

# Segment waits 5 s for an answer; after 3 s of waiting for the database there is still time to say 503.
WAIT_SECONDS = 3.0

PRAGMAS = (
    "journal_mode=WAL",
    # FULL: a commit is on the disk before the call is answered. NORMAL would lose answered calls on power loss.
    "synchronous=FULL",
    "cache_size=-16000",
    "temp_store=MEMORY",
    # 32 MB of log between checkpoints: pages of a random key are written once for many commits. Measured: a quarter
    # of the time of a commit against SQLite's 4 MB.
    "wal_autocheckpoint=8000",
    "busy_timeout=0",
)

# For one process that writes thousands of rows with each commit. They touch some 120 MB of pages of random keys; a
# smaller cache writes and reads them twice in one transaction. And its log is written back by `checkpoint`, after
# commits: within one, a thread that reads ahead would keep the log from ever beginning anew.
BULK_PRAGMAS = ("cache_size=-150000", "wal_autocheckpoint=0")

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def open_patiently(path: Path, pragmas: Sequence[str], until: float) -> sqlite3.Connection:
    """Open a file that is there, with its log, and set the connection up; `until` as for `run_patiently`.

    Raises sqlite3.Error.
    """
    connection = open_file(path, "rw")
    try:
        for pragma in pragmas:
            run_patiently(partial(connection.execute, f"PRAGMA {pragma}"), until)
        # Only a read opens the log of a file that had none so far.
        run_patiently(lambda: connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall(), until)
    except BaseException:
        connection.close()
        raise
    return connection


def run_patiently(step: Callable[[], object], until: float) -> None:
    """Run a SQLite statement, again while another program holds the file, until then (of time.monotonic)."""
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
