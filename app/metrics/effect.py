"""The effect of voids on metrics: by how much numbers change where events are left out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from app.store.events import NewEvent

_MONTH = len("2026-11")

Effects = dict[tuple[str, str, str], tuple[int, Decimal | None]]
"""By metric, customer and month: how many events, and how much they add; None: it depends on others."""


def measure_effect(conn: Connection, event_ids: Sequence[int]) -> Effects:
    """Return what events add to the live metrics, by metric, customer and month (UTC): how many count, and how much.

    How much is exact for counts and sums. It is None where it depends on other events: a maximum may stay what it is.
    Void events add nothing.
    """
    by_name = _live_by_name(conn)
    return _add_up(by_name, map(to_event, list_named_events(conn, event_ids, by_name)))


def make_measure(conn: Connection) -> Callable[[Sequence[NewEvent]], Effects]:
    """Read the live metrics; return the function that says what new events add to them, as `measure_effect` does."""
    by_name = _live_by_name(conn)

    def measure(new: Sequence[NewEvent]) -> Effects:
        lotus_events = (event.lane.events[event.position] for event in new)
        return _add_up(by_name, (_to_metric_event(event) for event in lotus_events if event.event_name in by_name))

    return measure


def _to_metric_event(event: LotusEvent) -> MetricEvent:
    properties = read_properties(event.properties)
    return MetricEvent(event.idempotency_id, event.event_name, event.customer_id, event.time_created, properties)


def _live_by_name(conn: Connection) -> dict[str, list[Metric]]:
    by_name: dict[str, list[Metric]] = {}
    for metric in read_live_metrics(conn).values():
        by_name.setdefault(metric.event_name, []).append(metric)
    return by_name


def _add_up(by_name: Mapping[str, list[Metric]], events: Iterable[MetricEvent]) -> Effects:
    effect: Effects = {}
    for event in events:
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
