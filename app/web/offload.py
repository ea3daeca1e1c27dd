"""Where slow reads run, so that calls which come in do not wait for them.

SQLite works inside the process, and psycopg's answers are turned into rows there: a query of half a second on the
thread of the loop would hold up every webhook request of the worker for half a second.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from gevent import get_hub

T = TypeVar("T")


class Offload(Protocol):
    """Runs a piece of work and returns what it returns, or raises what it raises."""

    def __call__(self, work: Callable[[], T]) -> T:
        """Run `work`. It may not use Flask's request."""


class OnThisThread:
    """Runs it on the spot."""

    def __call__(self, work: Callable[[], T]) -> T:
        """Run `work`."""
        return work()


class OnThreads:
    """Runs it on a real thread of gevent's, while the loop goes on."""

    def __call__(self, work: Callable[[], T]) -> T:
        """Run `work`."""
        result: T = get_hub().threadpool.apply(work)
        return result
