"""One TCP connection: the bytes that have come and are not used yet, what it waits for and since when.

gevent reads a socket through a file object, with a timeout for each read. That cannot tell whether bytes are there
already, which decides about fairness and about who may be closed, and a client that sends a byte now and then never
runs into the timeout. Here a connection only notes its phase and since when it waits; app.web.deadlines looks at the
notes twice a second. That costs a request two attributes and no timer.
"""

import contextlib
import socket
import time
from enum import Enum, auto
from typing import Any

import gevent
from gevent.hub import get_hub

TURN_BYTES = 64 * 1024
"""After so many bytes without a wait, the loop turns to the other connections."""

LINGER_BYTES = 1024 * 1024
"""The most that is read and thrown away after an answer, so that the answer is heard: closing a socket with unread
bytes resets the connection, and the client may lose what it has not read yet."""

_PIECE_BYTES = 64 * 1024

# Not zero: gevent answers sleep(0) without a look at the sockets.
_BLINK_SECONDS = 1e-9


class Phase(Enum):
    """What a connection waits for."""

    NEW = auto()
    """Its first byte."""
    HEAD = auto()
    """The rest of a head."""
    BODY = auto()
    """More of a body."""
    ANSWER = auto()
    """That the client takes more of an answer."""
    KEPT = auto()
    """The next request, after at least one."""
    CLOSING = auto()
    """The client's end of a connection that is closed on our side."""
    SERVING = auto()
    """Nothing: a request is being answered."""


class ConnectionLost(OSError):
    """The client is gone, or was given up."""


class DeadlineMissed(ConnectionLost):
    """The client did not do in time what it was waited for."""


class LineTooLong(ValueError):
    """A line does not end within its limit."""


class ClientConnection:
    """A connection, used by one greenlet at a time. What others may call meanwhile says so."""

    __slots__ = (
        "_hub",
        "_readable",
        "_since_turn",
        "_socket",
        "_writable",
        "abandoned",
        "address",
        "buffer",
        "last_byte_at",
        "lingers",
        "payload",
        "phase",
        "position",
        "since",
        "waited",
        "waiter",
    )

    def __init__(self, client: Any, address: Any) -> None:
        """`client`: gevent's socket."""
        client.setblocking(False)  # noqa: FBT003  the socket's own name for it
        self.address = address
        self.buffer = b""
        self.position = 0
        """Where in the buffer the next byte to be used stands."""
        self.phase = Phase.NEW
        self.since = self.last_byte_at = time.monotonic()
        """When the phase began; the time of the last bytes that came."""
        self.waiter: Any = None
        """The greenlet that waits for the client at this moment."""
        self.waited = True
        """Whether the last bytes had to be waited for."""
        self.payload = 0
        """Bytes of the current body, without its framing."""
        self.abandoned = False
        """Whether nothing is received any more, but for what is thrown away at the end."""
        self.lingers = True
        """Whether the end waits until the client has heard the answer."""
        self._socket = client
        self._hub = get_hub()
        self._readable = self._hub.loop.io(client.fileno(), 1)
        self._writable: Any = None
        self._since_turn = 0

    # --- Bytes

    def fill(self, phase: Phase | None) -> bool:
        """Receive more bytes into the buffer; False at the end of what the client sends.

        Where none are there it waits in this phase, or, with None, raises BlockingIOError. Raises ConnectionLost.
        """
        data = self._receive(phase)
        self.last_byte_at = time.monotonic()
        unread = self.buffer[self.position :]
        self.buffer = unread + data if unread else data
        self.position = 0
        self.spend(len(data))
        return bool(data)

    def take(self, size: int) -> bytes:
        """Return up to `size` bytes of the buffer, and use them up."""
        end = self.position + size
        data = self.buffer[self.position : end]
        if end >= len(self.buffer):
            self.buffer = b""
            self.position = 0
        else:
            self.position = end
        return data

    def read_line(self, limit: int, phase: Phase | None) -> bytes:
        """Return a line without the CRLF at its end.

        Raises:
            LineTooLong: it has more than `limit` bytes.
            ConnectionLost: the client is gone.
            BlockingIOError: `phase` is None, and the line has not come.

        """
        while (end := self.buffer.find(b"\r\n", self.position, self.position + limit + 2)) < 0:
            if len(self.buffer) - self.position > limit + 1:
                raise LineTooLong
            if not self.fill(phase):
                raise ConnectionLost
        line = self.buffer[self.position : end]
        self.position = end + 2
        return line

    def send(self, data: bytes | bytearray) -> None:
        """Send all of it. Raises ConnectionLost."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                # Each piece that is taken begins a new wait.
                self.phase = Phase.SERVING
                self._wait(self._writable_watcher(), Phase.ANSWER)
            except OSError as error:
                raise ConnectionLost from error

    def has_bytes(self) -> bool:
        """Whether bytes have come that were not looked at, in the buffer or still in the kernel. Never waits."""
        if self.position < len(self.buffer):
            return True
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    # --- Turns

    def spend(self, cost: int) -> None:
        """Count work that was done without a wait, in bytes; after TURN_BYTES the others have their turn."""
        self._since_turn += cost
        if self._since_turn >= TURN_BYTES:
            self.give_way()

    def give_way(self) -> None:
        """Let the other connections run, those first whose bytes have arrived meanwhile."""
        self._since_turn = 0
        gevent.sleep(_BLINK_SECONDS)

    # --- Ends

    def interrupt(self, error: ConnectionLost) -> None:
        """Raise an error where the connection waits. Only in the hub, where it is sure to wait still."""
        if self.waiter is not None:
            self.waiter.throw(error)

    def abandon(self) -> None:
        """Receive no more: whoever reads a body, now or later, gets ConnectionLost. Any greenlet may call this."""
        self.abandoned = True
        self._hub.loop.run_callback(self._stop_reading)

    def _stop_reading(self) -> None:
        if self.abandoned and self.phase is Phase.BODY:
            self.interrupt(ConnectionLost())

    def end(self, *, used_up: bool) -> None:
        """See that what was sent is heard, before it is closed. `used_up`: all that the client sent was used."""
        if not self.lingers:
            return
        self.abandoned = False
        left = LINGER_BYTES
        # Gone already, or nothing to wait for, or it took too long: it is closed all the same.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            while left > 0 and (data := self._receive(None if used_up else Phase.CLOSING)):
                left -= len(data)
                self.spend(len(data))

    def close(self) -> None:
        """Close at once."""
        self._readable.close()
        if self._writable is not None:
            self._writable.close()
        self._socket.close()

    # --- Waiting

    def _receive(self, phase: Phase | None) -> bytes:
        self.waited = False
        while not self.abandoned:
            try:
                data: bytes = self._socket.recv(_PIECE_BYTES)
            except BlockingIOError:
                if phase is None:
                    raise
            except OSError as error:
                raise ConnectionLost from error
            else:
                return data
            self._wait(self._readable, phase)
        raise ConnectionLost

    def _wait(self, watcher: Any, phase: Phase) -> None:
        if self.phase is not phase:
            self.phase = phase
            self.since = time.monotonic()
        self.waited = True
        self.waiter = gevent.getcurrent()
        try:
            self._hub.wait(watcher)
        finally:
            self.waiter = None
        self._since_turn = 0

    def _writable_watcher(self) -> Any:
        if self._writable is None:
            self._writable = self._hub.loop.io(self._socket.fileno(), 2)
        return self._writable
