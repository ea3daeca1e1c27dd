"""The whole ledger, summed at a price that does not grow with its age. `conn` first."""

from collections import Counter

import sqlalchemy as sa

from app.store.ledger import MINUTE, Entry, sum_counts

_DAY = 86_400_000_000


class LedgerTotal:
    """Remembers the sum of the minutes that nobody adds to any more. For any number of threads of one process."""

    def __init__(self) -> None:
        self._closed: tuple[int, Counter[Entry]] = (0, Counter())

    def read(self, conn: sa.Connection, now: int) -> Counter[Entry]:
        """Return the sums of all time; `now` in microseconds since 1970."""
        until, closed = self._closed
        # Each process adds to the minute of its own clock, and no clock is a day behind.
        edge = (now - _DAY) // MINUTE * MINUTE
        if edge > until:
            # `+` would drop what is below zero, as where a node with a clock ahead counts up what another counts down.
            closed = Counter(closed)
            closed.update(sum_counts(conn, until, edge))
            # In one piece: another thread finds the sum of before, or this one.
            self._closed = (edge, closed)
        total = Counter(closed)
        total.update(sum_counts(conn, max(until, edge)))
        return total
