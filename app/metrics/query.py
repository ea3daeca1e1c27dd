"""Queries of metrics and their answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

import msgspec

from app.core.times import parse_time
from app.errors import BadQuery
from app.metrics.definition import Metric, MetricType
from app.metrics.values import read_text
from app.metrics.windows import (
    FIRST_YEAR,
    LAST_YEAR,
    SECOND,
    SECONDS_OF,
    WINDOWS,
    Unit,
    Window,
    cut,
)
from app.zones import find_zone

MAX_WINDOWS = 100_000
"""About the minutes of two months. Each is a number: a query for more is a mistake."""

MAX_STEPS = 200_000
"""Calendar steps of a gauge with proration: the hours of 22 years."""

Group = tuple[str | None, ...]
"""The values of the `group_by` properties as text; None for one that is missing or null."""

_FIRST = parse_time(f"{FIRST_YEAR}-01-01")
_LAST = parse_time(f"{LAST_YEAR}-01-01")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A period, and how to divide it."""

    start: int
    """Microseconds since 1970; the period is [start, end)."""
    end: int
    customer_id: str | None = None
    """None: all customers."""
    window: Unit | None = None
    """None: one number for the period."""
    tz: str = "UTC"
    group_by: tuple[str, ...] | None = None
    """None: the `group_by` of the metric."""
    fill: bool = False
    """Include windows without events."""
    include_future: bool = False
    as_of: int | None = None
    """The moment of which to answer, in microseconds since 1970; None: now."""

    def checked(self, metric: Metric) -> "Query":
        """Return the query itself if the metric can answer it.

        Raises:
            BadQuery: it cannot be answered; the message says why.

        """
        if self.start >= self.end:
            raise BadQuery("start must be before end: the period includes start, but not end")
        if self.start < _FIRST or self.end > _LAST:
            raise BadQuery(f"start and end must be of the years {FIRST_YEAR} to {LAST_YEAR - 1}")
        if find_zone(self.tz) is None:
            raise BadQuery(f"tz must be the IANA name of a time zone, such as Europe/Berlin; it is {self.tz[:40]!a}")
        step = calendar_step(metric)
        if step and (self.end - self.start) // (SECONDS_OF[step] * SECOND) > MAX_STEPS:
            raise BadQuery(f"{metric.name} is prorated: ask for a period of {MAX_STEPS:,} {step}s at most")
        if self.window is not None:
            self._check_window(metric, self.window)
        return self

    def _check_window(self, metric: Metric, window: Unit) -> None:
        if window not in WINDOWS:
            raise BadQuery(f"window must be one of {', '.join(WINDOWS)}; it is {window}")
        if (self.end - self.start) // (SECONDS_OF[window] * SECOND) > MAX_WINDOWS:
            raise BadQuery(f"the period has more than {MAX_WINDOWS:,} windows of a {window}: ask for a shorter one")
        if metric.proration and SECONDS_OF[window] < SECONDS_OF[metric.proration]:
            raise BadQuery(
                f"window {window} is finer than the proration of {metric.name}, which is {metric.proration}s:"
                " its levels have no smaller parts"
            )

    def end_at(self, now: int) -> int:
        """Return the effective end of the period: not after its moment or `now`, unless the future is included."""
        return self.end if self.include_future else min(self.end, now if self.as_of is None else self.as_of)

    def groups(self, metric: Metric) -> tuple[str, ...]:
        """Return the properties to group by."""
        return metric.group_by if self.group_by is None else self.group_by

    def zone(self) -> tzinfo:
        """Return the time zone. Raises BadQuery."""
        zone = find_zone(self.tz)
        if zone is None:
            raise BadQuery(f"there is no time zone {self.tz[:40]!a}")
        return zone

    def windows(self, end: int) -> Iterator[Window]:
        """Yield the windows of the period up to `end`; the first and the last are clipped to the period."""
        if self.window is None:
            if self.start < end:
                yield self.start, end
            return
        for first, last in cut(self.zone(), self.window, self.start, end):
            yield max(first, self.start), min(last, end)


class MetricEvent(msgspec.Struct, frozen=True, gc=False):
    """The fields of an event that metrics read."""

    base_id: str
    """Its idempotency id before any correction; of several events at one instant, the greatest counts as the last."""
    event_name: str
    customer_id: str
    time_created: int
    properties: Mapping[str, Any]
    voided: bool = False


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One number: of one customer, one group, one window."""

    customer_id: str
    group: dict[str, str | None]
    window_start: int
    window_end: int
    value: str | None
    """A decimal without an exponent; None if there is no number."""
    events_count: int
    """How many events of this window the number is made of."""
    skipped: dict[str, int]
    """By reason: how many events of this window the number leaves out."""
    below_zero_at: int | None = None
    """For a gauge: when its level first was below zero in this window, which nearly always means missing data."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of a metric for a period."""

    metric: str
    version: str
    start: int
    end: int
    """The effective end of the period: the time of the query, if that is before the requested end."""
    tz: str
    rows: list[Row]
    as_of: int | None = None
    """The moment of the query; None: it was asked as of now."""
    by_arrival: bool = False
    """That moment is older than the times of storing: the arrival of its call dates an event."""


def can_be_asked(moment: int) -> bool:
    """Tell whether a period can hold a moment; an event may be of any year that has a calendar."""
    return _FIRST <= moment < _LAST


def calendar_step(metric: Metric) -> Unit | None:
    """Return the calendar step of a gauge with proration; seconds and minutes need no steps of their own."""
    if metric.proration in {Unit.SECOND, Unit.MINUTE}:
        return metric.granularity
    return metric.proration


def group_order(key: tuple[str, Group]) -> tuple[Any, ...]:
    """Sort key: by customer, then by group, with missing values first."""
    customer, group = key
    return customer, tuple((text is not None, text or "") for text in group)


def no_value(metric: Metric) -> str | None:
    """Return the value of a window without values: 0 for counts and sums, else None."""
    if metric.metric_type is MetricType.GAUGE:
        return "0"
    return "0" if metric.aggregation in {"count", "sum", "unique"} else None


def level_group(metric: Metric, event: MetricEvent) -> Group:
    """Return the group whose level an event sets: totals have one level per group of the metric, deltas only one."""
    return tuple(read_text(event.properties, name) for name in metric.group_by) if metric.event_type == "total" else ()
