"""What the pages of usage show: the metrics, the answer of one, and the events behind a number."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import tzinfo
from decimal import Decimal
from functools import partial
from pathlib import Path

import msgspec

from app.catalog.backend import Backend
from app.catalog.files import read_folder
from app.errors import BadQuery, NotFound
from app.metrics.answer import answer, verify
from app.metrics.catalog import MetricStanding, get_metric, survey_metrics
from app.metrics.definition import Metric, MetricType
from app.metrics.documents import to_shares_document
from app.metrics.explain import explain, tell_filter
from app.metrics.pages_chart import adds_up, draw, is_stacked
from app.metrics.pages_query import UsageView, to_wall
from app.metrics.parameters import parse_after, parse_group, parse_usage_query, to_after
from app.metrics.progress import BuildProgress, read_progress
from app.metrics.query import Answer, Query, Row
from app.metrics.values import ZERO, add, format_number
from app.metrics.windows import SECONDS_OF, WINDOWS, Unit
from app.store.engine import Connection
from app.web.pages import Values, Work

ROWS = 100
"""Rows of one page of the table, and events of one page of theirs."""

_FRACTION_DIGITS = 12
_MIDNIGHT = " 00:00:00"
_TO_MINUTES = len("2026-11-23 17:30")

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
"""Why an event is no part of a number, about its property."""

UNANSWERED: Values = {"chosen": None, "earlier": None, "problem": None, "status": 200}
"""What a page says of a question before it is answered."""


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One metric in the list."""

    name: str
    description: str
    meaning: str
    """What it does with which events, in a sentence; empty where nothing of it can be read."""
    version: str
    state: str
    is_live: bool
    problem: str
    window: str
    """The window that shows it best."""
    progress: BuildProgress | None
    """How far its fast answers came; None where it is not live."""


class UsageLine(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    row: Row
    start: str
    """As the wall's clock in the time zone shows it; the time is left out where a day begins."""
    events: str | None
    """Where its events are listed."""


def read_list(folder: Path) -> Work:
    """Return the work that lists the metrics."""

    def work(backend: Backend) -> Values:
        with backend.database.reading() as conn:
            return {"metrics": _list_metrics(conn, survey_metrics(conn, read_folder(folder)).standings)}

    return work


def read_usage(asked: UsageView, folder: Path, now: int) -> Work:
    """Return the work that answers what is asked. What cannot be answered is said in `problem`, with its `status`."""

    def work(backend: Backend) -> Values:
        with backend.database.reading() as conn:
            standings = survey_metrics(conn, read_folder(folder)).standings
            listed = _list_metrics(conn, standings)
            values: Values = {"metrics": listed, **UNANSWERED}
            try:
                page = asked.page
                version = asked.texts.get("version")
                live = next((one.live for one in standings if one.name == asked.metric), None)
                metric = live if live and version is None else get_metric(conn, asked.metric, version)
                is_earlier = live is None or live.digest != metric.digest
                values |= {
                    "chosen": next((one for one in listed if one.name == metric.name), None),
                    "earlier": metric.digest.hex() if is_earlier else None,
                }
                query = parse_usage_query(asked.usage, now)
                # Whoever asks whether raw events say the same waits for it on a thread of its own, as for every page.
                found, same = (
                    verify(conn, metric, query, now) if asked.verify else (answer(conn, metric, query, now), None)
                )
            except BadQuery as error:
                return {**values, "problem": error.message, "status": 400}
            except NotFound as error:
                return {**values, "problem": error.message, "status": 404}
        return {**values, **_show(asked, metric, query, found, page), "same": same}

    return work


def read_events(asked: UsageView, now: int) -> Work:
    """Return the work that lists the events behind a number. Raises BadQuery or NotFound when it is run."""

    def work(backend: Backend) -> Values:
        query = parse_usage_query(asked.usage, now)
        group = parse_group(asked.texts.get("group"))
        after = parse_after(asked.texts.get("after"))
        with backend.database.reading() as conn:
            metric = get_metric(conn, asked.metric, asked.texts.get("version"))
            names = query.groups(metric)
            if group is not None and set(group) != set(names):
                raise BadQuery(f"group must say a value, or null, for {', '.join(names) or 'no property'}")
            page = explain(conn, metric, query, now, group=group, after=after, limit=ROWS)
        zone = query.zone()
        told = zip(to_shares_document(metric, page).events, page.shares, strict=True)
        return {
            "metric": metric,
            "meaning": tell_meaning(metric),
            "names": names,
            "group": group,
            "period": _period(zone, query.start, max(query.start, query.end_at(now)), query.tz),
            "events": [
                (one, to_wall(zone, share.event.time_created), REASONS.get(one.skipped or "")) for one, share in told
            ],
            "further": None
            if page.following is None
            else asked.address("/usage/events", after=to_after(page.following)),
            "is_first": after is None,
        }

    return work


def _show(asked: UsageView, metric: Metric, query: Query, found: Answer, page: int) -> Values:
    zone, windowed = query.zone(), query.window is not None
    tell = partial(tell_start, zone, always_time=query.window in {Unit.MINUTE, Unit.HOUR})
    rows = found.rows
    if windowed:
        # As the chart goes: one window after the other, each with its customers and groups.
        rows = sorted(rows, key=lambda row: row.window_start)
    else:
        rows = sorted(rows, key=lambda row: -Decimal(row.value or 0))
    skipped: Counter[str] = Counter()
    total = ZERO
    for row in rows:
        skipped.update(row.skipped)
        total = add(total, Decimal(row.value or 0))
    is_total = adds_up(metric) or (is_stacked(metric) and not windowed)
    windows = list(query.windows(found.end))
    return {
        "answer": found,
        "names": query.groups(metric),
        "windowed": windowed,
        "period": _period(zone, found.start, found.end, found.tz),
        "is_cut": found.end < query.end,
        "total": format_number(total) if is_total or (len(rows) == 1 and rows[0].value is not None) else None,
        "groups": len({tuple(row.group.values()) for row in rows}),
        "customers": len({row.customer_id for row in rows}),
        "counted": sum(row.events_count for row in rows),
        "skipped": [(reason, count, REASONS.get(reason, reason)) for reason, count in sorted(skipped.items())],
        "below_zero": [(row.customer_id, tell(row.below_zero_at)) for row in rows if row.below_zero_at is not None],
        "property_name": metric.property_name,
        "chart": draw(metric, rows, windows, windowed=windowed, tell=lambda at: tell(at)[:_TO_MINUTES])
        if rows
        else None,
        "lines": [_to_line(asked, row, tell) for row in rows[(page - 1) * ROWS : page * ROWS]],
        "rows_count": len(rows),
        "first": (page - 1) * ROWS + 1,
        "before": asked.address(page=str(page - 1)) if page > 1 else None,
        "further": asked.address(page=str(page + 1)) if page * ROWS < len(rows) else None,
        "event_name": metric.event_name,
        "all_events": asked.events_address(found.start, found.end),
        "is_gauge": metric.metric_type is MetricType.GAUGE,
    }


def _to_line(asked: UsageView, row: Row, tell: Callable[[int], str]) -> UsageLine:
    address = asked.events_address(row.window_start, row.window_end, row.customer_id, row.group)
    return UsageLine(row=row, start=tell(row.window_start), events=address)


def _period(zone: tzinfo, start: int, end: int, tz: str) -> str:
    return f"{tell_start(zone, start)} to {tell_start(zone, end)}, {tz}"


def tell_start(zone: tzinfo, micros: int, *, always_time: bool = False) -> str:
    """Return a moment as the wall's clock shows it, without what says nothing: `2026-11-23`, `2026-11-23 17:30`."""
    wall = to_wall(zone, micros)
    if not always_time and wall.endswith(_MIDNIGHT):
        return wall.removesuffix(_MIDNIGHT)
    return wall[:_TO_MINUTES] + wall[_TO_MINUTES:].removeprefix(":00")


def tell_meaning(metric: Metric) -> str:
    """Return what a metric does with which events, in a sentence."""
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
    filters = [*map(tell_filter, metric.numeric_filters), *map(tell_filter, metric.categorical_filters)]
    where = f", where {' and '.join(filters)}" if filters else ""
    return f"{metric.metric_type.value.capitalize()}: {how}, over {events}{where}"


def best_window(metric: Metric) -> Unit:
    """Return days, or what is not finer than the proration."""
    least = SECONDS_OF[metric.proration or Unit.DAY]
    return next(one for one in WINDOWS if SECONDS_OF[one] >= max(least, SECONDS_OF[Unit.DAY]))


def _list_metrics(conn: Connection, standings: Iterable[MetricStanding]) -> list[Listed]:
    found = list(standings)
    progress = read_progress(conn, [one.live for one in found if one.live])
    return [_to_listed(one, progress.get(one.live.meaning) if one.live else None) for one in found]


def _to_listed(one: MetricStanding, progress: BuildProgress | None) -> Listed:
    known = one.live or one.file
    return Listed(
        name=one.name,
        description=known.description if known else "",
        meaning=tell_meaning(known) if known else "",
        version=one.live.digest.hex() if one.live else "",
        state=one.state.value,
        is_live=one.live is not None,
        problem=one.problem or "",
        window=best_window(known).value if known else "",
        progress=progress,
    )


def tell_number(text: str | None) -> tuple[str, bool]:
    """Return a number as people read it, with commas, and whether digits of its fraction were left out."""
    if text is None:
        return "none", False
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, _, fraction = digits.partition(".")
    short = fraction[:_FRACTION_DIGITS]
    told = f"{sign}{int(whole):,}" + (f".{short}" if short else "")
    return told, len(fraction) > len(short)
