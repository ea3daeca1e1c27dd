"""By how much a number changes that depends on all its events: each is computed twice from raw events.

Bounded: by COMPARED_EVENTS for the numbers of one batch together.
"""

from collections.abc import Collection, Iterable, Iterator
from decimal import Decimal
from heapq import merge
from itertools import chain

from app.core.times import parse_time
from app.errors import BadQuery
from app.metrics.catalog import read_live_metrics
from app.metrics.definition import Metric, MetricType
from app.metrics.effect import month_of
from app.metrics.query import MetricEvent, Query
from app.metrics.sql_events import EventFilter, UsageValue, count_values, stream_values, stream_values_in_order
from app.metrics.stream import Stream, read_from
from app.metrics.values import ZERO, read_properties, subtract
from app.metrics.windows import Unit
from app.store.engine import Connection
from app.store.events import EventValues
from app.store.tally import Comparison, NumberKey, Swap

COMPARED_EVENTS = 100_000
"""Events that the numbers of one batch are made of."""

CUSTOMER_EVENTS = 1_000_000
"""Events of any name and time that a customer has: to find those of a month, the database looks at each."""

TOO_MANY = f"too many events: {COMPARED_EVENTS:,} are read for one batch, of customers with {CUSTOMER_EVENTS:,} at most"

_MONTHS_IN_YEAR = 12


def compare_numbers(conn: Connection, keys: Collection[NumberKey], before: Swap, after: Swap, now: int) -> Comparison:
    """Return by how much these numbers change from `before` to `after`, or why that cannot be said.

    Both say how they differ from the events that count now. Also returned are further months of the same metric and
    customer: a level goes on, and a rate looks back. A month is taken as a whole, and all groups as one. No number
    counts as zero.
    """
    months: dict[tuple[str, str], list[str]] = {}
    for metric_name, customer, month in sorted(keys):
        months.setdefault((metric_name, customer), []).append(month)
    metrics = {metric.name: metric for metric in read_live_metrics(conn).values()}
    sides = _by_customer(before), _by_customer(after)
    comparison: dict[NumberKey, Decimal | str] = {}
    left = COMPARED_EVENTS
    for (metric_name, customer), its_months in months.items():
        metric = metrics.get(metric_name)
        if metric is None:
            changes: dict[str, Decimal | str] = dict.fromkeys(its_months, "the metric is not live any more")
        else:
            place = metric.event_name, customer
            number = _CustomerNumber(metric, customer, its_months, now, [side.get(place, _NONE) for side in sides])
            changes, size = number.compare(conn, left)
            left -= size
        comparison.update({(metric_name, customer, month): change for month, change in changes.items()})
    return comparison


_NONE = Swap((), ())


def _by_customer(swap: Swap) -> dict[tuple[str, str], Swap]:
    sides: dict[tuple[str, str], tuple[list[EventValues], list[EventValues]]] = {}
    for at, events in enumerate(swap):
        for event in events:
            sides.setdefault((event.event_name, event.customer_id), ([], []))[at].append(event)
    return {place: Swap(*lists) for place, lists in sides.items()}


class _CustomerNumber:
    """One metric of one customer, in some months."""

    def __init__(self, metric: Metric, customer: str, months: list[str], now: int, sides: list[Swap]) -> None:
        self._metric = metric
        self._months = months
        self._now = now
        last = months[-1]
        if metric.metric_type is MetricType.GAUGE:
            last = max(last, month_of(now))
        elif metric.metric_type is MetricType.RATE:
            last = _following(last)
        self._query = Query(
            start=parse_time(f"{months[0]}-01"),
            end=parse_time(f"{_following(last)}-01"),
            customer_id=customer,
            window=Unit.MONTH,
            group_by=(),
            include_future=True,
        )
        self._since = read_from(metric, self._query)
        self._sides = [Swap(*(list(filter(self._is_within, events)) for events in side)) for side in sides]

    def compare(self, conn: Connection, most: int) -> tuple[dict[str, Decimal | str], int]:
        """Return the changes by month, and how many events the numbers are made of: at most `most`."""
        try:
            streams = [Stream(self._metric, self._query, self._now) for _ in self._sides]
        except BadQuery as error:
            return dict.fromkeys(self._months, error.message), 0
        event_filter = EventFilter(
            event_name=self._metric.event_name,
            since=self._since,
            until=self._query.end,
            customer_id=self._query.customer_id,
        )
        without, instead = self._sides[0]
        more = len(instead) - len(without)
        count = count_values(conn, event_filter, most + max(0, -more), CUSTOMER_EVENTS)
        if count is None or count + more > most:
            return dict.fromkeys(self._months, TOO_MANY), 0
        for event, is_within in self._events(conn, event_filter, in_order=streams[0].needs_order):
            for stream, within in zip(streams, is_within, strict=True):
                if within:
                    stream.add(event)
        numbers = [{month_of(row.window_start): Decimal(row.value or 0) for row in stream.rows()} for stream in streams]
        months = {*self._months, *numbers[0], *numbers[1]}
        changes: dict[str, Decimal | str] = {
            month: subtract(*(side.get(month, ZERO) for side in reversed(numbers))) for month in months
        }
        return changes, count + more

    def _is_within(self, event: EventValues) -> bool:
        return (self._since is None or self._since <= event.time_created) and event.time_created < self._query.end

    def _events(
        self, conn: Connection, event_filter: EventFilter, *, in_order: bool
    ) -> Iterator[tuple[MetricEvent, list[bool]]]:
        """Yield each event, and in which of the two sides it counts."""
        without = [{event.id for event in side.without} for side in self._sides]
        live = (
            (values, [values.id not in ids for ids in without])
            for values in (stream_values_in_order if in_order else stream_values)(conn, event_filter)
        )
        instead = [
            [(event, [at == number for number in range(len(self._sides))]) for event in side.instead]
            for at, side in enumerate(self._sides)
        ]
        sources: list[Iterable[tuple[UsageValue | EventValues, list[bool]]]] = [live, *instead]
        if in_order:
            sources[1:] = [sorted(source, key=_place) for source in sources[1:]]
        for values, is_within in merge(*sources, key=_place) if in_order else chain(*sources):
            properties = read_properties(values.properties)
            name = self._metric.event_name
            yield MetricEvent(values.base_id, name, values.customer_id, values.time_created, properties), is_within


def _place(source: tuple[UsageValue | EventValues, list[bool]]) -> tuple[int, int]:
    return source[0].time_created, source[0].id


def _following(month: str) -> str:
    years, number = divmod(int(month[5:]), _MONTHS_IN_YEAR)
    return f"{int(month[:4]) + years:04}-{number + 1:02}"
