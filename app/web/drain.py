"""The drain of a process: whether it is shutting down and refuses new requests."""

from typing import TYPE_CHECKING, Any, NoReturn

from app.errors import Unavailable

if TYPE_CHECKING:
    from flask import Response

EXTENSION = "segment_lotus_drain"
"""The key of the application's Drain in `extensions`. It is defined here because gunicorn's first process must not
import the application: see app.service.gunicorn_conf."""

LEFT_UNREAD = "segment_lotus.left_unread"
"""Set in the environ of a request whose body was not read to its end: its connection is closed after the answer."""


class Drain:
    """Started once, when the worker is told to stop."""

    def __init__(self) -> None:
        self.started = False

    def start(self) -> None:
        """Refuse new requests from now on; those in flight are finished."""
        self.started = True

    def refuse(self) -> NoReturn:
        """Refuse a new request, once the drain has started. Raises Unavailable."""
        raise Unavailable("this node is shutting down; send it again")

    def hang_up(self, response: "Response", environ: dict[str, Any]) -> "Response":
        """Close the connection after this answer if the drain has started, or the body was left unread.

        `environ` is the request's.
        """
        if self.started or environ.get(LEFT_UNREAD):
            response.headers["Connection"] = "close"
        return response
