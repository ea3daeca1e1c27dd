"""Answers over the store, from raw events: by the one engine that a test holds equal to the reference."""

from app.core.json_text import decode
from app.core.metric_definition import Metric
from app.core.metric_query import Answer, MetricEvent, Query
from app.core.metric_stream import Stream, read_from
from app.store.engine import Connection
from app.store.usage import UsageValue, Wanted, stream_values, stream_values_in_order


def answer(conn: Connection, metric: Metric, query: Query, now: int) -> Answer:
    """Answer a query at the moment `now` from all events that are stored. Raises BadQuery."""
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
    properties = decode(stored.properties.encode())
    return MetricEvent(stored.id, metric.event_name, stored.customer_id, stored.time_created, properties)
