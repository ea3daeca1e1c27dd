"""Reading a body: its forms, its limits, and that nothing is held or read beyond them."""

import contextlib
import gzip
import io
import random
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import TooLarge, Unavailable, UnparsableJson
from app.store.schema import calls
from app.web.body import BodyBroken, Limit, read_body
from app.web.in_flight import InFlight
from tests.builders import a_document, to_raw
from tests.served import signed
from tests.sites import Site, counts

MIB = 1 << 20
MOST = 4 * MIB


def environ(body: bytes, encoding: str | None = None, length: str | None = "") -> dict[str, Any]:
    """Return a WSGI request; `length` None: chunked, "": as long as it is."""
    given: dict[str, Any] = {"wsgi.input": io.BytesIO(body)}
    if length is not None:
        given["CONTENT_LENGTH"] = length or str(len(body))
    if encoding is not None:
        given["HTTP_CONTENT_ENCODING"] = encoding
    return given


def in_flight_of(most: int) -> InFlight:
    return InFlight(most, most, lambda _size: None)


def read(
    request: dict[str, Any], most: int = MOST, in_flight: InFlight | None = None, *, verified: bool = True
) -> bytes:
    with contextlib.closing((in_flight or in_flight_of(100 * MIB)).reserve(request["wsgi.input"])) as reservation:
        if verified:
            reservation.mark_verified()
        return read_body(request, Limit(most, "the limit"), reservation)


class Endless(io.RawIOBase):
    """A body that never ends."""

    def __init__(self) -> None:
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        self.given += size
        return b" " * size


class Broken(io.RawIOBase):
    """A body that stops coming."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def read(self, _size: int = -1) -> bytes:
        raise self._error


@given(body=st.binary(max_size=300), encoding=st.sampled_from([None, "", "identity", "Identity "]))
def test_a_plain_body_comes_as_it_is(body: bytes, encoding: str | None) -> None:
    assert read(environ(body, encoding)) == body
    assert read(environ(body, encoding, length=None)) == body


@given(
    parts=st.lists(st.binary(max_size=300), min_size=1, max_size=5),
    encoding=st.sampled_from(["gzip", " GZIP", "x-gzip"]),
)
def test_gzip_of_one_member_or_several_is_inflated(parts: list[bytes], encoding: str) -> None:
    body = b"".join(map(gzip.compress, parts))
    assert read(environ(body, encoding)) == b"".join(parts)


def test_what_is_inflated_in_many_pieces_is_whole() -> None:
    noise = random.Random(1).randbytes(MIB)  # noqa: S311
    for plain in (noise, bytes(3 * MIB), noise[:1000] * 3000):
        for packed in (gzip.compress(plain), gzip.compress(plain[:70_000]) + gzip.compress(plain[70_000:])):
            assert read(environ(packed, "gzip")) == plain
        assert read(environ(zlib.compress(plain), "deflate")) == plain


@given(cut=st.integers(1, 60))
def test_gzip_that_ends_too_early_is_no_body(cut: int) -> None:
    body = gzip.compress(random.Random(1).randbytes(100))  # noqa: S311
    with pytest.raises(UnparsableJson):
        read(environ(body[:cut], "gzip"))


@pytest.mark.parametrize(
    "body", [b"{}", b"\x1f\x8b", gzip.compress(b"{}", mtime=0) + b"{}", gzip.compress(b"{}", mtime=0)[::-1]]
)
def test_what_is_not_compressed_as_it_says_is_no_body(body: bytes) -> None:
    with pytest.raises(UnparsableJson):
        read(environ(body, "gzip"))


def test_a_wrong_checksum_is_no_body() -> None:
    packed = bytearray(gzip.compress(b'{"a":1}'))
    packed[-5] ^= 1
    with pytest.raises(UnparsableJson):
        read(environ(bytes(packed), "gzip"))


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "\x00", "x" * 1000])
def test_an_encoding_that_nobody_promised_is_no_body(encoding: str) -> None:
    with pytest.raises(UnparsableJson) as caught:
        read(environ(b"{}", encoding))
    assert len(caught.value.message) < 200


def test_nothing_is_nothing_also_where_it_says_gzip() -> None:
    assert read(environ(b"", "gzip")) == b""
    assert read(environ(b"", length=None)) == b""
    assert read({"wsgi.input": io.BytesIO(), "CONTENT_LENGTH": "0"}) == b""


@pytest.mark.parametrize("length", ["", None])
def test_a_body_of_the_limit_is_read_and_one_byte_more_is_too_large(length: str | None) -> None:
    assert len(read(environ(bytes(1000), length=length), most=1000)) == 1000
    with pytest.raises(TooLarge):
        read(environ(bytes(1001), length=length), most=1000)


def test_inflating_stops_at_the_limit() -> None:
    assert len(read(environ(gzip.compress(bytes(1000)), "gzip"), most=1000)) == 1000
    with pytest.raises(TooLarge):
        read(environ(gzip.compress(bytes(1001)), "gzip"), most=1000)
    with pytest.raises(TooLarge):
        read(environ(gzip.compress(bytes(600)) * 2, "gzip"), most=1000)


def test_a_bomb_costs_no_more_memory_than_the_limit() -> None:
    bomb = gzip.compress(bytes(200 * MIB))
    assert len(bomb) < MIB
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            read(environ(bomb, "gzip"), most=MIB)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_a_body_of_countless_empty_members_is_refused_and_not_worked_through() -> None:
    """Each member once cost a copy of all that follows: 16 MB of them, a quarter of an hour."""
    began = time.monotonic()
    with pytest.raises(UnparsableJson, match="members"):
        read(environ(gzip.compress(b"", mtime=0) * 800_000, "gzip"), most=16 * MIB)
    assert time.monotonic() - began < 10


def test_a_length_beyond_the_limit_is_refused_before_anything_is_read() -> None:
    stream = Endless()
    with pytest.raises(TooLarge):
        read({"wsgi.input": stream, "CONTENT_LENGTH": str(MOST + 1)})
    with pytest.raises(TooLarge):
        read({"wsgi.input": stream, "CONTENT_LENGTH": "9" * 10_000})
    assert stream.given == 0


def test_a_chunked_body_is_read_up_to_the_limit_and_no_further() -> None:
    stream = Endless()
    with pytest.raises(TooLarge):
        read({"wsgi.input": stream}, most=MIB)
    assert stream.given <= MIB + 64 * 1024


@pytest.mark.parametrize("length", ["-5", "+5", "1e3", "0x10", "five", "5.0", "٣", "5, 5", " 5"])
def test_a_length_that_is_no_number_is_not_believed(length: str) -> None:
    with pytest.raises(BodyBroken):
        read(environ(b"12345", length=length))


def test_a_body_that_does_not_arrive_whole_is_to_be_sent_again() -> None:
    with pytest.raises(BodyBroken):
        read(environ(b"12345", length="6"))
    for error in (TimeoutError(), ConnectionResetError(), OSError("unexpected end of file")):
        for length in ({"CONTENT_LENGTH": "6"}, {}):
            with pytest.raises(BodyBroken):
                read({"wsgi.input": Broken(error), **length})


def test_what_is_in_flight_is_counted_before_and_after_inflating_and_given_back() -> None:
    in_flight = in_flight_of(1000)
    packed = gzip.compress(bytes(900))
    for _ in range(3):
        assert len(read(environ(packed, "gzip"), in_flight=in_flight)) == 900
    with pytest.raises(Unavailable):
        read(environ(gzip.compress(bytes(1000)), "gzip"), in_flight=in_flight)
    with contextlib.closing(in_flight.reserve(io.BytesIO())) as other:
        other.grow(500)
        with pytest.raises(Unavailable):
            read(environ(bytes(501)), in_flight=in_flight)
        with pytest.raises(Unavailable):
            read(environ(bytes(501), length=None), in_flight=in_flight)
        assert len(read(environ(bytes(500)), in_flight=in_flight)) == 500
    assert len(read(environ(bytes(1000)), in_flight=in_flight)) == 1000


def test_a_length_that_is_only_promised_holds_nothing() -> None:
    in_flight = in_flight_of(1000)
    seen = []

    class Watching(io.RawIOBase):
        def read(self, _size: int = -1) -> bytes:
            seen.append(len(read(environ(bytes(1000)), in_flight=in_flight)))
            return b""

    with pytest.raises(BodyBroken):
        read({"wsgi.input": Watching(), "CONTENT_LENGTH": "1000"}, in_flight=in_flight)
    assert seen == [1000]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_call_is_signed_and_kept_as_it_is_inflated(site: Site, encoding: str) -> None:
    body = to_raw(a_document())
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    headers = {**signed(body), "Content-Encoding": encoding}
    assert counts(site.send(packed, headers)) == {"received": 1, "stored": 1}
    assert site.rows(calls, calls.c.raw) == [(body,)]


def test_a_bomb_is_413_and_a_body_beyond_what_may_be_in_flight_is_503(make_site: Callable[..., Site]) -> None:
    site = make_site(max_body_bytes=MIB, max_inflight_bytes=MIB // 2)
    bomb = gzip.compress(bytes(10 * MIB))
    answer = site.send(bomb, {**signed(b"x"), "Content-Encoding": "gzip"})
    # Half of the limit may be in flight here, so that comes first; with room it is too large.
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert answer.get_json()["code"] == "unavailable"
    assert counts(site.send(to_raw(a_document()))) == {"received": 1, "stored": 1}
    site = make_site(max_body_bytes=MIB)
    answer = site.send(bomb, {**signed(b"x"), "Content-Encoding": "gzip"})
    assert (answer.status_code, answer.get_json()["code"]) == (413, "too_large")


def test_where_a_body_broke_off_the_connection_is_closed(site: Site) -> None:
    broken = {"wsgi.input": Broken(OSError()), "CONTENT_LENGTH": "5"}
    answer = site.client.post("/webhooks/segment", environ_overrides=broken, headers=signed(b"{}"))
    assert answer.status_code == 503
    assert answer.headers["Connection"] == "close"
