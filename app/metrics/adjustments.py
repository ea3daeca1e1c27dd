"""What changed the numbers of a closed month since: shown beside them, and carried into later months.

    closed + carried + open = today's

An adjustment is the difference of two answers, today's by the definition that is live now and the frozen one, for any
kind of metric. A number that is not there counts as 0 in it.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import islice
from typing import NamedTuple

import msgspec

from app.errors import BadQuery, EditConflict, NotFound
from app.metrics.answer import answer
from app.metrics.bucket_parts import to_metric_event
from app.metrics.catalog import get_metric, get_metric_version
from app.metrics.definition import Metric
from app.metrics.months import Month, check_closed, parse_month, to_numbers
from app.metrics.query import Group, MetricEvent
from app.metrics.sql_events import Place
from app.metrics.sql_months import (
    CarriedAdjustment,
    ChangedEvent,
    ClosedMonth,
    ClosedNumber,
    append_carried,
    find_closed_month,
    get_closed_month,
    list_carried,
    list_carried_into,
    list_numbers,
    stream_changed_events,
)
from app.metrics.stream import read_from
from app.metrics.values import ZERO, add, format_number, read_text, subtract
from app.store.clock import read_clock
from app.store.engine import Connection, Database
from app.store.moment import latest_moment, reading_at

_decode_group = msgspec.json.Decoder(tuple[str | None, ...]).decode


class Adjustment(msgspec.Struct, frozen=True, kw_only=True):
    """The number of one customer and group: as it was closed, and as it is."""

    customer_id: str
    grp: str
    closed: ClosedNumber | None
    """None: there was none."""
    today: ClosedNumber | None
    """None: there is none any more."""
    carried: Decimal
    """What was taken into other months."""

    @property
    def closed_amount(self) -> Decimal:
        """The closed number; 0 if there was none."""
        return _amount(self.closed)

    @property
    def total(self) -> Decimal:
        """By how much today's number differs from the closed one."""
        return subtract(_amount(self.today), self.closed_amount)

    @property
    def open(self) -> Decimal:
        """What of it was not carried yet."""
        return subtract(self.total, self.carried)

    @property
    def has_changed(self) -> bool:
        """Whether anything is to be said of it: also if only the number of its events changed."""
        return self.closed != self.today or bool(self.carried)

    def group(self, names: tuple[str, ...]) -> dict[str, str | None]:
        """Return its group, by the properties of the closed definition."""
        return dict(zip(names, read_group_key(self.grp), strict=True))


class MonthReport(NamedTuple):
    """A closed month beside what its numbers are now."""

    closed: ClosedMonth
    month: Month
    metric: Metric
    """The definition that was closed."""
    live: Metric
    """The one of today's numbers; the closed one, if none is live any more."""
    lines: list[Adjustment]
    """All numbers, changed or not, by customer and group."""
    carried: list[CarriedAdjustment]
    """What was carried of it."""
    received: "list[ReceivedAdjustment]"
    """What was carried into it."""


class ReceivedAdjustment(NamedTuple):
    """What a month was given of an adjustment of another one: a line of its own, in none of its numbers."""

    origin: ClosedMonth
    line: CarriedAdjustment
    group: dict[str, str | None]


def read_report(
    conn: Connection, closed: ClosedMonth, customer_id: str | None = None, as_of: int | None = None
) -> MonthReport:
    """Compare a closed month with the answer of today, or of a moment, for one customer or all."""
    month = parse_month(closed.month, closed.tz)
    metric = get_metric_version(conn, closed.metric_digest)
    live = _find_live(conn, closed.metric, as_of) or metric
    query = month.query(as_of, metric.group_by, customer_id)
    frozen = {_key(number): number for number in list_numbers(conn, closed.id, customer_id)}
    today = {_key(number): number for number in to_numbers(answer(conn, live, query, read_clock(conn)).rows)}
    carried = list_carried(conn, closed.id, customer_id)
    taken: dict[tuple[str, str], Decimal] = {}
    for line in carried:
        key = line.customer_id, line.grp
        taken[key] = add(taken.get(key, ZERO), Decimal(line.amount))
    lines = [
        Adjustment(
            customer_id=key[0], grp=key[1], closed=frozen.get(key), today=today.get(key), carried=taken.get(key, ZERO)
        )
        for key in sorted({*frozen, *today, *taken})
    ]
    received = list_received(conn, closed.metric, month, customer_id)
    return MonthReport(closed, month, metric, live, lines, carried, received)


def list_received(
    conn: Connection, metric: str, month: Month, customer_id: str | None = None
) -> list[ReceivedAdjustment]:
    """Return what was carried into a month of a metric, closed or not, oldest first."""
    received = []
    for origin, line in list_carried_into(conn, metric, month.text, month.tz, customer_id):
        names = get_metric_version(conn, origin.metric_digest).group_by
        group = dict(zip(names, read_group_key(line.grp), strict=True))
        received.append(ReceivedAdjustment(origin, line, group))
    return received


def _find_live(conn: Connection, name: str, as_of: int | None) -> Metric | None:
    try:
        return get_metric(conn, name, as_of=as_of)
    except NotFound:
        return None


def carry_adjustments(
    database: Database,
    next_id: Callable[[int], int],
    closed_id: int,
    into: str,
    author: str,
    customer_id: str | None = None,
) -> tuple[tuple[str, ...], list[CarriedAdjustment]]:
    """Take the open adjustments of a closed month into a later one, where they are lines of their own.

    Returns the properties of their groups, and the lines.

    It takes those of a moment that can be asked for again, 30 s ago; what came later stays open.

    Raises:
        NotFound: there is no such month.
        BadQuery: nothing is open, or the other month is not a later one, or is closed.
        EditConflict: the month was reopened, or somebody else carried some of it meanwhile.

    """
    as_of = latest_moment(database)
    with reading_at(database, as_of) as conn:
        closed = get_closed_month(conn, closed_id)
        report = read_report(conn, closed, customer_id, as_of)
        carried = list_carried(conn, closed_id)
    target = parse_month(into, closed.tz)
    if target.start <= report.month.start:
        raise BadQuery(f"adjustments of {closed.month} are carried into a later month; {into} is none")
    lines = [line for line in report.lines if line.open]
    with database.writing() as conn:
        now = read_clock(conn)
        check_closed(get_closed_month(conn, closed_id, lock=True))
        if list_carried(conn, closed_id) != carried:
            raise EditConflict(f"somebody else carried adjustments of {closed.month} meanwhile: look at what is open")
        if find_closed_month(conn, closed.metric, target.text, closed.tz):
            raise BadQuery(f"{target.text} of {closed.metric} is closed, too: carry into a later month")
        if not lines:
            raise BadQuery(
                f"no adjustment of {closed.month} is open, of what was stored or corrected more than 30 s ago"
            )
        new = [
            CarriedAdjustment(
                id=next_id(now),
                closed_id=closed_id,
                customer_id=line.customer_id,
                grp=line.grp,
                amount=format_number(line.open),
                month=target.text,
                as_of=as_of,
                carried_at=now,
                author=author,
            )
            for line in lines
        ]
        append_carried(conn, new)
    return report.metric.group_by, new


class ChangePage(NamedTuple):
    """One page of the events that changed a closed month since, by time and then by arrival."""

    changes: list[ChangedEvent]
    following: Place | None
    """The `after` of the next page; None on the last."""


def list_changed(
    conn: Connection,
    report: MonthReport,
    customer_id: str | None = None,
    group: Group | None = None,
    after: Place | None = None,
    limit: int = 50,
) -> ChangePage:
    """List the events that were stored, made void or made to count again since a month was closed.

    They are those of the month, of one customer and group or of all, and those before it that a rate looks back to or
    a gauge carries a level from.
    """
    versions = (report.metric, report.live)
    since = [read_from(metric, report.month.query()) for metric in versions]
    first = None if None in since else min(moment for moment in since if moment is not None)
    period = first, report.month.end
    names = {metric.event_name for metric in versions}
    stream = stream_changed_events(conn, names, period, report.closed.as_of, customer_id, after)
    changes = list(islice(_of_group(stream, report, group), limit + 1))
    if len(changes) <= limit:
        return ChangePage(changes, None)
    last = changes[limit - 1].event
    return ChangePage(changes[:limit], (last.time_created, last.id))


def _of_group(changes: Iterator[ChangedEvent], report: MonthReport, group: Group | None) -> Iterator[ChangedEvent]:
    """Yield the changes that one of the two definitions takes, of one group or of all."""
    for change in changes:
        event = to_metric_event(report.metric, change.event)
        names = report.metric.group_by
        if not any(metric.passes(event.properties) for metric in (report.metric, report.live)):
            continue
        if group is None or _group_of(event, names) == group:
            yield change


def _group_of(event: MetricEvent, names: tuple[str, ...]) -> Group:
    return tuple(read_text(event.properties, name) for name in names)


def read_group_key(grp: str) -> Group:
    """Return the texts of a group from its key; the inverse of `to_group`."""
    return _decode_group(grp)


def _key(number: ClosedNumber) -> tuple[str, str]:
    return number.customer_id, number.grp


def _amount(number: ClosedNumber | None) -> Decimal:
    return ZERO if number is None or number.value is None else Decimal(number.value)
