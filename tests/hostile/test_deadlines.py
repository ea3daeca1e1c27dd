"""Clients that take their time are given up, and whoever comes meanwhile is answered."""

import contextlib
import http.client
import itertools
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.hostile.proxies import proxy
from tests.hostile.wire import HEALTH, chunked, connect, new_call, post, read_all, read_answer, refusal, statuses
from tests.served import ADMIN_TOKEN, WEBHOOK, Served, ask, served, signed, wait_until

_ROOM = 100
"""Connections of the one worker of the service that is to be filled."""


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


def _pausing(port: int, clients: int, pause_seconds: float) -> list[int]:
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

    def __init__(self, port: int) -> None:
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


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with room for few connections."""
    folder = tmp_path_factory.mktemp("small")
    flags = f"--worker-connections {_ROOM}"
    with served(f"sqlite:///{folder / 'test.db'}", folder, GUNICORN_CMD_ARGS=flags, WEB_CONCURRENCY="1") as running:
        yield running


def _gauge(service: Served) -> int:
    numbers = service.get("/metrics", ADMIN_TOKEN).body.decode()
    found = re.search(r"(?m)^segment_lotus_connections (\d+)", numbers)
    assert found is not None
    return int(float(found[1]))


_ONE_BY_ONE: dict[str, Callable[[], tuple[bytes, bytes]]] = {
    "heads": lambda: (HEALTH[:-4] + b"\r\nA: ", b"b"),
    "bodies": lambda: (post(b"", f"Content-Length: {10**6}", framed=None).replace(b"Content-Length: 0\r\n", b""), b" "),
    "requests": lambda: (HEALTH, HEALTH),
    "nothing": lambda: (b"", b""),
}


class Crowd:
    """Keeps three times as many connections open as there is room for, and something coming on each."""

    def __init__(self, port: int, first: bytes, again: bytes) -> None:
        self.opened = 0
        self._port = port
        self._first = first
        self._again = again
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        alive: list[socket.socket] = []
        while not self._stopping.is_set():
            with contextlib.suppress(OSError):
                while len(alive) < 3 * _ROOM:
                    alive.append(connect(self._port, 1))
                    self.opened += 1
                    alive[-1].sendall(self._first)
                    alive[-1].setblocking(False)
            alive = [connection for connection in alive if self._goes_on(connection)]
            time.sleep(0.01)
        for connection in alive:
            connection.close()

    def _goes_on(self, connection: socket.socket) -> bool:
        try:
            connection.send(self._again)
            if connection.recv(65536):
                return True
        except BlockingIOError:
            return True
        except OSError:
            pass
        connection.close()
        return False


@pytest.mark.parametrize("name", _ONE_BY_ONE)
def test_more_connections_than_there_is_room_for_do_not_close_the_service(small: Served, name: str) -> None:
    waits = []
    with Crowd(small.port, *_ONE_BY_ONE[name]()) as crowd:
        wait_until(lambda: crowd.opened >= 3 * _ROOM)
        for _ in range(5):
            began = time.monotonic()
            assert small.get("/healthz").status == 200
            assert small.post(new_call()).json["stored"] == 1
            waits.append(time.monotonic() - began)
            time.sleep(0.1)
        if name != "requests":
            assert _gauge(small) > _ROOM * 0.6
    assert max(waits) < 5
    print(f"{name}: {crowd.opened} connections opened, others waited {max(waits):.3f} s at most")  # noqa: T201


def test_the_log_says_now_and_then_that_a_worker_is_full(small: Served) -> None:
    with Crowd(small.port, *_ONE_BY_ONE["nothing"]()) as crowd:
        wait_until(lambda: crowd.opened >= 5 * _ROOM)
    lines = [line for line in small.lines() if line["event"].startswith("all connections are in use")]
    assert 1 <= len(lines) < 20
    assert all(_ROOM - 1 <= line["connections"] <= _ROOM for line in lines)
    assert {line["level"] for line in small.lines()} <= {"info", "warning"}
    wait_until(lambda: _gauge(small) < _ROOM / 2)


@pytest.fixture(scope="module")
def slow(service: Served) -> Slow:
    """Half a minute, in which the test before it waits too."""
    return Slow(service.port)


@pytest.mark.usefixtures("slow")
def test_behind_nginx_pauses_of_twenty_seconds_give_no_502(service: Served, tmp_path: Path) -> None:
    with proxy("nginx", service.port, tmp_path) as port:
        answered = _pausing(port, clients=4, pause_seconds=20)
    assert answered == [200] * 60


def test_whoever_takes_too_long_is_given_up_and_told_so(service: Served, slow: Slow) -> None:
    """One test for all of them: they take half a minute, and take it at the same time."""
    slow.join()
    ended = {name: (client.seconds, client.answer) for name, client in slow.clients.items()}
    assert ended["nothing"][1] == b""
    for name in ("half a head", "a head byte by byte"):
        assert refusal(ended[name][1]) == (408, "request_timeout"), name
    for name in ("no body", "a body byte by byte", "chunks of one byte"):
        assert refusal(ended[name][1]) == (503, "unavailable"), name
    assert statuses(ended["a form"][1]) == [503]
    # It comes, and so it may take its time.
    assert statuses(ended["a body at 32 KiB/s"][1]) == [200]
    for name, least in {
        "nothing": 10,
        "half a head": 10,
        "a head byte by byte": 10,
        "no body": 30,
        "a form": 30,
    }.items():
        assert least - 0.1 < ended[name][0] < least + 8, name
    assert 29 < slow.deaf_seconds < 60
    assert {line["level"] for line in service.lines()} <= {"info", "warning"}
    with connect(service.port) as connection:
        connection.sendall(post(body := new_call(), framed=chunked(body)))
        assert read_answer(connection)[0] == 200
