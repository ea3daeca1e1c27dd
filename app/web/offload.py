"""Where slow reads run, so that calls which come in do not wait for them.

SQLite works inside the process, and psycopg's answers are turned into rows there: a query of half a second on the
thread of the loop would hold up every webhook request of the worker for half a second.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from gevent.monkey import get_original
from gevent.threadpool import ThreadPool

from app.catalog.backend import Backend

T = TypeVar("T")

Work = Callable[[Backend], object]
"""Reads what becomes JSON."""

_THREADS = 2
"""Slow reads at one time in one worker. Each thread has connections of its own, with up to 32 MB of SQLite's cache."""

# The patched one tells greenlets apart.
_thread_number: Callable[[], int] = get_original("_thread", "get_ident")


class Offload(Protocol):
    """Runs a piece of work that reads, and returns what it returns, or raises what it raises."""

    def __call__(self, work: Callable[[Backend], T]) -> T:
        """Run `work`. It may not use Flask's request."""


class OnThisThread:
    """Runs it on the spot."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __call__(self, work: Callable[[Backend], T]) -> T:
        """Run `work`."""
        return work(self._backend)


class OnThreads:
    """Runs it on one of a few real threads, while the loop goes on.

    No two threads share a pool of connections: its locks are gevent's, which are for the greenlets of one thread; with
    threads that contend for one, some wait for ever.
    """

    def __init__(self, connect_backend: Callable[[], Backend]) -> None:
        self._open_backend = connect_backend
        self._threads = ThreadPool(_THREADS)
        self._backends: dict[int, Backend] = {}

    def __call__(self, work: Callable[[Backend], T]) -> T:
        """Run `work`."""
        result, error = self._threads.apply(self._run, (work,))
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def _run(self, work: Callable[[Backend], T]) -> tuple[T | None, Exception | None]:
        number = _thread_number()
        try:
            if number not in self._backends:
                self._backends[number] = self._open_backend()
            return work(self._backends[number]), None
        except Exception as error:  # noqa: BLE001  raised anew by who asked; gevent would print its traceback here
            return None, error
