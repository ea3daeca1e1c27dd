"""Answers from the database: from buckets where possible, else from raw events. Both give the same answer."""

import msgspec

from app.metrics.answer_from_buckets import answer_from_buckets
from app.metrics.bucket_parts import to_metric_event
from app.metrics.definition import Metric
from app.metrics.query import Answer, Query
from app.metrics.sql_events import EventFilter, stream_values, stream_values_in_order
from app.metrics.stream import Stream, read_from
from app.store.engine import Connection
from app.store.moment import was_by_arrival

BY_ARRIVAL = "this database did not keep yet when each event was stored, so each counts from when its call arrived"
"""What an answer as of such a moment says."""


def answer(conn: Connection, metric: Metric, query: Query, now: int) -> Answer:
    """Answer a query as of its moment, else of `now`, from all stored events. Raises BadQuery.

    As of a moment, `conn` is of `app.store.moment.reading_at`.
    """
    result = answer_from_buckets(conn, metric, query, now) or answer_raw(conn, metric, query, now)
    return msgspec.structs.replace(result, by_arrival=is_by_arrival(conn, query))


def verify(conn: Connection, metric: Metric, query: Query, now: int) -> tuple[Answer, bool]:
    """Answer a query; also return whether raw events give the same answer. Raises BadQuery."""
    result = answer(conn, metric, query, now)
    return result, result.rows == answer_raw(conn, metric, query, now).rows


def answer_raw(conn: Connection, metric: Metric, query: Query, now: int) -> Answer:
    """Answer a query as of its moment, else of `now`, from raw events only. Raises BadQuery."""
    stream = Stream(metric, query, now)
    event_filter = to_event_filter(metric, query, read_from(metric, query), stream.end)
    read = stream_values_in_order if stream.needs_order else stream_values
    for stored in read(conn, event_filter):
        stream.add(to_metric_event(metric, stored))
    return stream.answer()


def is_by_arrival(conn: Connection, query: Query) -> bool:
    """Tell whether the moment of a query is so old that the arrival of its call dates an event."""
    return query.as_of is not None and was_by_arrival(conn, query.as_of)


def to_event_filter(metric: Metric, query: Query, since: int | None, until: int) -> EventFilter:
    """Return the filter for the events of a metric in [since, until)."""
    return EventFilter(
        event_name=metric.event_name, since=since, until=until, customer_id=query.customer_id, as_of=query.as_of
    )
