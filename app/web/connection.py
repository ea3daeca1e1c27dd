"""A TCP connection: its unread bytes, what it waits for, and since when.

gevent reads a socket through a file object, with a timeout for each read. That cannot tell whether bytes have arrived,
on which fairness and the choice of connections to close depend, and a client that sends a byte now and then never
reaches the timeout. Here a connection only records its phase and when it began to wait, and app.web.deadlines checks
that twice a second. That costs a request two attributes and no timer.
"""

import contextlib
import socket
import time
from enum import Enum, auto
from typing import Any

import gevent
from gevent.hub import get_hub

TURN_BYTES = 64 * 1024
"""After this many bytes without a wait, the connection yields to others."""

LINGER_BYTES = 1024 * 1024
"""The most bytes that are read and discarded after an answer. Closing a socket with unread bytes resets the
connection, and the client may lose an answer that it has not read yet."""

_PIECE_BYTES = 64 * 1024

# Not zero: gevent returns from sleep(0) without polling the sockets.
_BLINK_SECONDS = 1e-9


class Phase(Enum):
    """What a connection waits for."""

    NEW = auto()
    """Its first byte."""
    HEAD = auto()
    """The rest of the head."""
    BODY = auto()
    """More of the body."""
    ANSWER = auto()
    """The client to read more of the answer."""
    KEPT = auto()
    """The next request, after at least one."""
    CLOSING = auto()
    """The client to close a connection that we have closed on our side."""
    SERVING = auto()
    """Nothing: a request is being answered."""


class ConnectionLost(OSError):
    """The client is gone, or was disconnected."""


class DeadlineMissed(ConnectionLost):
    """The client exceeded the deadline of the phase."""


class LineTooLong(ValueError):
    """A line does not end within its limit."""


class ClientConnection:
    """A connection, used by one greenlet at a time. Methods that others may call say so."""

    __slots__ = (
        "_hub",
        "_readable",
        "_since_turn",
        "_socket",
        "_writable",
        "abandoned",
        "address",
        "buffer",
        "had_to_wait",
        "last_byte_at",
        "lingers",
        "payload",
        "phase",
        "position",
        "since",
        "waiter",
    )

    def __init__(self, client: Any, address: Any) -> None:
        """`client`: gevent's socket."""
        client.setblocking(False)  # noqa: FBT003  the socket's own name for it
        self.address = address
        self.buffer = b""
        self.position = 0
        """The index of the next unread byte in the buffer."""
        self.phase = Phase.NEW
        self.since = self.last_byte_at = time.monotonic()
        """When the phase began, and when the last bytes arrived."""
        self.waiter: Any = None
        """The greenlet that is waiting for the client, if any."""
        self.had_to_wait = True
        """Whether the last read had to wait for bytes."""
        self.payload = 0
        """Bytes of the current body, without its framing."""
        self.abandoned = False
        """Whether reading has stopped, except for bytes that are discarded at the end."""
        self.lingers = True
        """Whether `end` waits until the client has read the answer."""
        self._socket = client
        self._hub = get_hub()
        self._readable = self._hub.loop.io(client.fileno(), 1)
        self._writable: Any = None
        self._since_turn = 0

    # --- Bytes

    def fill(self, phase: Phase | None) -> bool:
        """Receive more bytes into the buffer; False at the end of the stream.

        If there are none it waits in `phase`, or raises BlockingIOError if `phase` is None. Raises ConnectionLost.
        """
        data = self._receive(phase)
        self.last_byte_at = time.monotonic()
        unread = self.buffer[self.position :]
        self.buffer = unread + data if unread else data
        self.position = 0
        self.spend(len(data))
        return bool(data)

    def take(self, size: int) -> bytes:
        """Remove up to `size` bytes from the buffer and return them."""
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
            BlockingIOError: `phase` is None, and the line has not arrived.

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
                # After each piece that is sent, a new wait begins.
                self.phase = Phase.SERVING
                self._wait(self._writable_watcher(), Phase.ANSWER)
            except OSError as error:
                raise ConnectionLost from error

    def has_bytes(self) -> bool:
        """Whether there are unread bytes, in the buffer or in the kernel. Never waits."""
        if self.position < len(self.buffer):
            return True
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    # --- Turns

    def spend(self, cost: int) -> None:
        """Count work done without a wait, in bytes, and yield after TURN_BYTES."""
        self._since_turn += cost
        if self._since_turn >= TURN_BYTES:
            self.yield_now()

    def yield_now(self) -> None:
        """Let other connections run, including those whose bytes have just arrived."""
        self._since_turn = 0
        gevent.sleep(_BLINK_SECONDS)

    # --- Ends

    def interrupt(self, error: ConnectionLost) -> None:
        """Raise an error in the waiting greenlet. Call it in the hub only, where the greenlet is sure to wait still."""
        if self.waiter is not None:
            self.waiter.throw(error)

    def abandon(self) -> None:
        """Stop reading: a reader of the body, now or later, gets ConnectionLost. Any greenlet may call this."""
        self.abandoned = True
        self._hub.loop.run_callback(self._interrupt_reader)

    def _interrupt_reader(self) -> None:
        if self.abandoned and self.phase is Phase.BODY:
            self.interrupt(ConnectionLost())

    def end(self, *, used_up: bool) -> None:
        """Make sure that the client gets the answer before `close`. `used_up`: all that the client sent was read."""
        if not self.lingers:
            return
        self.abandoned = False
        left = LINGER_BYTES
        # The client is gone, has nothing more to send, or takes too long: the connection is closed in any case.
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
        self.had_to_wait = False
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
        self.had_to_wait = True
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
