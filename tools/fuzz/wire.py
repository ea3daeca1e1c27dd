"""Sends HTTP that is none, or nearly one, to the real service over sockets; good senders go on between."""

import contextlib
import http.client
import json
import random
import socket
from collections import Counter
from collections.abc import Callable

from app.core.signature import sign
from tests.builders import SECRET, a_document, to_raw
from tests.served import ADMIN_TOKEN, Served
from tools.fuzz.mutation import mutate
from tools.fuzz.target import Fault

_GOOD_EVERY = 20
_SECONDS = 3
_WELL_FORMED = 0.9
_HEAD = b"POST /webhooks/segment HTTP/1.1\r\nHost: a\r\n"
_TARGETS = (
    *(
        b"/webhooks/segment",
        b"/healthz",
        b"/sign-in",
        b"/calls?q=\xab",
        b"/v1/batch",
        b"/api/track/",
        b"/",
        b"*",
        b"",
        b"//",
        b"/\x85",
    ),
    *(
        b"http://a/webhooks/segment",
        b"/webhooks/segment?\xff=%ff",
        b"/%00",
        b"/calls?q=\xed\xa0\xbd",
        b"/" + b"x" * 20_000,
    ),
)
_LINES = (
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: identity"),
    *(b"Transfer-Encoding : chunked", b"transfer-encoding:\tchunked", b"Content-Length: 0", b"Content-Length: 5, 5"),
    *(b"Content-Length: +5", b"Content-Length: 0x5", b"Content-Length: -1", b"Content-Length: 99999999999999999999"),
    *(b"Connection: upgrade", b"Upgrade: websocket", b"Connection: close", b"Connection: keep-alive", b"Host: b"),
    *(b"Expect: 100-continue", b"Expect: x", b" folded", b"\x00: a", b"a\xff: b", b": b", b"a", b"X: " + b"y" * 9000),
    *(b"Content-Encoding: gzip", b"Trailer: X", b"TE: trailers", b"HTTP2-Settings: x", b"X-Signature: \x85"),
)
_METHODS = (b"POST", b"GET", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE", b"PRI", b"post", b"\x16\x03\x01", b"")
_VERSIONS = (
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/0.9",
    b"HTTP/2.0",
    b"HTTP/1.1 x",
    b"",
    b"http/1.1",
)
_ENDS = (b"\r\n", b"\n", b"\r", b"\r\r\n", b"")
_SIZES = (
    b"",
    b"0",
    b"-1",
    b"+5",
    b"0x5",
    b"FFFFFFFFFFFFFFFFF",
    b"5;ext=1",
    b"5 ",
    b"5;" + b"e" * 9000,
    b"g",
    b"00005",
    b"5\n",
)


class WireFuzzer:
    """One run against one served service."""

    def __init__(self, service: Served, *, seed: int, tell: Callable[[str], None]) -> None:
        self._service = service
        self._seed = seed
        self._tell = tell
        self._workers = service.worker_pids()
        self.statuses: Counter[int] = Counter()
        self.faults: dict[str, Fault] = {}
        """By kind, the first of each."""

    def run(self, count: int) -> None:
        """Send `count` texts on a connection each. Faults are told and kept; it goes on after them."""
        for number in range(count):
            text = make_text(random.Random(f"wire {self._seed}:{number}"))
            try:
                self._send(text)
                if number % _GOOD_EVERY == _GOOD_EVERY - 1:
                    self._send_good(number)
            except Fault as fault:
                self._note(fault, text)
        with contextlib.suppress(OSError):
            self._look_at_log()

    def _note(self, fault: Fault, text: bytes) -> None:
        if self.faults.setdefault(fault.kind, fault) is fault:
            self._tell(f"FAULT {fault}\n{text[:1500]!a}")

    def _send(self, text: bytes) -> None:
        """Send a text in one to three pieces, end our half, and read what is answered."""
        received = b""
        with self._service.socket(_SECONDS) as connection:
            with contextlib.suppress(OSError):
                third = len(text) // 3
                for piece in (text[:third], text[third : 2 * third], text[2 * third :]):
                    connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
            try:
                while part := connection.recv(65_536):
                    received += part
            except ConnectionError:
                pass
            except TimeoutError as error:
                raise Fault("hangs: the sender's half is at its end, and no end of the answer comes") from error
        self._check(received)

    def _check(self, received: bytes) -> None:
        """Count the answers of a connection. Raises Fault for one that must not be."""
        if not received:
            self.statuses[0] += 1
            return
        if not received.startswith(b"HTTP/1.1 "):
            raise Fault(f"no HTTP: {received[:300]!a}")
        for head in received.split(b"HTTP/1.1 ")[1:]:
            if not head[:3].isdigit():
                continue
            status = int(head[:3])
            self.statuses[status] += 1
            # 503: the body did not come whole, which the sender may send again.
            if status >= 500 and status not in {501, 503, 505}:
                raise Fault(f"status {status}: {received[:500]!a}")
            if b"something went wrong here" in head:
                raise Fault(f"status {status} unexpected: {received[:500]!a}")

    def _send_good(self, number: int) -> None:
        """Send a good call, twice, as everybody else goes on doing."""
        body = to_raw(a_document(messageId=f"good-{self._seed}-{number}"))
        try:
            outcomes = [self._service.post(body).json for _ in range(2)]
        except (OSError, http.client.HTTPException) as error:
            raise Fault(f"good sender: {type(error).__name__}") from error
        if [outcomes[0]["stored"], outcomes[1]["duplicate"]] != [1, 1]:
            raise Fault(f"good sender: {outcomes}")
        if self._service.worker_pids() != self._workers:
            raise Fault("worker: another one is there than at the start")

    def _look_at_log(self) -> None:
        lines = self._service.output().split("\n")
        for place, line in enumerate(lines):
            if "Traceback" in line or "unexpected error" in line:
                trace = (line if line.startswith("{") else "\n".join(lines[place : place + 60])).partition("\n{")[0]
                end = trace.replace("\\n", "\n").strip().splitlines()[-1]
                self._note(Fault(f"log traceback {end[:60]}: {trace[-3000:]}"), b"")
        ledger = self._service.get("/api/v1/ledger", ADMIN_TOKEN).json
        if ledger["balances"] is not True:
            self._note(Fault(f"ledger: {json.dumps(ledger)}"), b"")


def make_text(rng: random.Random) -> bytes:
    """Return one to three requests, well or badly framed, one after the other."""
    text = b"".join(_request(rng) for _ in range(rng.choice((1, 1, 1, 2, 3))))
    if rng.random() < 0.3:
        text = mutate(rng, text, [_HEAD + b"\r\n", text])
    return text


def _request(rng: random.Random) -> bytes:
    body = (
        to_raw(a_document(messageId=f"wire-{rng.getrandbits(32)}")) if rng.random() < 0.7 else b"{}" * rng.randrange(3)
    )
    end = b"\r\n" if rng.random() < _WELL_FORMED else rng.choice(_ENDS)
    target = rng.choice(_TARGETS[:4]) if rng.random() < 0.6 else rng.choice(_TARGETS)
    method = b"POST" if rng.random() < 0.7 else rng.choice(_METHODS)
    lines = [b" ".join((method, target, rng.choice(_VERSIONS)))]
    if rng.random() < 0.9:
        lines.append(b"Host: a")
    lines.append(b"X-Signature: " + sign(body, SECRET).encode())
    lines += [rng.choice(_LINES) for _ in range(rng.choice((0, 0, 1, 2)))]
    if rng.random() < 0.5:
        lines.append(b"Content-Length: %d" % len(body))
    else:
        lines.append(b"Transfer-Encoding: chunked")
        body = _chunked(rng, body)
    lines[1:] = rng.sample(lines[1:], len(lines) - 1)
    return end.join([*lines, b"", b""]) + body


def _chunked(rng: random.Random, body: bytes) -> bytes:
    parts = []
    while body:
        size = rng.randrange(1, len(body) + 1)
        head = b"%x" % size if rng.random() < _WELL_FORMED else rng.choice(_SIZES)
        ends = [b"\r\n" if rng.random() < _WELL_FORMED else rng.choice(_ENDS) for _ in range(2)]
        parts.append(head + ends[0] + body[:size] + ends[1])
        body = body[size:]
    trailer = rng.choice((b"", b"", b"", b"X: y\r\n", b"Content-Length: 3\r\n", b"a" * 200 + b"\r\n", b"t: u\r\n" * 80))
    return b"".join([*parts, b"0\r\n", trailer, b"\r\n"])
