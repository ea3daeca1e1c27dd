"""The JSON API of closed months: close, list, show, carry, reopen, verify."""

import secrets
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response

from app.catalog.backend import Backend
from app.errors import BadQuery
from app.metrics.adjustments import MonthReport, carry_adjustments, list_changed, read_report
from app.metrics.month_documents import (
    to_carried_document,
    to_changes_document,
    to_month_document,
    to_report_csv,
    to_report_document,
    to_report_name,
)
from app.metrics.months import close_month, parse_month, reopen_month, verify_month
from app.metrics.parameters import check_group, parse_after, parse_group
from app.metrics.sql_months import get_closed_month, list_closed_months
from app.store.ids import Ids
from app.store.query import check_texts, parse_author, parse_limit, parse_path_id, parse_reason, parse_words
from app.web.errors import to_json
from app.web.offload import Offload, Work
from app.web.parameters import read_json_object, read_list_parameters, read_parameters
from app.web.sessions import api_blueprint

AUTHOR = "api"
"""Who did it, where a request does not say so."""

_CSV = "text/csv; charset=utf-8"


def months_api(offload: Offload, admin_token: str) -> Blueprint:
    """Return the routes below `/api/v1/months`."""
    blueprint = api_blueprint("months_api", admin_token, "/api/v1/months")

    @blueprint.get("")
    def show_list() -> Response:
        return to_json(offload(_list()))

    @blueprint.post("")
    def close() -> Response:
        return to_json(offload(_close()), 201)

    @blueprint.get("/<month_id>")
    def show(month_id: str) -> Response:
        return _show(offload, month_id)

    @blueprint.get("/<month_id>/events")
    def events(month_id: str) -> Response:
        return to_json(offload(_events(month_id)))

    @blueprint.get("/<month_id>/verify")
    def verify(month_id: str) -> Response:
        return to_json(offload(_verify(month_id)))

    @blueprint.post("/<month_id>/carry")
    def carry(month_id: str) -> Response:
        return to_json(offload(_carry(month_id)))

    @blueprint.post("/<month_id>/reopen")
    def reopen(month_id: str) -> Response:
        return to_json(offload(_reopen(month_id)))

    return blueprint


def _list() -> Work:
    texts, before, limit = read_list_parameters("metric")
    check_texts(texts)

    def work(backend: Backend) -> object:
        with backend.database.reading() as conn:
            rows = list_closed_months(conn, limit + 1, before, texts.get("metric"))
        following = str(rows[limit - 1].id) if len(rows) > limit else None
        return {"months": [to_month_document(row) for row in rows[:limit]], "next": following}

    return work


def _close() -> Callable[[Backend], object]:
    document = _read_body("metric", "month", "tz", "author")
    month = parse_month(document.get("month"), document.get("tz", "UTC"))
    author = parse_author(document.get("author", AUTHOR))
    metric = parse_words("metric", document.get("metric"))
    return lambda backend: to_month_document(close_month(backend.database, _next_id(), metric, month, author))


def _show(offload: Offload, month_id: str) -> Response:
    texts = read_parameters("customer_id", "format")
    shape = texts.get("format", "json")
    if shape not in {"json", "csv"}:
        raise BadQuery(f"format must be json or csv; it is {shape[:40]!a}")
    check_texts(texts)
    number = parse_path_id("a closed month", month_id)

    def work(backend: Backend) -> MonthReport:
        with backend.database.reading() as conn:
            return read_report(conn, get_closed_month(conn, number), texts.get("customer_id"))

    report: MonthReport = offload(work)
    if shape == "json":
        return to_json(to_report_document(report))
    pieces = to_report_csv(report)

    def following(_reading: Backend) -> str | None:
        return next(pieces, None)

    headers = {"Content-Disposition": f'attachment; filename="{to_report_name(report.closed)}"'}
    return Response(iter(lambda: offload(following), None), content_type=_CSV, headers=headers)


def _events(month_id: str) -> Callable[[Backend], object]:
    texts = read_parameters("customer_id", "group", "after", "limit")
    check_texts(texts)
    number = parse_path_id("a closed month", month_id)
    group, after, limit = (
        parse_group(texts.get("group")),
        parse_after(texts.get("after")),
        parse_limit(texts.get("limit")),
    )

    def work(backend: Backend) -> object:
        with backend.database.reading() as conn:
            report = read_report(conn, get_closed_month(conn, number), texts.get("customer_id"))
            names = report.metric.group_by
            check_group(group, names)
            key = None if group is None else tuple(group[name] for name in names)
            page = list_changed(conn, report, texts.get("customer_id"), key, after, limit)
        return to_changes_document(page, report)

    return work


def _verify(month_id: str) -> Callable[[Backend], object]:
    read_parameters()
    number = parse_path_id("a closed month", month_id)

    def work(backend: Backend) -> object:
        with backend.database.reading() as conn:
            closed = get_closed_month(conn, number)
        problems = verify_month(backend.database, closed)
        return {"verified": not problems, "problems": problems}

    return work


def _carry(month_id: str) -> Callable[[Backend], object]:
    document = _read_body("into", "customer_id", "author")
    author = parse_author(document.get("author", AUTHOR))
    into = parse_words("into", document.get("into"))
    customer_id = parse_words("customer_id", document["customer_id"]) if "customer_id" in document else None
    number = parse_path_id("a closed month", month_id)

    def work(backend: Backend) -> object:
        names, carried = carry_adjustments(backend.database, _next_id(), number, into, author, customer_id)
        return {"carried": [to_carried_document(line, names) for line in carried]}

    return work


def _reopen(month_id: str) -> Callable[[Backend], object]:
    document = _read_body("reason", "author")
    author = parse_author(document.get("author", AUTHOR))
    reason = parse_reason(document.get("reason"))
    number = parse_path_id("a closed month", month_id)
    return lambda backend: to_month_document(reopen_month(backend.database, number, author, reason))


def _next_id() -> Callable[[int], int]:
    """Ids of a tag of their own: a request may run on any thread."""
    return Ids(secrets.randbelow).next


def _read_body(*accepted: str) -> dict[str, Any]:
    document = read_json_object()
    if document is None:
        raise BadQuery(f"the body must be a JSON object with some of {', '.join(accepted)}")
    if wrong := next((name for name in document if name not in accepted), None):
        raise BadQuery(f"there is no member {wrong[:40]!a}: there are {', '.join(accepted)}")
    return document
