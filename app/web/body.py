"""Reads request bodies within limits: the size, the inflated size, and the bytes of all requests in flight."""

import contextlib
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

from app.core.tracking import MAX_BATCH_BYTES
from app.errors import TooLarge, Unavailable, UnparsableJson
from app.store.refusals import BODY_START_BYTES
from app.store.writer import Turn
from app.web.drain import LEFT_UNREAD
from app.web.in_flight import CHUNK_BYTES, Reservation

RATIO_MAX = 100
"""The highest inflation ratio of a body whose sender is not authenticated; it applies beyond RATIO_FREE_BYTES, the
largest batch of Segment's tracking API. Calls that differ only in a counter reach 120."""

RATIO_FREE_BYTES = MAX_BATCH_BYTES

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32

# A gzip body may consist of several members; each costs a copy of the rest of its chunk.
_MEMBERS_MAX = 10_000

# int() refuses thousands of digits.
_DIGITS_MAX = 20

_COMPRESSED = {"gzip", "x-gzip", "deflate"}


class BodyBroken(Unavailable):
    """The body did not arrive whole; send it again."""


class Limit(NamedTuple):
    """The most bytes of a body, inflated."""

    most: int
    name: str
    """Its name in messages."""


def read_body(environ: dict[str, Any], limit: Limit, reservation: Reservation) -> bytes:
    """Return the body of a WSGI request, inflated if its head says that it is compressed.

    Raises:
        TooLarge: it has more bytes than the limit, before or after inflating; reading stops there. Or it inflates to
            more than RATIO_MAX times its size, and its sender is not authenticated yet.
        UnparsableJson: it is declared as compressed, and is not.
        BodyBroken: it stopped arriving, or its framing is invalid; nothing more on the connection can be read.
        Unavailable: too many bytes are in flight.

    """
    encoding = _encoding(environ)
    parts = _read_parts(environ, limit, reservation)
    if encoding in {"", "identity"}:
        return parts[0] if len(parts) == 1 else b"".join(parts)
    if encoding in _COMPRESSED:
        return _inflate(parts, limit, reservation)
    raise UnparsableJson(f"the body has the content encoding {encoding[:40]!r}; gzip and deflate are taken")


def read_beginning(environ: dict[str, Any], reservation: Reservation) -> bytes:
    """Read at most 64 KiB of a body that is refused anyway; return its beginning, to be stored.

    So the sender of an ordinary body has finished sending when the answer arrives, and reads it. Then the connection is
    closed, since its sender is not authenticated. A compressed body is inflated only as far as it is stored. Never
    raises.
    """
    environ[LEFT_UNREAD] = True
    parts: list[bytes] = []
    with contextlib.suppress(OSError, ValueError, Unavailable):
        length = _length(environ)
        most = CHUNK_BYTES if length is None else min(length, CHUNK_BYTES)
        _read(environ["wsgi.input"], most, parts, reservation)
    beginning = b"".join(parts)
    if _encoding(environ) not in _COMPRESSED:
        return beginning
    try:
        return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(beginning[:BODY_START_BYTES], BODY_START_BYTES)
    except zlib.error:
        return b""


def _encoding(environ: dict[str, Any]) -> str:
    encoding: str = environ.get("HTTP_CONTENT_ENCODING", "")
    return encoding.strip().lower() if encoding else encoding


def _length(environ: dict[str, Any]) -> int | None:
    """Return the Content-Length; None if the body is chunked. Raises BodyBroken."""
    length = environ.get("CONTENT_LENGTH")
    if not length:
        return None
    if not (length.isascii() and length.isdigit()):
        raise BodyBroken
    return int(length[:_DIGITS_MAX])


def _read_parts(environ: dict[str, Any], limit: Limit, reservation: Reservation) -> list[bytes]:
    environ[LEFT_UNREAD] = True
    length = _length(environ)
    if length is not None and length > limit.most:
        raise TooLarge(f"the body has {length} bytes; {limit.name} is {limit.most}")
    parts: list[bytes] = []
    try:
        _read(environ["wsgi.input"], limit.most + 1 if length is None else length, parts, reservation, limit)
    except (OSError, ValueError) as error:
        # ValueError: a chunk size is not a number.
        raise BodyBroken from error
    if length is not None and sum(map(len, parts)) < length:
        raise BodyBroken
    environ[LEFT_UNREAD] = False
    return parts


def _read(
    stream: IO[bytes], size: int, parts: list[bytes], reservation: Reservation, limit: Limit | None = None
) -> None:
    """Read up to `size` bytes into `parts`. Reserves only bytes that arrived: a mere length must not block others."""
    left = size
    while left and (part := stream.read(min(CHUNK_BYTES, left))):
        left -= len(part)
        if limit is not None and size - left > limit.most:
            raise TooLarge(f"the body has more than {limit.most} bytes, which is {limit.name}")
        reservation.grow(len(part))
        parts.append(part)
        if left:
            reservation.begin_wait()
    reservation.end_wait()


def _inflate(parts: list[bytes], limit: Limit, reservation: Reservation) -> bytes:
    most = limit.most
    if not reservation.verified:
        most = min(most, RATIO_FREE_BYTES + RATIO_MAX * sum(map(len, parts)))
    inflated = []
    size = 0
    turn = Turn()
    try:
        for piece in _inflated(_release_each(parts, reservation)):
            turn.checkpoint()
            size += len(piece)
            if size > limit.most:
                raise TooLarge(f"the body inflates to more than {limit.most} bytes, which is {limit.name}")
            if size > most:
                raise TooLarge(
                    f"the body inflates to more than {RATIO_MAX} times its size, and only its content could say who"
                    " sends it: send less in one request, or a credential in the Authorization header"
                )
            reservation.grow(len(piece))
            inflated.append(piece)
    except zlib.error as error:
        raise UnparsableJson(f"the body is not compressed as it says: {error}") from error
    return b"".join(inflated)


def _release_each(parts: list[bytes], reservation: Reservation) -> Iterator[bytes]:
    """Yield the parts, and release the bytes of each: a body need not be held both raw and inflated."""
    parts.reverse()
    while parts:
        part = parts.pop()
        yield part
        reservation.shrink(len(part))


def _inflated(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Inflate in small pieces, both of the input (zlib copies the rest of it each time) and of the output."""
    inflater = None
    members = 0
    for part in parts:
        unread = part
        while unread:
            if inflater is None:
                inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
                members += 1
            if members > _MEMBERS_MAX:
                raise UnparsableJson(f"the compressed body has more than {_MEMBERS_MAX} members")
            yield inflater.decompress(unread, CHUNK_BYTES)
            unread = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            if inflater.eof:
                inflater = None
    while inflater is not None and not inflater.eof:
        piece = inflater.decompress(b"", CHUNK_BYTES)
        if not piece and not inflater.eof:
            raise UnparsableJson("the compressed body ends too early")
        yield piece
