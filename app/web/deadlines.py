"""Deadlines of connections, and which to close when a worker has too many.

| waits for | seconds |
|---|---|
| the first byte | 10 |
| the rest of a head | 10, from its first byte |
| a body | 30, or longer while it arrives at 16 KiB/s or more on average |
| the client to read the answer | 30 without progress |
| the next request on a kept connection | 75 |
| the client to close a closed connection | 2 |

75 is longer than the 60 of nginx and most load balancers, so that they close idle connections and we do not.
"""

import heapq
import time
from collections.abc import Callable, Container, Iterator

import structlog
from gevent.hub import get_hub

from app.web.connection import ClientConnection, ConnectionLost, DeadlineMissed, Phase

CHECK_SECONDS = 0.5

GAUGE = "segment_lotus_connections"
"""The key in the application's `extensions` of the function that gets the number of connections. It is defined here
because gunicorn's first process must not import the application: see app.service.gunicorn_conf."""

_SECONDS = {
    Phase.NEW: 10.0,
    Phase.HEAD: 10.0,
    Phase.BODY: 30.0,
    Phase.ANSWER: 30.0,
    Phase.KEPT: 75.0,
    Phase.CLOSING: 2.0,
}
_BODY_BYTES_PER_SECOND = 16 * 1024

_CROWDED = 0.75
"""The fraction of connections in use above which kept ones are closed early."""

_BATCH = 0.02
"""The fraction of connections that is closed together when a worker is full: finding one costs as much."""

_LOG_SECONDS = 10.0

_KEPT = (Phase.KEPT,)
_IDLE = (Phase.NEW, Phase.KEPT)

_LOG = structlog.get_logger("web")


class Connections:
    """All connections of a worker. Its methods run in the hub, where nothing changes meanwhile."""

    def __init__(self, most: int, report: Callable[[int], None], now: Callable[[], float] = time.monotonic) -> None:
        """`most`: the connections that this worker serves at a time. `report` gets their number at each check."""
        self.full = False
        """Whether the worker was full recently: meanwhile, each answer ends its connection."""
        self._most = most
        self._report = report
        self._now = now
        self._connections = set[ClientConnection]()
        self._checked_at = now()
        self._logged_at = -_LOG_SECONDS

    def add(self, connection: ClientConnection) -> None:
        """Add a connection; if it takes the last place, make room for others. Any greenlet may call this."""
        self._connections.add(connection)
        if len(self._connections) >= self._most:
            get_hub().loop.run_callback(self.make_room)

    def remove(self, connection: ClientConnection) -> None:
        """Remove a connection. Any greenlet may call this."""
        self._connections.discard(connection)

    def check(self) -> None:
        """Close overdue connections, and the longest idle of the kept ones if there are too many."""
        now = self._now()
        delay = now - self._checked_at - CHECK_SECONDS
        self._checked_at = now
        for connection in list(self._connections):
            if delay > CHECK_SECONDS:
                # The loop was blocked and read nothing meanwhile, which is not the client's fault.
                connection.since += delay
            elif connection.waiter is not None and _is_overdue(connection, now):
                connection.interrupt(DeadlineMissed())
        excess = len(self._connections) - int(self._most * _CROWDED)
        if excess > 0:
            self._close(heapq.nsmallest(excess, self._waiting(_KEPT), key=_since))
        # All may have been busy when the last one was added.
        self.make_room()
        self.full = self.full and len(self._connections) >= self._most * (1 - 2 * _BATCH)
        self._report(len(self._connections))

    def make_room(self) -> None:
        """If this worker is full, close the connections that wait longest: kept ones first, else any."""
        used = len(self._connections)
        if used < self._most:
            return
        self.full = True
        batch = max(int(self._most * _BATCH), 1)
        chosen = heapq.nsmallest(batch, self._waiting(_KEPT), key=_since)
        if not chosen:
            waiting = (connection for connection in self._connections if connection.waiter is not None)
            chosen = heapq.nsmallest(batch, waiting, key=_since)
        for connection in chosen:
            connection.lingers = False
        self._close(chosen)
        now = self._now()
        if now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            _LOG.warning(
                "all connections are in use: those that kept this worker waiting longest are closed for new ones",
                connections=used,
            )

    def end_idle(self) -> None:
        """Close the connections without a request in progress."""
        self._close([*self._waiting(_IDLE)])

    def _waiting(self, phases: Container[Phase]) -> Iterator[ClientConnection]:
        """Yield the connections that wait in these phases, with no byte of a request received."""
        return (
            connection
            for connection in self._connections
            if connection.waiter is not None and connection.phase in phases and not connection.has_bytes()
        )

    def _close(self, connections: list[ClientConnection]) -> None:
        for connection in connections:
            connection.interrupt(ConnectionLost())


def _is_overdue(connection: ClientConnection, now: float) -> bool:
    seconds = now - connection.since
    if seconds < _SECONDS[connection.phase]:
        return False
    if connection.phase is Phase.BODY:
        return connection.payload < seconds * _BODY_BYTES_PER_SECOND
    return connection.phase not in _IDLE or not connection.has_bytes()


def _since(connection: ClientConnection) -> float:
    return connection.since
