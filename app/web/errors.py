"""Errors over HTTP: one format everywhere, `{"code": ..., "message": ...}`, and one table of statuses."""

from collections.abc import Callable

import structlog
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from app.core.json_text import encode
from app.errors import (
    BadQuery,
    BatchNotFullyAuthenticated,
    EditConflict,
    Forbidden,
    NotFound,
    SegmentLotusError,
    SignatureMismatch,
    SignatureMissing,
    TooLarge,
    TooManyAttempts,
    Unauthorized,
    Unavailable,
    UnparsableJson,
)

STATUS_OF: dict[type[SegmentLotusError], int] = {
    UnparsableJson: 400,
    BadQuery: 400,
    SignatureMissing: 401,
    SignatureMismatch: 401,
    Unauthorized: 401,
    BatchNotFullyAuthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    EditConflict: 409,
    TooLarge: 413,
    TooManyAttempts: 429,
    Unavailable: 503,
}

# Segment backs off by itself; this only keeps a well-behaved client from retrying at once.
RETRY_AFTER_SECONDS = 2

_PRIVATE = ("/api/v1", "/readyz", "/metrics")

_LOG = structlog.get_logger("web")


def to_json(value: object, status: int = 200) -> Response:
    """Return a JSON response."""
    return Response(encode(value), status, content_type="application/json")


def to_status(error: SegmentLotusError) -> int | None:
    """Return the status of one of our errors; None for one that should never reach a sender."""
    return next((code for kind, code in STATUS_OF.items() if isinstance(error, kind)), None)


def to_response(error: SegmentLotusError) -> Response:
    """Return the response for one of our errors; one that should never reach a sender counts as unexpected."""
    status = to_status(error)
    if status is None:
        return to_response(to_unavailable(error))
    response = to_json({"code": error.code, "message": error.message}, status)
    if status == 503:  # noqa: PLR2004
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if status == 401:  # noqa: PLR2004
        response.headers["WWW-Authenticate"] = 'Bearer realm="segment-lotus"'
    return response


def to_unavailable(error: Exception) -> Unavailable:
    """Log an unexpected error, and return the error for its sender.

    503, since the fault is ours: Segment retries after a 503, and drops the call after many other statuses.
    """
    _LOG.error("unexpected error", exc_info=error)
    return Unavailable("something went wrong here; it is in the log of the service")


def keep_private(response: Response) -> Response:
    """Forbid caching and content sniffing of answers for the admin, errors included.

    Pages do so themselves, see app.web.pages; the endpoints for calls return no stored data.
    """
    if request.path.startswith(_PRIVATE):
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


def register(app: Flask, to_page: Callable[[Exception], Response]) -> None:
    """Give every error of every route this format; `to_page` renders it if a browser asks for a page.

    Blueprints of pages have their own handlers; this is for addresses without a route.
    """

    def handle_http_error(error: HTTPException) -> Response:
        return to_page(error) if wants_page() else _http(error)

    app.register_error_handler(SegmentLotusError, to_response)
    app.register_error_handler(HTTPException, handle_http_error)
    app.register_error_handler(Exception, _unexpected)


def wants_page() -> bool:
    """Whether the client prefers HTML, as browsers do."""
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"


def _http(error: HTTPException) -> Response:
    code = error.name.lower().replace(" ", "_")
    response = to_json({"code": code, "message": error.description or error.name}, error.code or 500)
    for name, value in error.get_headers():
        if name.lower() == "allow":
            response.headers[name] = value
    return response


def _unexpected(error: Exception) -> Response:
    return to_response(to_unavailable(error))
