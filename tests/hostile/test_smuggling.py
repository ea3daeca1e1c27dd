"""No request eats a byte of the next, none is read out of the body of another: bare, and behind real proxies."""

import contextlib
import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.proxies import KINDS, proxy
from tests.hostile.wire import HEALTH, UPGRADES, chunked, connect, new_call, post, read_all, read_answer, statuses, talk
from tests.served import WEBHOOK, Served, ask, signed
from tests.survival.whole import find_broken, stored_messages

_METRICS = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
_SECRET_LINE = b"segment_lotus_calls_total"


@pytest.mark.parametrize("upgrade", UPGRADES, ids=" + ".join)
@pytest.mark.parametrize("form", ["sized", "chunked"])
def test_after_a_request_for_another_protocol_the_next_is_answered_whole(
    service: Served, upgrade: tuple[str, ...], form: str
) -> None:
    bodies = [new_call() for _ in range(3)]
    first, second, third = [
        post(body, *upgrade, framed=chunked(body) if form == "chunked" else None) for body in bodies
    ]
    with connect(service.port) as connection:
        connection.sendall(first + second)
        answers = [read_answer(connection) for _ in range(2)]
        connection.sendall(third)
        answers += [read_answer(connection)]
        connection.sendall(HEALTH)
        answers += [read_answer(connection)]
    assert [status for status, _ in answers] == [200] * 4
    assert all(b'"stored":1' in body for _, body in answers[:3])


@pytest.mark.parametrize("upgrade", UPGRADES, ids=" + ".join)
def test_no_request_is_read_out_of_a_body(service: Served, upgrade: tuple[str, ...]) -> None:
    for path in (WEBHOOK, "/v1/track", "/sign-in", "/nothing"):
        answers = talk(service.port, post(_METRICS, *upgrade, path=path), HEALTH)
        assert len(statuses(answers)) in (1, 2)
        assert _SECRET_LINE not in answers


@pytest.fixture(scope="module", params=KINDS)
def behind(request: pytest.FixtureRequest, service: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a proxy in front of the service."""
    with proxy(request.param, service.port, tmp_path_factory.mktemp("proxy")) as port:
        yield port


def test_what_a_proxy_denies_is_not_reached_through_a_body(service: Served, behind: int) -> None:
    assert talk(behind, _METRICS).startswith(b"HTTP/1.1 403")
    for upgrade in UPGRADES:
        covered = post(_METRICS, *upgrade)
        length = len(covered) - len(_METRICS)
        # Proxies add and remove headers: the head of the second request arrives somewhat longer or shorter.
        for size in range(length - 60, length + 20):
            body = b" " * size
            with connect(behind) as connection, contextlib.suppress(OSError):
                connection.sendall(post(body, *upgrade) + covered + HEALTH)
                answers = b"".join(read_answer(connection)[1] for _ in range(3))
                assert _SECRET_LINE not in answers, size


def test_calls_of_another_sender_behind_the_same_proxy_are_all_stored(service: Served, behind: int) -> None:
    stop = threading.Event()

    def attack(upgrade: tuple[str, ...]) -> None:
        while not stop.is_set():
            with connect(behind) as connection, contextlib.suppress(OSError):
                body = new_call("attack") if len(upgrade) % 2 else b"no call" * 50
                connection.sendall(post(body, *upgrade) + post(body, *upgrade, framed=chunked(body)))
                read_answer(connection)
                read_answer(connection)

    attackers = [threading.Thread(target=attack, args=(upgrade,)) for upgrade in UPGRADES]
    for attacker in attackers:
        attacker.start()
    answered = []
    try:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", behind, timeout=20)) as connection:
            for number in range(200):
                body = new_call(f"innocent-{behind}")
                answer = ask(connection, "POST", WEBHOOK, body, signed(body))
                assert (answer.status, answer.json["stored"]) == (200, 1), number
                answered.append(body)
    finally:
        stop.set()
        for attacker in attackers:
            attacker.join()
    names = [name for name in stored_messages(service.database_url) if name.startswith(f"innocent-{behind}-")]
    assert len(names) == len(set(names)) == len(answered)
    assert find_broken(service.database_url) == []


def test_where_the_client_was_not_told_to_send_its_body_the_connection_ends(service: Served) -> None:
    """It may send it or not: what comes next is a body or a request, and nobody can tell which."""
    request = post(new_call(), "Expect: 100-continue", path="/nothing")
    head = request[: request.index(b"\r\n\r\n") + 4]
    with connect(service.port) as connection:
        connection.sendall(head + HEALTH)
        answers = read_all(connection)
    assert statuses(answers) == [404]
    assert b"Connection: close" in answers


@pytest.mark.parametrize("unread", [64 * 1024 + 1, 3_000_000])
@pytest.mark.parametrize("form", ["sized", "chunked"])
def test_a_body_that_nobody_reads_is_not_read_to_its_end_and_the_answer_is_heard(
    service: Served, unread: int, form: str, tmp_path: Path
) -> None:
    body = bytes(unread)
    request = post(body, path="/nothing", framed=chunked(body, 50_000) if form == "chunked" else None)
    # All of it at once, and what comes next on the same connection is not answered.
    answers = talk(service.port, request, HEALTH)
    assert statuses(answers) == [404]
    assert b"Connection: close" in answers
