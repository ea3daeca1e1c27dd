"""The proration buckets of one window, and the share of the granularity that each covers.

A level that holds over many buckets is weighed with all of them at once, so a month by seconds costs no more than a
month by days.
"""

from bisect import bisect_right
from datetime import tzinfo
from fractions import Fraction
from typing import Protocol

from app.metrics.definition import Metric
from app.metrics.windows import SECOND, SECONDS_OF, Unit, Window, count_windows, cut, window_at


class Buckets(Protocol):
    """The buckets of one window."""

    def at(self, moment: int) -> Window:
        """Return the bucket around a moment of the window, clipped to the window."""

    def weigh(self, start: int, end: int) -> Fraction:
        """Return the weight of the buckets between two edges: each counts 1 / (number of units in its granularity)."""


def to_buckets(metric: Metric, zone: tzinfo, window: Window) -> Buckets:
    """Return the buckets of a window."""
    unit = metric.proration
    if unit in {Unit.SECOND, Unit.MINUTE}:
        return _EvenBuckets(unit, metric.granularity, zone, window)
    assert unit is not None  # noqa: S101  without proration there are no buckets
    return _ListedBuckets(unit, metric.granularity, zone, window)


class _ListedBuckets:
    """Hours and longer: few enough buckets for a list."""

    def __init__(self, unit: Unit, granularity: Unit | None, zone: tzinfo, window: Window) -> None:
        start, end = window
        self._edges = [max(first, start) for first, _ in cut(zone, unit, start, end)]
        shares = [Fraction(1, len(self._edges))] * len(self._edges)
        if granularity is not None:
            shares = []
            until, share = start, Fraction(0)
            for edge in self._edges:
                if edge >= until:
                    first, until = window_at(zone, granularity, edge)
                    share = 1 / units(zone, unit, (first, until))
                shares.append(share)
        self._before = [Fraction(0)]
        for share_of_bucket in shares:
            self._before.append(self._before[-1] + share_of_bucket)
        self._edges.append(end)

    def at(self, moment: int) -> Window:
        place = bisect_right(self._edges, moment)
        return self._edges[place - 1], self._edges[place]

    def weigh(self, start: int, end: int) -> Fraction:
        if start >= end:
            return Fraction(0)
        return self._before[self._place(end)] - self._before[self._place(start)]

    def _place(self, edge: int) -> int:
        return bisect_right(self._edges, edge) - 1


class _EvenBuckets:
    """Seconds or minutes: all of one size, since clocks change by whole minutes."""

    def __init__(self, unit: Unit, granularity: Unit | None, zone: tzinfo, window: Window) -> None:
        self._start, self._end = window
        self._size = SECONDS_OF[unit] * SECOND
        self._base = window_at(zone, unit, self._start)[0]
        spans = [window] if granularity is None else list(cut(zone, granularity, self._start, self._end))
        self._spans = [max(first, self._start) for first, _ in spans]
        self._units = [
            Fraction(self._count(*window)) if granularity is None else units(zone, unit, span) for span in spans
        ]
        self._before = [Fraction(0)]
        for place, first in enumerate(self._spans):
            last = self._spans[place + 1] if place + 1 < len(self._spans) else self._end
            self._before.append(self._before[-1] + self._count(first, last) / self._units[place])

    def at(self, moment: int) -> Window:
        first = self._base + (moment - self._base) // self._size * self._size
        return max(first, self._start), min(first + self._size, self._end)

    def weigh(self, start: int, end: int) -> Fraction:
        return self._weight_before(end) - self._weight_before(start) if start < end else Fraction(0)

    def _weight_before(self, edge: int) -> Fraction:
        place = bisect_right(self._spans, edge) - 1
        return self._before[place] + self._count(self._spans[place], edge) / self._units[place]

    def _count(self, start: int, end: int) -> int:
        """Count the buckets that begin in [start, end); the first of a window counts even if it begins earlier."""
        return self._place(end) - self._place(start)

    def _place(self, edge: int) -> int:
        # The index of the bucket that begins here; the start of the window stands for the bucket that it clips.
        if edge <= self._start:
            return 0
        return -((self._base - edge) // self._size)


def units(zone: tzinfo, unit: Unit, granularity: Window) -> Fraction:
    """Return the number of proration units in a granularity: 28 to 31 days, 23 to 25 hours."""
    if unit is Unit.WEEK:
        # Months are not whole weeks: count days.
        return Fraction(count_windows(zone, Unit.DAY, *granularity), 7)
    return Fraction(count_windows(zone, unit, *granularity))
