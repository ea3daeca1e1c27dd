"""Metrics, answers and the events behind them as documents, shared by the JSON API and the command line.

Ids and numbers are text, so that no reader rounds them. Times are RFC 3339 in UTC, digests are hex.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice

import msgspec

from app.core.csv_text import to_cell, to_lines
from app.core.times import format_time
from app.metrics.definition import Metric, MetricType
from app.metrics.explain import EventExplanation, Share, SharePage
from app.metrics.parameters import to_after
from app.metrics.query import Answer, Row
from app.zones import find_zone

# Rows per piece of a CSV file.
_PIECE = 1000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MetricDocument(msgspec.Struct, kw_only=True):
    """One live metric."""

    name: str
    version: str
    description: str
    metric_type: str
    event_name: str
    usage_aggregation_type: str | None
    property_name: str | None
    granularity: str | None
    proration: str | None
    event_type: str | None
    percentile: str | None
    group_by: tuple[str, ...]
    text: str
    """The whole file, with filters and comments."""


class RowDocument(msgspec.Struct, kw_only=True):
    """One number."""

    customer_id: str
    group: dict[str, str | None]
    window_start: str
    window_end: str
    value: str | None
    events_count: int
    skipped: dict[str, int]
    below_zero_at: str | msgspec.UnsetType = msgspec.UNSET
    """When the level of a gauge first was below zero; left out if it never was."""


class AnswerDocument(msgspec.Struct, kw_only=True):
    """The numbers of a metric for a period."""

    metric: str
    version: str
    start: str
    end: str
    tz: str
    rows: list[RowDocument]
    verified: bool | msgspec.UnsetType = msgspec.UNSET
    """Whether raw events give the same answer; only with `verify`."""


class ShareDocument(msgspec.Struct, kw_only=True):
    """One event behind a number."""

    id: str
    time_created: str
    customer_id: str
    group: dict[str, str | None]
    value: str | None
    skipped: str | None
    before: bool
    idempotency_id: str
    call_id: str
    transform: str
    transform_digest: str
    properties: msgspec.Raw


class SharesDocument(msgspec.Struct, kw_only=True):
    """One page of the events behind a number."""

    metric: str
    version: str
    events: list[ShareDocument]
    next: str | None


class EventExplanationDocument(msgspec.Struct, kw_only=True):
    """Whether one metric counts one event of a call, and why not."""

    metric: str
    version: str
    event_id: str
    idempotency_id: str
    verdict: str
    value: str | None
    why: str | None


def to_metric_document(metric: Metric) -> MetricDocument:
    """Return the document of a metric."""
    return MetricDocument(
        name=metric.name,
        version=metric.digest.hex(),
        description=metric.description,
        metric_type=metric.metric_type,
        event_name=metric.event_name,
        usage_aggregation_type=metric.aggregation,
        property_name=metric.property_name,
        granularity=metric.spelled("granularity"),
        proration=metric.spelled("proration"),
        event_type=metric.event_type,
        percentile=None if metric.percentile is None else format(metric.percentile, "f"),
        group_by=metric.group_by,
        text=metric.text,
    )


def to_answer_document(answer: Answer, *, same: bool | None = None) -> AnswerDocument:
    """Return the document of an answer. `same`: whether raw events give the same answer; None if not verified."""
    return AnswerDocument(
        metric=answer.metric,
        version=answer.version,
        start=format_time(answer.start),
        end=format_time(answer.end),
        tz=answer.tz,
        rows=[to_row_document(row) for row in answer.rows],
        verified=msgspec.UNSET if same is None else same,
    )


def to_row_document(row: Row) -> RowDocument:
    """Return the document of one number."""
    return RowDocument(
        customer_id=row.customer_id,
        group=row.group,
        window_start=format_time(row.window_start),
        window_end=format_time(row.window_end),
        value=row.value,
        events_count=row.events_count,
        skipped=row.skipped,
        below_zero_at=msgspec.UNSET if row.below_zero_at is None else format_time(row.below_zero_at),
    )


def to_csv(answer: Answer, metric: Metric, names: Iterable[str]) -> Iterator[str]:
    """Yield an answer as pieces of a CSV file for spreadsheets, with a column for each property in `names`.

    Times are in the answer's zone, with their offset. A missing property is an empty cell, an empty one is `""`.
    """
    rows = iter(answer.rows)
    columns = list(names)
    zone = find_zone(answer.tz) or UTC
    is_gauge = metric.metric_type is MetricType.GAUGE
    head = ["customer_id", *columns, "window_start", "window_end", "value", "events_count", "skipped"]
    yield to_lines([[*map(to_cell, head), *(["below_zero_at"] if is_gauge else [])]])
    while batch := list(islice(rows, _PIECE)):
        yield to_lines(
            [
                to_cell(row.customer_id),
                *(_to_group_cell(row.group[name]) for name in columns),
                _local(row.window_start, zone),
                _local(row.window_end, zone),
                row.value,
                row.events_count,
                skipped_text(row.skipped),
                *([None if row.below_zero_at is None else _local(row.below_zero_at, zone)] if is_gauge else []),
            ]
            for row in batch
        )


def to_csv_name(answer: Answer) -> str:
    """Return the file name of an answer as CSV: the metric and the period in the answer's zone."""
    zone = find_zone(answer.tz) or UTC
    start, end = (_local(at, zone)[:19].removesuffix("T00:00:00").replace(":", "") for at in (answer.start, answer.end))
    return f"{answer.metric}_{start}_{end}.csv"


def _to_group_cell(text: str | None) -> str:
    return "" if text is None else to_cell(text) or '""'


def _local(micros: int, zone: tzinfo) -> str:
    return (_EPOCH + timedelta(microseconds=micros)).astimezone(zone).isoformat()


def skipped_text(skipped: dict[str, int]) -> str:
    """Format the counts of skipped events by reason, as `missing=2 text=1`."""
    return " ".join(f"{reason}={count}" for reason, count in skipped.items())


def to_shares_document(metric: Metric, page: SharePage) -> SharesDocument:
    """Return the document of a page of events."""
    return SharesDocument(
        metric=metric.name,
        version=metric.digest.hex(),
        events=[_to_share(share) for share in page.shares],
        next=to_after(page.following),
    )


def _to_share(share: Share) -> ShareDocument:
    event = share.event
    return ShareDocument(
        id=str(event.id),
        time_created=format_time(event.time_created),
        customer_id=event.customer_id,
        group=share.group,
        value=share.value,
        skipped=None if share.skipped is None else share.skipped.value,
        before=share.before,
        idempotency_id=event.idempotency_id,
        call_id=str(event.call_id),
        transform=event.transform,
        transform_digest=event.transform_digest.hex(),
        properties=msgspec.Raw(event.properties.encode()),
    )


def to_explanation_document(explanation: EventExplanation) -> EventExplanationDocument:
    """Return the document of an explanation."""
    return EventExplanationDocument(
        metric=explanation.metric.name,
        version=explanation.metric.digest.hex(),
        event_id=str(explanation.event.id),
        idempotency_id=explanation.event.idempotency_id,
        verdict=explanation.verdict.value,
        value=explanation.value,
        why=explanation.why,
    )
