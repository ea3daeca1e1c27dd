"""The Segment webhook destination."""

import time

from flask import Blueprint, Response, request

from app.bootstrap import Service
from app.errors import RequestRefused, Unavailable
from app.ingest import to_receipt
from app.web.auth import authorization
from app.web.body import InFlight, read_body
from app.web.draining import Draining
from app.web.errors import to_json, to_unavailable
from app.web.refused import Refused

ROUTE = "webhook"


def webhook(service: Service, refused: Refused, in_flight: InFlight, draining: Draining) -> Blueprint:
    """Return the routes that Segment sends to."""
    blueprint = Blueprint("webhook", __name__)
    most = service.settings.max_body_bytes

    # Both spellings are routes: a redirect would turn Segment's POST into an empty GET that counts as delivered.
    @blueprint.route("/webhooks/segment", methods=["POST", "PUT", "PATCH"], strict_slashes=False)
    def receive() -> Response:
        began = time.perf_counter()
        environ = request.environ
        body = b""
        with in_flight.reserved() as reservation:
            try:
                draining.refuse()
                body = read_body(environ, most, reservation)
                records = service.ingest.receive(body, environ.get("HTTP_X_SIGNATURE"), authorization(environ), ROUTE)
            except (RequestRefused, Unavailable) as error:
                service.telemetry.count_refused(error.code)
                refused.note(error, environ, body)
                raise
            except Exception as fault:
                said = to_unavailable(fault)
                service.telemetry.count_refused(said.code)
                refused.note(said, environ, body)
                raise said from fault
        service.telemetry.time_request(time.perf_counter() - began)
        return to_json(to_receipt(records))

    return blueprint
