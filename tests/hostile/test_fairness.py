"""Clients that always have something to say hold up nobody else."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable

import pytest

from tests.hostile.wire import HEALTH, connect, new_call, post, read_answer, seconds_until_answered
from tests.served import WEBHOOK, Served

_SECONDS = 2.5
_BOUND_SECONDS = 1.5
"""Far more than is promised (0.25), and less than the attack lasts, until whose end others would wait without turns."""


def _requests() -> tuple[bytes, bytes]:
    return b"", HEALTH * 100


def _chunks_of_one_byte() -> tuple[bytes, bytes]:
    return post(b"", framed=b""), b"1\r\n \r\n" * 20_000


def _one_chunk() -> tuple[bytes, bytes]:
    return post(b"", framed=b"fffffff\r\n"), b" " * 1_000_000


def _what_is_not_read() -> tuple[bytes, bytes]:
    return post(b"", framed=b"fffffff\r\n", path="/nothing"), b" " * 1_000_000


_ATTACKS: dict[str, Callable[[], tuple[bytes, bytes]]] = {
    "requests": _requests,
    "chunks of one byte": _chunks_of_one_byte,
    "one chunk": _one_chunk,
    "what is not read": _what_is_not_read,
}


def _read_on(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(1 << 20):
            pass


def _attack(port: int, first: bytes, again: bytes, until: float) -> int:
    """Send on and on, on one connection after the other; return how many bytes went out."""
    size = 0
    while time.monotonic() < until:
        with connect(port) as connection, contextlib.suppress(OSError):
            reader = threading.Thread(target=_read_on, args=(connection,))
            reader.start()
            try:
                connection.sendall(first)
                while time.monotonic() < until:
                    connection.sendall(again)
                    size += len(again)
            finally:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                reader.join()
    return size


@pytest.mark.parametrize("name", _ATTACKS)
def test_two_that_send_without_end_do_not_hold_up_anybody_else(service: Served, name: str) -> None:
    first, again = _ATTACKS[name]()
    before = service.worker_pids()
    until = time.monotonic() + _SECONDS
    sizes: list[int] = []
    attackers = [
        threading.Thread(target=lambda: sizes.append(_attack(service.port, first, again, until))) for _ in range(2)
    ]
    for attacker in attackers:
        attacker.start()
    waits = []
    with connect(service.port, 60) as kept:
        while time.monotonic() < until:
            waits.append(seconds_until_answered(service.port))
            began = time.monotonic()
            kept.sendall(post(new_call()))
            assert read_answer(kept)[0] == 200
            waits.append(time.monotonic() - began)
            time.sleep(0.02)
    for attacker in attackers:
        attacker.join()
    assert max(waits) < _BOUND_SECONDS
    assert len(waits) > _SECONDS
    assert service.worker_pids() == before
    waits.sort()
    speed, middle, worst = sum(sizes) / _SECONDS / 1e6, waits[len(waits) // 2], waits[-1]
    print(f"{name}: {speed:.1f} MB/s of two; {len(waits)} others waited {middle:.3f} s, {worst:.3f} s at most")  # noqa: T201


def test_a_client_that_writes_a_request_byte_by_byte_is_answered(service: Served) -> None:
    with connect(service.port) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = new_call()
        for byte in post(body, framed=b"%x;a\r\n%b\r\n0\r\nB: c\r\n\r\n" % (len(body), body), path=WEBHOOK + "/"):
            connection.sendall(bytes([byte]))
        assert read_answer(connection)[0] == 200
