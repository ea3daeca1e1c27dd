"""Runs slow reads away from the event loop, so that incoming calls do not wait for them.

SQLite runs inside the process, as does psycopg's conversion of answers to rows: a query of half a second on the loop's
thread would delay every webhook request of the worker by half a second.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from gevent.monkey import get_original
from gevent.threadpool import ThreadPool

from app.catalog.backend import Backend

T = TypeVar("T")

Work = Callable[[Backend], object]
"""A read whose result becomes JSON."""

_THREADS = 2
"""Concurrent slow reads in one worker. Each thread has its own connections, with up to 32 MB of SQLite's cache."""

# The patched function identifies greenlets, not threads.
_thread_number: Callable[[], int] = get_original("_thread", "get_ident")


class Offload(Protocol):
    """Runs a read, and returns its result or raises its error."""

    def __call__(self, work: Callable[[Backend], T]) -> T:
        """Run `work`. It may not use Flask's request."""


class OnThisThread:
    """Runs reads in the calling thread."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __call__(self, work: Callable[[Backend], T]) -> T:
        """Run `work`."""
        return work(self._backend)


class OnThreads:
    """Runs reads on a few real threads, while the loop continues.

    No two threads share a connection pool: its locks are gevent's, for greenlets of a single thread; threads that
    contend for one may wait forever.
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
        except Exception as error:  # noqa: BLE001  raised again by the caller; gevent would print its traceback here
            return None, error
