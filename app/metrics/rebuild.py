"""Rebuilds buckets whose events were voided or revived: a maximum cannot be subtracted."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.metrics.bucket_parts import find_group, to_event, to_keys, to_part
from app.metrics.definition import Metric
from app.metrics.parts import DAY, LEVELS, QUARTER, Part
from app.metrics.sql_buckets import Key, UsageMetric, find_calls, stream_buckets
from app.metrics.sql_tail import FoldEvent, list_events, list_events_between, list_tail
from app.store.engine import Connection

_QUARTERS = LEVELS.index(QUARTER)


@dataclass(slots=True)
class BuiltMetric:
    """A metric that has buckets: its row and its definition."""

    row: UsageMetric
    metric: Metric


def rebuild_parts(
    conn: Connection, built: Iterable[BuiltMetric], voided: Iterable[int], checkpoint: Callable[[], None]
) -> dict[Key, Part]:
    """Return the rebuilt parts, without void events, of the quarter hours and days of the events `voided`.

    `voided` are ids of events that were voided or revived. Events of the tail are not included in the result.
    """
    metrics = list(built)
    unfolded = list_unfolded(conn)
    touched: dict[Key, tuple[BuiltMetric, Key, list[int]]] = {}
    for stored in list_events(conn, set(voided)):
        for entry, group in _holders(metrics, stored):
            quarter, day = to_keys(entry.row.id, to_event(stored), group)
            calls = touched.setdefault(quarter, (entry, day, []))[2]
            if stored.voided_at is None and stored.id not in unfolded:
                # A fold may have passed it by while it was void: then the bucket does not know its call.
                calls.append(stored.call_id)
    parts: dict[Key, Part] = {}
    days: dict[Key, tuple[Metric, dict[int, Part]]] = {}
    """By day: the quarter hours of it that were rebuilt, by number."""
    for quarter, (entry, day, calls) in touched.items():
        checkpoint()
        part = _rebuilt_quarter(conn, entry, quarter, unfolded, calls)
        if part is not None:
            parts[quarter] = part
            days.setdefault(day, (entry.metric, {}))[1][quarter[2]] = part
    for day, (metric, renewed) in days.items():
        checkpoint()
        parts[day] = _rebuilt_day(conn, metric, day, renewed)
    return parts


def _holders(built: Iterable[BuiltMetric], stored: FoldEvent) -> Iterable[tuple[BuiltMetric, str]]:
    """Yield the metrics whose buckets may hold an event, each with the event's group."""
    event = to_event(stored)
    for entry in built:
        if entry.metric.event_name == event.event_name and entry.row.holds(stored.id):
            group = find_group(entry.metric, event) if entry.metric.passes(event.properties) else None
            if group is not None:
                yield entry, group


def list_unfolded(conn: Connection) -> set[int]:
    """Return the ids of the events that are not folded yet."""
    return {event_id for row in list_tail(conn) for event_id in row.events}


def _rebuilt_quarter(
    conn: Connection, entry: BuiltMetric, quarter: Key, unfolded: set[int], revived: Iterable[int]
) -> Part | None:
    """Return the part of a quarter hour from its folded events that are not void; None if it needs no bucket.

    `revived`: calls of its revived events.
    """
    metric_id, level, bucket, customer, group = quarter
    ids = [*(find_calls(conn, metric_id, level, bucket, customer) or ()), *revived]
    if not ids:
        return None
    # A bucket that becomes empty still keeps the range of its calls.
    calls = min(ids), max(ids)
    part = Part(first_call=calls[0], last_call=calls[1])
    period = (bucket * QUARTER, (bucket + 1) * QUARTER)
    for stored in list_events_between(conn, calls, period, entry.metric.event_name, customer):
        if stored.id in unfolded or not entry.row.holds(stored.id):
            continue
        event = to_event(stored)
        if entry.metric.passes(event.properties) and find_group(entry.metric, event) == group:
            part.take(entry.metric, event, stored.call_id)
    return part


def _rebuilt_day(conn: Connection, metric: Metric, day: Key, renewed: dict[int, Part]) -> Part:
    """Return the part of a day, merged from its quarter hours; `renewed` replaces some of them, by number."""
    metric_id, _, bucket, customer, group = day
    per_day = DAY // QUARTER
    quarters = range(bucket * per_day, (bucket + 1) * per_day)
    parts: dict[int, Part] = {
        row[0]: to_part(tuple(row[3:]))
        for row in stream_buckets(conn, metric_id, _QUARTERS, quarters, customer)
        if row[2] == group
    }
    whole = Part()
    for part in (parts | renewed).values():
        if part.count or part.skipped:
            whole.merge(metric, part)
    return whole
