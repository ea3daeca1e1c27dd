"""What a metric says about a list of events: the plain, slow reference. Whatever answers faster must say the same.

compute(metric, events, query, now) -> Answer

Every window of every customer and group is computed from all events anew; nothing is carried from one to the next.
The words are those of docs/metrics.md.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from decimal import Decimal
from fractions import Fraction
from itertools import groupby

from app.metrics.definition import Aggregation, Metric, MetricType
from app.metrics.query import Answer, Group, MetricEvent, Query, Row, group_order, no_value
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
    """An event and what it adds."""

    event: MetricEvent
    read: Decimal | str | Skip | None

    @property
    def number(self) -> Decimal:
        assert isinstance(self.read, Decimal)  # noqa: S101  by the definition of the metric
        return self.read


def compute(metric: Metric, events: Iterable[MetricEvent], query: Query, now: int) -> Answer:
    """Answer a query at the moment `now` (microseconds since 1970) from all events there are, in any order.

    Raises:
        BadQuery: the query cannot be answered; says why.

    """
    query = query.checked(metric)
    end = query.end_at(now)
    names = query.groups(metric)
    by_key: dict[tuple[str, Group], list[_Value]] = {}
    for event in sorted(events, key=lambda one: (one.time_created, one.base_id)):
        if is_taken(metric, event) and event.time_created < end and query.customer_id in {None, event.customer_id}:
            group = tuple(read_text(event.properties, name) for name in names)
            by_key.setdefault((event.customer_id, group), []).append(_Value(event, metric.read(event.properties)))
    windows = list(query.windows(end))
    rows: list[Row] = []
    for key in sorted(by_key, key=group_order):
        found = [(window, _row(metric, query, key, by_key[key], window)) for window in windows]
        if any(row for _, row in found):
            rows += [row or empty_row(metric, query, key, window) for window, row in found if row or query.fill]
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


def is_taken(metric: Metric, event: MetricEvent) -> bool:
    """Tell whether a metric looks at an event: it has the name, it is not void, it passes all filters."""
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
    for one in inside:
        if isinstance(one.read, Skip):
            skipped[one.read.value] = skipped.get(one.read.value, 0) + 1
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
    """Return the number of one window; None where it is empty. `values` are in order of time, then of base id."""
    start, end = window
    inside = [one for one in values if start <= one.event.time_created < end]
    good = [one for one in values if not isinstance(one.read, Skip)]
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
        counted = [one for one in inside if not isinstance(one.read, Skip)]
        number = _counter(metric, counted)
    value = None if number is None else format_number(number)
    return _to_row(metric, query, key, window, inside, value, below_zero_at)


def _counter(metric: Metric, counted: list[_Value]) -> Decimal | None:
    if metric.aggregation is Aggregation.COUNT:
        return Decimal(len(counted))
    if metric.aggregation is Aggregation.UNIQUE:
        return Decimal(len({one.read for one in counted}))
    if metric.aggregation is Aggregation.SUM:
        return _sum(counted)
    return _of_some(metric, counted) if counted else None


def _of_some(metric: Metric, counted: list[_Value]) -> Decimal:
    """Return what there is only where there are values. They are in order of time, then of base id."""
    numbers = [one.number for one in counted]
    match metric.aggregation:
        case Aggregation.MAX:
            return max(numbers)
        case Aggregation.MIN:
            return min(numbers)
        case Aggregation.AVERAGE:
            return divide(_sum(counted), len(counted))
        case Aggregation.LATEST:
            return numbers[-1]
    assert metric.percentile is not None  # noqa: S101  parse_metric asks for it
    return interpolate(sorted(numbers), metric.percentile)


def _sum(values: Iterable[_Value]) -> Decimal:
    total = ZERO
    for one in values:
        total = add(total, one.number)
    return total


def _rate(metric: Metric, good: list[_Value], window: Window) -> Decimal | None:
    """Return the most that any event of the window sees when it looks back, before the window too."""
    assert metric.granularity is not None  # noqa: S101  parse_metric asks for it
    span = SECONDS_OF[metric.granularity]
    seen: list[Decimal] = []
    for one in good:
        if window[0] <= one.event.time_created < window[1]:
            at = one.event.time_created // SECOND
            within = [other for other in good if at - span <= other.event.time_created // SECOND <= at]
            match metric.aggregation:
                case Aggregation.COUNT:
                    seen.append(Decimal(len(within)))
                case Aggregation.SUM:
                    seen.append(_sum(within))
                case _:
                    seen.append(max(other.number for other in within))
    if seen:
        return max(seen)
    return None if metric.aggregation is Aggregation.MAX else ZERO


_Levels = list[tuple[int, Decimal]]
"""(moment, the level from then on), in order of time. All that happens at one moment happens at once."""


def _list_levels(metric: Metric, good: list[_Value]) -> _Levels:
    levels: _Levels = []
    held: dict[Group, Decimal] = {}
    for moment, at_once in groupby(good, key=lambda one: one.event.time_created):
        for one in at_once:
            # A total replaces the level of its own group alone, of several at one moment the greatest base id.
            group = level_group(metric, one.event)
            held[group] = one.number if metric.event_type == "total" else add(held.get(group, ZERO), one.number)
        level = ZERO
        for part in held.values():
            level = add(level, part)
        levels.append((moment, level))
    return levels


def level_group(metric: Metric, event: MetricEvent) -> Group:
    """Return which level a gauge's event is about: totals have one for each group of the metric's own."""
    return tuple(read_text(event.properties, name) for name in metric.group_by) if metric.event_type == "total" else ()


def _level_before(levels: _Levels, moment: int) -> Decimal:
    """Return the level that holds when a moment begins."""
    return next((level for at, level in reversed(levels) if at < moment), ZERO)


def _levels_in(levels: _Levels, window: Window) -> list[Decimal]:
    """Return the levels that the events of a window make."""
    return [level for at, level in levels if window[0] <= at < window[1]]


def _held_in(levels: _Levels, window: Window) -> _Levels:
    """Return the levels that hold in a window, the one that it begins with included, and from when on."""
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
    """Return how many proration units the granularity has that a moment lies in: 28 to 31 days, 23 to 25 hours."""
    assert metric.granularity is not None  # noqa: S101  for `total` nobody asks
    assert metric.proration is not None  # noqa: S101
    start, end = window_at(zone, metric.granularity, moment)
    if metric.proration is Unit.WEEK:
        # Weeks do not fit into months.
        return Fraction(count_windows(zone, Unit.DAY, start, end), 7)
    return Fraction(count_windows(zone, metric.proration, start, end))
