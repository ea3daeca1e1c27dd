"""What is said beside the numbers of a question that is about exactly one calendar month."""

from decimal import Decimal
from typing import NamedTuple

from app.core.text import counted
from app.metrics.adjustments import MonthReport, ReceivedAdjustment, list_received, read_report
from app.metrics.definition import Metric
from app.metrics.months import Month, month_at
from app.metrics.parts import adds_up
from app.metrics.query import Query
from app.metrics.sql_months import find_closed_month
from app.metrics.values import ZERO, add, format_number
from app.store.engine import Connection


class MonthNote(NamedTuple):
    """How a month stands: whether it is closed, and what was carried into it."""

    month: Month
    report: MonthReport | None
    """None: it is not closed."""
    received: list[ReceivedAdjustment]

    @property
    def closed_text(self) -> str:
        """The closed number; of several that cannot be summed, how many there are."""
        lines = self.report.lines if self.report else []
        closed = [line for line in lines if line.closed is not None]
        if self._adds_up(len(lines)):
            return _sum([line.closed_amount for line in closed])
        return counted(len(closed), "number")

    @property
    def adjustment_text(self) -> str:
        """By how much it differs today; of several numbers that cannot be summed, how many differ."""
        lines = self.report.lines if self.report else []
        if self._adds_up(len(lines)):
            return _sum([line.total for line in lines])
        changed = sum(bool(line.total) for line in lines)
        return f"{counted(changed, 'number')} changed" if changed else "0"

    def _adds_up(self, lines: int) -> bool:
        return self.report is not None and (adds_up(self.report.metric) or lines == 1)


def find_month_note(conn: Connection, metric: Metric, query: Query, now: int) -> MonthNote | None:
    """Return what is said of the month that a query is about.

    None if it is about another period, or about a moment, or if there is nothing to say.
    """
    month = month_at(query.tz, query.start)
    is_whole = month is not None and month.start == query.start and query.end_at(now) == min(month.end, now)
    if month is None or not is_whole or query.as_of is not None:
        return None
    closed = find_closed_month(conn, metric.name, month.text, month.tz)
    received = list_received(conn, metric.name, month, query.customer_id)
    if closed is None and not received:
        return None
    return MonthNote(month, None if closed is None else read_report(conn, closed, query.customer_id), received)


def _sum(amounts: list[Decimal]) -> str:
    total = ZERO
    for amount in amounts:
        total = add(total, amount)
    return format_number(total)
