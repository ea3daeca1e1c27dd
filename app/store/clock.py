"""The one clock that all writers of a database share: by it an event is stored, and made void.

So an answer as of a moment is the same whichever node gives it, and later ones never change it. What a transaction
writes has one time, so no moment lies in the middle of it.
"""

import weakref

import sqlalchemy as sa

from app.clock import clock


def _micros_of(moment: sa.ColumnElement[object]) -> sa.ColumnElement[int]:
    micros = sa.extract("epoch", moment) * sa.literal_column("1000000", sa.Numeric)
    return sa.cast(micros, sa.BigInteger)


SERVER_CLOCK = _micros_of(sa.func.clock_timestamp())
"""Microseconds since 1970 by a server's own clock."""

STATEMENT_TIME = _micros_of(sa.func.statement_timestamp())
"""When the server received the statement, which is the same for all of its rows."""

_KEPT = "app.store.clock"


class _FileClock:
    """The clock of this machine, which a SQLite file never leaves; not set back while the process lives."""

    def __init__(self) -> None:
        self._last = 0

    def read(self) -> int:
        self._last = max(self._last, clock())
        return self._last


_FILE_CLOCK = _FileClock()


def read_clock(conn: sa.Connection) -> int:
    """Return the time of this transaction, in microseconds since 1970: when it was first asked for in it.

    In a transaction that writes, ask after its locks.
    """
    moment = find_transaction_time(conn)
    if moment is None:
        moment = _read(conn)
        transaction = conn.get_transaction()
        if transaction is not None:
            conn.info[_KEPT] = weakref.ref(transaction), moment
    return moment


def find_transaction_time(conn: sa.Connection) -> int | None:
    """Return the time of this transaction; None if `read_clock` was not asked for it."""
    transaction, moment = conn.info.get(_KEPT, (None, None))
    return moment if transaction is not None and transaction() is conn.get_transaction() else None


def _read(conn: sa.Connection) -> int:
    if conn.dialect.name != "postgresql":
        return _FILE_CLOCK.read()
    if conn.get_execution_options().get("postgresql_readonly"):
        now: int = conn.execute(sa.select(SERVER_CLOCK)).scalar_one()
        return now
    # The transaction gets its number before it reads the clock: whoever asks as of a later moment sees that it writes.
    row = conn.execute(sa.select(sa.func.txid_current(), SERVER_CLOCK)).one()
    return int(row[1])
