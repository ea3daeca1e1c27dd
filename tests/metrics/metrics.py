"""Metrics, events and queries for the tests of metrics; a test says only what it is about."""

import json
from collections.abc import Iterable
from typing import Any

from app.core.times import parse_time
from app.metrics.definition import Metric, parse_metric
from app.metrics.query import Answer, MetricEvent, Query, Row
from tests.metrics.recomputation import compute

LATER = parse_time("2100-01-01")
"""A moment at which no event of these tests lies in the future."""


def a_metric(name: str = "a_metric", **keys: Any) -> Metric:
    """Return a metric of the events `use`; by default the sum of their `n`. A key that is None is left out."""
    said = {
        "metric_type": "counter",
        "event_name": "use",
        "usage_aggregation_type": None if keys.get("metric_type") == "gauge" else "sum",
        "property_name": "n",
        **keys,
    }
    # YAML is JSON in other clothes.
    return parse_metric(name, json.dumps({key: value for key, value in said.items() if value is not None}))


def some_events(*told: tuple[Any, ...], customer: str = "ann", event_name: str = "use") -> list[MetricEvent]:
    """Return events, in the order of their base ids, from (time, n) or (time, properties)."""
    return [
        MetricEvent(
            base_id=f"e-{at}",
            event_name=event_name,
            customer_id=customer,
            time_created=parse_time(time),
            properties=value if isinstance(value, dict) else {"n": value},
        )
        for at, (time, value) in enumerate(told, start=1)
    ]


def a_query(start: str = "2026-10-01", end: str = "2026-11-01", **more: Any) -> Query:
    """Return a query about October 2026."""
    return Query(start=parse_time(start), end=parse_time(end), **more)


def answer(metric: Metric, events: Iterable[MetricEvent], query: Query | None = None, now: int = LATER) -> Answer:
    """Return the reference's answer."""
    return compute(metric, events, query or a_query(), now)


def rows(metric: Metric, events: Iterable[MetricEvent], query: Query | None = None, now: int = LATER) -> list[Row]:
    """Return the rows of the reference's answer."""
    return answer(metric, events, query, now).rows


def value(metric: Metric, events: Iterable[MetricEvent], query: Query | None = None, now: int = LATER) -> str | None:
    """Return the one value of the answer."""
    (row,) = rows(metric, events, query, now)
    return row.value


def values(metric: Metric, events: Iterable[MetricEvent], query: Query, now: int = LATER) -> list[str | None]:
    """Return the values of the answer, window by window."""
    return [row.value for row in rows(metric, events, query, now)]


def of_values(metric: Metric, *numbers: Any) -> Row:
    """Return the row that events with these values make, a second apart."""
    (row,) = rows(metric, some_events(*((f"2026-10-05T10:00:{at:02}Z", one) for at, one in enumerate(numbers))))
    return row
