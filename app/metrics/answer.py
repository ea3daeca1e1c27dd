"""Answers from the database: from buckets where possible, else from raw events. Both give the same answer."""

from app.metrics.answer_from_buckets import answer_from_buckets
from app.metrics.definition import Metric
from app.metrics.query import Answer, MetricEvent, Query
from app.metrics.sql_events import EventFilter, UsageValue, stream_values, stream_values_in_order
from app.metrics.stream import Stream, read_from
from app.metrics.values import read_properties
from app.store.engine import Connection


def answer(conn: Connection, metric: Metric, query: Query, now: int) -> Answer:
    """Answer a query as of `now` from all stored events. Raises BadQuery."""
    return answer_from_buckets(conn, metric, query, now) or answer_raw(conn, metric, query, now)


def verify(conn: Connection, metric: Metric, query: Query, now: int) -> tuple[Answer, bool]:
    """Answer a query; also return whether raw events give the same answer. Raises BadQuery."""
    result = answer(conn, metric, query, now)
    return result, result == answer_raw(conn, metric, query, now)


def answer_raw(conn: Connection, metric: Metric, query: Query, now: int) -> Answer:
    """Answer a query as of `now` from raw events only. Raises BadQuery."""
    stream = Stream(metric, query, now)
    event_filter = to_event_filter(metric, query, read_from(metric, query), stream.end)
    read = stream_values_in_order if stream.needs_order else stream_values
    for stored in read(conn, event_filter):
        stream.add(to_metric_event(metric, stored))
    return stream.answer()


def to_event_filter(metric: Metric, query: Query, since: int | None, until: int) -> EventFilter:
    """Return the filter for the events of a metric in [since, until)."""
    return EventFilter(event_name=metric.event_name, since=since, until=until, customer_id=query.customer_id)


def to_metric_event(metric: Metric, stored: UsageValue) -> MetricEvent:
    """Convert a stored event that has the metric's event name."""
    properties = read_properties(stored.properties)
    return MetricEvent(stored.base_id, metric.event_name, stored.customer_id, stored.time_created, properties)
