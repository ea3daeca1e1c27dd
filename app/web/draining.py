"""Whether this process is shutting down and accepts no new requests."""

from typing import TYPE_CHECKING, Any, NoReturn

from app.errors import Unavailable

if TYPE_CHECKING:
    from flask import Response

EXTENSION = "segment_lotus_draining"
"""The key of the application's Draining in `extensions`. It is defined here, and not beside the application, because
gunicorn's first process must not import that: see app.service.gunicorn_conf."""

LEFT_UNREAD = "segment_lotus.left_unread"
"""Set in the environ of a request whose body was not read to its end: its connection is closed after the answer."""


class Draining:
    """Started once, when the worker is told to stop."""

    def __init__(self) -> None:
        self.started = False

    def start(self) -> None:
        """Refuse new requests from now on; those in flight are finished."""
        self.started = True

    def refuse(self) -> NoReturn:
        """Refuse a new request, once draining has started. Raises Unavailable."""
        raise Unavailable("this node is shutting down; send it again")

    def hang_up(self, response: "Response", environ: dict[str, Any]) -> "Response":
        """Close the connection after this answer if draining has started, or the body was left unread.

        `environ` is the request's.
        """
        if self.started or environ.get(LEFT_UNREAD):
            response.headers["Connection"] = "close"
        return response
