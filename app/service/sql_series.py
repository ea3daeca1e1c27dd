"""The queries of the overview: the ledger over time, and refused requests. `conn` first."""

from collections import Counter

import msgspec
import sqlalchemy as sa

from app.forward.sql_deliveries import IN_LOTUS
from app.store.ledger import CALL, DELIVERY, MINUTE
from app.store.schema import ledger


class TimeSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the ledger, cut into steps of equal length."""

    since: int
    """Microseconds since 1970; a whole number of steps."""
    until: int
    step_minutes: int

    @property
    def starts(self) -> range:
        """When each step begins, in microseconds since 1970."""
        return range(self.since, self.until, self.step_minutes * MINUTE)


def last_steps(now: int, steps: int, step_minutes: int) -> TimeSpan:
    """Return the span of `steps` steps whose last one contains `now`, in microseconds since 1970."""
    step = step_minutes * MINUTE
    until = (now // step + 1) * step
    return TimeSpan(since=until - steps * step, until=until, step_minutes=step_minutes)


def count_calls_by_step(conn: sa.Connection, span: TimeSpan) -> list[Counter[str]]:
    """Count calls by outcome in each step of a span, the oldest first. A call counts in the minute of its commit."""
    step = sa.literal_column(str(int(span.step_minutes)), sa.BigInteger)
    number = (ledger.c.minute // step).label("number")
    query = (
        sa.select(number, ledger.c.outcome, sa.func.sum(ledger.c.count).label("total"))
        .where(ledger.c.minute >= span.since // MINUTE, ledger.c.minute < span.until // MINUTE)
        .where(ledger.c.subject == CALL)
        .group_by(number, ledger.c.outcome)
    )
    counts: list[Counter[str]] = [Counter() for _ in span.starts]
    first = span.since // MINUTE // span.step_minutes
    for row in conn.execute(query):
        counts[row.number - first][row.outcome] = int(row.total)
    return counts


def count_delivered(conn: sa.Connection, span: TimeSpan) -> int:
    """Count the events delivered in a span, also if they are void since, minus those found missing and sent again."""
    query = (
        sa.select(sa.func.sum(ledger.c.count))
        .where(ledger.c.minute >= span.since // MINUTE, ledger.c.minute < span.until // MINUTE)
        .where(ledger.c.subject == DELIVERY, ledger.c.outcome.in_(IN_LOTUS))
    )
    return max(0, int(conn.execute(query).scalar_one() or 0))
