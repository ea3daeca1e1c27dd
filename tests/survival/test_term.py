"""SIGTERM: what is in flight is finished, what comes later is told to come back, and nobody idle holds it up."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.served import WEBHOOK, Answer, Served, ask, served, signed, wait_until
from tests.survival.load import Load, a_batch, a_call
from tests.survival.whole import find_broken, stored_messages

pytestmark = pytest.mark.survival

# gunicorn's graceful_timeout is 10 s; the rest is this machine's.
_END_SECONDS = 14

_SIGNALLED_SECONDS = 1.0
"""After the end was asked for, every worker knows by then."""


def _begin_slowly(service: Served, body: bytes, headers: dict[str, str]) -> socket.socket:
    """Send the headers of a request and half of its body."""
    slow = service.socket()
    lines = [f"POST {WEBHOOK} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    slow.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body[: len(body) // 2])
    return slow


def _read_answer(connection: socket.socket) -> tuple[int, bytes]:
    received = b""
    while part := connection.recv(65536):
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def _in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_batch_that_arrives_slowly_is_answered_and_idle_connections_do_not_hold_the_end_up(
    sqlite_database_url: str, tmp_path: Path
) -> None:
    ids = [f"slow-{number}" for number in range(2000)]
    body, headers = a_batch(ids)
    later: list[tuple[float, Answer]] = []
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(served(sqlite_database_url, tmp_path, WEB_CONCURRENCY="2"))
        idle = [stack.enter_context(contextlib.closing(service.connect())) for _ in range(20)]
        for connection in idle[:10]:
            # Kept alive after a request; the other ten never sent one.
            assert ask(connection, "POST", WEBHOOK, a_call("early"), signed(a_call("early"))).status == 200
        for connection in idle[10:]:
            connection.connect()
        slow = stack.enter_context(_begin_slowly(service, body, headers))
        time.sleep(0.5)
        service.term()
        began = time.monotonic()

        def knock() -> None:
            """Send more while it stops, until nobody listens."""
            while time.monotonic() < began + 3:
                sent = time.monotonic() - began
                with contextlib.suppress(OSError, http.client.HTTPException):
                    later.append((sent, service.post(a_call("later"))))
                time.sleep(0.05)

        knocking = _in_background(knock)
        rest = body[len(body) // 2 :]
        for start in range(0, len(rest), len(rest) // 30 + 1):
            slow.sendall(rest[start : start + len(rest) // 30 + 1])
            time.sleep(0.1)
        status, answered = _read_answer(slow)
        knocking.join()
        assert service.wait(_END_SECONDS) == 0
        seconds = time.monotonic() - began
    assert status == 200
    assert json.loads(answered)["stored"] == 2000
    assert seconds < _END_SECONDS
    # gunicorn passes the signal on: a worker that does not have it yet still takes calls, and keeps what it takes.
    taken = [sent for sent, answer in later if answer.status == 200]
    assert not taken or max(taken) < _SIGNALLED_SECONDS
    refused = [answer for _, answer in later if answer.status != 200]
    assert {answer.status for answer in refused} == {503}
    assert all(answer.headers["retry-after"] and answer.json["code"] == "unavailable" for answer in refused)
    assert stored_messages(sqlite_database_url) == sorted([*ids, "early", *(["later"] if taken else [])])
    assert find_broken(sqlite_database_url) == []
    print(f"ended after {seconds:.1f} s; {len(refused)} requests were told to come back")  # noqa: T201


def test_under_load_what_was_answered_is_there_and_what_was_not_was_told_to_come_back(
    database_url: str, tmp_path: Path
) -> None:
    with served(database_url, tmp_path, WEB_CONCURRENCY="2") as service, Load(service) as load:
        wait_until(lambda: len(load.answered) > 300)
        service.term()
        assert service.wait(_END_SECONDS) == 0
    assert load.statuses.keys() <= {0, 200, 503}
    assert all(answer.headers["retry-after"] for answer in load.answers)
    assert sorted(load.answered) == stored_messages(database_url), "an answer got lost: it was stored and not answered"
    assert find_broken(database_url) == []
    assert all("Traceback" not in line.get("exception", "") for line in service.lines())
    print(f"{len(load.answered)} calls answered 200; statuses {dict(load.statuses)}")  # noqa: T201


def test_a_service_that_is_told_to_stop_before_it_has_started_ends_well(
    sqlite_database_url: str, tmp_path: Path
) -> None:
    with served(sqlite_database_url, tmp_path, started=False, WEB_CONCURRENCY="2") as service:
        wait_until(lambda: service.output().count("Booting worker") == 2)
        time.sleep(0.4)
        service.term()
        assert service.wait(_END_SECONDS) == 0
    assert all(line["level"] == "info" for line in service.lines())
