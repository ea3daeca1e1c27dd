"""What is asked of a metric, and what is answered."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

import msgspec

from app.core.metric_definition import Metric, MetricType
from app.core.metric_windows import (
    FIRST_YEAR,
    LAST_YEAR,
    SECOND,
    SECONDS_OF,
    WINDOWS,
    Unit,
    Window,
    cut,
    find_zone,
)
from app.core.times import parse_time
from app.errors import BadQuery

MAX_WINDOWS = 100_000
"""Minutes of two months. One number each: what is asked with more of them was not meant."""

MAX_STEPS = 200_000
"""Steps of the calendar that a gauge with proration is added up in: hours of 22 years."""

Group = tuple[str | None, ...]
"""The texts of the properties of `group_by`; None where one is missing or null."""

_FIRST = parse_time(f"{FIRST_YEAR}-01-01")
_LAST = parse_time(f"{LAST_YEAR}-01-01")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One question: a period, and how it is cut."""

    start: int
    """Microseconds since 1970; the period is [start, end)."""
    end: int
    customer_id: str | None = None
    """None: all."""
    window: Unit | None = None
    """None: one number for the period."""
    tz: str = "UTC"
    group_by: tuple[str, ...] | None = None
    """None: by what the metric says."""
    fill: bool = False
    """Give windows without events, too."""
    include_future: bool = False

    def checked(self, metric: Metric) -> "Query":
        """Return the query itself.

        Raises:
            BadQuery: it cannot be answered; says why.

        """
        if self.start >= self.end:
            raise BadQuery("start must be before end: the period is from start up to, and without, end")
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
        """Return where the period really ends: the future counts when its time has come."""
        return self.end if self.include_future else min(self.end, now)

    def groups(self, metric: Metric) -> tuple[str, ...]:
        """Return the properties by which it is grouped."""
        return metric.group_by if self.group_by is None else self.group_by

    def zone(self) -> tzinfo:
        """Return the time zone. Raises BadQuery."""
        zone = find_zone(self.tz)
        if zone is None:
            raise BadQuery(f"there is no time zone {self.tz[:40]!a}")
        return zone

    def windows(self, end: int) -> Iterator[Window]:
        """Give the windows of the period up to `end`; the first and the last are cut by the period."""
        if self.window is None:
            if self.start < end:
                yield self.start, end
            return
        for first, last in cut(self.zone(), self.window, self.start, end):
            yield max(first, self.start), min(last, end)


class MetricEvent(msgspec.Struct, frozen=True, gc=False):
    """One event as a metric sees it."""

    base_id: str
    """Its idempotency id before any correction: of several events at one instant the greatest of them counts."""
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
    """A decimal without an exponent; None where there is no number to tell."""
    events_count: int
    """How many events of this window the number is made of."""
    skipped: dict[str, int]
    """How many events of this window are not part of it, by reason."""
    below_zero_at: int | None = None
    """Of a gauge: when in this window its level was below zero first, which is nearly always missing data."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a metric says about a period."""

    metric: str
    version: str
    start: int
    end: int
    """Where the period really ended: at the moment of the question, if that was earlier than asked for."""
    tz: str
    rows: list[Row]


def can_be_asked(moment: int) -> bool:
    """Tell whether a period can hold a moment; an event may be of any year that has a calendar."""
    return _FIRST <= moment < _LAST


def calendar_step(metric: Metric) -> Unit | None:
    """Return in which steps of the calendar a prorated level is added up: evenly cut units need none of their own."""
    if metric.proration in {Unit.SECOND, Unit.MINUTE}:
        return metric.granularity
    return metric.proration


def group_order(key: tuple[str, Group]) -> tuple[Any, ...]:
    """Sort by customer, then by group, with missing values first."""
    customer, group = key
    return customer, tuple((text is not None, text or "") for text in group)


def no_value(metric: Metric) -> str | None:
    """Return the value where there are no values: 0 for what is counted or added up, else none."""
    if metric.metric_type is MetricType.GAUGE:
        return "0"
    return "0" if metric.aggregation in {"count", "sum", "unique"} else None
