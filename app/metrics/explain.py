"""Proof of a number: exactly the events it is made of; and of one call: which metrics counted it, and which did not."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from app.core.times import format_time
from app.metrics.aggregation import level_group
from app.metrics.answer import to_metric_event, to_wanted
from app.metrics.definition import CategoricalFilter, Metric, MetricType, NumericFilter
from app.metrics.proration import to_buckets
from app.metrics.query import Group, MetricEvent, Query
from app.metrics.sql_events import Place, UsageEvent, stream_events_in_order
from app.metrics.stream import read_from
from app.metrics.values import Skip, format_number, read_properties, read_text
from app.metrics.windows import SECOND, SECONDS_OF
from app.store.engine import Connection
from app.store.review import get_call
from app.store.review_events import EventRow

_Key = tuple[str, Group]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One event behind a number."""

    event: UsageEvent
    group: dict[str, str | None]
    value: str | None
    """What it adds; None where it is only counted, or skipped."""
    skipped: Skip | None
    """Why it is not part of the number."""
    before: bool
    """It lies before the period: a rate looks back at it, or it made the level that a gauge begins with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharePage:
    """Some of the events behind a number, in order of time and then of arrival."""

    shares: list[Share]
    following: Place | None
    """Where the next page begins: its `after`."""


class EventStanding(StrEnum):
    """What a metric makes of an event."""

    COUNTED = "counted"
    SKIPPED = "skipped"
    FILTERED = "filtered"
    VOIDED = "voided"
    FUTURE = "future"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one metric makes of one event of a call."""

    metric: Metric
    event: EventRow
    verdict: EventStanding
    value: str | None
    why: str | None
    """A sentence, where it was not counted."""


def explain(
    conn: Connection,
    metric: Metric,
    query: Query,
    now: int,
    *,
    group: dict[str, str | None] | None = None,
    after: Place | None = None,
    limit: int = 50,
) -> SharePage:
    """List the events that the numbers of a query are made of, those that were skipped included.

    `group` narrows it to one group of the answer. Raises BadQuery.
    """
    query = query.checked(metric)
    end = query.end_at(now)
    names = query.groups(metric)
    wanted = None if group is None else tuple(group.get(name) for name in names)
    is_before = _Before(conn, metric, query, end, wanted)
    shares: list[Share] = []
    found = stream_events_in_order(conn, to_wanted(metric, query, is_before.since, end), after)
    for stored, event, key in _passing(metric, found, names):
        if wanted is not None and key[1] != wanted:
            continue
        value = metric.read(event.properties)
        before = event.time_created < query.start
        if before and (isinstance(value, Skip) or not is_before.holds(event, key)):
            continue
        if len(shares) == limit:
            last = shares[-1].event
            return SharePage(shares=shares, following=(last.time_created, last.id))
        told = None if value is None or isinstance(value, Skip) else value
        shares.append(
            Share(
                event=stored,
                group=dict(zip(names, key[1], strict=True)),
                value=told if told is None or isinstance(told, str) else format_number(told),
                skipped=value if isinstance(value, Skip) else None,
                before=before,
            )
        )
    return SharePage(shares=shares, following=None)


class _Before:
    """Which events before the period are part of its number."""

    def __init__(self, conn: Connection, metric: Metric, query: Query, end: int, wanted: Group | None) -> None:
        self._conn = conn
        self._metric = metric
        self._query = query
        self._wanted = wanted
        self._first: dict[_Key, int] = {}
        self._last: dict[tuple[_Key, Group], tuple[int, str]] = {}
        """Of each level that a gauge of totals begins with: when it was said, and by which base id."""
        self.since = read_from(metric, query)
        if metric.metric_type is MetricType.COUNTER or metric.event_type == "delta" or query.start >= end:
            return
        first_levels: dict[tuple[_Key, Group], int] = {}
        for event, key in self._good(query.start, end):
            self._first.setdefault(key, event.time_created)
            first_levels.setdefault((key, level_group(metric, event)), event.time_created)
            if metric.event_type is None and query.customer_id is not None and wanted is not None:
                break
        if metric.event_type == "total":
            # The last level that was said before the period is the one that it begins with, unless the first bucket
            # (or, without proration, the first moment) says it anew with the first of its events.
            begun = query.start + 1
            if metric.proration is not None:
                begun = to_buckets(metric, query.zone(), (query.start, end)).at(query.start)[1]
            for event, key in self._good(None, query.start):
                level = (key, level_group(metric, event))
                first = first_levels.get(level, begun)
                if first >= begun or first > self._first[key]:
                    self._last[level] = max(self._last.get(level, (0, "")), (event.time_created, event.base_id))

    def holds(self, event: MetricEvent, key: _Key) -> bool:
        """Tell whether an event before the period, with a value, is part of the number."""
        if self._metric.metric_type is MetricType.RATE and self._metric.granularity is not None:
            # The first event of the period looks back the furthest.
            first = self._first.get(key)
            span = SECONDS_OF[self._metric.granularity]
            return first is not None and event.time_created // SECOND >= first // SECOND - span
        last = self._last.get((key, level_group(self._metric, event)))
        return self._metric.event_type == "delta" or last == (event.time_created, event.base_id)

    def _good(self, since: int | None, until: int) -> Iterator[tuple[MetricEvent, _Key]]:
        metric, query = self._metric, self._query
        found = stream_events_in_order(self._conn, to_wanted(metric, query, since, until))
        for _, event, key in _passing(metric, found, query.groups(metric)):
            if self._wanted in {None, key[1]} and not isinstance(metric.read(event.properties), Skip):
                yield event, key


def _passing(
    metric: Metric, found: Iterable[UsageEvent], names: tuple[str, ...]
) -> Iterator[tuple[UsageEvent, MetricEvent, _Key]]:
    for stored in found:
        event = to_metric_event(metric, stored)
        if metric.passes(event.properties):
            yield stored, event, (event.customer_id, tuple(read_text(event.properties, name) for name in names))


def explain_call(conn: Connection, metrics: Iterable[Metric], call_id: int, now: int) -> list[Judgement]:
    """Say of each event of a call what each metric of its name makes of it. Raises NotFound."""
    whole = get_call(conn, call_id)
    ordered = sorted(metrics, key=lambda one: one.name)
    return [judge(metric, event, now) for event in whole.events for metric in ordered if _is_named(metric, event)]


def _is_named(metric: Metric, event: EventRow) -> bool:
    return metric.event_name == event.event_name


def judge(metric: Metric, event: EventRow, now: int) -> Judgement:
    """Say what a metric makes of an event of its name."""
    properties = read_properties(event.properties)
    value = metric.read(properties)
    verdict, why = EventStanding.COUNTED, None
    failed = next((one for one in metric.numeric_filters if not one.passes(properties)), None) or next(
        (one for one in metric.categorical_filters if not one.passes(properties)), None
    )
    if event.voided_at is not None:
        verdict, why = EventStanding.VOIDED, f"it is void since {format_time(event.voided_at)}"
    elif value is Skip.UNREADABLE:
        verdict, why = EventStanding.SKIPPED, "its properties cannot be read"
    elif failed is not None:
        verdict, why = EventStanding.FILTERED, f"it does not pass the filter: {tell_filter(failed)}"
    elif isinstance(value, Skip):
        verdict, why = EventStanding.SKIPPED, f"{metric.property_name} is {value.replace('_', ' ')}"
    elif event.time_created >= now:
        verdict, why = EventStanding.FUTURE, f"it counts from {format_time(event.time_created)} on"
    told = None if value is None or verdict not in {EventStanding.COUNTED, EventStanding.FUTURE} else value
    return Judgement(
        metric=metric,
        event=event,
        verdict=verdict,
        value=told if told is None or isinstance(told, str) else format_number(told),
        why=why,
    )


def tell_filter(one: NumericFilter | CategoricalFilter) -> str:
    """Return a filter as one reads it."""
    if isinstance(one, NumericFilter):
        return f"{one.property_name} {one.operator} {format_number(one.comparison_value)}"
    return f"{one.property_name} {one.operator} {', '.join(sorted(one.comparison_value))}"
