"""Proof of a number: the exact events it is made of; and for a call, which metrics counted its events or did not."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Any

import msgspec

from app.core.times import format_time
from app.metrics.answer import is_by_arrival, to_event_filter
from app.metrics.bucket_parts import to_metric_event
from app.metrics.definition import CategoricalFilter, Metric, MetricType, NumericFilter
from app.metrics.proration import to_buckets
from app.metrics.query import Group, MetricEvent, Query, level_group
from app.metrics.sql_events import Place, UsageEvent, list_ids_in_order, read_events, stream_events_in_order
from app.metrics.stream import read_from
from app.metrics.values import Skip, format_number, read_properties, read_text
from app.metrics.windows import SECOND, SECONDS_OF
from app.store.engine import Connection
from app.store.review import get_call
from app.store.review_events import EventRow

_Key = tuple[str, Group]

_READ = 1000
"""Events that are read at a time."""


class EventStanding(StrEnum):
    """How a metric treats an event."""

    COUNTED = "counted"
    SKIPPED = "skipped"
    FILTERED = "filtered"
    VOIDED = "voided"
    FUTURE = "future"


_OUTSIDE = frozenset({EventStanding.VOIDED, EventStanding.FILTERED})
"""Those of which a number holds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One event behind a number."""

    event: UsageEvent
    metric_event: MetricEvent
    """The same, as the metric reads it."""
    group: dict[str, str | None]
    value: str | None
    """Its value; None if it is only counted, or skipped."""
    skipped: Skip | None
    """Why it is not part of the number."""
    before: bool
    """It is before the period: in the look-back of a rate, or it set the level at which a gauge begins."""
    standing: EventStanding
    """Whether the number counts it, skips it, or holds nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharePage:
    """One page of the events behind a number, ordered by time and then by arrival."""

    shares: list[Share]
    following: Place | None
    """The `after` of the next page; None on the last."""
    as_of: int | None
    """The moment of the query; None: it was asked as of now."""
    by_arrival: bool
    """As in an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventExplanation:
    """How one metric treats one event of a call."""

    metric: Metric
    event: EventRow
    verdict: EventStanding
    value: str | None
    why: str | None
    """The reason as a sentence, if it was not counted."""


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
    """List the events behind the numbers of a query, including those that were skipped.

    `group` limits them to one group of the answer. Raises BadQuery.
    """
    return ShareReader(conn, metric, query, now, group=group).read_page(conn, after, limit)


class ShareReader:
    """Reads the events behind the numbers of a query, page by page."""

    def __init__(
        self,
        conn: Connection,
        metric: Metric,
        query: Query,
        now: int,
        *,
        group: dict[str, str | None] | None = None,
        whole: bool = False,
    ) -> None:
        """`group` limits them to one group of the answer.

        `whole`: with the events of the period that are not part of its numbers, as they are void or do not pass a
        filter. Raises BadQuery.
        """
        self._metric = metric
        self._query = query = query.checked(metric)
        self._end = query.end_at(now)
        self._names = query.groups(metric)
        self._whole = whole
        self._group = None if group is None else tuple(group.get(name) for name in self._names)
        self._before = _EventsBefore(conn, metric, query, self._end, self._group)
        event_filter = to_event_filter(metric, query, self._before.since, self._end)
        self._filter = msgspec.structs.replace(event_filter, with_void=whole)

    def read_page(self, conn: Connection, after: Place | None, limit: int) -> SharePage:
        """Return the page after a position (None: the first)."""
        shares: list[Share] = []
        following: Place | None = None
        for stored in stream_events_in_order(conn, self._filter, after):
            share = self._to_share(stored)
            if share is None:
                continue
            if len(shares) == limit:
                last = shares[-1].event
                following = last.time_created, last.id
                break
            shares.append(share)
        by_arrival = is_by_arrival(conn, self._query)
        return SharePage(shares=shares, following=following, as_of=self._query.as_of, by_arrival=by_arrival)

    def list_ids(self, conn: Connection) -> Sequence[int]:
        """Return the ids of all events that `read` may find, in the order of the list."""
        return list_ids_in_order(conn, self._filter)

    def read(self, conn: Connection, ids: Sequence[int]) -> list[Share]:
        """Return those of these events, at most a thousand, that are behind the numbers."""
        return [
            share
            for stored in read_events(conn, ids, self._query.as_of)
            if (share := self._to_share(stored)) is not None
        ]

    def _to_share(self, stored: UsageEvent) -> Share | None:
        """Return an event behind the numbers; None for one that is not asked for."""
        metric = self._metric
        event = to_metric_event(metric, stored)
        key = (event.customer_id, tuple(read_text(event.properties, name) for name in self._names))
        if self._group is not None and key[1] != self._group:
            return None
        before = event.time_created < self._query.start
        standing, value, skip = judge(metric, event.properties, void=stored.voided_at is not None)
        if standing in _OUTSIDE and (before or not self._whole):
            return None
        if before and (skip or not self._before.holds(event, key)):
            return None
        return Share(
            event=stored,
            metric_event=event,
            group=dict(zip(self._names, key[1], strict=True)),
            value=value,
            skipped=skip,
            before=before,
            standing=standing,
        )


def judge(
    metric: Metric, properties: Mapping[str, Any], *, void: bool
) -> tuple[EventStanding, str | None, Skip | None]:
    """Return how a metric treats an event, its value if it counts and has one, and why it is skipped."""
    if void:
        return EventStanding.VOIDED, None, None
    if not metric.passes(properties):
        return EventStanding.FILTERED, None, None
    value = metric.read(properties)
    if isinstance(value, Skip):
        return EventStanding.SKIPPED, None, value
    text = value if value is None or isinstance(value, str) else format_number(value)
    return EventStanding.COUNTED, text, None


class _EventsBefore:
    """Selects the events before the period that are part of its number."""

    def __init__(self, conn: Connection, metric: Metric, query: Query, end: int, group_key: Group | None) -> None:
        self._conn = conn
        self._metric = metric
        self._query = query
        self._wanted = group_key
        self._first: dict[_Key, int] = {}
        self._last: dict[tuple[_Key, Group], tuple[int, str]] = {}
        """For totals, by level in effect at the start: (time, base id) of the event that set it."""
        self.since = read_from(metric, query)
        if metric.metric_type is MetricType.COUNTER or metric.event_type == "delta" or query.start >= end:
            return
        first_levels: dict[tuple[_Key, Group], int] = {}
        for event, key in self._valued_events(query.start, end):
            self._first.setdefault(key, event.time_created)
            first_levels.setdefault((key, level_group(metric, event)), event.time_created)
            if metric.event_type is None and query.customer_id is not None and group_key is not None:
                break
        if metric.event_type == "total":
            # The last level set before the period is in effect at its start, unless the first event of the first
            # bucket (or, without proration, of the first moment) sets it again.
            bucket_end = query.start + 1
            if metric.proration is not None:
                bucket_end = to_buckets(metric, query.zone(), (query.start, end)).at(query.start)[1]
            for event, key in self._valued_events(None, query.start):
                level = (key, level_group(metric, event))
                first = first_levels.get(level, bucket_end)
                if first >= bucket_end or first > self._first[key]:
                    self._last[level] = max(self._last.get(level, (0, "")), (event.time_created, event.base_id))

    def holds(self, event: MetricEvent, key: _Key) -> bool:
        """Tell whether an event before the period, which has a value, is part of the number."""
        if self._metric.metric_type is MetricType.RATE and self._metric.granularity is not None:
            # The look-back of the first event of the period reaches the furthest.
            first = self._first.get(key)
            span = SECONDS_OF[self._metric.granularity]
            return first is not None and event.time_created // SECOND >= first // SECOND - span
        last = self._last.get((key, level_group(self._metric, event)))
        return self._metric.event_type == "delta" or last == (event.time_created, event.base_id)

    def _valued_events(self, since: int | None, until: int) -> Iterator[tuple[MetricEvent, _Key]]:
        metric, query = self._metric, self._query
        # Sorted by ids alone: whole rows of a million events would fill the memory of SQLite.
        ids = list_ids_in_order(self._conn, to_event_filter(metric, query, since, until))
        pages = (
            read_events(self._conn, ids[start : start + _READ], query.as_of) for start in range(0, len(ids), _READ)
        )
        events = chain.from_iterable(pages)
        for _, event, key in _passing_events(metric, events, query.groups(metric)):
            if self._wanted in {None, key[1]} and not isinstance(metric.read(event.properties), Skip):
                yield event, key


def _passing_events(
    metric: Metric, events: Iterable[UsageEvent], names: tuple[str, ...]
) -> Iterator[tuple[UsageEvent, MetricEvent, _Key]]:
    for stored in events:
        event = to_metric_event(metric, stored)
        if metric.passes(event.properties):
            yield stored, event, (event.customer_id, tuple(read_text(event.properties, name) for name in names))


def explain_call(conn: Connection, metrics: Iterable[Metric], call_id: int, now: int) -> list[EventExplanation]:
    """Explain each event of a call for each metric that takes its name. Raises NotFound."""
    whole = get_call(conn, call_id)
    ordered = sorted(metrics, key=lambda metric: metric.name)
    return [
        explain_event(metric, event, now) for event in whole.events for metric in ordered if _is_named(metric, event)
    ]


def _is_named(metric: Metric, event: EventRow) -> bool:
    return metric.event_name == event.event_name


def explain_event(metric: Metric, event: EventRow, now: int) -> EventExplanation:
    """Explain how a metric treats an event that has its event name."""
    properties = read_properties(event.properties)
    value = metric.read(properties)
    verdict, why = EventStanding.COUNTED, None
    failed = next((numeric for numeric in metric.numeric_filters if not numeric.passes(properties)), None) or next(
        (categorical for categorical in metric.categorical_filters if not categorical.passes(properties)), None
    )
    if event.voided_at is not None:
        verdict, why = EventStanding.VOIDED, f"it is void since {format_time(event.voided_at)}"
    elif value is Skip.UNREADABLE:
        verdict, why = EventStanding.SKIPPED, "its properties cannot be read"
    elif failed is not None:
        verdict, why = EventStanding.FILTERED, f"it does not pass the filter: {filter_text(failed)}"
    elif isinstance(value, Skip):
        verdict, why = EventStanding.SKIPPED, f"{metric.property_name} is {value.replace('_', ' ')}"
    elif event.time_created >= now:
        verdict, why = EventStanding.FUTURE, f"it counts from {format_time(event.time_created)} on"
    result = None if value is None or verdict not in {EventStanding.COUNTED, EventStanding.FUTURE} else value
    return EventExplanation(
        metric=metric,
        event=event,
        verdict=verdict,
        value=result if result is None or isinstance(result, str) else format_number(result),
        why=why,
    )


def filter_text(condition: NumericFilter | CategoricalFilter) -> str:
    """Return a filter as text: `property operator value`."""
    if isinstance(condition, NumericFilter):
        return f"{condition.property_name} {condition.operator} {format_number(condition.comparison_value)}"
    return f"{condition.property_name} {condition.operator} {', '.join(sorted(condition.comparison_value))}"
