"""Whether this process is about to end and takes nothing new."""

from app.errors import Unavailable


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
