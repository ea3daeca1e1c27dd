"""Deliveries on the JSON API, and their numbers for Prometheus."""

from collections.abc import Sequence
from functools import partial

from flask import Blueprint, Response

from app.catalog.backend import Backend
from app.clock import clock
from app.core.times import format_time
from app.errors import BadQuery, NotFound, Unavailable
from app.forward.outbox import (
    DELIVERY_PARAMETERS,
    parse_delivery_filters,
    read_outbox,
    to_attempt_document,
    to_delivery_document,
    to_group_document,
)
from app.forward.retry import retry_matching, retry_one, to_retriable, try_now
from app.forward.sql_deliveries import DeliveryState, find_next_due
from app.forward.sql_destination import read_destination
from app.forward.sql_lists import count_undelivered, find_groups, get_delivery, list_attempts, read_deliveries
from app.forward.sql_search import count_matching, search_deliveries
from app.forward.tables import make_deliveries_table, to_deliveries_name
from app.store.ids import micros_of
from app.store.query import parse_id, parse_zone
from app.web.downloads import send_csv
from app.web.errors import to_json
from app.web.offload import Offload, Work
from app.web.parameters import read_json_object, read_list_parameters, read_parameters
from app.web.sessions import api_blueprint

RETRY_SECONDS = 5.0
"""The most time that one request spends on retries; if there are more, its answer says where to continue."""

_SECOND = 1_000_000


def deliveries_api(offload: Offload, admin_token: str) -> Blueprint:
    """Return the routes of `/api/v1/deliveries`."""
    blueprint = api_blueprint("deliveries_api", admin_token)

    @blueprint.get("/deliveries")
    def deliveries() -> Response:
        texts, before, limit = read_list_parameters(*DELIVERY_PARAMETERS)
        filters = parse_delivery_filters(texts, clock())

        def work(backend: Backend) -> object:
            with backend.database.reading() as conn:
                step = search_deliveries(conn, filters, before=before, limit=limit)
                rows = read_deliveries(conn, step.ids)
                outbox = read_outbox(conn)
            return {
                "deliveries": [to_delivery_document(row) for row in rows],
                # Given even if this page is not full: one page examines a limited number of deliveries.
                "next": None if step.reached is None else str(step.reached),
                "destination": outbox,
            }

        return to_json(offload(work))

    blueprint.add_url_rule("/deliveries.csv", "deliveries_file", partial(_send_file, offload))

    @blueprint.get("/deliveries/groups")
    def groups() -> Response:
        return to_json(offload(_groups_work()))

    @blueprint.get("/deliveries/<event_id>")
    def delivery(event_id: str) -> Response:
        read_parameters()
        number = parse_id("the id of an event", event_id)

        def work(backend: Backend) -> object:
            with backend.database.reading() as conn:
                row = get_delivery(conn, number)
                attempts = list_attempts(conn, [number])[number]
            if row is None:
                raise NotFound("there is no delivery of this event")
            return {
                "delivery": to_delivery_document(row),
                "attempts": [to_attempt_document(attempt) for attempt in attempts],
            }

        return to_json(offload(work))

    @blueprint.post("/deliveries/retry")
    def retry() -> Response:
        return to_json(offload(_retry_work()))

    @blueprint.post("/deliveries/try-now")
    def try_lotus() -> Response:
        return to_json({"paused": offload(lambda backend: try_now(backend.database))})

    @blueprint.post("/deliveries/<event_id>/retry")
    def retry_this(event_id: str) -> Response:
        number = parse_id("the id of an event", event_id)
        return to_json({"retried": offload(lambda backend: retry_one(backend.database, number, clock))})

    return blueprint


def _send_file(offload: Offload) -> Response:
    texts = read_parameters(*DELIVERY_PARAMETERS, "tz")
    zone = parse_zone(texts.pop("tz", None))
    filters = parse_delivery_filters(texts, clock())
    return send_csv(offload, make_deliveries_table(filters, zone), to_deliveries_name(filters, zone))


def _groups_work() -> Work:
    filters = parse_delivery_filters(read_parameters("since", "until"), clock())

    def work(backend: Backend) -> object:
        with backend.database.reading() as conn:
            rows, edge = find_groups(conn, filters)
        since = None if edge is None else format_time(micros_of(edge))
        return {"groups": [to_group_document(group) for group in rows], "looked_back_to": since}

    return work


def _retry_work() -> Work:
    texts, options = read_move_request(*DELIVERY_PARAMETERS)
    before = parse_id("before", str(options["before"])) if "before" in options else None
    if not texts:
        accepted = ", ".join(DELIVERY_PARAMETERS)
        raise BadQuery(f'name at least one of {accepted}; {{"state": "failed"}} retries all that failed')
    filters = to_retriable(parse_delivery_filters(texts, clock()))

    def count(backend: Backend) -> object:
        with backend.database.reading() as conn:
            matching, further = count_matching(conn, filters)
        return {"dry_run": True, "count": matching, "is_all": further is None}

    def work(backend: Backend) -> object:
        result = retry_matching(backend.database, filters, clock, seconds=RETRY_SECONDS, before=before)
        return {
            "dry_run": False,
            "count": result.count,
            "next": None if result.further is None else str(result.further),
        }

    return count if options.get("dry_run") else work


def read_move_request(*names: str, words: Sequence[str] = ()) -> tuple[dict[str, str], dict[str, object]]:
    """Return the filters in the JSON body, those of `names`, and its other members: `before`, `dry_run` and `words`.

    Raises:
        BadQuery: names the member that is wrong.

    """
    document = read_json_object()
    accepted = (*names, *words, "before", "dry_run")
    if document is None:
        raise BadQuery(f"the body must be a JSON object with at least one of {', '.join(accepted)}")
    if wrong := next((name for name in document if name not in accepted), None):
        raise BadQuery(f"there is no member {wrong[:40]!a}: there are {', '.join(accepted)}")
    options: dict[str, object] = {"dry_run": document.pop("dry_run", False)}
    if not isinstance(options["dry_run"], bool):
        raise BadQuery("dry_run must be true or false")
    if wrong := next((name for name, text in document.items() if not (isinstance(text, str) and text)), None):
        raise BadQuery(f"{wrong} must be a non-empty text; leave it out if it does not matter")
    options |= {name: document.pop(name) for name in ("before", *words) if name in document}
    return document, options


def expose_deliveries(offload: Offload) -> bytes:
    """Return the outbox metrics in Prometheus' text format; empty if the database cannot be read."""

    def work(backend: Backend) -> bytes:
        with backend.database.reading() as conn:
            counts, due, destination = count_undelivered(conn), find_next_due(conn), read_destination(conn)
        late = 0.0 if due is None else max(0.0, (clock() - due) / _SECOND)
        lines = [
            "# HELP segment_lotus_deliveries Deliveries to Lotus, by state, without those in order",
            "# TYPE segment_lotus_deliveries gauge",
            *(
                f'segment_lotus_deliveries{{state="{state}"}} {counts[state.value]}'
                for state in DeliveryState
                if state is not DeliveryState.DELIVERED
            ),
            "# HELP segment_lotus_delivery_late_seconds How long the first event in the outbox has been due",
            "# TYPE segment_lotus_delivery_late_seconds gauge",
            f"segment_lotus_delivery_late_seconds {late:.3f}",
            "# HELP segment_lotus_destination_paused 1 while forwarding to Lotus is paused",
            "# TYPE segment_lotus_destination_paused gauge",
            f"segment_lotus_destination_paused {int(destination.trouble is not None)}",
            "",
        ]
        return "\n".join(lines).encode()

    try:
        return offload(work)
    except Unavailable:
        return b""
