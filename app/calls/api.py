"""The JSON API: calls, events, refused requests. Only with the admin token.

Lists are paged by key: `next` of one page is `before` of the following page. Every page costs the same.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from flask import Blueprint, Response

from app.calls.review import (
    to_call_document,
    to_event_document,
    to_refusal_document,
    to_whole_document,
)
from app.calls.steps import list_steps
from app.calls.tables import make_calls_table, make_refusals_table, to_calls_name
from app.catalog.backend import Backend
from app.clock import clock
from app.store.amendments import find_origins
from app.store.query import (
    CALL_PARAMETERS,
    EVENT_PARAMETERS,
    parse_call_filters,
    parse_event_filters,
    parse_limit,
    parse_path_id,
    parse_place,
    parse_zone,
)
from app.store.refusals import KEPT, list_refusals
from app.store.review import get_call, list_calls
from app.store.review_events import list_events
from app.store.voids import find_void_authors
from app.web.downloads import send_csv
from app.web.errors import to_json
from app.web.offload import Offload, Work
from app.web.parameters import read_list_parameters, read_parameters
from app.web.sessions import api_blueprint

T = TypeVar("T")


def api(offload: Offload, admin_token: str) -> Blueprint:
    """Return the routes below `/api/v1`. Parameters are parsed in the request; database reads run through `offload`."""
    blueprint = api_blueprint("api", admin_token)

    @blueprint.get("/calls")
    def calls() -> Response:
        return to_json(offload(_calls()))

    @blueprint.get("/calls.csv")
    def calls_file() -> Response:
        texts = read_parameters(*CALL_PARAMETERS, "q", "tz")
        filters, zone = parse_call_filters(texts, clock()), parse_zone(texts.get("tz"))
        return send_csv(offload, make_calls_table(filters, texts.get("q"), zone), to_calls_name(filters, zone))

    @blueprint.get("/calls/<call_id>")
    def call(call_id: str) -> Response:
        return to_json(offload(_call(call_id)))

    @blueprint.get("/events")
    def events() -> Response:
        return to_json(offload(_events()))

    @blueprint.get("/refused")
    def refused() -> Response:
        return to_json(offload(_refused()))

    @blueprint.get("/refused.csv")
    def refused_file() -> Response:
        zone = parse_zone(read_parameters("tz").get("tz"))
        return send_csv(offload, make_refusals_table(zone), "refused.csv")

    return blueprint


def _calls() -> Work:
    texts, before, limit = read_list_parameters(*CALL_PARAMETERS)
    filters = parse_call_filters(texts, clock())

    def work(backend: Backend) -> object:
        with backend.database.reading() as conn:
            rows = list_calls(conn, filters, before, limit + 1)
        following = _next(rows, limit, lambda row: str(row.id))
        return {"calls": [to_call_document(row) for row in rows[:limit]], "next": following}

    return work


def _call(call_id: str) -> Work:
    read_parameters()
    number = parse_path_id("a call", call_id, "; /api/v1/calls?id= also takes message ids and idempotency ids")

    def work(backend: Backend) -> object:
        with backend.database.reading() as conn:
            whole = get_call(conn, number)
            return to_whole_document(whole, list_steps(conn, backend.catalog, whole))

    return work


def _events() -> Work:
    texts = read_parameters(*EVENT_PARAMETERS, "before", "limit")
    filters, limit = parse_event_filters(texts, clock()), parse_limit(texts.get("limit"))
    before = parse_place(texts["before"]) if "before" in texts else None

    def work(backend: Backend) -> object:
        with backend.database.reading() as conn:
            rows = list_events(conn, filters, before, limit + 1)
            authors = find_void_authors(conn, (row.id for row in rows if row.is_void_by_person))
            origins = find_origins(conn, (row.id for row in rows if row.revision is not None))
        following = _next(rows, limit, lambda row: f"{row.call_id}.{row.id}")
        return {
            "events": [to_event_document(row, authors.get(row.id), origins.get(row.id)) for row in rows[:limit]],
            "next": following,
        }

    return work


def _refused() -> Work:
    _, before, limit = read_list_parameters()

    def work(backend: Backend) -> object:
        with backend.database.reading() as conn:
            # There are never more than KEPT.
            refusals = [refusal for refusal in list_refusals(conn, KEPT) if before is None or refusal.id < before]
        following = _next(refusals, limit, lambda refusal: str(refusal.id))
        return {"refused": [to_refusal_document(refusal) for refusal in refusals[:limit]], "next": following}

    return work


def _next(rows: Sequence[T], limit: int, to_cursor: Callable[[T], str]) -> str | None:
    """Return where the next page begins; `rows` holds one more than `limit` where there is one."""
    return to_cursor(rows[limit - 1]) if len(rows) > limit else None
