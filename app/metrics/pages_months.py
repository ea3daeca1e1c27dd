"""The pages of closed months: close one, see its numbers and adjustments, carry these, reopen it."""

import secrets

from flask import Blueprint, Response

from app.catalog.backend import Backend
from app.core.json_text import encode
from app.metrics.adjustments import (
    Adjustment,
    MonthReport,
    carry_adjustments,
    list_changed,
    read_group_key,
    read_report,
)
from app.metrics.bucket_parts import to_metric_event
from app.metrics.catalog import read_live_metrics
from app.metrics.month_documents import change_text
from app.metrics.months import Month, close_month, month_at, parse_month, reopen_month, verify_month
from app.metrics.pages_view import number_text
from app.metrics.parameters import check_group, parse_after, parse_group, to_after
from app.metrics.sql_events import UsageEvent
from app.metrics.sql_months import get_closed_month, list_closed_months
from app.metrics.values import Skip, format_number
from app.store.clock import read_clock
from app.store.ids import Ids
from app.store.query import check_texts, parse_author, parse_path_id, parse_reason, parse_words
from app.web.pages import Pages, Values
from app.web.parameters import read_form, read_parameters, to_address
from app.web.sign_in import go_to
from app.zones import find_zone, to_wall

_LISTED = 50
_ROWS = 100
"""Numbers and events on a page; the API and the CSV file have all."""


def month_pages(pages: Pages) -> Blueprint:
    """Return the routes `/months`."""
    blueprint = pages.blueprint("months")

    @blueprint.get("/months")
    def show_list() -> Response:
        texts = read_parameters("metric")
        check_texts(texts)
        zone = str(pages.zone())
        return pages.show("months.html", lambda backend: _list(backend, texts.get("metric"), zone))

    @blueprint.post("/months")
    def close() -> Response:
        texts = read_form("metric", "month", "tz", "author")
        month = parse_month(texts.get("month"), texts.get("tz", str(pages.zone())))
        metric = parse_words("metric", texts.get("metric"))
        author = parse_author(texts.get("author"))
        next_id = Ids(secrets.randbelow).next
        closed = pages.read(lambda backend: close_month(backend.database, next_id, metric, month, author))
        return go_to(f"/months/{closed.id}")

    @blueprint.get("/months/<month_id>")
    def show(month_id: str) -> Response:
        texts = read_parameters("customer_id", "verify")
        check_texts(texts)
        number = parse_path_id("a closed month", month_id)
        customer_id, verified = texts.get("customer_id"), "verify" in texts
        return pages.show(
            "month.html", lambda backend: _show(backend, number, customer_id, verified=verified), number=number_text
        )

    @blueprint.get("/months/<month_id>/events")
    def events(month_id: str) -> Response:
        texts = read_parameters("customer_id", "group", "after")
        check_texts(texts)
        number = parse_path_id("a closed month", month_id)
        return pages.show("month_events.html", lambda backend: _events(backend, number, texts))

    @blueprint.post("/months/<month_id>/carry")
    def carry(month_id: str) -> Response:
        number = parse_path_id("a closed month", month_id)
        texts = read_form("into", "author", "customer_id")
        into = parse_words("into", texts.get("into"))
        author = parse_author(texts.get("author"))
        next_id, customer_id = Ids(secrets.randbelow).next, texts.get("customer_id")
        pages.read(lambda backend: carry_adjustments(backend.database, next_id, number, into, author, customer_id))
        return go_to(f"/months/{number}")

    @blueprint.post("/months/<month_id>/reopen")
    def reopen(month_id: str) -> Response:
        number = parse_path_id("a closed month", month_id)
        texts = read_form("reason", "author")
        reason = parse_reason(texts.get("reason"))
        author = parse_author(texts.get("author"))
        pages.read(lambda backend: reopen_month(backend.database, number, author, reason))
        return go_to(f"/months/{number}")

    return blueprint


def _list(backend: Backend, metric: str | None, tz: str) -> Values:
    with backend.database.reading() as conn:
        rows = list_closed_months(conn, _LISTED, metric=metric)
        live = sorted(read_live_metrics(conn))
        this = month_at(tz, read_clock(conn))
    last = None if this is None else month_at(tz, this.start - 1)
    return {"months": rows, "metrics": live, "metric": metric, "tz": tz, "last": last.text if last else ""}


def _show(backend: Backend, number: int, customer_id: str | None, *, verified: bool) -> Values:
    with backend.database.reading() as conn:
        report = read_report(conn, get_closed_month(conn, number), customer_id)
    changed = [line for line in report.lines if line.has_changed]
    # What changed comes first.
    lines = [*changed, *(line for line in report.lines if not line.has_changed)]
    return {
        "closed": report.closed,
        "report": report,
        "names": report.metric.group_by,
        "customer_id": customer_id,
        "lines": [_to_line(line, report) for line in lines[:_ROWS]],
        "lines_count": len(lines),
        "changed_count": len(changed),
        "open_count": sum(bool(line.open) for line in report.lines),
        "following": _following(report.month),
        "csv": to_address(f"/api/v1/months/{number}", {"format": "csv", "customer_id": customer_id}),
        "usage_address": to_address(
            "/usage",
            {
                "metric": report.closed.metric,
                "tz": report.closed.tz,
                "start": f"{report.month.text}-01",
                "end": f"{_following(report.month)}-01",
                "customer_id": customer_id,
            },
        ),
        "groups": [read_group_key(line.grp) for line in report.carried],
        "problems": verify_month(backend.database, report.closed) if verified else None,
    }


def _to_line(line: Adjustment, report: MonthReport) -> Values:
    group = line.group(report.metric.group_by)
    texts = {"customer_id": line.customer_id, "group": encode(group).decode() if group else None}
    return {
        "customer_id": line.customer_id,
        "group": group,
        "closed": line.closed and line.closed.value,
        "today": line.today and line.today.value,
        "adjustment": format_number(line.total),
        "carried": format_number(line.carried),
        "open": format_number(line.open),
        "events": to_address(f"/months/{report.closed.id}/events", texts) if line.has_changed else None,
    }


def _following(month: Month) -> str:
    following = month_at(month.tz, month.end)
    return following.text if following else ""


def _events(backend: Backend, number: int, texts: dict[str, str]) -> Values:
    group, after = parse_group(texts.get("group")), parse_after(texts.get("after"))
    customer_id = texts.get("customer_id")
    with backend.database.reading() as conn:
        report = read_report(conn, get_closed_month(conn, number), customer_id)
        names = report.metric.group_by
        check_group(group, names)
        key = None if group is None else tuple(group[name] for name in names)
        page = list_changed(conn, report, customer_id, key, after, _ROWS)
    zone = find_zone(report.closed.tz)
    events = [
        {
            "event": change.event,
            "wall": to_wall(zone, change.event.time_created) if zone else "",
            "change": change_text(change),
            "before": change.event.time_created < report.month.start,
            "value": _value(report, change.event),
        }
        for change in page.changes
    ]
    further = None
    if page.following is not None:
        further = to_address(f"/months/{number}/events", {**texts, "after": to_after(page.following)})
    return {
        "closed": report.closed,
        "customer_id": customer_id,
        "group": group,
        "events": events,
        "further": further,
        "value_name": report.live.property_name or "Value",
        "definition_changed": report.live.digest != report.metric.digest,
    }


def _value(report: MonthReport, stored: UsageEvent) -> str:
    """Return the value of an event by the definition of today's numbers, as text."""
    value = report.live.read(to_metric_event(report.live, stored).properties)
    if isinstance(value, Skip):
        return f"skipped: {value.replace('_', ' ')}"
    return "counted" if value is None else value if isinstance(value, str) else format_number(value)
