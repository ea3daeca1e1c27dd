"""Computes an answer from a stream of events: equal to the reference, in memory bounded by the answer.

    stream = Stream(metric, query, now)
    for event in ...: stream.add(event)         where `needs_order`: those of each customer by time
    stream.rows()

A test holds it equal to `tests/metrics/recomputation.py` on random events, orders and definitions.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Sized
from decimal import Decimal

from app.errors import BadQuery
from app.metrics.cells import Cell, Number, to_cell
from app.metrics.definition import Metric, MetricType
from app.metrics.parts import Part
from app.metrics.query import Answer, Group, MetricEvent, Query, Row, group_order, level_group, no_value
from app.metrics.values import Skip, format_number, read_text
from app.metrics.window_cells import GaugeCells, RateCells
from app.metrics.windows import SECOND, SECONDS_OF, Window

MAX_NUMBERS = 500_000
"""Numbers in one answer."""

MAX_VALUES = 5_000_000
"""Values held in memory for percentiles and distinct counts."""

_Key = tuple[str, Group]


def read_from(metric: Metric, query: Query) -> int | None:
    """Return the time from which on events are needed; None: from the beginning."""
    if metric.metric_type is MetricType.GAUGE:
        return None
    if metric.metric_type is MetricType.RATE and metric.granularity is not None:
        # At one-second resolution: all events of the second in which the period begins look back, too.
        return (query.start // SECOND - SECONDS_OF[metric.granularity]) * SECOND
    return query.start


class Stream:
    """Accumulates one answer."""

    def __init__(self, metric: Metric, query: Query, now: int) -> None:
        """Raises BadQuery if the query cannot be answered."""
        self._metric = metric
        self._query = query = query.checked(metric)
        self._now = now
        self.end = query.end_at(now)
        self._names = query.groups(metric)
        self._windows = list(query.windows(self.end))
        self._starts = [window[0] for window in self._windows]
        self._skipped: dict[tuple[_Key, int], Counter[str]] = {}
        self._cells: dict[tuple[_Key, int], Cell] = {}
        self._rates: dict[_Key, RateCells] = {}
        self._gauges: dict[_Key, GaugeCells] = {}
        self._make_gauge: Callable[[], GaugeCells] = GaugeCells.maker(metric, query.zone(), self._windows)
        self._held = 0
        self._none = no_value(metric)

    @property
    def windows(self) -> Sequence[Window]:
        """The windows of the answer, in order."""
        return self._windows

    @property
    def needs_order(self) -> bool:
        """Whether the events of each customer must come in order of time."""
        return self._metric.metric_type is not MetricType.COUNTER

    def add(self, event: MetricEvent) -> None:
        """Add an event that has the metric's event name and is not void.

        Raises:
            BadQuery: the answer would be too large.

        """
        metric = self._metric
        if event.time_created >= self.end or not metric.passes(event.properties):
            return
        key = (event.customer_id, tuple(read_text(event.properties, name) for name in self._names))
        place = bisect_right(self._starts, event.time_created) - 1
        value = metric.read(event.properties)
        if isinstance(value, Skip):
            if place >= 0:
                self._check_room(self._skipped)
                self._skipped.setdefault((key, place), Counter())[value.value] += 1
            return
        if metric.metric_type is MetricType.COUNTER:
            if place >= 0:
                self._count(key, place, event, value)
            return
        number = value if isinstance(value, Decimal) else Decimal(1)
        if metric.metric_type is MetricType.GAUGE:
            gauge = self._gauges.get(key)
            if gauge is None:
                self._check_room(self._gauges)
                gauge = self._gauges[key] = self._make_gauge()
            group = level_group(metric, event)
            self._hold(gauge.add(place, event.time_created, event.base_id, group, number))
        else:
            rate = self._rates.get(key)
            if rate is None:
                self._check_room(self._rates)
                rate = self._rates[key] = RateCells(metric)
            rate.add(place, event.time_created // SECOND, number)

    def remove(self, event: MetricEvent) -> None:
        """Take back an event of the period that was added; only for metrics that `is_removable` accepts."""
        metric = self._metric
        if event.time_created >= self.end or not metric.passes(event.properties):
            return
        key = (event.customer_id, tuple(read_text(event.properties, name) for name in self._names))
        place = bisect_right(self._starts, event.time_created) - 1
        value = metric.read(event.properties)
        if isinstance(value, Skip):
            reasons = self._skipped[key, place]
            reasons[value.value] -= 1
            if not +reasons:
                del self._skipped[key, place]
        else:
            cell = self._cells[key, place]
            cell.remove(value)
            if not cell.count:
                del self._cells[key, place]

    def absorb(self, customer_id: str, group: Group, moment: int, part: Part) -> None:
        """Add pre-aggregated events of one customer, group (of the query) and window; `moment` is in that window.

        Raises:
            BadQuery: the answer would be too large.

        """
        key = (customer_id, group)
        place = bisect_right(self._starts, moment) - 1
        if part.skipped:
            self._check_room(self._skipped)
            self._skipped.setdefault((key, place), Counter()).update(part.skipped)
        if part.count:
            self._cell(key, place).absorb(part)

    def _cell(self, key: _Key, place: int) -> Cell:
        cell = self._cells.get((key, place))
        if cell is None:
            self._check_room(self._cells)
            cell = self._cells[key, place] = to_cell(self._metric)
        return cell

    def _count(self, key: _Key, place: int, event: MetricEvent, value: Decimal | str | None) -> None:
        self._hold(self._cell(key, place).add(event.time_created, event.base_id, value))

    def _hold(self, more: int) -> None:
        self._held += more
        if self._held > MAX_VALUES:
            raise BadQuery(f"there are more than {MAX_VALUES:,} values to hold: ask for a shorter period or a customer")

    def _check_room(self, numbers: Sized) -> None:
        if len(numbers) > MAX_NUMBERS:
            raise BadQuery(f"the answer has more than {MAX_NUMBERS:,} numbers: ask for fewer windows or customers")

    def answer(self) -> Answer:
        """Return the whole answer."""
        return Answer(
            metric=self._metric.name,
            version=self._metric.digest.hex(),
            start=self._query.start,
            end=max(self._query.start, self.end),
            tz=self._query.tz,
            rows=list(self.rows()),
            as_of=self._query.as_of,
        )

    def rows(self) -> Iterator[Row]:
        """Yield the rows by customer, group and window. Call it once, after the last event."""
        numbers = self._numbers()
        query = self._query
        by_key: dict[_Key, set[int]] = {}
        for key, place in (*numbers, *self._skipped):
            by_key.setdefault(key, set()).add(place)
        if query.fill:
            self._check_room(range(len(by_key) * len(self._windows)))
        for key in sorted(by_key, key=group_order):
            for place in range(len(self._windows)) if query.fill else sorted(by_key[key]):
                yield self._row(key, place, numbers)
        if query.fill and not by_key and query.customer_id is not None and not self._names:
            for place in range(len(self._windows)):
                yield self._row((query.customer_id, ()), place, numbers)

    def _numbers(self) -> dict[tuple[_Key, int], Number]:
        """Return the result of every window that has one."""
        if self._metric.metric_type is MetricType.COUNTER:
            return {place: Number(cell.value(), cell.count) for place, cell in self._cells.items()}
        numbers: dict[tuple[_Key, int], Number] = {}
        for key, rate in self._rates.items():
            for place, number in rate.numbers():
                numbers[key, place] = number
        for key, gauge in self._gauges.items():
            for place, number in gauge.numbers():
                if number.value or number.events_count or (key, place) in self._skipped:
                    numbers[key, place] = number
            self._check_room(numbers)
        return numbers

    def _row(self, key: _Key, place: int, numbers: dict[tuple[_Key, int], Number]) -> Row:
        value, count, below_zero_at = self._none, 0, None
        if (key, place) in numbers:
            number, count, below_zero_at = numbers[key, place]
            value = None if number is None else format_number(number)
        skipped = self._skipped.get((key, place))
        customer, group = key
        start, end = self._windows[place]
        return Row(
            customer_id=customer,
            group=dict(zip(self._names, group, strict=True)),
            window_start=start,
            window_end=end,
            value=value,
            events_count=count,
            skipped=dict(sorted((+skipped).items())) if skipped else {},
            below_zero_at=below_zero_at,
        )
