"""The cells of rates and gauges, which need the events of one customer in the order of time."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from datetime import tzinfo
from decimal import Decimal
from fractions import Fraction

from app.metrics.cells import Number
from app.metrics.definition import Aggregation, Metric
from app.metrics.proration import Buckets, to_buckets
from app.metrics.query import Group
from app.metrics.values import ZERO, add, from_fraction, subtract
from app.metrics.windows import SECONDS_OF, Window


class RateCells:
    """Accumulates the rate of one customer and group. Events must come in order of time."""

    def __init__(self, metric: Metric) -> None:
        assert metric.granularity is not None  # noqa: S101  parse_metric requires it
        self._span = SECONDS_OF[metric.granularity]
        self._is_max = metric.aggregation is Aggregation.MAX
        self._seconds: deque[tuple[int, Decimal]] = deque()
        """(second, total of its events); for max in descending order, so that the first is the largest."""
        self._total = ZERO
        self._second: int | None = None
        """The second still open for events: each of its events sees all of them."""
        self._open = ZERO
        self._places: set[int] = set()
        self._most: dict[int, Decimal] = {}
        self._counts: Counter[int] = Counter()

    def add(self, place: int, second: int, number: Decimal) -> None:
        """Add an event in window number `place` (-1: before the first). `number` is 1 if events are counted."""
        if second != self._second:
            self._close()
            self._second, self._open = second, number
        else:
            self._open = max(self._open, number) if self._is_max else add(self._open, number)
        if place >= 0:
            self._places.add(place)
            self._counts[place] += 1

    def numbers(self) -> Iterator[tuple[int, Number]]:
        """Yield (window number, result) of each window that has events."""
        self._close()
        for place, highest in self._most.items():
            yield place, Number(highest, self._counts[place])

    def _close(self) -> None:
        """Close the open second and compute what its events see in their look-back."""
        if self._second is None:
            return
        while self._seconds and self._seconds[0][0] < self._second - self._span:
            self._total = subtract(self._total, self._seconds.popleft()[1])
        if self._is_max:
            while self._seconds and self._seconds[-1][1] <= self._open:
                self._seconds.pop()
        self._seconds.append((self._second, self._open))
        self._total = add(self._total, self._open)
        look_back = self._seconds[0][1] if self._is_max else self._total
        for place in self._places:
            self._most[place] = max(look_back, self._most.get(place, look_back))
        self._second = None
        self._places.clear()


class GaugeCells:
    """Tracks the level of one customer and group. Events come in order of time; those of one moment act together."""

    def __init__(self, metric: Metric, windows: list[Window], buckets: Callable[[int], Buckets]) -> None:
        self._says_level = metric.event_type == "total"
        self._prorated = metric.proration is not None
        self._windows = windows
        self._buckets = buckets
        self._level = ZERO
        self._held: dict[Group, Decimal] = {}
        """For totals: the level of each group; their sum is the level."""
        self._moment: int | None = None
        """The moment still open for events, and ..."""
        self._change = ZERO
        """... the sum of its deltas, or ..."""
        self._said: dict[Group, tuple[str, Decimal]] = {}
        """... its totals, each with the base id of its event."""
        self._place = -1
        """The number of the open window."""
        self._count = 0
        self._peak: Decimal | None = None
        self._below_zero_at: int | None = None
        self._total = Fraction(0)
        self._bucket: Window = (0, 0)
        """The open proration bucket."""
        self._bucket_level = ZERO
        self._done: list[tuple[int, Number]] = []

    @staticmethod
    def maker(metric: Metric, zone: tzinfo, windows: list[Window]) -> "Callable[[], GaugeCells]":
        """Return a factory for the cells of a customer and group; all share the proration buckets of each window."""
        cache: dict[int, Buckets] = {}

        def buckets(place: int) -> Buckets:
            if place not in cache:
                cache[place] = to_buckets(metric, zone, windows[place])
            return cache[place]

        return lambda: GaugeCells(metric, windows, buckets)

    def add(self, place: int, moment: int, base_id: str, group: Group, number: Decimal) -> int:
        """Add an event in window number `place` (-1: before the first); return how many more levels are held.

        `group` is the result of `level_group`.
        """
        if moment != self._moment:
            self._end_moment()
            self._go_to(place)
            self._moment = moment
        if place >= 0:
            self._count += 1
        if not self._says_level:
            self._change = add(self._change, number)
            return 0
        is_new = group not in self._held and group not in self._said
        if group not in self._said or base_id > self._said[group][0]:
            self._said[group] = base_id, number
        return int(is_new)

    def numbers(self) -> Iterator[tuple[int, Number]]:
        """Yield (window number, result) of every window from the first on, including those that only carry a level."""
        self._end_moment()
        self._go_to(len(self._windows))
        yield from self._done

    def _end_moment(self) -> None:
        """Apply all events of the open moment to the level."""
        if self._moment is None:
            return
        moment, before, self._moment = self._moment, self._level, None
        self._level, self._change = add(before, self._change), ZERO
        for group, (_, number) in self._said.items():
            self._level = add(self._level, subtract(number, self._held.get(group, ZERO)))
            self._held[group] = number
        self._said.clear()
        if self._place < 0:
            return
        start = self._windows[self._place][0]
        if self._below_zero_at is None and (before < 0 or self._level < 0):
            # A level below zero before the window is below zero from its start, unless it changes at that moment.
            if before < 0 and moment > start:
                self._below_zero_at = start
            elif self._level < 0:
                self._below_zero_at = moment
        if not self._prorated:
            if self._peak is None and moment > start:
                self._peak = before
            self._peak = self._level if self._peak is None else max(self._peak, self._level)
            return
        if not self._bucket[0] <= moment < self._bucket[1]:
            bucket = self._buckets(self._place).at(moment)
            self._close_bucket(before, bucket[0])
            self._bucket, self._bucket_level = bucket, self._level
        else:
            self._bucket_level = max(self._bucket_level, self._level)

    def _go_to(self, place: int) -> None:
        """Close the windows before number `place`; the level carries over from one to the next."""
        while self._place < place:
            if self._place >= 0:
                self._done.append((self._place, self._end_window()))
            self._place += 1
            self._count, self._peak, self._below_zero_at, self._total = 0, None, None, Fraction(0)
            if self._place < len(self._windows):
                self._bucket = (self._windows[self._place][0],) * 2

    def _end_window(self) -> Number:
        if self._below_zero_at is None and self._level < 0:
            self._below_zero_at = self._windows[self._place][0]
        if not self._prorated:
            return Number(self._level if self._peak is None else self._peak, self._count, self._below_zero_at)
        self._close_bucket(self._level, self._windows[self._place][1])
        return Number(from_fraction(self._total), self._count, self._below_zero_at)

    def _close_bucket(self, carried: Decimal, until: int) -> None:
        """Add the open bucket, and those after it that carry a level, to the total of the window."""
        weigh = self._buckets(self._place).weigh
        self._total += Fraction(self._bucket_level) * weigh(*self._bucket)
        self._total += Fraction(carried) * weigh(self._bucket[1], until)
