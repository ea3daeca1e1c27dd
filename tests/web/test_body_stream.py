"""The body of a request: all of it, and not a byte of the next, however it arrives and however it is read."""

import contextlib
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent import socket
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Unavailable
from app.web.body_stream import DISCARD_BYTES, BodyStream, StreamBroken
from app.web.connection import TURN_BYTES, ClientConnection

NEXT = b"GET /next HTTP/1.1\r\n\r\n"


@contextlib.contextmanager
def arriving(*pieces: bytes, end: bool = True) -> Iterator[ClientConnection]:
    """Yield a connection on which these pieces arrive, each with a pause before it but the first."""
    client, server = socket.socketpair()

    def send() -> None:
        with contextlib.suppress(OSError):
            for piece in pieces:
                client.sendall(piece)
                gevent.sleep(0)
            if end:
                client.shutdown(socket.SHUT_WR)

    sending = gevent.spawn(send)
    connection = ClientConnection(server, "")
    try:
        yield connection
    finally:
        sending.kill()
        connection.close()
        client.close()


def sized(connection: ClientConnection, length: int) -> BodyStream:
    return BodyStream(connection, length, chunked=False, owes_continue=False)


def in_chunks(connection: ClientConnection) -> BodyStream:
    return BodyStream(connection, None, chunked=True, owes_continue=False)


def rest(connection: ClientConnection) -> bytes:
    """Return what a body has left for the next request."""
    while connection.fill(connection.phase):
        pass
    return connection.take(1 << 30)


def cut(text: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(text) + 1) for place in places})
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


_READERS: dict[str, Callable[[BodyStream], bytes]] = {
    "all": lambda stream: stream.read(),
    "pieces": lambda stream: b"".join(iter(lambda: stream.read(7), b"")),
    "lines": b"".join,
    "short lines": lambda stream: b"".join(iter(lambda: stream.readline(3), b"")),
    "a list of lines": lambda stream: b"".join(stream.readlines()),
}

_PLACES = st.lists(st.integers(0, 1000), max_size=8)


@pytest.mark.parametrize("reader", _READERS)
@given(body=st.binary(max_size=200), chunks=_PLACES, packets=_PLACES)
def test_a_body_is_the_same_however_it_is_cut_and_read(
    reader: str, body: bytes, chunks: list[int], packets: list[int]
) -> None:
    parts = [part for part in cut(body, chunks) if part]
    framed = b"".join(b"%x;a=b\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\nA: b\r\n\r\n"
    for text, to_stream in ((body, lambda c: sized(c, len(body))), (framed, in_chunks)):
        with arriving(*cut(text + NEXT, packets)) as connection:
            stream = to_stream(connection)
            assert _READERS[reader](stream) == body
            assert stream.ended
            assert stream.read() == stream.readline() == b""
            assert rest(connection) == NEXT


def test_lines_are_lines() -> None:
    with arriving(b"a\n", b"\nb", b"c\nd") as connection:
        stream = sized(connection, 7)
        assert [stream.readline(), stream.readline(), stream.readline(2), *stream] == [
            b"a\n",
            b"\n",
            b"bc",
            b"\n",
            b"d",
        ]
    with arriving(b"a\nb\nc\n") as connection:
        assert sized(connection, 6).readlines(3) == [b"a\n", b"b\n"]


def test_a_body_that_ends_early_is_broken_for_whoever_reads_on() -> None:
    for to_stream, text in ((lambda c: sized(c, 10), b"123456789"), (in_chunks, b"a\r\n123456789")):
        with arriving(text) as connection:
            stream = to_stream(connection)
            assert stream.read(4) == b"1234"
            for _ in range(2):
                with pytest.raises(StreamBroken) as broken:
                    stream.read()
            assert isinstance(broken.value, OSError)
            assert isinstance(broken.value, Unavailable)
            assert not stream.ended
            assert not stream.discard()


def test_what_nobody_reads_is_thrown_away_where_it_has_come_and_is_not_much() -> None:
    for size, come, expected in ((100, 100, True), (100, 99, False), (DISCARD_BYTES + 1, DISCARD_BYTES + 1, False)):
        chunks = b"%x\r\n" % size + b" " * come + (b"\r\n0\r\n\r\n" if size == come else b"")
        for to_stream, text in ((lambda c, size=size: sized(c, size), b" " * come), (in_chunks, chunks)):
            with arriving(text, end=False) as connection:
                # All of it is in the kernel before it is looked at.
                gevent.sleep(0.001)
                assert to_stream(connection).discard() is expected


def test_the_client_is_told_to_send_its_body_once_somebody_reads_it() -> None:
    client, server = socket.socketpair()
    connection = ClientConnection(server, "")
    stream = BodyStream(connection, 4, chunked=False, owes_continue=True)
    assert not stream.discard()
    reading = gevent.spawn(stream.read)
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(b"body")
    assert reading.get(timeout=5) == b"body"
    client.close()
    connection.close()


def test_it_tells_when_the_last_bytes_came_and_can_be_given_up_by_others() -> None:
    with arriving(b"1", end=False) as connection:
        stream = sized(connection, 10)
        before = stream.last_byte_at
        reading = gevent.spawn(stream.read)
        gevent.sleep(0.01)
        assert stream.last_byte_at > before
        assert connection.payload == 1
        stream.abandon()
        with pytest.raises(StreamBroken):
            reading.get(timeout=5)
        with pytest.raises(StreamBroken):
            stream.read(1)
        assert not stream.discard()


def test_a_body_that_was_read_cannot_be_given_up_and_with_it_the_next_request() -> None:
    with arriving(b"body" + NEXT) as connection:
        stream = sized(connection, 4)
        assert stream.read() == b"body"
        stream.abandon()
        assert stream.discard()
        assert rest(connection) == NEXT


def test_of_a_body_that_was_given_up_what_has_come_is_read_and_the_connection_is_not_kept() -> None:
    with arriving(b"body" + NEXT) as connection:
        stream = sized(connection, 4)
        assert stream.read(1) == b"b"
        stream.abandon()
        assert stream.read() == b"ody"
        assert not stream.discard()


@pytest.mark.parametrize("framed", [b"%x\r\n" % (2 * TURN_BYTES) + b" " * 2 * TURN_BYTES, b"1\r\n \r\n" * 3000])
def test_others_have_a_turn_while_a_body_is_read_that_has_come_already(framed: bytes) -> None:
    turns: list[int] = []

    def count() -> None:
        while True:
            turns.append(1)
            gevent.sleep(0)

    with arriving(framed) as connection:
        # All of it is in the kernel before it is looked at, and none of it has to be waited for.
        gevent.sleep(0.01)
        counting = gevent.spawn(count)
        with contextlib.suppress(StreamBroken):
            in_chunks(connection).read()
        counting.kill()
    assert len(turns) >= len(framed) // TURN_BYTES + 1
