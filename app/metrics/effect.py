"""The effect of corrections on metrics: what events add to the numbers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache, partial

from app.core.lotus import LotusEvent
from app.core.times import format_time
from app.metrics.catalog import read_live_metrics
from app.metrics.definition import Aggregation, Metric, MetricType
from app.metrics.parts import DAY
from app.metrics.values import ZERO, Skip, add, read_properties
from app.store.engine import Connection
from app.store.events import EventValues
from app.store.tally import Measure

_MONTH = len("2026-11")

Effects = dict[tuple[str, str, str], tuple[int, Decimal | None]]
"""By metric, customer and month: how many events, and how much they add; None: it depends on others."""


def measure_effect(conn: Connection, events: Sequence[EventValues]) -> Measure:
    """Return what events add to the live metrics, by metric, customer and month (UTC): how many count, and how much.

    How much is exact for counts and sums. It is None where it depends on other events: a maximum may stay what it is.
    """
    return make_measure(conn)(events) if events else {}


def measure_values(conn: Connection, values: Iterable[LotusEvent]) -> Measure:
    """Return what `measure_effect` does, of events that need not be stored."""
    return make_measure(conn)(
        [
            EventValues(
                0, event.idempotency_id, event.event_name, event.customer_id, event.time_created, event.properties
            )
            for event in values
        ]
    )


def make_measure(conn: Connection) -> Callable[[Sequence[EventValues]], Measure]:
    """Read the live metrics; return the function that says what events add to them, as `measure_effect` does."""
    by_name: dict[str, list[Metric]] = {}
    for metric in read_live_metrics(conn).values():
        by_name.setdefault(metric.event_name, []).append(metric)
    return partial(_add_up, by_name)


def _add_up(by_name: Mapping[str, list[Metric]], events: Iterable[EventValues]) -> Measure:
    effect: dict[tuple[str, str, str], tuple[int, Decimal | None]] = {}
    for values in events:
        metrics = by_name.get(values.event_name)
        if metrics is None:
            continue
        properties, month = read_properties(values.properties), month_of(values.time_created)
        for metric in metrics:
            value = metric.read(properties)
            if isinstance(value, Skip) or not metric.passes(properties):
                continue
            key = (metric.name, values.customer_id, month)
            count, total = effect.get(key, (0, ZERO))
            amount = _amount(metric, value)
            effect[key] = count + 1, None if amount is None or total is None else add(total, amount)
    return effect


def month_of(micros: int) -> str:
    """Return the month of a moment in UTC: `2026-11`."""
    return _month_of_day(micros // DAY)


@lru_cache(maxsize=1000)
def _month_of_day(day: int) -> str:
    return format_time(day * DAY)[:_MONTH]


def _amount(metric: Metric, value: Decimal | str | None) -> Decimal | None:
    if metric.metric_type is MetricType.COUNTER and metric.aggregation is Aggregation.COUNT:
        return Decimal(1)
    if metric.metric_type is MetricType.COUNTER and metric.aggregation is Aggregation.SUM:
        return value if isinstance(value, Decimal) else None
    return None
