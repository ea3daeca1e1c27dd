"""Answers from pre-aggregated buckets and the few events that are not in them yet, all from one snapshot.

    whole days and quarter hours    from the buckets
    the edges of the period         from the events of the calls that the edge's bucket names
    events not folded yet           from the events of the tail

Where this is not possible (the metric is not built yet, the query groups by properties the metric does not, an event
was voided and its bucket is not rebuilt yet), there is no answer from here, and raw events are used for all of it.
"""

from collections.abc import Callable, Iterable, Sequence

from app.metrics.bucket_parts import read_group, to_event, to_metric_event, to_part
from app.metrics.definition import Metric
from app.metrics.parts import DAY, LEVELS, QUARTER, is_addable, is_removable
from app.metrics.query import Answer, Group, Query
from app.metrics.sql_buckets import BUILT, UsageMetric, find_calls, find_usage_metric, stream_buckets
from app.metrics.sql_events import EventFilter, list_changes
from app.metrics.sql_tail import (
    LAST_ID,
    FoldEvent,
    TailRow,
    has_named_event,
    list_events_between,
    list_named_events,
    list_tail,
)
from app.metrics.stream import Stream
from app.metrics.windows import Window
from app.store.engine import Connection
from app.store.record import to_key

_MAX_EDGES = 4
"""Edges that are read as events: a period has two. More of them mean that its windows are finer than buckets."""

_Pieces = tuple[list[tuple[int, range]], list[Window]]
"""(level, bucket numbers) of whole buckets, and the periods of the edges"""


_CHANGES_MAX = 50_000
"""Events stored or corrected since a moment; with more of them, raw events are as quick."""


def answer_from_buckets(conn: Connection, metric: Metric, query: Query, now: int) -> Answer | None:
    """Answer a query, or return None if only raw events can answer it. Raises BadQuery."""
    if query.as_of is None:
        stream = _read_stream(conn, metric, query, now)
        return None if stream is None else stream.answer()
    return _answer_as_of(conn, metric, query, query.as_of) if is_removable(metric) else None


def _answer_as_of(conn: Connection, metric: Metric, query: Query, moment: int) -> Answer | None:
    """Answer from what counts now, with what stopped counting after a moment and without what came after it."""
    until = query.end_at(moment)
    event_filter = EventFilter(
        event_name=metric.event_name, since=query.start, until=until, customer_id=query.customer_id
    )
    changes = list_changes(conn, event_filter, moment, _CHANGES_MAX)
    stream = None if changes is None else _read_stream(conn, metric, query, moment)
    if changes is None or stream is None:
        return None
    gone, come = changes
    for stored in gone:
        stream.add(to_metric_event(metric, stored))
    for stored in come:
        stream.remove(to_metric_event(metric, stored))
    return stream.answer()


def _read_stream(conn: Connection, metric: Metric, query: Query, now: int) -> Stream | None:
    """Return what counts now, up to the effective end of the query; None if only raw events tell."""
    stream = Stream(metric, query, now)
    select = _select_groups(metric, query)
    pieces = _cut(stream.windows)
    usage_metric = find_usage_metric(conn, metric.meaning) if is_addable(metric) else None
    if select is None or pieces is None or usage_metric is None or usage_metric.cursor != BUILT:
        return None
    tail = list_tail(conn)
    name, customer = metric.event_name, to_key(query.customer_id)
    if has_named_event(conn, (event_id for row in tail for event_id in row.voids), name):
        return None
    unfolded = {event_id for row in tail for event_id in row.events}
    ranges, edges = pieces
    for level, buckets in ranges:
        for bucket, customer_id, group, *values in stream_buckets(conn, usage_metric.id, level, buckets, customer):
            moment = bucket * LEVELS[level]
            stream.absorb(customer_id, select(read_group(group)), moment, to_part(values))
    for stored in _at_edges(conn, usage_metric, edges, customer):
        if stored.id not in unfolded:
            stream.add(to_event(stored))
    for stored in _unfolded(conn, tail, unfolded, name, customer):
        if query.start <= stored.time_created:
            stream.add(to_event(stored))
    return stream


def _at_edges(
    conn: Connection, usage_metric: UsageMetric, edges: Sequence[Window], customer: str | None
) -> Iterable[FoldEvent]:
    """Yield the events of the edges (parts of quarter hours); some of them may not be folded yet."""
    for start, end in edges:
        calls = find_calls(conn, usage_metric.id, LEVELS.index(QUARTER), start // QUARTER, customer)
        if calls is not None:
            yield from list_events_between(conn, calls, (start, end), usage_metric.event_name, customer)


def _unfolded(
    conn: Connection, tail: Sequence[TailRow], ids: set[int], name: str, customer: str | None
) -> Iterable[FoldEvent]:
    """Return the events not folded yet: of one customer through its few latest calls, of all customers by event id."""
    if customer is None or not ids:
        return list_named_events(conn, ids, [name])
    calls = (min(row.first_call for row in tail), LAST_ID)
    events = list_events_between(conn, calls, (-LAST_ID, LAST_ID), name, customer)
    return [event for event in events if event.id in ids]


def _select_groups(metric: Metric, query: Query) -> Callable[[Group], Group] | None:
    """Return a function from a group of the metric to a group of the query; None if the query adds properties."""
    names = query.groups(metric)
    if names == metric.group_by:
        return lambda group: group
    if not set(names) <= set(metric.group_by):
        return None
    places = [metric.group_by.index(name) for name in names]
    return lambda group: tuple(group[place] for place in places)


def _cut(windows: Sequence[Window]) -> _Pieces | None:
    """Cut windows into whole buckets by level, and edges within one bucket each; None if there are too many edges."""
    quarters: list[range] = []
    days: list[range] = []
    edges: list[Window] = []
    per_day = DAY // QUARTER
    for start, end in windows:
        first, last = -(-start // QUARTER), end // QUARTER
        if first > last:
            edges.append((start, end))
        else:
            edges += [(start, first * QUARTER)] if start < first * QUARTER else []
            edges += [(last * QUARTER, end)] if last * QUARTER < end else []
            first_day, last_day = -(-first // per_day), last // per_day
            if first_day < last_day:
                days.append(range(first_day, last_day))
                quarters += [range(first, first_day * per_day), range(last_day * per_day, last)]
            else:
                quarters.append(range(first, last))
        if len(edges) > _MAX_EDGES:
            return None
    by_level = {LEVELS.index(QUARTER): _joined(quarters), LEVELS.index(DAY): _joined(days)}
    return [(level, buckets) for level, ranges in by_level.items() for buckets in ranges], edges


def _joined(ranges: Iterable[range]) -> list[range]:
    """Merge adjacent ranges of an ordered sequence; empty ones are dropped."""
    merged_ranges: list[range] = []
    for buckets in ranges:
        if not buckets:
            continue
        if merged_ranges and merged_ranges[-1].stop == buckets.start:
            merged_ranges[-1] = range(merged_ranges[-1].start, buckets.stop)
        else:
            merged_ranges.append(buckets)
    return merged_ranges
