"""Whether this process is about to end and takes nothing new."""

from typing import TYPE_CHECKING, Any

from app.errors import Unavailable

if TYPE_CHECKING:
    from flask import Response

EXTENSION = "segment_lotus_draining"
"""Where the Flask application keeps its Draining, in `extensions`. It stands here, and not where the application is
made, because gunicorn's first process must not import that: see app.service.gunicorn_conf."""

LEFT_UNREAD = "segment_lotus.left_unread"
"""Set in the environment of a request whose body was not read to its end: its connection ends with the answer."""


class Draining:
    """Set once, by the worker that was told to stop."""

    def __init__(self) -> None:
        self.started = False

    def start(self) -> None:
        """Take nothing new from now on; what is in flight is finished."""
        self.started = True

    def refuse(self) -> None:
        """Raise Unavailable once draining has started."""
        if self.started:
            raise Unavailable("this node is shutting down; send it again")

    def hang_up(self, response: "Response", environ: dict[str, Any]) -> "Response":
        """Let the connection end with this answer once draining has started, or where the body was left unread.

        `environ` is the request's.
        """
        if self.started or environ.get(LEFT_UNREAD):
            response.headers["Connection"] = "close"
        return response
