"""The webhook as it is on the wire: gunicorn, gevent and bare sockets."""

import contextlib
import gzip
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import SECRET, a_document, to_raw
from tests.ingest.test_webhook import CAPTURED, CAPTURED_SECRET, METHODS, PATHS, REPLAYED
from tests.served import ADMIN_TOKEN, WEBHOOK, Served, ask, served, signed, wait_until

MAX_BODY = 256 * 1024
MAX_IN_FLIGHT = 400 * 1024


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("wire")
    with served(
        f"sqlite:///{folder / 'test.db'}",
        folder,
        WEB_CONCURRENCY="2",
        SEGMENT_SHARED_SECRETS=f"{SECRET},{CAPTURED_SECRET}",
        SEGMENT_BEARER_TOKENS="tok-1",
        MAX_BODY_BYTES=str(MAX_BODY),
        MAX_INFLIGHT_BYTES=str(MAX_IN_FLIGHT),
    ) as running:
        yield running


_ids = iter(range(10**9))


def a_body(**members: object) -> bytes:
    """A call that no other test has sent."""
    return to_raw(a_document(messageId=f"wire-{next(_ids)}", **members))


def head(body: bytes, *lines: str, method: str = "POST", length: bool = True) -> bytes:
    """The head of a signed request."""
    headers = ["Host: x", *(f"{name}: {value}" for name, value in signed(body).items()), *lines]
    if length:
        headers.append(f"Content-Length: {len(body)}")
    return "\r\n".join([f"{method} {WEBHOOK} HTTP/1.1", *headers, "", ""]).encode("latin-1")


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def speak(service: Served, *sent: bytes, end: bool = True, seconds: float = 10) -> bytes:
    """Send bytes on a connection; return all that comes back until it is closed, or silent."""
    received = b""
    with service.socket(seconds) as connection:
        with contextlib.suppress(OSError):
            for part in sent:
                connection.sendall(part)
            if end:
                connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while part := connection.recv(65536):
                received += part
    return received


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", answer)]


def body_of(answer: bytes) -> object:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", METHODS)
def test_each_method_and_both_spellings_take_a_call(service: Served, method: str, path: str) -> None:
    body = a_body()
    answer = service.request(method, path, body, signed(body))
    assert (answer.status, answer.json["stored"]) == (200, 1)
    assert answer.headers["content-type"] == "application/json"


def test_no_path_and_no_method_redirects(service: Served) -> None:
    with contextlib.closing(service.connect()) as connection:
        for path in (*PATHS, f"/{WEBHOOK}", f"{WEBHOOK}//", "/webhooks//segment", "//", "/", "", "/healthz/", "*"):
            for method in ("GET", "HEAD", "OPTIONS", "DELETE", "POST"):
                answer = ask(connection, method, path)
                assert not 300 <= answer.status < 400, (method, path)
                assert "location" not in answer.headers
                assert answer.status < 500, (method, path)


@pytest.mark.parametrize("name", [name for name in REPLAYED if "sdk" not in name])
def test_captured_requests_are_taken_byte_for_byte(service: Served, name: str) -> None:
    captured = (CAPTURED / f"{name}.http").read_bytes()
    answer = speak(service, captured)
    assert statuses(answer) == [200]
    receipt = body_of(answer)
    assert isinstance(receipt, dict)
    assert receipt["received"] == REPLAYED[name]["received"]
    assert receipt["rejected"] == 0


def test_a_body_in_chunks_of_any_size_is_taken(service: Served) -> None:
    for size in (1, 7, 1000):
        body = a_body()
        parts = [body[start : start + size] for start in range(0, len(body), size)]
        answer = speak(service, head(body, "Transfer-Encoding: chunked", length=False), chunked(*parts))
        assert statuses(answer) == [200]
        assert b'"stored":1' in answer


def test_chunks_with_extensions_and_trailers_are_taken(service: Served) -> None:
    body = a_body()
    framed = b"%x;name=value\r\n%b\r\n0\r\nX-Trailer: yes\r\n\r\n" % (len(body), body)
    assert statuses(speak(service, head(body, "Transfer-Encoding: chunked", length=False), framed)) == [200]


def test_a_compressed_body_is_taken_also_in_chunks(service: Served) -> None:
    body = a_body()
    packed = gzip.compress(body)
    answer = service.post(packed, {**signed(body), "Content-Encoding": "gzip"})
    assert (answer.status, answer.json["stored"]) == (200, 1)
    body = a_body()
    lines = ("Transfer-Encoding: chunked", "Content-Encoding: gzip")
    assert b'"stored":1' in speak(service, head(body, *lines, length=False), chunked(gzip.compress(body)))


def test_no_body_at_all_is_an_empty_batch(service: Served) -> None:
    for answer in (speak(service, head(b"")), speak(service, head(b"", length=False))):
        assert statuses(answer) == [200]
        assert b'"received":0' in answer


def test_the_limit_holds_for_lengths_for_chunks_and_for_what_is_inflated(service: Served) -> None:
    fits = a_body().ljust(MAX_BODY)
    assert service.post(fits).status == 200
    large = a_body().ljust(MAX_BODY + 1)
    answers = [
        service.post(large),
        service.post(gzip.compress(large), {**signed(large), "Content-Encoding": "gzip"}),
        service.post(gzip.compress(bytes(10 << 20)), {**signed(b""), "Content-Encoding": "gzip"}),
    ]
    for answer in answers:
        assert (answer.status, answer.json["code"]) == (413, "too_large")
    parts = [large[start : start + 10_000] for start in range(0, len(large), 10_000)]
    said = speak(service, head(large, "Transfer-Encoding: chunked", length=False), chunked(*parts))
    assert statuses(said) == [413]


def test_a_length_far_beyond_the_limit_is_413_at_once(service: Served) -> None:
    request = head(b"", "Content-Length: 99999999999999", length=False)
    with service.socket(10) as connection:
        connection.sendall(request)
        assert statuses(connection.recv(65536)) == [413]


@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "9" * 5000, "0x10"])
def test_a_length_that_is_none_does_not_crash(service: Served, length: str) -> None:
    answer = speak(service, head(b"", f"Content-Length: {length}", length=False))
    assert set(statuses(answer)) <= {400, 413, 431, 503}


def test_a_length_longer_than_the_body_is_503_and_nothing_is_stored(service: Served) -> None:
    body = a_body()
    answer = speak(service, head(body, f"Content-Length: {len(body) + 10}", length=False), body)
    assert statuses(answer) in ([503], [])
    assert service.post(body).json["stored"] == 1


def test_a_length_shorter_than_the_body_does_not_make_the_rest_a_request(service: Served) -> None:
    body = a_body(properties={"card": "the-number-of-a-card"})
    for missing in (10, 30):
        answer = speak(service, head(body, f"Content-Length: {len(body) - missing}", length=False), body)
        assert statuses(answer)[0] == 401
        assert not set(statuses(answer)[1:]) - {400}
    # What follows is no request, and is not shown in the log for it: it may be anything.
    assert "of-a-card" not in service.output()


@pytest.mark.parametrize(
    "framed", [b"zz\r\n{}\r\n0\r\n\r\n", b"-5\r\n{}\r\n0\r\n\r\n", b"5\r\n{}", b"2\r\n{}0\r\n\r\n", b"\r\n", b"f" * 100]
)
def test_after_broken_chunks_the_connection_is_closed_and_no_second_request_is_read_out_of_them(
    service: Served, framed: bytes
) -> None:
    request = head(b"{}", "Transfer-Encoding: chunked", length=False)
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = speak(service, request, framed, smuggled)
    assert len(statuses(answer)) <= 1
    assert b'"ok"' not in answer


@pytest.mark.parametrize(
    "lines",
    [
        ["Transfer-Encoding: chunked", "Content-Length: 40"],
        ["Content-Length: 40", "Content-Length: 0"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Content-Length: +40"],
        ["X: 1", " Content-Length: 40"],
        ["Content-Length : 40"],
    ],
    ids=" | ".join,
)
def test_where_the_end_of_a_body_is_a_guess_nothing_is_read_any_further(service: Served, lines: list[str]) -> None:
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = speak(service, head(b"", *lines, length=False), b"0\r\n\r\n" + smuggled)
    assert statuses(answer) == [400]
    assert b"Connection: close" in answer
    wait_until(lambda: "what came is no HTTP request" in service.output())


def test_expect_100_continue_is_answered(service: Served) -> None:
    body = a_body()
    with service.socket(10) as connection:
        connection.sendall(head(body, "Expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(body)
        assert b"HTTP/1.1 200 OK" in connection.recv(65536)


def test_many_requests_on_one_connection_and_two_at_once_are_answered_in_order(service: Served) -> None:
    with contextlib.closing(service.connect()) as connection:
        for _ in range(20):
            body = a_body()
            assert ask(connection, "POST", WEBHOOK, body, signed(body)).json["stored"] == 1
    first, second = a_body(), a_body(type="identify")
    answer = speak(service, head(first) + first + head(second) + second)
    assert statuses(answer) == [200, 200]
    assert answer.index(b'"stored":1') < answer.index(b'"ignored":1')


@pytest.mark.parametrize(
    "request_bytes",
    [b"\r\n\r\n", b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\0\x01", b"POST " + b"x" * 100_000, b"GET / HTTP/9\r\n\r\n",
     b"POST /webhooks/segment HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
     b"POST /webhooks/segment HTTP/1.1\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
     b"POST /\xff\xfe HTTP/1.1\r\nHost: \xff\r\n\r\n"],
    ids=["lines", "nonsense", "tls", "long", "version", "many headers", "long header", "not utf-8"],
)  # fmt: skip
def test_what_is_no_request_does_no_harm(service: Served, request_bytes: bytes) -> None:
    before = service.worker_pids()
    answer = speak(service, request_bytes)
    assert not [status for status in statuses(answer) if status >= 500 and status != 505]
    assert service.get("/healthz").status == 200
    assert service.worker_pids() == before


def test_a_sender_that_leaves_in_the_middle_does_no_harm_and_leaves_no_traceback(service: Served) -> None:
    body = a_body()
    for cut in (0, 1, len(body) // 2, len(body) - 1):
        with service.socket() as connection:
            # Not closed but broken: an RST in place of a FIN.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(head(body) + body[:cut])
            time.sleep(0.02)
    with service.socket() as connection:
        connection.sendall(head(body) + body)
    wait_until(lambda: service.post(body).json["duplicate"] == 1)
    assert "Traceback" not in service.output()


def test_bytes_in_flight_of_all_requests_are_limited_and_given_back(service: Served) -> None:
    """One worker holds what has come of a slow body; too much more beside it is told to come back."""
    large = a_body().ljust(MAX_BODY - 1000)
    with contextlib.ExitStack() as stack:
        # Enough of them that each worker has two: together they are beyond the limit.
        slow = [stack.enter_context(service.socket()) for _ in range(8)]
        for connection in slow:
            with contextlib.suppress(ConnectionError):
                connection.sendall(head(large) + large[:-1])
        time.sleep(0.5)
        refused = 0
        for connection in slow:
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                answer = connection.recv(65536)
                assert statuses(answer) == [503]
                assert b"retry-after:" in answer.lower()
                refused += 1
        assert 1 <= refused < 8
        assert service.get("/healthz").status == 200
    # They have hung up.
    wait_until(lambda: service.post(large).status == 200)


def test_the_numbers_are_those_of_both_workers(service: Served) -> None:
    def calls() -> float:
        text = service.get("/metrics", ADMIN_TOKEN).body.decode()
        lines = [line for line in text.splitlines() if line.startswith("segment_lotus_calls_total")]
        return sum(float(line.split()[-1]) for line in lines)

    before = calls()
    for number in range(60):
        assert service.post(a_body() if number % 3 else to_raw([a_document(), None])).status == 200
    # Whoever answers, the sum is of both.
    assert {calls() for _ in range(20)} == {before + 40 + 40}


def test_all_that_was_written_is_one_json_object_a_line_and_none_of_it_is_a_traceback(service: Served) -> None:
    # Other tests of this file may have run on another worker, with a service of its own.
    for body in (a_body(), to_raw([a_document(), None]), b"{", b'{"type":"track","event":"\\ud83d"}') * 6:
        assert service.post(body).status in {200, 400}
    wait_until(lambda: len(service.lines()) > 24)
    assert "Traceback" not in service.output()


def test_it_listens_where_it_was_told(service: Served, tmp_path: Path) -> None:
    with socket.socket() as other:
        # HOST is 127.0.0.1 unless said otherwise: nobody outside of this machine.
        other.settimeout(2)
        assert other.connect_ex(("127.0.0.1", service.port)) == 0
    assert "http://127.0.0.1:" in service.output()
