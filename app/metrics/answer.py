"""Answers over the store: from buckets where they can be, else from raw events, which gives the same answer."""

from app.metrics.answer_from_buckets import add_up
from app.metrics.definition import Metric
from app.metrics.query import Answer, MetricEvent, Query
from app.metrics.sql_events import UsageValue, Wanted, stream_values, stream_values_in_order
from app.metrics.stream import Stream, read_from
from app.metrics.values import read_properties
from app.store.engine import Connection


def answer(conn: Connection, metric: Metric, query: Query, now: int) -> Answer:
    """Answer a query at the moment `now`: all events count that are stored. Raises BadQuery."""
    return add_up(conn, metric, query, now) or answer_raw(conn, metric, query, now)


def verify(conn: Connection, metric: Metric, query: Query, now: int) -> tuple[Answer, bool]:
    """Answer a query, and say whether raw events say the same. Raises BadQuery."""
    found = answer(conn, metric, query, now)
    return found, found == answer_raw(conn, metric, query, now)


def answer_raw(conn: Connection, metric: Metric, query: Query, now: int) -> Answer:
    """Answer a query at the moment `now` from raw events alone. Raises BadQuery."""
    stream = Stream(metric, query, now)
    wanted = to_wanted(metric, query, read_from(metric, query), stream.end)
    read = stream_values_in_order if stream.needs_order else stream_values
    for stored in read(conn, wanted):
        stream.add(to_metric_event(metric, stored))
    return stream.answer()


def to_wanted(metric: Metric, query: Query, since: int | None, until: int) -> Wanted:
    """Return which events a metric looks at in [since, until)."""
    return Wanted(event_name=metric.event_name, since=since, until=until, customer_id=query.customer_id)


def to_metric_event(metric: Metric, stored: UsageValue) -> MetricEvent:
    """Return a stored event of the metric's name as metrics see it."""
    properties = read_properties(stored.properties)
    return MetricEvent(stored.base_id, metric.event_name, stored.customer_id, stored.time_created, properties)
