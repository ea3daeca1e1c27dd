"""The effect of voids on metrics: by how much numbers change where events are left out."""

from collections.abc import Sequence
from decimal import Decimal

from app.core.times import format_time
from app.metrics.bucket_parts import to_event
from app.metrics.catalog import read_live_metrics
from app.metrics.definition import Aggregation, Metric, MetricType
from app.metrics.sql_tail import list_named_events
from app.metrics.values import ZERO, Skip, add
from app.store.engine import Connection

_MONTH = len("2026-11")


def measure_effect(
    conn: Connection, event_ids: Sequence[int]
) -> dict[tuple[str, str, str], tuple[int, Decimal | None]]:
    """Return what events add to the live metrics, by metric, customer and month (UTC): how many count, and how much.

    How much is exact for counts and sums. It is None where it depends on other events: a maximum may stay what it is.
    Void events add nothing.
    """
    by_name: dict[str, list[Metric]] = {}
    for metric in read_live_metrics(conn).values():
        by_name.setdefault(metric.event_name, []).append(metric)
    effect: dict[tuple[str, str, str], tuple[int, Decimal | None]] = {}
    for stored in list_named_events(conn, event_ids, by_name):
        event = to_event(stored)
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
