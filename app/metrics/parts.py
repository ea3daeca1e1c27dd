"""Partial aggregates of one metric, customer and group, which can be merged in any order.

`part.take(metric, event, call_id)` adds one event, `part.merge(metric, other)` the events of another part.
"""

from dataclasses import dataclass, field
from decimal import Decimal

from app.metrics.definition import Aggregation, Metric, MetricType
from app.metrics.query import MetricEvent
from app.metrics.values import Skip, add

QUARTER = 900_000_000
DAY = 86_400_000_000

LEVELS = (QUARTER, DAY)
"""Size of a bucket in microseconds, by level. Today, days begin on a quarter hour of UTC in every time zone."""

_ADDABLE = frozenset(
    {
        Aggregation.COUNT,
        Aggregation.SUM,
        Aggregation.AVERAGE,
        Aggregation.MIN,
        Aggregation.MAX,
        Aggregation.LATEST,
    }
)


_REMOVABLE = frozenset({Aggregation.COUNT, Aggregation.SUM, Aggregation.AVERAGE})


def is_removable(metric: Metric) -> bool:
    """Tell whether an event can be taken out of a number of a metric: of a maximum, the next one is not known."""
    return metric.metric_type is MetricType.COUNTER and metric.aggregation in _REMOVABLE


def is_addable(metric: Metric) -> bool:
    """Tell whether the numbers of a metric can be merged from parts: distinct values and percentiles cannot."""
    return metric.metric_type is MetricType.COUNTER and metric.aggregation in _ADDABLE


def adds_up(metric: Metric) -> bool:
    """Tell whether the numbers of windows, customers and groups can be summed."""
    return metric.metric_type is MetricType.COUNTER and metric.aggregation in {Aggregation.COUNT, Aggregation.SUM}


@dataclass(slots=True)
class Part:
    """The aggregate of some events. Which fields are set depends on the aggregation."""

    count: int = 0
    value: Decimal | None = None
    """The sum, or the largest, smallest or latest value."""
    best_at: int | None = None
    best_base_id: str | None = None
    """For the latest value: its time, and the greatest base id of that instant."""
    skipped: dict[str, int] = field(default_factory=dict)
    first_call: int = 0
    last_call: int = 0
    """The smallest and largest id of the calls that made these events."""

    def take(self, metric: Metric, event: MetricEvent, call_id: int) -> None:
        """Add an event that passes the metric's filters."""
        self._span(call_id, call_id)
        read = metric.read(event.properties)
        if isinstance(read, Skip):
            self.skipped[read.value] = self.skipped.get(read.value, 0) + 1
            return
        self._add(metric, 1, read if isinstance(read, Decimal) else None, (event.time_created, event.base_id))

    def merge(self, metric: Metric, other: "Part") -> None:
        """Add the events of another part."""
        self._span(other.first_call, other.last_call)
        for reason, count in other.skipped.items():
            self.skipped[reason] = self.skipped.get(reason, 0) + count
        if other.count:
            self._add(metric, other.count, other.value, (other.best_at or 0, other.best_base_id or ""))

    def _span(self, first: int, last: int) -> None:
        if not (self.count or self.skipped or self.last_call):
            self.first_call, self.last_call = first, last
            return
        self.first_call = min(self.first_call, first)
        self.last_call = max(self.last_call, last)

    def _add(self, metric: Metric, count: int, value: Decimal | None, rank: tuple[int, str]) -> None:
        self.count += count
        if value is None:
            return
        match metric.aggregation:
            case Aggregation.SUM | Aggregation.AVERAGE:
                self.value = value if self.value is None else add(self.value, value)
            case Aggregation.MAX:
                self.value = value if self.value is None else max(self.value, value)
            case Aggregation.MIN:
                self.value = value if self.value is None else min(self.value, value)
            case Aggregation.LATEST:
                if self.best_at is None or self.best_base_id is None or rank > (self.best_at, self.best_base_id):
                    self.value, (self.best_at, self.best_base_id) = value, rank
