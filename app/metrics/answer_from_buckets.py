"""Answers from buckets: what is added up already, and the few events that are not, all of one moment.

    whole days and quarter hours    from the buckets
    what is left at the edges       from the events of the calls that the edge's bucket names
    what no fold has seen yet       from the events of the tail

Where that cannot be (the metric is not built yet, the groups are others than its own, an event was made void a moment
ago), nothing is answered here, and all of it is made of raw events.
"""

from collections.abc import Callable, Iterable, Sequence

from app.metrics.bucket_parts import read_group, to_event, to_part
from app.metrics.definition import Metric
from app.metrics.parts import DAY, LEVELS, QUARTER, is_addable
from app.metrics.query import Answer, Group, Query
from app.metrics.sql_buckets import BUILT, UsageMetric, find_calls, find_usage_metric, stream_buckets
from app.metrics.sql_tail import (
    LAST_ID,
    FoldEvent,
    TailRow,
    any_named,
    list_between,
    list_named,
    list_tail,
)
from app.metrics.stream import Stream
from app.metrics.windows import Window
from app.store.engine import Connection
from app.store.keys import to_key

_MAX_EDGES = 4
"""Pieces that are read as events: a period has two ends. More of them say that its windows are finer than buckets."""

_Pieces = tuple[list[tuple[int, range]], list[Window]]
"""(level and buckets), and the periods of the edges"""


def add_up(conn: Connection, metric: Metric, query: Query, now: int) -> Answer | None:
    """Answer a query at the moment `now`; None where only raw events can. Raises BadQuery."""
    stream = Stream(metric, query, now)
    select = _select_groups(metric, query)
    pieces = _cut(stream.windows)
    kept = find_usage_metric(conn, metric.meaning) if is_addable(metric) else None
    if select is None or pieces is None or kept is None or kept.cursor != BUILT:
        return None
    tail = list_tail(conn)
    name, customer = metric.event_name, to_key(query.customer_id)
    if any_named(conn, (one for row in tail for one in row.voids), name):
        return None
    unfolded = {one for row in tail for one in row.events}
    ranges, edges = pieces
    for level, some in ranges:
        for bucket, customer_id, group, *values in stream_buckets(conn, kept.id, level, some, customer):
            moment = bucket * LEVELS[level]
            stream.absorb(customer_id, select(read_group(group)), moment, to_part(values))
    for stored in _at_edges(conn, kept, edges, customer):
        if stored.id not in unfolded:
            stream.add(to_event(stored))
    for stored in _unfolded(conn, tail, unfolded, name, customer):
        if query.start <= stored.time_created:
            stream.add(to_event(stored))
    return stream.answer()


def _at_edges(
    conn: Connection, kept: UsageMetric, edges: Sequence[Window], customer: str | None
) -> Iterable[FoldEvent]:
    """Give the events of parts of quarter hours, with some that no fold has seen."""
    for start, end in edges:
        calls = find_calls(conn, kept.id, LEVELS.index(QUARTER), start // QUARTER, customer)
        if calls is not None:
            yield from list_between(conn, calls, (start, end), kept.event_name, customer)


def _unfolded(
    conn: Connection, tail: Sequence[TailRow], ids: set[int], name: str, customer: str | None
) -> Iterable[FoldEvent]:
    """Give the events that no fold has seen: of one customer by its last calls, which are few; else by their ids."""
    if customer is None or not ids:
        return list_named(conn, ids, [name])
    calls = (min(row.first_call for row in tail), LAST_ID)
    found = list_between(conn, calls, (-LAST_ID, LAST_ID), name, customer)
    return [one for one in found if one.id in ids]


def _select_groups(metric: Metric, query: Query) -> Callable[[Group], Group] | None:
    """Return what makes a group of the query of one of the metric; None where it asks for other properties."""
    names = query.groups(metric)
    if names == metric.group_by:
        return lambda group: group
    if not set(names) <= set(metric.group_by):
        return None
    places = [metric.group_by.index(name) for name in names]
    return lambda group: tuple(group[place] for place in places)


def _cut(windows: Sequence[Window]) -> _Pieces | None:
    """Cut windows into whole buckets, by level, and edges that lie within one bucket each; None where it is no use."""
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
    joined = {LEVELS.index(QUARTER): _joined(quarters), LEVELS.index(DAY): _joined(days)}
    return [(level, some) for level, ranges in joined.items() for some in ranges], edges


def _joined(ranges: Iterable[range]) -> list[range]:
    """Join ranges that follow each other. They come in order."""
    joined: list[range] = []
    for one in ranges:
        if not one:
            continue
        if joined and joined[-1].stop == one.start:
            joined[-1] = range(joined[-1].start, one.stop)
        else:
            joined.append(one)
    return joined
