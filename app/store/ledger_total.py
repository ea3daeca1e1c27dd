"""The sum of the whole ledger, at a cost that does not grow with its age. `conn` first."""

from collections import Counter

import sqlalchemy as sa

from app.store.ledger import MINUTE, Entry, sum_counts

_DAY = 86_400_000_000


class LedgerTotal:
    """Caches the sum of the minutes that no longer change. Thread-safe."""

    def __init__(self) -> None:
        self._closed: tuple[int, Counter[Entry]] = (0, Counter())

    def read(self, conn: sa.Connection, now: int) -> Counter[Entry]:
        """Return the sums for all time; `now` in microseconds since 1970."""
        until, closed = self._closed
        # Each process adds to the minute of its own clock, and no clock is a day behind.
        edge = (now - _DAY) // MINUTE * MINUTE
        if edge > until:
            # Not `+`, which drops negative counts: a node whose clock is ahead adds what another subtracts.
            closed = Counter(closed)
            closed.update(sum_counts(conn, until, edge))
            # One assignment, so that another thread sees either the old sum or this one.
            self._closed = (edge, closed)
        total = Counter(closed)
        total.update(sum_counts(conn, max(until, edge)))
        return total
