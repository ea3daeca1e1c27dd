"""The Flask application and its requests: each body is read within the limit of its route.

`app.web.body` reads the body after the guards of a route have checked the head; the body of a refused request is not
read.
A view whose limit differs from the usual one sets it with `body_limit`.
"""

import io
from collections.abc import Callable
from functools import cached_property
from typing import IO, TypeVar

from flask import Flask, Request, current_app, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import UnsupportedMediaType

from app.web.body import Limit, read_body
from app.web.in_flight import Reservation

View = TypeVar("View", bound=Callable[..., object])

ORDINARY = Limit(64 << 10, "the limit of this address")
"""The limit of views that set none: forms, filters."""

IN_FLIGHT = "segment_lotus_in_flight"

_YEAR = 365 * 86_400
_ATTRIBUTE = "body_limit"


def body_limit(limit: Limit | None) -> Callable[[View], View]:
    """Set a view's limit in place of ORDINARY; None: the view reads the body itself."""

    def mark(view: View) -> View:
        setattr(view, _ATTRIBUTE, limit)
        return view

    return mark


def limit_of(view: Callable[..., object]) -> Limit | None:
    """Return the limit of a view; None if it reads the body itself."""
    limit: Limit | None = getattr(view, _ATTRIBUTE, ORDINARY)
    return limit


class BoundedRequest(Request):
    """A request whose body is read completely or not at all."""

    _reservation: Reservation | None = None

    @cached_property
    def stream(self) -> IO[bytes]:
        """Read the body.

        Raises:
            TooLarge, UnparsableJson, BodyBroken, Unavailable: as `read_body` does.
            UnsupportedMediaType: it is multipart, which may hold files. Nothing here accepts files.

        """
        limit = limit_of(current_app.view_functions[self.endpoint]) if self.endpoint else ORDINARY
        if limit is None:
            return super().stream
        self._reservation = current_app.extensions[IN_FLIGHT].reserve(self.environ["wsgi.input"])
        body = read_body(self.environ, limit, self._reservation)
        if body and self.mimetype.startswith("multipart/"):
            raise UnsupportedMediaType("a form must be application/x-www-form-urlencoded; files are not accepted")
        return io.BytesIO(body)

    def close(self) -> None:
        """Release the bytes of the body."""
        if self._reservation is not None:
            self._reservation.close()
        super().close()


class Application(Flask):
    """The application. `extensions[IN_FLIGHT]` counts the bytes of its request bodies."""

    request_class = BoundedRequest

    def dispatch_request(self) -> ResponseReturnValue:
        """Answer a request that passed the guards."""
        if request.routing_exception is None:
            _ = request.stream
        return super().dispatch_request()

    def get_send_file_max_age(self, filename: str | None) -> int | None:  # noqa: ARG002
        """Let browsers cache files whose address has a version, see app.web.pages; imports of a module have none."""
        return _YEAR if "v" in request.args else None
