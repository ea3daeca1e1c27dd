"""The effect of voids on metrics: by how much numbers change where events are left out."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from app.core.lotus import LotusEvent
from app.core.times import format_time
from app.metrics.bucket_parts import to_event
from app.metrics.catalog import read_live_metrics
from app.metrics.definition import Aggregation, Metric, MetricType
from app.metrics.query import MetricEvent
from app.metrics.sql_tail import list_named_events
from app.metrics.values import ZERO, Skip, add, read_properties
from app.store.engine import Connection
from app.store.tally import Measure

_MONTH = len("2026-11")


def measure_effect(conn: Connection, event_ids: Sequence[int]) -> Measure:
    """Return what stored events add to the live metrics, by metric, customer and month (UTC): how many count, how much.

    How much is exact for counts and sums. It is None where it depends on other events: a maximum may stay what it is.
    Void events add nothing.
    """
    by_name = _read_by_name(conn)
    return _measure(by_name, map(to_event, list_named_events(conn, event_ids, by_name)))


def measure_values(conn: Connection, values: Iterable[LotusEvent]) -> Measure:
    """Return what `measure_effect` does, of events that need not be stored."""
    return _measure(
        _read_by_name(conn),
        (
            MetricEvent(
                event.idempotency_id,
                event.event_name,
                event.customer_id,
                event.time_created,
                read_properties(event.properties),
            )
            for event in values
        ),
    )


def _read_by_name(conn: Connection) -> dict[str, list[Metric]]:
    by_name: dict[str, list[Metric]] = {}
    for metric in read_live_metrics(conn).values():
        by_name.setdefault(metric.event_name, []).append(metric)
    return by_name


def _measure(by_name: dict[str, list[Metric]], values: Iterable[MetricEvent]) -> Measure:
    effect: dict[tuple[str, str, str], tuple[int, Decimal | None]] = {}
    for event in values:
        for metric in by_name.get(event.event_name, ()):
            value = metric.read(event.properties)
            if isinstance(value, Skip) or not metric.passes(event.properties):
                continue
            key = (metric.name, event.customer_id, format_time(event.time_created)[:_MONTH])
            count, total = effect.get(key, (0, ZERO))
            amount = _amount(metric, value)
            effect[key] = count + 1, None if amount is None or total is None else add(total, amount)
    return effect


def _amount(metric: Metric, value: Decimal | str | None) -> Decimal | None:
    if metric.metric_type is MetricType.COUNTER and metric.aggregation is Aggregation.COUNT:
        return Decimal(1)
    if metric.metric_type is MetricType.COUNTER and metric.aggregation is Aggregation.SUM:
        return value if isinstance(value, Decimal) else None
    return None
