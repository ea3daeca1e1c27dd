"""The Flask application and its requests: how the body of each is read, within the limit of its route.

There is one mechanism, `app.web.body`, and it is used once the guards of a route have looked at the head: what they
refuse is not read. A view that takes more than others, or less, says so with `body_limit`.
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

ORDINARY = Limit(64 << 10, "the most that is taken here")
"""Of a view that says nothing: forms, filters, words."""

IN_FLIGHT = "segment_lotus_in_flight"

_YEAR = 365 * 86_400
_ATTRIBUTE = "body_limit"


def body_limit(limit: Limit | None) -> Callable[[View], View]:
    """Give a view another limit than ORDINARY; None: the view reads the body by itself."""

    def mark(view: View) -> View:
        setattr(view, _ATTRIBUTE, limit)
        return view

    return mark


def limit_of(view: Callable[..., object]) -> Limit | None:
    """Return the limit of a view; None where it reads the body by itself."""
    limit: Limit | None = getattr(view, _ATTRIBUTE, ORDINARY)
    return limit


class BoundedRequest(Request):
    """A request whose body is read whole, or not at all."""

    _reservation: Reservation | None = None

    @cached_property
    def stream(self) -> IO[bytes]:
        """Read the body.

        Raises:
            TooLarge, UnparsableJson, BodyBroken, Unavailable: as `read_body` does.
            UnsupportedMediaType: it has parts, of which any could be a file. Nothing here takes files.

        """
        limit = limit_of(current_app.view_functions[self.endpoint]) if self.endpoint else ORDINARY
        if limit is None:
            return super().stream
        self._reservation = current_app.extensions[IN_FLIGHT].reserve(self.environ["wsgi.input"])
        body = read_body(self.environ, limit, self._reservation)
        if body and self.mimetype.startswith("multipart/"):
            raise UnsupportedMediaType("a form is taken as application/x-www-form-urlencoded, and no files are")
        return io.BytesIO(body)

    def close(self) -> None:
        """Give the room of the body back."""
        if self._reservation is not None:
            self._reservation.close()
        super().close()


class Application(Flask):
    """The application. `extensions[IN_FLIGHT]` is what counts the bodies of its requests."""

    request_class = BoundedRequest

    def dispatch_request(self) -> ResponseReturnValue:
        """Answer a request that the guards let pass."""
        if request.routing_exception is None:
            _ = request.stream
        return super().dispatch_request()

    def get_send_file_max_age(self, filename: str | None) -> int | None:  # noqa: ARG002
        """Let browsers keep what its address names, see app.web.pages; they ask again for what a module imports."""
        return _YEAR if "v" in request.args else None
