"""Whether the pages of a SQLite file are whole, as far as there is time to look."""

import sqlite3
import time
from typing import NamedTuple

# Steps of SQLite's machine between two looks at the clock: some milliseconds.
_STEPS_BETWEEN_LOOKS = 20_000

_PROBLEM_LENGTH = 200

_IN_COMMON = "what tables have in common"


class Integrity(NamedTuple):
    """What a look through all pages of a database found."""

    problem: str | None
    """The first thing that is wrong."""
    unread: tuple[str, ...]
    """Tables that were not looked through, for want of time or after a problem."""


def check_pages(connection: sqlite3.Connection, seconds: float | None) -> Integrity:
    """Look through each table, and then for what tables have in common: pages that two of them use, or none."""
    until = time.monotonic() + seconds if seconds is not None else float("inf")
    connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS_BETWEEN_LOOKS)
    unread = ["sqlite_schema"]
    try:
        rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid").fetchall()
        unread = [name for (name,) in rows] + [_IN_COMMON]
        while unread:
            quoted = unread[0].replace("'", "''")
            (answer,) = connection.execute(
                "PRAGMA quick_check" if unread[0] is _IN_COMMON else f"PRAGMA quick_check('{quoted}')"
            ).fetchone()
            if answer != "ok":
                return Integrity(_first_line(answer), tuple(unread))
            unread.pop(0)
    except sqlite3.Error as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            return Integrity(str(error), tuple(unread))
    finally:
        connection.set_progress_handler(None, 0)
    return Integrity(None, tuple(unread))


def _first_line(answer: str) -> str:
    lines = [line for line in answer.splitlines() if not line.startswith("***")]
    return (lines or [answer])[0][:_PROBLEM_LENGTH]
