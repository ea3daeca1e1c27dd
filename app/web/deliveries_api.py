"""Deliveries on the JSON API, and their numbers for Prometheus."""

from flask import Blueprint, Response

from app.bootstrap import Reading, clock
from app.errors import NotFound, Unavailable
from app.outbox import (
    DELIVERY_PARAMETERS,
    parse_delivery_filters,
    read_outbox,
    to_attempt_document,
    to_delivery_document,
)
from app.query import parse_id, parse_limit
from app.store.deliveries import State, find_next_due
from app.store.delivery_list import count_groups, count_undelivered, get_delivery, list_attempts, list_deliveries
from app.store.destination import read_destination
from app.web.api import read_parameters
from app.web.errors import to_json
from app.web.offload import Offload
from app.web.sign_in import require_admin_or_session

_SECOND = 1_000_000


def deliveries_api(offload: Offload, admin_token: str) -> Blueprint:
    """Return `/api/v1/deliveries` and what is below it."""
    blueprint = Blueprint("deliveries_api", __name__, url_prefix="/api/v1")
    blueprint.before_request(require_admin_or_session(admin_token))

    @blueprint.get("/deliveries")
    def deliveries() -> Response:
        texts = read_parameters(*DELIVERY_PARAMETERS, "before", "limit")
        filters, limit = parse_delivery_filters(texts, clock()), parse_limit(texts.get("limit"))
        before = parse_id("before", texts["before"]) if "before" in texts else None

        def work(reading: Reading) -> object:
            with reading.database.reading() as conn:
                found = list_deliveries(conn, filters, before, limit + 1)
                outbox = read_outbox(conn)
            return {
                "deliveries": [to_delivery_document(row) for row in found[:limit]],
                "next": str(found[limit - 1].event_id) if len(found) > limit else None,
                "destination": outbox,
            }

        return to_json(offload(work))

    @blueprint.get("/deliveries/groups")
    def groups() -> Response:
        read_parameters()

        def work(reading: Reading) -> object:
            with reading.database.reading() as conn:
                found = count_groups(conn)
            return {"groups": [{"state": state, "reason": why, "count": count} for state, why, count in found]}

        return to_json(offload(work))

    @blueprint.get("/deliveries/<event_id>")
    def delivery(event_id: str) -> Response:
        read_parameters()
        number = parse_id("the id of an event", event_id)

        def work(reading: Reading) -> object:
            with reading.database.reading() as conn:
                row = get_delivery(conn, number)
                attempts = list_attempts(conn, number)
            if row is None:
                raise NotFound("there is no delivery of this event")
            return {
                "delivery": to_delivery_document(row),
                "attempts": [to_attempt_document(one) for one in attempts],
            }

        return to_json(offload(work))

    return blueprint


def expose_deliveries(offload: Offload) -> bytes:
    """Return the numbers of the outbox in Prometheus' text format; nothing where the database cannot be read."""

    def work(reading: Reading) -> bytes:
        with reading.database.reading() as conn:
            counts, due, destination = count_undelivered(conn), find_next_due(conn), read_destination(conn)
        late = 0.0 if due is None else max(0.0, (clock() - due) / _SECOND)
        lines = [
            "# HELP segment_lotus_deliveries Events that were not delivered to Lotus, by state",
            "# TYPE segment_lotus_deliveries gauge",
            *(
                f'segment_lotus_deliveries{{state="{state}"}} {counts[state.value]}'
                for state in State
                if state is not State.DELIVERED
            ),
            "# HELP segment_lotus_delivery_late_seconds For how long the first event in the outbox has been due",
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
