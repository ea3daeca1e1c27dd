"""Integrity checks of the pages of a SQLite file, within a time limit."""

import sqlite3
import time
from typing import NamedTuple

# Instructions of SQLite's virtual machine between two checks of the clock: some milliseconds.
_STEPS_BETWEEN_CHECKS = 20_000

_PROBLEM_LENGTH = 200

_IN_COMMON = "what tables have in common"


class Integrity(NamedTuple):
    """The result of a check of all pages."""

    problem: str | None
    """The first damage found."""
    unread: tuple[str, ...]
    """Tables that were not fully checked: time ran out, or there was a problem before."""


def check_pages(connection: sqlite3.Connection, seconds: float | None) -> Integrity:
    """Check each table, and then for pages that belong to two tables or to none."""
    until = time.monotonic() + seconds if seconds is not None else float("inf")
    connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS_BETWEEN_CHECKS)
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
