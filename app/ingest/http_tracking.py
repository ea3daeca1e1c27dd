"""Segment's tracking API, so that its SDKs and analytics.js can send to this service instead."""

import re
from typing import Any

from flask import Blueprint, Response, request

from app.core.tracking import MAX_BATCH_BYTES, MAX_CALL_BYTES, PREFIX, TYPE_OF
from app.errors import SegmentLotusError, TooLarge
from app.ingest.http_intake import Answer, Endpoint, Intake
from app.web.body import Limit
from app.web.sessions import authorization

METRICS = f"{PREFIX}m"
"""Where analytics.js reports its own metrics to Segment."""

_CALL = Limit(MAX_CALL_BYTES, "Segment's limit for a call")
_BATCH = Limit(MAX_BATCH_BYTES, "Segment's limit for a batch")

_SUCCESS = "200 OK", b'{"success":true}'

_PREFLIGHT = {
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    # A day; browsers cap it.
    "Access-Control-Max-Age": "86400",
    "Vary": "Access-Control-Request-Headers",
}
_USUAL_HEADERS = "Authorization, Content-Type, Content-Encoding, X-Retry-Count"
_HEADER_NAMES = re.compile(r"[ \t,]*[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]*)*")
_HEADER_NAMES_MAX = 1000


class Tracking(Endpoint):
    """Accepts what Segment's libraries send."""

    name = "tracking"
    paths = (*TYPE_OF, METRICS)
    methods = frozenset({"POST"})
    # Any origin: the write key authenticates a request, never a cookie.
    headers = (("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", "Retry-After"))
    answers_options = True

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._call, self._batch = intake.lower(_CALL), intake.lower(_BATCH)

    def answer(self, environ: dict[str, Any]) -> Answer:
        """Process one request."""
        intake = self._intake
        # Flask finds the route also behind two slashes, or none.
        route = "/" + environ["PATH_INFO"].strip("/")
        ingest = intake.ingest
        if route == METRICS:
            # It has no key and no usage data: it is read, so that the connection can be reused, and discarded.
            intake.forget(environ, self._call, lambda: ingest.from_tracking(None, route))
            return _SUCCESS
        token = authorization(environ)
        limit = self._call if TYPE_OF[route] else self._batch
        intake.take(environ, limit, lambda: ingest.from_tracking(token, route))
        return _SUCCESS

    def error_response(self, error: SegmentLotusError) -> Response:
        """Return the response to a request that was not accepted, with the status that Segment sends."""
        response = super().error_response(error)
        if isinstance(error, TooLarge):
            response.status_code = 400
        return response

    def blueprint(self) -> Blueprint:
        """Return the routes, and those of the browsers' preflight requests."""
        blueprint = super().blueprint()

        def preflight() -> Response:
            allowed = ("Access-Control-Allow-Headers", _allowed_headers(request.environ))
            return Response(status=204, headers=[*self.headers, *_PREFLIGHT.items(), allowed])

        for path in self.paths:
            blueprint.add_url_rule(path, f"preflight{path}", preflight, methods=["OPTIONS"], strict_slashes=False)
        return blueprint


def _allowed_headers(environ: dict[str, Any]) -> str:
    """Return the header names that a browser asks for, whatever they are: none grants access, and SDKs add headers."""
    names: str = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
    return names if len(names) <= _HEADER_NAMES_MAX and _HEADER_NAMES.fullmatch(names) else _USUAL_HEADERS
