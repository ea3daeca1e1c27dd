"""Whatever Lotus answers, or whoever stands in its place: paused, noted, nothing lost, nothing taken for delivered.

An event counts as delivered only where a 2xx says so in Lotus's own words. The oracle here reads answers anew.
"""

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.clock import clock
from app.errors import Unavailable
from app.forward.fake_lotus.server import FakeLotus
from app.forward.lotus import Lotus
from app.forward.reconcile import Reconciliation
from app.forward.sql_claims import to_storable
from app.forward.sql_destination import read_destination
from app.forward.verdict import INVALID_JSON, PERMANENT, LotusAnswer, read_verdict
from app.metrics.effect import measure_values
from app.service.commands import main
from app.store.engine import Database
from app.store.schema import attempts
from tests.builders import NOW, empty, rows_of
from tests.forward.forwarding import HOUR, KEY, MADE, Clock, a_recent, a_worker, balanced, reasons_of, store, work

ALL = b'{"success": "all", "failed_events": null}'
LONG_AGO = "Sun, 01 Nov 99999999999999999999 10:00:30 GMT"


def whole(status: str, body: bytes, *headers: str) -> bytes:
    """Return an answer as it goes over the wire."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + body


def chunked(*chunks: bytes) -> bytes:
    return b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(chunks)


# None of them says plainly that the events were taken: what begins so is cut off, too long, or contradicts itself.
ODD = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/0.9": ALL,
    "a version that is none": b"HTTP/9.9 201 Created\r\nContent-Length: 41\r\n\r\n" + ALL,
    "a status that is none": b"HTTP/1.1 2e2 Created\r\n\r\n" + ALL,
    "a status of four digits": b"HTTP/1.1 2010 Created\r\n\r\n" + ALL,
    "a NUL in the status line": b"HTTP/1.1 500 \0\r\nContent-Length: 0\r\n\r\n",
    "only 100": b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    "103, and then what is for somebody else": b"HTTP/1.1 103 Early Hints\r\n\r\n" + whole("201 Created", ALL),
    "a redirect": whole("302 Found", ALL, "Location: \0\x1b[31m" + "x" * 5000),
    "304": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "404 that says all": whole("404 Not Found", ALL),
    "401": whole("401 Unauthorized", b'{"detail": ["\\ud800", {"\\u0000": 1e999}]}'),
    "400 that says all": whole("400 Bad Request", ALL),
    "400 that says some": whole("400 Bad Request", b'{"success": "some", "failed_events": {"id-1": "who knows"}}'),
    "500 that says all": whole("500 Internal Server Error", ALL),
    "a success that is a list": whole("201 Created", b'{"success": []}'),
    "400 with a success that is a list": whole("400 Bad Request", b'{"success": []}'),
    "a success that is true": whole("201 Created", b'{"success": true}'),
    "a list": whole("201 Created", b'["all"]'),
    "a text": whole("201 Created", b'"all"'),
    "nothing in it": whole("204 No Content", b""),
    "all, and some that failed": whole("201 Created", b'{"success": "all", "failed_events": {"id-1": "who knows"}}'),
    "all, and a list of what failed": whole("201 Created", b'{"success": "all", "failed_events": ["id-1"]}'),
    "some, and a list of what failed": whole("201 Created", b'{"success": "some", "failed_events": ["id-1", 7]}'),
    "some, and nothing failed": whole("201 Created", b'{"success": "some", "failed_events": {}}'),
    "some, and another's failed": whole("201 Oh", b'{"success": "some", "failed_events": {"id-1": "x", "y": "x"}}'),
    "some, and a reason that is none": whole("201 Created", b'{"success": "some", "failed_events": {"id-1": [null]}}'),
    "none, and reasons that are none": whole("400 Oh", b'{"success": "none", "failed_events": {"id-1": 1e999}}'),
    "none, then all": whole("201 Created", b'{"success": "none", "success": "all"}'),
    "what failed, and then nothing": whole(
        "201 Created", b'{"success": "all", "failed_events": {"id-1": "x"}, "failed_events": null}'
    ),
    "all, cut off": whole("201 Created", ALL)[:-1],
    "all, and more": whole("201 Created", ALL + b"}"),
    "all, and not a number": whole("201 Created", b'{"success": "all", "x": NaN}'),
    "not UTF-8": whole("201 Created", b'{"success": "all", "x": "\xff\xfe"}'),
    "UTF-16": whole("201 Created", ALL.decode().encode("utf-16")),
    "NULs": whole("503 Service Unavailable", b"\0" * 30_000),
    "halves of surrogate pairs": whole("500 Oh", b'{"message": "\\ud800 \\udfff \\u0000"}'),
    "a message of a megabyte": whole("500 Oh", b'{"message": "' + b"x" * 900_000 + b'"}'),
    "10 MB": whole("201 Created", ALL + b" " * 10_000_000),
    "10 MB that do not say so": b"HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n" + ALL + b" " * 10_000_000,
    "deep": whole("201 Created", b'{"success": "all", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "deep and open": whole("500 Oh", b"[" * 100_000),
    "a number of 100,000 digits": whole("201 Created", b'{"success": "all", "x": ' + b"9" * 100_000 + b"}"),
    "a header of a megabyte": whole("201 Created", ALL, "X-Odd: " + "x" * 1_000_000),
    "500 headers": whole("201 Created", ALL, *(f"X-{number}: x" for number in range(500))),
    "a header that is none": b"HTTP/1.1 503 Oh\r\n\xff\xfe\0 no header\r\n: \r\n\r\n",
    "a length of 10^20": b"HTTP/1.1 201 Created\r\nContent-Length: 1" + b"0" * 20 + b"\r\n\r\n" + ALL,
    "a length of 5,000 digits": b"HTTP/1.1 503 Oh\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "a length below nothing": b"HTTP/1.1 503 Oh\r\nContent-Length: -1\r\n\r\n",
    "half of the chunks": chunked(b"29\r\n" + ALL + b"\r\n"),
    "half of a chunk": chunked(b"ffff\r\n" + ALL),
    "a chunk below nothing": chunked(b"-1\r\n" + ALL),
    "a chunk that is none": chunked(b"zz\r\n" + ALL),
    "a chunk of 10^20": chunked(b"f" * 17 + b"\r\n" + ALL),
    "Retry-After in the year 10^20": whole("503 Oh", b"", f"Retry-After: {LONG_AGO}"),
    "Retry-After of 10^20 seconds": whole("429 Oh", b"", f"Retry-After: 1{'0' * 20}"),
    "Retry-After below nothing": whole("429 Oh", b"", "Retry-After: -5"),
    "Retry-After that is no number": whole("503 Oh", b"", "Retry-After: NaN"),
    "Retry-After with a NUL": whole("503 Oh", b"", "Retry-After: 1\0"),
    "a zone of 10^20 hours": whole("503 Oh", b"", f"Retry-After: Sun, 01 Nov 2026 10:00:30 +1{'0' * 20}"),
}  # fmt: skip


class Script:
    """A server that gives one answer to everybody, on connections that it keeps open while it has more to say."""

    def __init__(self) -> None:
        self.answer = b""
        self.afterwards = b""
        """What follows on the same connection a moment later."""
        self.requests = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            while self._read_request(connection):
                self.requests += 1
                afterwards = self.afterwards
                connection.sendall(self.answer)
                if afterwards:
                    time.sleep(0.1)
                    connection.sendall(afterwards)
                connection.shutdown(socket.SHUT_WR)

    def _read_request(self, connection: socket.socket) -> bool:
        received = b""
        while b"\r\n\r\n" not in received:
            part = connection.recv(65536)
            if not part:
                return False
            received += part
        head, _, body = received.partition(b"\r\n\r\n")
        lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        left = (lengths or [0])[0] - len(body)
        while left > 0:
            part = connection.recv(65536)
            if not part:
                return False
            left -= len(part)
        return True

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(10)


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    server = Script()
    yield server
    server.close()


def trouble_of(database: Database) -> str | None:
    with database.reading() as conn:
        return read_destination(conn).trouble


def test_an_odd_answer_is_trouble_of_the_destination_and_then_everything_arrives(
    database: Database, lotus: FakeLotus, address: str, script: Script
) -> None:
    for name, answer in ODD.items():
        empty(database)
        lotus.forget()
        store(database, [a_recent("id-0"), a_recent("id-1")])
        script.answer = answer
        now = lotus.clock = Clock()
        worker = a_worker(database, script.address, now, timeout=1.0)
        # Both are sent together, and where it may be the fault of one, each alone, until it is none's.
        for _ in range(12):
            if worker.step():
                now.ahead += HOUR
            if trouble_of(database):
                break
        assert trouble_of(database), name
        assert balanced(database) == {"waiting": 2}, name
        tried = rows_of(database, attempts, attempts.c.status, attempts.c.answer)
        assert tried, name
        assert all(text if status is None else len(text) <= 20_000 for status, text in tried), name
        assert set(reasons_of(database)) == {"id-0", "id-1"}, name
        another = a_worker(database, address, now, tag=22)
        another.begin()
        work(another, now)
        while MADE:
            MADE.pop().close()
        assert list(lotus.events) == ["id-0", "id-1"], name
        assert balanced(database) == {"delivered": 2}, name


@pytest.mark.parametrize("first", [b"HTTP/1.1 103 Early Hints\r\n\r\n", whole("500 Oh", b"{}")])
def test_what_comes_without_a_request_is_never_taken_for_the_answer_to_the_next_one(
    first: bytes, script: Script
) -> None:
    script.answer, script.afterwards = first, whole("201 Created", ALL)
    client = Lotus(script.address, "a-key", timeout_seconds=5)
    try:
        assert client.track(b"{}").status in {103, 500}
        if first.startswith(b"HTTP/1.1 500"):
            # It has arrived by the time of the next request; after a 103 it is sure to come, and is not waited for.
            assert select.select([client._connection.sock], [], [], 10)[0]
        script.answer, script.afterwards = whole("503 Oh", b""), b""
        assert client.track(b"{}").status == 503
    finally:
        client.close()


def test_a_plain_answer_in_chunks_is_read(script: Script) -> None:
    """As a proxy in front of Lotus may send it: short chunks, and the last one of no bytes."""
    script.answer, script.afterwards = (
        chunked(b"9\r\n" + ALL[:9] + b"\r\n", b"%x\r\n" % len(ALL[9:]) + ALL[9:], b"\r\n0\r\n\r\n"),
        b"",
    )
    client = Lotus(script.address, "a-key", timeout_seconds=5)
    try:
        answer = client.track(b"{}")
    finally:
        client.close()
    assert (answer.status, answer.body) == (201, ALL)


def may_be_delivered(answer: LotusAnswer) -> bool:
    """Read an answer anew, with another reader of JSON: whether it is a 2xx that speaks of success."""
    try:
        document = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return (
        answer.status in range(200, 300) and isinstance(document, dict) and document.get("success") in ("all", "some")
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(sorted(PERMANENT)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from("ab"), inner, max_size=3),
    max_leaves=8,
)
reason = st.sampled_from([*sorted(PERMANENT), "x", INVALID_JSON])
reasons = st.dictionaries(st.sampled_from("abc"), reason | json_values)
documents = st.fixed_dictionaries(
    {},
    optional={
        "success": st.sampled_from(["all", "some", "none"]) | json_values,
        "failed_events": st.none() | reasons | json_values,
        "message": json_values,
        "detail": json_values,
    },
)
bodies = st.binary(max_size=200) | (documents | json_values).map(lambda value: json.dumps(value).encode())
statuses = st.none() | st.sampled_from([200, 201, 204, 400, 413, 429, 503]) | st.integers(100, 999)
headers = st.fixed_dictionaries({}, optional={"retry-after": st.text(), "location": st.text()})


@given(answer=st.builds(LotusAnswer, statuses, bodies, headers), ids=st.sets(st.sampled_from("abc")).map(sorted))
@example(LotusAnswer(503, b"", {"retry-after": LONG_AGO}), ["a"])
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_any_answer_is_a_verdict_and_delivers_only_what_a_2xx_says_was_taken(
    answer: LotusAnswer, ids: list[str]
) -> None:
    verdict = read_verdict(answer, ids, NOW)
    ends = [*verdict.delivered, *verdict.failed, *verdict.later]
    assert sorted(ends) == ([] if verdict.split is not None else ids)
    assert not verdict.delivered or may_be_delivered(answer)
    if verdict.trouble is not None:
        assert 0 <= verdict.trouble.wait_seconds <= 600
        assert len(verdict.trouble.sentence) < 1000
    for text in (verdict.split, verdict.trouble and verdict.trouble.sentence, *verdict.later.values()):
        to_storable(text or "").encode()


lines = [
    b"HTTP/1.1 201 Created\r\n",
    b"HTTP/1.1 100 Continue\r\n",
    b"Content-Length: 41\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"\r\n",
    b"29\r\n",
    b"-7\r\n",
    ALL,
]


@given(pieces=st.lists(st.sampled_from(lines) | st.binary(max_size=20), max_size=12))
def test_any_bytes_are_an_answer_or_none_and_never_an_exception(pieces: list[bytes], script: Script) -> None:
    script.answer = b"".join(pieces)
    client = Lotus(script.address, "a-key", timeout_seconds=2)
    try:
        answer = client.track(b'{"batch":[]}')
    finally:
        client.close()
    assert answer.status is None or 100 <= answer.status <= 999
    assert answer.status is not None or answer.text()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[" * 100_000,
        b"\xff",
        b'"success"',
        b'{"status": "success"}',
        b'{"status": "success", "ids_not_found": [1]}',
        b'{"status": "success", "ids_not_found": ["\xff"]}',
        b'{"status": "\x1b[31m", "ids_not_found": []}',
    ],
)
def test_an_odd_answer_to_reconcile_is_one_sentence(
    body: bytes, script: Script, sqlite_database: Database, lotus: FakeLotus, address: str
) -> None:
    store(sqlite_database, [a_recent("id-0")])
    work(a_worker(sqlite_database, address), Clock())
    script.answer = whole("200 OK", body)
    client = Lotus(script.address, "a-key", timeout_seconds=2)
    try:
        with pytest.raises(Unavailable, match="Lotus does not say which events it has") as raised:
            Reconciliation(sqlite_database, client, measure_values, clock).run(0)
    finally:
        client.close()
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("words", [["doctor"], ["reconcile", "--since", "29d"]])
def test_what_lotus_answers_moves_no_cursor_on_a_terminal(
    words: list[str],
    script: Script,
    sqlite_database: Database,
    migrated_sqlite_url: str,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store(sqlite_database, [a_recent("id-0")])
    work(a_worker(sqlite_database, address), Clock())
    monkeypatch.setenv("DATABASE_URL", migrated_sqlite_url)
    monkeypatch.setenv("LOTUS_HOST", script.address)
    monkeypatch.setenv("LOTUS_API_KEY", KEY)
    script.answer = whole("500 Oh", b'{"message": "\\u001b[2J \x7f[2J"}')
    printed = CliRunner().invoke(main, words)
    assert printed.exit_code == 1
    assert "[2J" in printed.output
    assert all(line.isprintable() for line in printed.output.split("\n"))
