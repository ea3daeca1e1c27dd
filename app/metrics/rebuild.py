"""Buckets made anew, where events that were added to them are void now: a maximum cannot be taken back."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.metrics.bucket_parts import find_group, to_event, to_keys, to_part
from app.metrics.definition import Metric
from app.metrics.parts import DAY, LEVELS, QUARTER, Part
from app.metrics.sql_buckets import Key, UsageMetric, find_calls, stream_buckets
from app.metrics.sql_tail import FoldEvent, list_between, list_events, list_tail
from app.store.engine import Connection

_QUARTERS = LEVELS.index(QUARTER)


@dataclass(slots=True)
class BuiltMetric:
    """One metric that has buckets, and what it means."""

    row: UsageMetric
    metric: Metric


def renew(
    conn: Connection, known: Iterable[BuiltMetric], voided: Iterable[int], breathe: Callable[[], None]
) -> dict[Key, Part]:
    """Return the buckets of some void events as they are without them; quarter hours and days.

    `voided` are their ids. Events of the tail are not part of what is returned.
    """
    metrics = list(known)
    unfolded = list_unfolded(conn)
    parts: dict[Key, Part] = {}
    days: dict[Key, Metric] = {}
    for stored in list_events(conn, set(voided)):
        for one, group in _counted(metrics, stored):
            quarter, day = to_keys(one.row.id, to_event(stored), group)
            breathe()
            made = None if quarter in parts else _made_anew(conn, one, quarter, unfolded)
            if made is not None:
                parts[quarter] = made
                days[day] = one.metric
    for day, metric in days.items():
        parts[day] = _added_up(conn, metric, day, parts)
    return parts


def _counted(known: Iterable[BuiltMetric], stored: FoldEvent) -> Iterable[tuple[BuiltMetric, str]]:
    """Give the metrics to which an event may have been added, each with its group."""
    event = to_event(stored)
    for one in known:
        if one.metric.event_name == event.event_name and one.row.holds(stored.id):
            group = find_group(one.metric, event) if one.metric.passes(event.properties) else None
            if group is not None:
                yield one, group


def list_unfolded(conn: Connection) -> set[int]:
    """Return the ids of the events that no fold has seen."""
    return {one for row in list_tail(conn) for one in row.events}


def _made_anew(conn: Connection, known: BuiltMetric, quarter: Key, unfolded: set[int]) -> Part | None:
    """Return what the folded events of a quarter hour add that are not void; None where none were added."""
    metric_id, level, bucket, customer, group = quarter
    calls = find_calls(conn, metric_id, level, bucket, customer)
    if calls is None:
        return None
    # Where nothing is left of it, the bucket still says where its calls were.
    part = Part(first_call=calls[0], last_call=calls[1])
    period = (bucket * QUARTER, (bucket + 1) * QUARTER)
    for stored in list_between(conn, calls, period, known.metric.event_name, customer):
        if stored.id in unfolded or not known.row.holds(stored.id):
            continue
        event = to_event(stored)
        if known.metric.passes(event.properties) and find_group(known.metric, event) == group:
            part.take(known.metric, event, stored.call_id)
    return part


def _added_up(conn: Connection, metric: Metric, day: Key, renewed: dict[Key, Part]) -> Part:
    """Return a day as the sum of its quarter hours, some of which are made anew."""
    metric_id, _, bucket, customer, group = day
    per_day = DAY // QUARTER
    quarters = range(bucket * per_day, (bucket + 1) * per_day)
    parts: dict[int, Part] = {
        row[0]: to_part(tuple(row[3:]))
        for row in stream_buckets(conn, metric_id, _QUARTERS, quarters, customer)
        if row[2] == group
    }
    for key, part in renewed.items():
        if (key[0], key[1], *key[3:]) == (metric_id, _QUARTERS, customer, group) and key[2] in quarters:
            parts[key[2]] = part
    whole = Part()
    for part in parts.values():
        if part.count or part.skipped:
            whole.merge(metric, part)
    return whole
