"""Clients that are slow in every way, all at once, for half a minute."""

import contextlib
import http.client
import itertools
import select
import socket
import threading
import time

from tests.hostile.wire import HEALTH, connect, new_call, post, read_all
from tests.served import WEBHOOK, Served, ask, signed


class Client(threading.Thread):
    """A client in the background: sends piece by piece, and notes when the connection ended and what came back."""

    def __init__(
        self, port: int, first: bytes, again: bytes = b"", pause_seconds: float = 0.3, most: int = 10**9
    ) -> None:
        """After `first` it sends `again` after each pause, `most` times."""
        super().__init__(daemon=True)
        self._connection = connect(port, 60)
        self._first = first
        self._again = itertools.repeat(again, most if again else 0)
        self._pause_seconds = pause_seconds
        self.seconds = 0.0
        self.answer = b""
        self.start()

    def run(self) -> None:
        """Send, until it is answered or hung up on."""
        began = time.monotonic()
        with self._connection as connection, contextlib.suppress(OSError):
            connection.sendall(self._first)
            for piece in self._again:
                if select.select([connection], [], [], self._pause_seconds)[0]:
                    break
                connection.sendall(piece)
            self.answer = read_all(connection)
        self.seconds = time.monotonic() - began


def _deaf(port: int) -> float:
    """Ask for a lot and read nothing; return after how many seconds the connection was broken off."""
    began = time.monotonic()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.settimeout(1)
        with contextlib.suppress(OSError):
            while True:
                try:
                    connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
                except TimeoutError:
                    # Its buffers are full, and so are ours.
                    if time.monotonic() > began + 60:
                        break
    return time.monotonic() - began


def send_with_pauses(port: int, clients: int, pause_seconds: float) -> list[int]:
    """Send calls through a proxy, pause, and send again, twice; return the statuses."""
    answered: list[int] = []
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)))
            for _ in range(clients)
        ]
        for pause in (0, pause_seconds, 1):
            time.sleep(pause)
            for connection in connections:
                for _ in range(5):
                    body = new_call("pausing")
                    answered.append(ask(connection, "POST", WEBHOOK, body, signed(body)).status)
    return answered


class Slow:
    """Clients that are slow in every way, all at once."""

    def __init__(self, service: Served) -> None:
        self.service = service
        port = service.port
        pieces = 33
        body = bytes(32 * 1024 * pieces)
        whole = post(body, "Connection: close")
        head = whole[: len(whole) - len(body)]
        self.clients = {
            "nothing": Client(port, b""),
            "half a head": Client(port, HEALTH[:-2]),
            "a head byte by byte": Client(port, HEALTH[:-4] + b"\r\nA: ", b"b"),
            "no body": Client(port, head),
            "a body byte by byte": Client(port, head, b" "),
            "chunks of one byte": Client(port, post(b"", framed=b""), b"1;" + b"a" * 100 + b"\r\n \r\n"),
            "a form": Client(port, post(bytes(900), path="/sign-in")[:-100]),
            "a body at 32 KiB/s": Client(port, head, bytes(32 * 1024), 1.0, most=pieces),
        }
        self.deaf_seconds = 0.0
        self._deaf = threading.Thread(target=self._be_deaf, args=(port,), daemon=True)
        self._deaf.start()

    def _be_deaf(self, port: int) -> None:
        self.deaf_seconds = _deaf(port)

    def join(self) -> None:
        """Wait for the end of all."""
        for client in self.clients.values():
            client.join(60)
        self._deaf.join(60)
