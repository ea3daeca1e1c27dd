"""Reading a request's body within limits: its size, its inflated size, and the bytes of all requests in flight."""

import contextlib
import zlib
from collections.abc import Iterator
from typing import IO, Any

from app.errors import TooLarge, Unavailable, UnparsableJson

_CHUNK = 64 * 1024
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


class InFlight:
    """Counts the bytes of all bodies that this process holds."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    @contextlib.contextmanager
    def reserved(self) -> Iterator["Reservation"]:
        """Give a reservation that is returned at the end of the request."""
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            self._held -= reservation.size

    def take(self, size: int) -> None:
        """Count `size` more bytes. Raises Unavailable where that is more than may be held."""
        if self._held + size > self._most:
            raise Unavailable("too many bytes are in flight (MAX_INFLIGHT_BYTES); send it again")
        self._held += size


class Reservation:
    """The bytes of one request."""

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self.size = 0

    def grow(self, size: int) -> None:
        """Hold `size` more bytes. Raises Unavailable."""
        self._in_flight.take(size)
        self.size += size


def read_body(environ: dict[str, Any], most: int, reservation: Reservation) -> bytes:
    """Read the body of a WSGI request, inflated where it says that it is compressed.

    Raises:
        TooLarge: it has more than `most` bytes, before or after inflating; reading stops there.
        UnparsableJson: it says gzip and is none.
        Unavailable: too many bytes are in flight.

    """
    try:
        raw = _read_raw(environ, most, reservation)
    except TimeoutError as error:
        raise Unavailable("the body stopped coming; send it again") from error
    encoding = environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if encoding in {"", "identity"}:
        return raw
    if encoding in {"gzip", "x-gzip", "deflate"}:
        return _inflate(raw, most, reservation)
    raise UnparsableJson(f"the body has the content encoding {encoding[:40]!r}; gzip and deflate are taken")


def _read_raw(environ: dict[str, Any], most: int, reservation: Reservation) -> bytes:
    length = environ.get("CONTENT_LENGTH")
    if length:
        size = int(length)
        if size > most:
            raise TooLarge(f"the body has {size} bytes; MAX_BODY_BYTES is {most}")
        reservation.grow(size)
        raw: bytes = environ["wsgi.input"].read(size)
        if len(raw) < size:
            raise UnparsableJson(f"the body ended after {len(raw)} of {size} bytes")
        return raw
    return _read_chunked(environ["wsgi.input"], most, reservation)


def _read_chunked(stream: IO[bytes], most: int, reservation: Reservation) -> bytes:
    parts = []
    size = 0
    while part := stream.read(_CHUNK):
        size += len(part)
        if size > most:
            raise TooLarge(f"the body has more than {most} bytes, which is MAX_BODY_BYTES")
        reservation.grow(len(part))
        parts.append(part)
    return b"".join(parts)


def _inflate(raw: bytes, most: int, reservation: Reservation) -> bytes:
    parts = []
    size = 0
    rest = raw
    try:
        # A gzip body may be several members one after the other.
        while rest:
            inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
            while not inflater.eof:
                part = inflater.decompress(rest, _CHUNK)
                rest = inflater.unconsumed_tail
                if not part and not rest and not inflater.eof:
                    raise UnparsableJson("the compressed body ends too early")
                size += len(part)
                if size > most:
                    raise TooLarge(f"the body inflates to more than {most} bytes, which is MAX_BODY_BYTES")
                reservation.grow(len(part))
                parts.append(part)
            rest = inflater.unused_data
    except zlib.error as error:
        raise UnparsableJson(f"the body is not compressed as it says: {error}") from error
    return b"".join(parts)
