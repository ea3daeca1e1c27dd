"""What is not plainly a request is refused in the shape of all our errors, at once, and without a traceback."""

import socket
import struct
import time

import pytest

from tests.hostile.wire import HEALTH, chunked, connect, new_call, post, read_all, refusal, statuses, talk
from tests.served import ADMIN_TOKEN, WEBHOOK, Served, wait_until

_BAD, _LONG, _LARGE = (400, "bad_request"), (414, "uri_too_long"), (431, "request_header_fields_too_large")


def _get(first: bytes = b"GET /healthz HTTP/1.1", *lines: bytes, end: bytes = b"\r\n") -> bytes:
    return end.join([first, *lines, b"", b""])


_NO_REQUESTS: dict[str, tuple[bytes, tuple[int, str]]] = {
    "a bare LF after the first line": (b"GET /healthz HTTP/1.1\nHost: x\r\n\r\n", _BAD),
    "a bare LF after a header": (b"GET /healthz HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", _BAD),
    "bare LFs alone": (_get(b"GET /healthz HTTP/1.1", b"Host: x", end=b"\n"), _BAD),
    "a bare LF for the empty line": (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\n", _BAD),
    "a bare CR after the first line": (b"GET /healthz HTTP/1.1\rHost: x\r\n\r\n", _BAD),
    "an empty line first": (b"\r\n" + HEALTH, _BAD),
    "a header that is folded": (_get(b"GET /healthz HTTP/1.1", b"Host: x", b"A: b", b" c"), _BAD),
    **{
        f"{byte!r} in the path": (_get(b"GET /health" + byte + b"z HTTP/1.1", b"Host: x"), _BAD)
        for byte in (b"\x85", b"\xa0", b"\x0b", b"\x0c", b"\x1c", b"\x00", b"\x7f", b"\xc3\xa4", b" ", b"\t", b"#")
    },
    "two hosts": (_get(b"GET /healthz HTTP/1.1", b"Host: x", b"Host: y"), _BAD),
    "one host twice": (_get(b"GET /healthz HTTP/1.1", b"Host: x", b"host: x"), _BAD),
    "no host": (_get(b"GET /healthz HTTP/1.1"), _BAD),
    "HTTP/0.9": (b"GET /healthz\r\n\r\n", _BAD),
    "HTTP/0.9 by its name": (_get(b"GET /healthz HTTP/0.9", b"Host: x"), _BAD),
    "HTTP/1.10": (_get(b"GET /healthz HTTP/1.10", b"Host: x"), _BAD),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", _BAD),
    "HTTP/1.0 in chunks": (
        f"POST {WEBHOOK} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunked(b"{}"),
        _BAD,
    ),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", _BAD),
    "nonsense": (b"nonsense\r\n\r\n", _BAD),
    "a path that is too long": (_get(b"GET /" + b"x" * 9000 + b" HTTP/1.1", b"Host: x"), _LONG),
    "a path that does not end": (b"GET /" + b"x" * 9000, _LONG),
    "a header that does not end": (b"GET /healthz HTTP/1.1\r\nA: " + b"x" * 80_000, _LARGE),
    "too many headers": (_get(b"GET /healthz HTTP/1.1", b"Host: x", *[b"A: b"] * 100), _LARGE),
    "headers that are too large": (_get(b"GET /healthz HTTP/1.1", b"Host: x", *[b"A: " + b"b" * 1000] * 66), _LARGE),
}


@pytest.mark.parametrize("name", _NO_REQUESTS)
def test_what_is_no_request_is_refused_at_once_and_nothing_after_it_is_read(service: Served, name: str) -> None:
    sent, expected = _NO_REQUESTS[name]
    # The connection stays open on this side: the answer is not due to its end.
    answers = talk(service.port, sent, HEALTH, end=False)
    assert refusal(answers) == expected
    assert b"Connection: close" in answers


def test_a_head_that_ends_early_is_refused(service: Served) -> None:
    assert refusal(talk(service.port, HEALTH[:-2])) == _BAD


_BROKEN_CHUNKS = {
    "an empty size": b"\r\n{}\r\n0\r\n\r\n",
    "an extension without a size": b";a=b\r\n{}\r\n0\r\n\r\n",
    "a size that is no number": b"zz\r\n{}\r\n0\r\n\r\n",
    "a size with a sign": b"+2\r\n{}\r\n0\r\n\r\n",
    "a size with a prefix": b"0x2\r\n{}\r\n0\r\n\r\n",
    "a size with an underscore": b"0_2\r\n{}\r\n0\r\n\r\n",
    "a space before a size": b" 2\r\n{}\r\n0\r\n\r\n",
    "a space after a size": b"2 \r\n{}\r\n0\r\n\r\n",
    "a size of too many digits": b"0" * 16 + b"2\r\n{}\r\n0\r\n\r\n",
    "a bare LF after a size": b"2\n{}\r\n0\r\n\r\n",
    "a bare LF in an extension": b"2;a\nb\r\n{}\r\n0\r\n\r\n",
    "a bare CR in an extension": b"2;a\rb\r\n{}\r\n0\r\n\r\n",
    "an extension that is too long": b"2;" + b"a" * 5000 + b"\r\n{}\r\n0\r\n\r\n",
    "more extensions than fit": (b"1;" + b"a" * 4000 + b"\r\n \r\n") * 20 + b"0\r\n\r\n",
    "data longer than its size": b"1\r\n{}\r\n0\r\n\r\n",
    "data without an end": b"2\r\n{}0\r\n\r\n",
    "data with a bare LF at its end": b"2\r\n{}\n0\r\n\r\n",
    "a trailer that is none": b"2\r\n{}\r\n0\r\nnone\r\n\r\n",
    "a bare LF in a trailer": b"2\r\n{}\r\n0\r\nA: b\nc\r\n\r\n",
    "a request for a trailer": b"2\r\n{}\r\n0\r\n" + HEALTH,
    "too many trailers": b"2\r\n{}\r\n0\r\n" + b"A: b\r\n" * 65 + b"\r\n",
    "trailers that are too large": b"2\r\n{}\r\n0\r\n" + (b"A: " + b"b" * 1000 + b"\r\n") * 9 + b"\r\n",
}


@pytest.mark.parametrize("path", [WEBHOOK, "/sign-in"])
@pytest.mark.parametrize("name", _BROKEN_CHUNKS)
def test_after_a_broken_chunk_the_connection_ends_with_one_answer(service: Served, path: str, name: str) -> None:
    answers = talk(service.port, post(b"{}", framed=_BROKEN_CHUNKS[name], path=path), HEALTH, end=False)
    # 503 and no 4xx: Segment would never send such a call again, and it may have been broken on its way.
    assert statuses(answers) == [503]
    assert b"Connection: close" in answers
    assert b'"ok"' not in answers


@pytest.mark.parametrize(
    "framed",
    [
        b'%X;a=b;c="d"\r\n%b\r\n0;e\r\n\r\n',
        b"%016x\r\n%b\r\n0000\r\n\r\n",
        b"%x\r\n%b\r\n0\r\n" + b"A: b\r\n" * 64 + b"\r\n",
    ],
)  # fmt: skip
def test_whatever_is_allowed_around_chunks_is_taken(service: Served, framed: bytes) -> None:
    body = new_call()
    answers = talk(service.port, post(body, framed=framed % (len(body), body)) + HEALTH)
    assert statuses(answers) == [200, 200]
    assert b'"stored":1' in answers


def test_a_client_that_vanishes_at_any_moment_leaves_no_trace(service: Served) -> None:
    request = post(new_call(), framed=chunked(new_call(), 7))
    for sent in (b"G", HEALTH[:20], request[:-300], request[:-2], request, HEALTH * 50):
        for broken in (False, True):
            with connect(service.port) as connection:
                if broken:
                    # Not closed but broken: an RST in place of a FIN.
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.sendall(sent)
                time.sleep(0.01)
    # A form as well, and an answer that nobody waits for.
    for path in ("/sign-in", "/metrics"):
        with connect(service.port) as connection:
            connection.sendall(post(b"token=" + b"x" * 100, path=path)[:-50])
    assert statuses(talk(service.port, HEALTH)) == [200]


def test_an_old_client_is_answered_and_hung_up_on_unless_it_asks(service: Served) -> None:
    with connect(service.port) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        answer = read_all(connection)
    assert statuses(answer) == [200]
    assert b"Connection: close" in answer
    kept = b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    answers = talk(service.port, kept, kept)
    assert statuses(answers) == [200, 200]
    assert answers.count(b"Connection: keep-alive") == 2
    # Of an answer whose length nobody knows beforehand only the end of the connection tells where it ends.
    path = "/api/v1/metrics/tokens/usage?start=2026-10-01&end=2026-11-01&format=csv"
    usage = f"GET {path} HTTP/1.0\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\nConnection: keep-alive\r\n\r\n"
    answers = talk(service.port, usage.encode(), HEALTH)
    assert statuses(answers) == [200]
    assert b"Connection: close" in answers
    assert b"chunked" not in answers


def test_all_of_this_made_no_traceback_and_ended_no_worker(service: Served) -> None:
    wait_until(lambda: statuses(talk(service.port, HEALTH)) == [200])
    # Each line is an object of its own: nothing was printed past the log.
    lines = service.lines()
    assert {line["level"] for line in lines} <= {"info", "warning"}
    assert "Traceback" not in service.output()
    assert sum("Booting worker" in line["event"] for line in lines) == 1
