"""Group commit: one transaction for all requests in flight, each answered after the commit that stores it.

The first request leads: it commits all that have queued by then, wakes them, and hands the lead to the first of those
that arrived meanwhile. So the busier it is, the larger and (per call) cheaper the commits; no request waits for a
timer, and a stored one continues at once. Plain `threading` locks: under gevent they are greenlet locks, in
tests real ones.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ParamSpec

import structlog

from app.errors import Unavailable
from app.store.commit import Committer
from app.store.record import Record, Request

# The most calls in one commit, so that no sender waits for another's backlog.
MAX_CALLS_PER_COMMIT = 4000

# A database that hangs, or is locked by another program, is noticed only after seconds. At most _MOST_WAITING requests
# wait for a commit that takes longer than this; more are refused at once, since each holds a connection that /healthz
# may need.
_LONG_COMMIT_SECONDS = 1.0
_MOST_WAITING = 100

# Not zero: gevent answers sleep(0) without polling the sockets. Measured: with zero, arrived data was not seen for
# 5 ms; with this, after 2 us.
_BLINK_SECONDS = 1e-9

_TURN_SECONDS = 0.005

# A watcher that fails at every commit would fill the log.
_REPORT_PAUSE_SECONDS = 60

_LOG = structlog.get_logger("watch")

P = ParamSpec("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What watchers get about a commit."""

    records: Sequence[Record]
    seconds: float
    waiting: int
    """Requests queued at its end."""


Watch = Callable[[Commit], None]


def isolated(watch: Callable[P, None]) -> Callable[P, None]:
    """Return `watch` wrapped so that it never raises: failures are logged, at most once a minute.

    For everything between a commit and its answer. The calls are stored, so the sender must get 200.
    """
    name = getattr(watch, "__qualname__", type(watch).__name__)
    next_report = 0.0

    def run(*arguments: P.args, **keywords: P.kwargs) -> None:
        nonlocal next_report
        try:
            watch(*arguments, **keywords)
        except Exception:  # noqa: BLE001  whatever it is, it is not the sender's trouble
            now = time.monotonic()
            if now >= next_report:
                next_report = now + _REPORT_PAUSE_SECONDS
                _LOG.exception("a watcher failed; the calls are stored and were answered", watcher=name)

    return run


@dataclass(slots=True, eq=False)
class _Entry:
    request: Request
    done: bool = False
    leads: bool = False
    error: Exception | None = None
    wake: threading.Lock = field(default_factory=threading.Lock)


def yield_now() -> None:
    """Yield to other requests, and let those that have arrived begin."""
    time.sleep(_BLINK_SECONDS)


class Turn:
    """The time slice of a long piece of work, which yields to others between its steps once the slice is used up."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = time.monotonic() + _TURN_SECONDS

    def checkpoint(self) -> None:
        """Yield if five milliseconds have passed since the last time."""
        if time.monotonic() > self._until:
            yield_now()
            self._until = time.monotonic() + _TURN_SECONDS


class Writer:
    """Stores requests, each with one or more calls. One per process."""

    def __init__(self, committer: Committer, *watches: Watch) -> None:
        """`watches` are called after every commit; one that fails affects neither senders nor the others."""
        self._committer = committer
        self._watches = [isolated(watch) for watch in watches]
        self._queue: deque[_Entry] = deque()
        self._lead = threading.Lock()
        self._began = math.inf
        """When the current commit began, by time.perf_counter; infinite if there is none."""

    def append(self, request: Request) -> None:
        """Store a request with its calls; returns after the commit, each record then holds its outcome.

        Raises:
            Unavailable: nothing of the request is known to be stored; the sender should send it again.

        """
        if len(self._queue) >= _MOST_WAITING and time.perf_counter() - self._began > _LONG_COMMIT_SECONDS:
            raise Unavailable("the database is slow, and too many requests wait for it")
        entry = _Entry(request)
        entry.wake.acquire()
        self._queue.append(entry)
        if self._lead.acquire(blocking=False):
            entry.leads = True
        try:
            if not entry.leads:
                entry.wake.acquire()
            # Once, or again if more were queued before this one than fit into one commit.
            while not entry.done:
                self._commit_queued()
        finally:
            if not entry.done and entry in self._queue:
                # Interrupted while waiting: the lead must not be handed to a request that is gone.
                self._queue.remove(entry)
            if entry.leads:
                self._hand_over()
        if entry.error is not None:
            raise entry.error

    def _hand_over(self) -> None:
        """Hand the lead to the first request that waits, if any."""
        while True:
            if self._queue:
                next_leader = self._queue[0]
                next_leader.leads = True
                next_leader.wake.release()
                return
            self._lead.release()
            # A request that came in between found the lead taken, and waits.
            if not self._queue or not self._lead.acquire(blocking=False):
                return

    def _commit_queued(self) -> None:
        entries: list[_Entry] = []

        def take() -> list[Request]:
            entries.extend(self._take())
            return [entry.request for entry in entries]

        error: Exception | None = None
        ended = False
        began = self._began = time.perf_counter()
        try:
            self._committer.commit(take)
            ended = True
        except Exception as trouble:  # noqa: BLE001  every sender of the group must get it, not only this one
            error = trouble
        finally:
            self._began = math.inf
            if not ended and error is None:
                # This thread is stopped in the middle.
                error = Unavailable("the commit was broken off")
            for entry in entries or self._take():
                entry.error = error
                entry.done = True
                if not entry.leads:
                    entry.wake.release()
        if error is None:
            records = [record for entry in entries for record in entry.request.records]
            commit = Commit(records=records, seconds=time.perf_counter() - began, waiting=len(self._queue))
            for watch in self._watches:
                watch(commit)

    def _take(self) -> list[_Entry]:
        """Take the queued requests, after letting all that have already arrived join.

        Otherwise a gevent worker, which nothing interrupts, would commit each call alone.
        """
        queued = 0
        while queued < len(self._queue):
            queued = len(self._queue)
            yield_now()
        entries: list[_Entry] = []
        size = 0
        while self._queue and (not entries or size + len(self._queue[0].request.records) <= MAX_CALLS_PER_COMMIT):
            entry = self._queue.popleft()
            entries.append(entry)
            size += len(entry.request.records)
        return entries
