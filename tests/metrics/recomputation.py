"""Metrics recomputed in the plainest way, as the judge: what the service answers must be equal to it.

compute(metric, events, query, now) -> Answer

Each window of each customer and group is computed from all events; no state is carried from one window to the next.
The terms are those of docs/metrics.md.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from decimal import Decimal
from fractions import Fraction
from itertools import groupby

from app.metrics.definition import Aggregation, Metric, MetricType
from app.metrics.query import Answer, Group, MetricEvent, Query, Row, group_order, level_group, no_value
from app.metrics.values import (
    ZERO,
    Skip,
    add,
    divide,
    format_number,
    from_fraction,
    interpolate,
    read_text,
)
from app.metrics.windows import SECOND, SECONDS_OF, Unit, Window, count_windows, cut, window_at


@dataclass(frozen=True, slots=True)
class _Value:
    """An event and the value that the metric reads from it."""

    event: MetricEvent
    read: Decimal | str | Skip | None

    @property
    def number(self) -> Decimal:
        assert isinstance(self.read, Decimal)
        return self.read


def compute(metric: Metric, events: Iterable[MetricEvent], query: Query, now: int) -> Answer:
    """Answer a query as of `now` (microseconds since 1970) from the complete list of events, in any order.

    Raises:
        BadQuery: the query cannot be answered; the message says why.

    """
    query = query.checked(metric)
    end = query.end_at(now)
    names = query.groups(metric)
    by_key: dict[tuple[str, Group], list[_Value]] = {}
    for event in sorted(events, key=lambda event: (event.time_created, event.base_id)):
        if takes_event(metric, event) and event.time_created < end and query.customer_id in {None, event.customer_id}:
            group = tuple(read_text(event.properties, name) for name in names)
            by_key.setdefault((event.customer_id, group), []).append(_Value(event, metric.read(event.properties)))
    windows = list(query.windows(end))
    rows: list[Row] = []
    for key in sorted(by_key, key=group_order):
        by_window = [(window, _row(metric, query, key, by_key[key], window)) for window in windows]
        if any(row for _, row in by_window):
            rows += [row or empty_row(metric, query, key, window) for window, row in by_window if row or query.fill]
    if query.fill and not rows and query.customer_id is not None and not names:
        rows = [empty_row(metric, query, (query.customer_id, ()), window) for window in windows]
    return Answer(
        metric=metric.name,
        version=metric.digest.hex(),
        start=query.start,
        end=max(query.start, end),
        tz=query.tz,
        rows=rows,
    )


def takes_event(metric: Metric, event: MetricEvent) -> bool:
    """Tell whether a metric takes an event: the name matches, it is not void, and it passes all filters."""
    return event.event_name == metric.event_name and not event.voided and metric.passes(event.properties)


def empty_row(metric: Metric, query: Query, key: tuple[str, Group], window: Window) -> Row:
    """Return the row of a window without events."""
    return _to_row(metric, query, key, window, [], no_value(metric))


def _to_row(
    metric: Metric,
    query: Query,
    key: tuple[str, Group],
    window: Window,
    inside: Sequence[_Value],
    value: str | None,
    below_zero_at: int | None = None,
) -> Row:
    skipped: dict[str, int] = {}
    for item in inside:
        if isinstance(item.read, Skip):
            skipped[item.read.value] = skipped.get(item.read.value, 0) + 1
    customer, group = key
    return Row(
        customer_id=customer,
        group=dict(zip(query.groups(metric), group, strict=True)),
        window_start=window[0],
        window_end=window[1],
        value=value,
        events_count=len(inside) - sum(skipped.values()),
        skipped=dict(sorted(skipped.items())),
        below_zero_at=below_zero_at,
    )


def _row(metric: Metric, query: Query, key: tuple[str, Group], values: list[_Value], window: Window) -> Row | None:
    """Return the row of one window, or None if it is empty. `values` are ordered by time, then by base id."""
    start, end = window
    inside = [item for item in values if start <= item.event.time_created < end]
    good = [item for item in values if not isinstance(item.read, Skip)]
    below_zero_at = None
    if metric.metric_type is MetricType.GAUGE:
        levels = _list_levels(metric, good)
        if not inside and not _level_before(levels, start):
            return None
        number: Decimal | None = _gauge(metric, query.zone(), levels, window)
        below_zero_at = min((moment for moment, level in _held_in(levels, window) if level < 0), default=None)
    elif not inside:
        return None
    elif metric.metric_type is MetricType.RATE:
        number = _rate(metric, good, window)
    else:
        items = [item for item in inside if not isinstance(item.read, Skip)]
        number = _counter(metric, items)
    value = None if number is None else format_number(number)
    return _to_row(metric, query, key, window, inside, value, below_zero_at)


def _counter(metric: Metric, items: list[_Value]) -> Decimal | None:
    if metric.aggregation is Aggregation.COUNT:
        return Decimal(len(items))
    if metric.aggregation is Aggregation.UNIQUE:
        return Decimal(len({item.read for item in items}))
    if metric.aggregation is Aggregation.SUM:
        return _sum(items)
    return _of_numbers(metric, items) if items else None


def _of_numbers(metric: Metric, items: list[_Value]) -> Decimal:
    """Aggregate a non-empty list of numbers, ordered by time and then by base id."""
    numbers = [item.number for item in items]
    match metric.aggregation:
        case Aggregation.MAX:
            return max(numbers)
        case Aggregation.MIN:
            return min(numbers)
        case Aggregation.AVERAGE:
            return divide(_sum(items), len(items))
        case Aggregation.LATEST:
            return numbers[-1]
    assert metric.percentile is not None
    return interpolate(sorted(numbers), metric.percentile)


def _sum(values: Iterable[_Value]) -> Decimal:
    total = ZERO
    for item in values:
        total = add(total, item.number)
    return total


def _rate(metric: Metric, good: list[_Value], window: Window) -> Decimal | None:
    """Return the highest total in the look-back of any event of the window; look-backs may start before the window."""
    assert metric.granularity is not None
    span = SECONDS_OF[metric.granularity]
    totals: list[Decimal] = []
    for item in good:
        if window[0] <= item.event.time_created < window[1]:
            at = item.event.time_created // SECOND
            within = [other for other in good if at - span <= other.event.time_created // SECOND <= at]
            match metric.aggregation:
                case Aggregation.COUNT:
                    totals.append(Decimal(len(within)))
                case Aggregation.SUM:
                    totals.append(_sum(within))
                case _:
                    totals.append(max(other.number for other in within))
    if totals:
        return max(totals)
    return None if metric.aggregation is Aggregation.MAX else ZERO


_Levels = list[tuple[int, Decimal]]
"""(moment, level from that moment on), ordered by time. All events of one moment take effect together."""


def _list_levels(metric: Metric, good: list[_Value]) -> _Levels:
    levels: _Levels = []
    held: dict[Group, Decimal] = {}
    for moment, at_once in groupby(good, key=lambda item: item.event.time_created):
        for item in at_once:
            # A total replaces only the level of its own group; among several at one moment, the greatest base id wins.
            group = level_group(metric, item.event)
            held[group] = item.number if metric.event_type == "total" else add(held.get(group, ZERO), item.number)
        level = ZERO
        for part in held.values():
            level = add(level, part)
        levels.append((moment, level))
    return levels


def _level_before(levels: _Levels, moment: int) -> Decimal:
    """Return the level just before a moment."""
    return next((level for at, level in reversed(levels) if at < moment), ZERO)


def _levels_in(levels: _Levels, window: Window) -> list[Decimal]:
    """Return the levels set by the events of a window."""
    return [level for at, level in levels if window[0] <= at < window[1]]


def _held_in(levels: _Levels, window: Window) -> _Levels:
    """Return the levels in effect during a window, each with its start, including the level at the window's start."""
    inside = [(at, level) for at, level in levels if window[0] <= at < window[1]]
    if inside and inside[0][0] == window[0]:
        return inside
    return [(window[0], _level_before(levels, window[0])), *inside]


def _gauge(metric: Metric, zone: tzinfo, levels: _Levels, window: Window) -> Decimal:
    start, end = window
    if metric.proration is None:
        return max(level for _, level in _held_in(levels, window))
    buckets = list(cut(zone, metric.proration, start, end))
    total = Fraction(0)
    for first, last in buckets:
        part = (max(first, start), min(last, end))
        level = max(_levels_in(levels, part), default=_level_before(levels, part[0]))
        divisor = units_in(metric, zone, part[0]) if metric.granularity else Fraction(len(buckets))
        total += Fraction(level) / divisor
    return from_fraction(total)


def units_in(metric: Metric, zone: tzinfo, moment: int) -> Fraction:
    """Return the number of proration units in the granularity around a moment: 28 to 31 days, 23 to 25 hours."""
    assert metric.granularity is not None
    assert metric.proration is not None
    start, end = window_at(zone, metric.granularity, moment)
    if metric.proration is Unit.WEEK:
        # Months are not whole weeks: count days.
        return Fraction(count_windows(zone, Unit.DAY, start, end), 7)
    return Fraction(count_windows(zone, metric.proration, start, end))
