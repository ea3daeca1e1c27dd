"""How long a client is waited for, and who goes first when a worker has no room for more connections.

| waits for | seconds |
|---|---|
| the first byte | 10 |
| the rest of a head | 10, from its first byte |
| a body | 30, and longer as long as it comes at 16 KiB/s or more on average |
| that an answer is taken | 30 without progress |
| the next request on a kept connection | 75 |
| the client's end of a closed connection | 2 |

75 is longer than the 60 of nginx and of most load balancers: they close an idle connection, and never find that we did.
"""

import heapq
import time
from collections.abc import Callable, Container, Iterator

import structlog
from gevent.hub import get_hub

from app.web.connection import ClientConnection, ConnectionLost, DeadlineMissed, Phase

LOOK_SECONDS = 0.5

GAUGE = "segment_lotus_connections"
"""Where the Flask application keeps, in `extensions`, what is told how many connections there are. It stands here
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
"""The share of connections beyond which kept ones are closed before their time."""

_BATCH = 0.02
"""The share of connections that is closed at once when a worker is full: to look for one costs as much."""

_LOG_SECONDS = 10.0

_KEPT = (Phase.KEPT,)
_IDLE = (Phase.NEW, Phase.KEPT)

_LOG = structlog.get_logger("web")


class Connections:
    """All connections of a worker. Its methods are for the hub: there nothing changes while they look."""

    def __init__(self, most: int, count: Callable[[int], None], now: Callable[[], float] = time.monotonic) -> None:
        """`most`: connections that this worker serves at one time. `count` is told now and then how many there are."""
        self.full = False
        """Whether there was no room lately: answers end their connections as long as this lasts."""
        self._most = most
        self._count = count
        self._now = now
        self._connections = set[ClientConnection]()
        self._looked_at = now()
        self._logged_at = -_LOG_SECONDS

    def add(self, connection: ClientConnection) -> None:
        """Watch a connection from now on; make room where it is the last that there is room for. Any greenlet may."""
        self._connections.add(connection)
        if len(self._connections) >= self._most:
            get_hub().loop.run_callback(self.make_room)

    def remove(self, connection: ClientConnection) -> None:
        """Watch it no more. Any greenlet may."""
        self._connections.discard(connection)

    def look(self) -> None:
        """Give up whoever is late, and where it is crowded the kept connections that have been idle longest."""
        now = self._now()
        late = now - self._looked_at - LOOK_SECONDS
        self._looked_at = now
        for connection in list(self._connections):
            if late > LOOK_SECONDS:
                # The loop was held up: what came meanwhile was not read, and that is no client's fault.
                connection.since += late
            elif connection.waiter is not None and _is_overdue(connection, now):
                connection.interrupt(DeadlineMissed())
        crowd = len(self._connections) - int(self._most * _CROWDED)
        if crowd > 0:
            self._close(heapq.nsmallest(crowd, self._waiting(_KEPT), key=_since))
        # They may all have been busy when the last one came.
        self.make_room()
        self.full = self.full and len(self._connections) >= self._most * (1 - 2 * _BATCH)
        self._count(len(self._connections))

    def make_room(self) -> None:
        """Where this worker is full, give up those that have kept it waiting longest: kept connections, then any."""
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
        """Close those that have no request under way."""
        self._close([*self._waiting(_IDLE)])

    def _waiting(self, phases: Container[Phase]) -> Iterator[ClientConnection]:
        """Return those that wait between two requests, of which no byte of the next has come."""
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
