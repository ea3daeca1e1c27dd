"""Reading a request's body within limits: its size, its inflated size, and the bytes of all requests in flight."""

import contextlib
import zlib
from collections.abc import Iterator
from typing import IO, Any

from app.errors import TooLarge, Unavailable, UnparsableJson

_CHUNK = 64 * 1024
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32

# A gzip body may be several members one after the other; each costs a copy of what follows in its chunk.
_MEMBERS_MAX = 10_000

# int() refuses thousands of digits.
_DIGITS_MAX = 20


class BodyBroken(Unavailable):
    """The body did not arrive whole; send it again."""


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


def read_body(environ: dict[str, Any], most: int, reservation: Reservation, limit: str = "MAX_BODY_BYTES") -> bytes:
    """Read the body of a WSGI request, inflated where it says that it is compressed. `limit` is what `most` is called.

    Raises:
        TooLarge: it has more than `most` bytes, before or after inflating; reading stops there.
        UnparsableJson: it says gzip and is none.
        BodyBroken: it stopped coming, or is not framed as HTTP says; what follows on the connection cannot be read.
        Unavailable: too many bytes are in flight.

    """
    try:
        raw = _read_raw(environ, most, reservation, limit)
    except (OSError, ValueError) as error:
        # ValueError: the size of a chunk is no number.
        raise BodyBroken from error
    encoding = environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if encoding in {"", "identity"}:
        return raw
    if encoding in {"gzip", "x-gzip", "deflate"}:
        return _inflate(raw, most, reservation, limit)
    raise UnparsableJson(f"the body has the content encoding {encoding[:40]!r}; gzip and deflate are taken")


def _read_raw(environ: dict[str, Any], most: int, reservation: Reservation, limit: str) -> bytes:
    stream = environ["wsgi.input"]
    length = environ.get("CONTENT_LENGTH")
    if not length:
        return _read_parts(stream, most + 1, most, reservation, limit)
    if not (length.isascii() and length.isdigit()):
        raise BodyBroken
    size = int(length[:_DIGITS_MAX])
    if size > most:
        raise TooLarge(f"the body has {size} bytes; {limit} is {most}")
    raw = _read_parts(stream, size, most, reservation, limit)
    if len(raw) < size:
        raise BodyBroken
    return raw


def _read_parts(stream: IO[bytes], size: int, most: int, reservation: Reservation, limit: str) -> bytes:
    """Read up to `size` bytes, and hold only what has come: a length alone must not shut others out."""
    parts = []
    left = size
    while left and (part := stream.read(min(_CHUNK, left))):
        left -= len(part)
        if size - left > most:
            raise TooLarge(f"the body has more than {most} bytes, which is {limit}")
        reservation.grow(len(part))
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _inflate(raw: bytes, most: int, reservation: Reservation, limit: str) -> bytes:
    parts = []
    size = 0
    try:
        for part in _inflated(raw):
            size += len(part)
            if size > most:
                raise TooLarge(f"the body inflates to more than {most} bytes, which is {limit}")
            reservation.grow(len(part))
            parts.append(part)
    except zlib.error as error:
        raise UnparsableJson(f"the body is not compressed as it says: {error}") from error
    return b"".join(parts)


def _inflated(raw: bytes) -> Iterator[bytes]:
    """Inflate in small pieces, of what goes in (zlib copies the rest of it each time) and of what comes out."""
    inflater = None
    members = 0
    for start in range(0, len(raw), _CHUNK):
        rest = raw[start : start + _CHUNK]
        while rest:
            if inflater is None:
                inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
                members += 1
            if members > _MEMBERS_MAX:
                raise UnparsableJson(f"the compressed body has more than {_MEMBERS_MAX} members")
            yield inflater.decompress(rest, _CHUNK)
            rest = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            if inflater.eof:
                inflater = None
    while inflater is not None and not inflater.eof:
        part = inflater.decompress(b"", _CHUNK)
        if not part and not inflater.eof:
            raise UnparsableJson("the compressed body ends too early")
        yield part
