"""The values of the usage pages: the list of metrics, the answer of one, and the events behind a number."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import tzinfo
from decimal import Decimal
from functools import partial
from pathlib import Path

import msgspec

from app.catalog.backend import Backend
from app.catalog.files import read_folder
from app.core.times import format_time
from app.errors import BadQuery, NotFound
from app.metrics.answer import answer, verify
from app.metrics.catalog import MetricFileStatus, get_metric, read_metric_statuses
from app.metrics.definition import Metric, MetricType
from app.metrics.documents import to_shares_document
from app.metrics.explain import explain, filter_text
from app.metrics.month_note import find_month_note
from app.metrics.pages_chart import draw, is_stacked
from app.metrics.pages_query import UsageView, as_of_text
from app.metrics.parameters import check_group, parse_after, parse_group, parse_usage_query, to_after
from app.metrics.parts import adds_up
from app.metrics.progress import BuildProgress, read_progress
from app.metrics.query import Answer, Query, Row
from app.metrics.values import ZERO, add, format_number
from app.metrics.windows import SECONDS_OF, WINDOWS, Unit
from app.store.engine import Connection
from app.store.moment import check_moment, reading_at
from app.web.pages import Values, Work
from app.web.parameters import to_address
from app.zones import to_wall

ROWS = 100
"""Rows per page of the table, and events per page of their list."""

_FRACTION_DIGITS = 12
_MIDNIGHT = " 00:00:00"
_TO_MINUTES = len("2026-11-23 17:30")
_TO_MONTHS = len("2026-11")

REASONS = {
    "missing": "it is not there",
    "null": "it is null",
    "empty": "it is the empty text, or blanks",
    "boolean": "it is true or false",
    "object": "it is an object",
    "array": "it is an array",
    "text": "it is text that is no number",
    "not_finite": "it is NaN or Infinity",
    "unreadable": "the event's properties cannot be read; its call's page shows them as they are stored",
    "out_of_range": "it is below 1e-30, or 1e39 and more",
}
"""What is wrong with the property of a skipped event, by reason."""

UNANSWERED: Values = {"chosen": None, "earlier": None, "problem": None, "status": 200}
"""The values of a page whose query has no answer."""


class MetricRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the list of metrics."""

    name: str
    description: str
    meaning: str
    """Its definition as a sentence; empty if neither the file nor the live version can be read."""
    version: str
    state: str
    is_live: bool
    problem: str
    window: str
    """The window to choose first."""
    progress: BuildProgress | None
    """How much of it is pre-aggregated; None if it is not live."""


class UsageLine(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    row: Row
    start: str
    """The local time in the zone of the query; only the date where a day begins."""
    events: str | None
    """The address of its events."""


def read_list(folder: Path) -> Work:
    """Return the work that lists the metrics."""

    def work(backend: Backend) -> Values:
        with backend.database.reading() as conn:
            return {"metrics": _list_metrics(conn, read_metric_statuses(conn, read_folder(folder)).statuses)}

    return work


def read_usage(view: UsageView, folder: Path, now: int) -> Work:
    """Return the work that answers the query of a view; an error goes into `problem`, with its `status`."""

    def work(backend: Backend) -> Values:
        parsed = _parse(backend, view, now)
        as_of = None if isinstance(parsed, BadQuery) else parsed.as_of
        with backend.database.reading() as conn:
            statuses = read_metric_statuses(conn, read_folder(folder)).statuses
            metric_rows = _list_metrics(conn, statuses)
            values: Values = {"metrics": metric_rows, **UNANSWERED}
            try:
                page = view.page
                version = view.texts.get("version")
                live = next((status.live for status in statuses if status.name == view.metric), None)
                is_now = version is None and as_of is None
                metric = live if live and is_now else get_metric(conn, view.metric, version, as_of)
                is_earlier = live is None or live.digest != metric.digest
                values |= {
                    "chosen": next((metric_row for metric_row in metric_rows if metric_row.name == metric.name), None),
                    "earlier": metric.digest.hex() if is_earlier else None,
                }
                if isinstance(parsed, BadQuery):
                    raise parsed
                query = parsed
                # Verifying takes longer, but every page is read on a thread of its own: it holds up no other.
                result, same = (
                    verify(conn, metric, query, now) if view.verify else (answer(conn, metric, query, now), None)
                )
                note = find_month_note(conn, metric, query, now)
            except BadQuery as error:
                return {**values, "problem": error.message, "status": 400}
            except NotFound as error:
                return {**values, "problem": error.message, "status": 404}
        return {**values, **_show(view, metric, query, result, page), "same": same, "note": note}

    return work


def _parse(backend: Backend, view: UsageView, now: int) -> Query | BadQuery:
    """Return the query of a view, or what is wrong with it: that is shown on the page of its metric."""
    try:
        query = parse_usage_query(view.usage, now)
        check_moment(backend.database, query.as_of)
    except BadQuery as error:
        return error
    return query


def read_events(view: UsageView, now: int) -> Work:
    """Return the work that lists the events behind a number. Raises BadQuery or NotFound when it is run."""

    def work(backend: Backend) -> Values:
        query = parse_usage_query(view.usage, now)
        group = parse_group(view.texts.get("group"))
        after = parse_after(view.texts.get("after"))
        with reading_at(backend.database, query.as_of) as conn:
            metric = get_metric(conn, view.metric, view.texts.get("version"), query.as_of)
            names = query.groups(metric)
            check_group(group, names)
            page = explain(conn, metric, query, now, group=group, after=after, limit=ROWS)
        zone = query.zone()
        events = zip(to_shares_document(metric, page).events, page.shares, strict=True)
        return {
            "metric": metric,
            "meaning": meaning_text(metric),
            "names": names,
            "group": group,
            "period": _period(zone, query.start, max(query.start, query.end_at(now)), query.tz),
            "events": [
                (event, to_wall(zone, share.event.time_created), REASONS.get(event.skipped or ""))
                for event, share in events
            ],
            "further": None
            if page.following is None
            else view.address("/usage/events", after=to_after(page.following)),
            "is_first": after is None,
            "as_of": as_of_text(zone, page.as_of, by_arrival=page.by_arrival),
            "corrections": to_address(
                "/corrections",
                {
                    "event_name": metric.event_name,
                    "customer": query.customer_id,
                    "since": format_time(query.start),
                    "until": format_time(query.end_at(now)),
                },
            ),
            "lookalikes": to_address(
                "/lookalikes",
                {
                    "metric": metric.name,
                    "customer": view.fields.get("customer_id"),
                    "since": format_time(query.start),
                    "until": format_time(query.end),
                },
            ),
        }

    return work


def _show(view: UsageView, metric: Metric, query: Query, result: Answer, page: int) -> Values:
    zone, windowed = query.zone(), query.window is not None
    time_text = partial(moment_text, zone, always_time=query.window in {Unit.MINUTE, Unit.HOUR})
    rows = result.rows
    if windowed:
        # The order of the chart: window by window, each with its customers and groups.
        rows = sorted(rows, key=lambda row: row.window_start)
    else:
        rows = sorted(rows, key=lambda row: -Decimal(row.value or 0))
    skipped: Counter[str] = Counter()
    total = ZERO
    for row in rows:
        skipped.update(row.skipped)
        total = add(total, Decimal(row.value or 0))
    is_total = adds_up(metric) or (is_stacked(metric) and not windowed)
    windows = list(query.windows(result.end))
    return {
        "answer": result,
        "names": query.groups(metric),
        "windowed": windowed,
        "period": _period(zone, result.start, result.end, result.tz),
        "is_cut": result.end < query.end,
        "as_of": as_of_text(zone, result.as_of, by_arrival=result.by_arrival),
        "total": format_number(total) if is_total or (len(rows) == 1 and rows[0].value is not None) else None,
        "groups": len({tuple(row.group.values()) for row in rows}),
        "customers": len({row.customer_id for row in rows}),
        "counted": sum(row.events_count for row in rows),
        "skipped": [(reason, count, REASONS.get(reason, reason)) for reason, count in sorted(skipped.items())],
        "below_zero": [
            (row.customer_id, time_text(row.below_zero_at)) for row in rows if row.below_zero_at is not None
        ],
        "property_name": metric.property_name,
        "chart": draw(metric, rows, windows, windowed=windowed, time_text=lambda at: time_text(at)[:_TO_MINUTES])
        if rows
        else None,
        "lines": [_to_line(view, row, time_text) for row in rows[(page - 1) * ROWS : page * ROWS]],
        "rows_count": len(rows),
        "first": (page - 1) * ROWS + 1,
        "before": view.address(page=str(page - 1)) if page > 1 else None,
        "further": view.address(page=str(page + 1)) if page * ROWS < len(rows) else None,
        "event_name": metric.event_name,
        "all_events": view.events_address(result.start, result.end),
        "is_gauge": metric.metric_type is MetricType.GAUGE,
        "month": to_wall(zone, result.start)[:_TO_MONTHS],
    }


def _to_line(view: UsageView, row: Row, time_text: Callable[[int], str]) -> UsageLine:
    address = view.events_address(row.window_start, row.window_end, row.customer_id, row.group)
    return UsageLine(row=row, start=time_text(row.window_start), events=address)


def _period(zone: tzinfo, start: int, end: int, tz: str) -> str:
    return f"{moment_text(zone, start)} to {moment_text(zone, end)}, {tz}"


def moment_text(zone: tzinfo, micros: int, *, always_time: bool = False) -> str:
    """Return the local time of a moment without zero parts: `2026-11-23`, `2026-11-23 17:30`."""
    wall = to_wall(zone, micros)
    if not always_time and wall.endswith(_MIDNIGHT):
        return wall.removesuffix(_MIDNIGHT)
    return wall[:_TO_MINUTES] + wall[_TO_MINUTES:].removeprefix(":00")


def meaning_text(metric: Metric) -> str:
    """Return the definition of a metric as a sentence."""
    name, events = metric.property_name, f"events {metric.event_name!r}".replace("'", '"')
    match metric.metric_type:
        case MetricType.COUNTER:
            how = metric.aggregation if name is None else f"{metric.aggregation} of {name}"
            if metric.percentile is not None:
                how = f"percentile {metric.percentile:f} of {name}"
        case MetricType.RATE:
            what = metric.aggregation if name is None else f"{metric.aggregation} of {name}"
            how = f"highest {what} within any {(metric.granularity or Unit.SECOND).value}"
        case _:
            change = "a change of the level" if metric.event_type == "delta" else "a level"
            per = (metric.spelled("granularity") or "").removesuffix("s")
            prorated = f", prorated by the {metric.proration} for each {per}" if metric.proration else ", its peak"
            if metric.proration and per == "total":
                prorated = f", averaged over the {metric.proration}s of the period"
            how = f"{name} as {change}{prorated}"
    filters = [*map(filter_text, metric.numeric_filters), *map(filter_text, metric.categorical_filters)]
    where = f", where {' and '.join(filters)}" if filters else ""
    return f"{metric.metric_type.value.capitalize()}: {how}, over {events}{where}"


def best_window(metric: Metric) -> Unit:
    """Return the window to choose first: days, or a longer one if the proration is coarser."""
    min_seconds = SECONDS_OF[metric.proration or Unit.DAY]
    return next(unit for unit in WINDOWS if SECONDS_OF[unit] >= max(min_seconds, SECONDS_OF[Unit.DAY]))


def _list_metrics(conn: Connection, statuses: Iterable[MetricFileStatus]) -> list[MetricRow]:
    ordered = list(statuses)
    progress = read_progress(conn, [status.live for status in ordered if status.live])
    return [_to_metric_row(status, progress.get(status.live.meaning) if status.live else None) for status in ordered]


def _to_metric_row(status: MetricFileStatus, progress: BuildProgress | None) -> MetricRow:
    metric = status.live or status.file
    return MetricRow(
        name=status.name,
        description=metric.description if metric else "",
        meaning=meaning_text(metric) if metric else "",
        version=status.live.digest.hex() if status.live else "",
        state=status.state.value,
        is_live=status.live is not None,
        problem=status.problem or "",
        window=best_window(metric).value if metric else "",
        progress=progress,
    )


def number_text(text: str | None) -> tuple[str, bool]:
    """Return a number with thousands separators, and whether digits of its fraction were cut off."""
    if text is None:
        return "none", False
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, _, fraction = digits.partition(".")
    short = fraction[:_FRACTION_DIGITS]
    number = f"{sign}{int(whole):,}" + (f".{short}" if short else "")
    return number, len(fraction) > len(short)
