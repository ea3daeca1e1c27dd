"""The Segment webhook destination: a Flask route, and a shortcut to it.

Flask's own part of a request (its contexts, the routing, the answer as an object) takes 115 of 300 us, as much as all
that is done with a call. So the requests that bills hang on are answered in front of it, by the same function.
"""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from flask import Blueprint, Response, request

from app.bootstrap import Service
from app.errors import RequestRefused, SegmentLotusError, Unavailable
from app.ingest import to_receipt
from app.web.auth import authorization
from app.web.body import InFlight, read_body
from app.web.draining import Draining
from app.web.errors import to_response, to_unavailable
from app.web.refused import Refused

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

ROUTE = "webhook"

PATH = "/webhooks/segment"
_PATHS = frozenset({PATH, f"{PATH}/"})
_METHODS = frozenset({"POST", "PUT", "PATCH"})

_JSON = "application/json"
_ENCODE = msgspec.json.Encoder().encode


class Webhook:
    """Takes what Segment sends."""

    def __init__(self, service: Service, refused: Refused, in_flight: InFlight, draining: Draining) -> None:
        self._service = service
        self._most = service.settings.max_body_bytes
        self._refused = refused
        self._in_flight = in_flight
        self._draining = draining

    def receive(self, environ: dict[str, Any]) -> bytes:
        """Take one request; return the receipt as JSON, after the commit that holds its calls.

        Raises:
            RequestRefused: it holds no calls for us. It is counted and kept among the refused requests.
            Unavailable: the same, and it should be sent again.

        """
        began = time.perf_counter()
        service = self._service
        body = b""
        with self._in_flight.reserved() as reservation:
            try:
                self._draining.refuse()
                body = read_body(environ, self._most, reservation)
                records = service.ingest.receive(body, environ.get("HTTP_X_SIGNATURE"), authorization(environ), ROUTE)
            except (RequestRefused, Unavailable) as error:
                self._note(error, environ, body)
                raise
            except Exception as fault:
                said = to_unavailable(fault)
                self._note(said, environ, body)
                raise said from fault
        service.telemetry.time_request(time.perf_counter() - began)
        return _ENCODE(to_receipt(records))

    def _note(self, error: RequestRefused | Unavailable, environ: dict[str, Any], body: bytes) -> None:
        self._service.telemetry.count_refused(error.code)
        self._refused.note(error, environ, body)

    def blueprint(self) -> Blueprint:
        """Return the route."""
        blueprint = Blueprint("webhook", __name__)

        # Both spellings are routes: a redirect would turn Segment's POST into an empty GET that counts as delivered.
        @blueprint.route(PATH, methods=sorted(_METHODS), strict_slashes=False)
        def receive() -> Response:
            return Response(self.receive(request.environ), content_type=_JSON)

        return blueprint

    def before(self, flask: "WSGIApplication") -> "WSGIApplication":
        """Return an application that answers the requests of the route as the route does, and hands on all others."""

        def answer(environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
            if environ["PATH_INFO"] not in _PATHS or environ["REQUEST_METHOD"] not in _METHODS:
                return flask(environ, start_response)
            try:
                receipt = self.receive(environ)
            except SegmentLotusError as error:
                response = to_response(error)
                self._draining.hang_up(response)
                return response(environ, start_response)
            headers = [("Content-Type", _JSON), ("Content-Length", str(len(receipt)))]
            if self._draining.started:
                headers.append(("Connection", "close"))
            start_response("200 OK", headers)
            return [receipt]

        return answer
