"""The file of a backfill: its bytes, read line by line as often as needed, and its digest."""

import contextlib
import gzip
import hashlib
import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from app.core.segment import MAX_CALL_BYTES
from app.errors import FileInvalid

STDIN = "-"

_GZIP = b"\x1f\x8b"
_UTF8_BOM = b"\xef\xbb\xbf"
_OTHER_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}
"""Little-endian UTF-32 begins like UTF-16, and is as wrong."""
_CHUNK = 1 << 20
_LINE_MAX = MAX_CALL_BYTES + len(b"\r\n")
_LINES_TO_A_LOOK = 1000

Stream = io.FileIO | IO[bytes]

State = tuple[int, int]
"""Bytes of a file, and when it was changed, in nanoseconds."""

TextLine = tuple[int, bytes | None]
"""The number of a line, from 1, and its bytes without its end; None: it is longer than MAX_CALL_BYTES."""


class Source:
    """A file that is open. Made by `open_source`."""

    def __init__(self, name: str, file: Stream, state: State | None = None) -> None:
        """`file` can be read from its start as often as needed; `name` is shown to people.

        `state`: what it has to be, None: what it is now.
        """
        self.name = name
        self._file = file
        self.state = state or self._stat()
        self.size = self.state[0]
        """Bytes, as they are in the file."""

    def fileno(self) -> int:
        """Return the descriptor of the file."""
        return self._file.fileno()

    def digest(self) -> str:
        """Return the SHA-256 of the file as it is, in hexadecimal digits. Raises FileInvalid."""
        try:
            self._file.seek(0)
            return hashlib.file_digest(cast("io.FileIO", self._file), "sha256").hexdigest()
        except OSError as error:
            raise FileInvalid(f"{self.name} cannot be read: {error.strerror}") from error

    def lines(self, advance: Callable[[int], object] = lambda _bytes: None) -> Iterator[TextLine]:
        """Yield the lines, inflated, from the first one on. `advance` gets how many bytes of the file were read.

        Raises:
            FileInvalid: it is no text in UTF-8, its gzip data is broken, it cannot be read, or it changed meanwhile.

        """
        self._check_state()
        number, passed = 0, 0
        try:
            with self._stream() as stream:
                while line := stream.readline(_LINE_MAX):
                    number += 1
                    yield number, _without_end(line, stream)
                    if number % _LINES_TO_A_LOOK == 0:
                        place = os.lseek(self._file.fileno(), 0, os.SEEK_CUR)
                        advance(place - passed)
                        passed = place
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            # EOFError: the copying of the file was cut short.
            why = "it ends in the middle" if isinstance(error, EOFError) else str(error)
            raise FileInvalid(f"{self.name}: its gzip data is broken after line {number:,}: {why}") from error
        except OSError as error:
            raise FileInvalid(f"{self.name} cannot be read: {error.strerror or error}") from error
        advance(self.size - passed)
        self._check_state()

    @contextlib.contextmanager
    def _stream(self) -> Iterator["io.BufferedReader[Any]"]:
        """Yield a reader of the text, inflated, behind a byte order mark."""
        os.lseek(self._file.fileno(), 0, os.SEEK_SET)
        with contextlib.ExitStack() as stack:
            # A descriptor of its own: closing it leaves the file open.
            plain = io.FileIO(os.dup(self._file.fileno()))
            stream: io.BufferedReader[Any] = stack.enter_context(io.BufferedReader(plain, _CHUNK))
            if stream.peek(2).startswith(_GZIP):
                inflated = stack.enter_context(gzip.GzipFile(fileobj=stream))
                stream = stack.enter_context(io.BufferedReader(cast("io.FileIO", inflated), _CHUNK))
            start = stream.peek(4)[:4]
            encoding = next((name for bom, name in _OTHER_BOMS.items() if start.startswith(bom)), None)
            if encoding is not None:
                mark = f"line 1 begins with the bytes {start[:2].hex(' ')}, the mark of {encoding}"
                raise FileInvalid(f"{self.name}: {mark}: write it as UTF-8")
            if start.startswith(_UTF8_BOM):
                stream.read(len(_UTF8_BOM))
            yield stream

    def _check_state(self) -> None:
        if self._stat() != self.state:
            raise FileInvalid(f"{self.name} was changed while it was read: run the command again")

    def _stat(self) -> State:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def open_source(path: str, stdin: Stream) -> Iterator[Source]:
    """Open a file, or standard input for `-`, which is first copied into a temporary file.

    That file has no name, so nothing of it is left, however the process ends. Raises FileInvalid.
    """
    if path == STDIN:
        with _spooled(stdin) as file:
            yield Source("standard input", file)
        return
    try:
        file = io.FileIO(path)
    except OSError as error:
        raise FileInvalid(f"{path} cannot be read: {error.strerror}") from error
    with file:
        if not file.seekable():
            # A pipe with a name, as of the shell's <(...): read once, like standard input.
            with _spooled(file) as copy:
                yield Source(Path(path).name, copy)
            return
        yield Source(Path(path).name, file)


@contextlib.contextmanager
def _spooled(stream: Stream) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        try:
            shutil.copyfileobj(stream, file, _CHUNK)
            file.flush()
        except OSError as error:
            folder = tempfile.gettempdir()
            raise FileInvalid(f"the input cannot be kept in {folder}: {error.strerror}") from error
        yield file


def _without_end(line: bytes, stream: "io.BufferedReader[Any]") -> bytes | None:
    """Return a line without its end; None for one that is too long, of which the rest is passed over."""
    rest = line
    while len(rest) == _LINE_MAX and not rest.endswith(b"\n"):
        rest = stream.readline(_LINE_MAX)
    text = line.removesuffix(b"\n").removesuffix(b"\r")
    return text if len(text) <= MAX_CALL_BYTES and rest is line else None
