"""The body of a request as a WSGI stream, with a length or in chunks: strict, bounded, and never past its end.

The body ends where its length or its last chunk says (RFC 9112, sections 6 and 7), even if the headers ask for another
protocol.
"""

import re
import sys
from collections.abc import Iterator

from app.errors import Unavailable
from app.web.connection import ClientConnection, ConnectionLost, LineTooLong, Phase
from app.web.head import FIELD_LINE

TRAILER_LINES = 64
TRAILER_BYTES = 8 * 1024
CHUNK_HEAD_BYTES = 4 * 1024
EXTENSION_BYTES = 64 * 1024
"""The sum over all chunks of a body."""

DISCARD_BYTES = 64 * 1024
"""The most bytes of an unread body that are discarded to keep the connection."""

_CHUNK_HEAD = re.compile(rb"([0-9A-Fa-f]{1,16})(;[^\x00-\x08\x0a-\x1f\x7f]*)?").fullmatch

# The cost of the framing of a chunk, 2 us, as the number of bytes received in the same time.
_CHUNK_COST = 256

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class StreamBroken(Unavailable, OSError):
    """The body did not arrive whole; send it again."""


class BodyStream:
    """`wsgi.input` of one request."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_error",
        "_extension_bytes",
        "_in_chunk",
        "_left",
        "_owes_continue",
        "ended",
    )

    def __init__(self, connection: ClientConnection, length: int | None, *, chunked: bool, owes_continue: bool) -> None:
        """`owes_continue`: the client waits for 100 Continue before it sends the body."""
        self._connection = connection
        self._chunked = chunked
        self._left = length or 0
        """Unread bytes of the body, or of the current chunk."""
        self.ended = not chunked and not length
        """Whether the whole body was read."""
        self._owes_continue = owes_continue
        self._in_chunk = False
        self._extension_bytes = 0
        self._error: StreamBroken | None = None
        connection.payload = 0

    @property
    def last_byte_at(self) -> float:
        """When the last bytes arrived, by time.monotonic."""
        return self._connection.last_byte_at

    def abandon(self) -> None:
        """Stop reading the body: its reader gets StreamBroken at once. Any greenlet may call this."""
        # After its end, the connection belongs to the answer or the next request.
        if not self.ended:
            self._connection.abandon()

    def read(self, size: int | None = -1) -> bytes:
        """Return `size` bytes, fewer only at the end; without a size, all that is left.

        Raises StreamBroken: the client stopped sending, is gone, or framed the body incorrectly.
        """
        if size is None or size < 0:
            size = sys.maxsize
        if not size or self.ended:
            return b""
        data = self._read_some(size)
        if len(data) == size or self.ended:
            return data
        whole = bytearray(data)
        while len(whole) < size and not self.ended:
            whole += self._read_some(size - len(whole))
        return bytes(whole)

    def readline(self, size: int | None = -1) -> bytes:
        """Return a line including its end, or `size` bytes of it. Raises StreamBroken."""
        if size is None or size < 0:
            size = sys.maxsize
        line = bytearray()
        while len(line) < size and not self.ended and not line.endswith(b"\n"):
            line += self._read_some(size - len(line), up_to_line=True)
        return bytes(line)

    def readlines(self, hint: int | None = None) -> list[bytes]:
        """Return the lines, except those that begin after `hint` bytes. Raises StreamBroken."""
        lines = []
        size = 0
        while line := self.readline():
            lines.append(line)
            size += len(line)
            if hint is not None and 0 < hint <= size:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def discard(self) -> bool:
        """Discard the rest of the body as far as it has arrived, without waiting, at most DISCARD_BYTES.

        Returns whether the body has ended: only then can the next request be read.
        """
        left = DISCARD_BYTES
        # A client that waits for 100 Continue may or may not send the body: what comes next is unknown.
        if not self._owes_continue:
            try:
                while not self.ended and left > 0:
                    left -= len(self._read_some(left, None))
            except (BlockingIOError, StreamBroken):
                return False
        return self.ended and not self._connection.abandoned

    def _read_some(self, size: int, phase: Phase | None = Phase.BODY, *, up_to_line: bool = False) -> bytes:
        """Return from one to `size` bytes; none at the end of the body."""
        if self._error is not None:
            raise self._error
        try:
            if not self._advance(phase):
                return b""
        except (ConnectionLost, LineTooLong) as error:
            self._error = StreamBroken()
            raise self._error from error
        connection = self._connection
        size = min(size, self._left)
        if up_to_line:
            end = connection.buffer.find(b"\n", connection.position, connection.position + size) + 1
            size = end - connection.position if end else size
        data = connection.take(size)
        self._left -= len(data)
        connection.payload += len(data)
        if not self._left and not self._chunked:
            self.ended = True
        return data

    def _advance(self, phase: Phase | None) -> bool:
        """Advance to the next byte of the body, receiving if necessary; False if the body has ended."""
        connection = self._connection
        if self._owes_continue:
            self._owes_continue = False
            connection.send(_CONTINUE)
        if self._chunked and not self._left and not self._begin_chunk(phase):
            return False
        if connection.position >= len(connection.buffer) and not connection.fill(phase):
            raise ConnectionLost
        return True

    def _begin_chunk(self, phase: Phase | None) -> bool:
        """Read up to the data of the next chunk; False after the last chunk and its trailers."""
        connection = self._connection
        connection.spend(_CHUNK_COST)
        if self._in_chunk:
            connection.read_line(0, phase)
        head = _CHUNK_HEAD(connection.read_line(CHUNK_HEAD_BYTES, phase))
        if head is None:
            raise ConnectionLost
        if head[2]:
            self._extension_bytes += len(head[2])
            if self._extension_bytes > EXTENSION_BYTES:
                raise ConnectionLost
        self._left = int(head[1], 16)
        self._in_chunk = self._left > 0
        if not self._in_chunk:
            self._skip_trailers(phase)
            self.ended = True
        return self._in_chunk

    def _skip_trailers(self, phase: Phase | None) -> None:
        left = TRAILER_BYTES
        for _ in range(TRAILER_LINES + 1):
            line = self._connection.read_line(left, phase)
            if not line:
                return
            left -= len(line) + 2
            if left < 0 or FIELD_LINE(line) is None:
                break
        raise ConnectionLost
