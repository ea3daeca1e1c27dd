"""The one clock that all writers of a database share: by it an event is stored, and made void.

So an answer as of a moment is the same whichever node gives it, and later ones never change it.
"""

import sqlalchemy as sa

from app.clock import clock

SERVER_CLOCK = sa.cast(
    sa.extract("epoch", sa.func.clock_timestamp()) * sa.literal_column("1000000", sa.Numeric), sa.BigInteger
)
"""Microseconds since 1970 by a server's own clock, when a row is written."""


class _FileClock:
    """The clock of this machine, which a SQLite file never leaves; not set back while the process lives."""

    def __init__(self) -> None:
        self._last = 0

    def read(self) -> int:
        self._last = max(self._last, clock())
        return self._last


_FILE_CLOCK = _FileClock()


def read_clock(conn: sa.Connection) -> int:
    """Return the time in microseconds since 1970. Read it in the transaction that writes it, after its locks."""
    if conn.dialect.name == "postgresql":
        now: int = conn.execute(sa.select(SERVER_CLOCK)).scalar_one()
        return now
    return _FILE_CLOCK.read()
