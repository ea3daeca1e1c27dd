"""More connections than there is room for: whoever comes meanwhile is answered."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

import pytest

from tests.hostile.wire import HEALTH, connect, new_call, post
from tests.served import ADMIN_TOKEN, Served, served, wait_until

# What takes half a minute begins here: tests/hostile/test_slow_clients.py.
pytestmark = pytest.mark.usefixtures("slow", "paused")

_ROOM = 100
"""Connections of the one worker of the service that is to be filled."""


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
