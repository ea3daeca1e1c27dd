"""Reads and maps the rows of a file; those of a large one in a process of its own, beside the one that stores them.

Mapping takes about as long as storing, and on two processors the two together then take half of the time.
"""

import contextlib
import fcntl
import io
import os
import queue
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from app.backfill.batch import Loaded, map_row
from app.backfill.formats import Content, FileRow, Format
from app.backfill.source import Source, State
from app.backfill.survey import Survey, read_good
from app.clock import clock
from app.core.segment import read
from app.core.transform.transform import DEFAULT, TransformSet, parse_transform
from app.errors import FileInvalid, Unavailable

_LARGE = 5000
"""Rows from which on a process of its own is worth its start."""

_FRAME_ROWS = 200
_FRAMES_AHEAD = 64
"""Frames that wait in the memory of that process, about 20 MB, while a commit takes place."""

_PIPE_BYTES = 1 << 20

_ROOT = Path(__file__).parent.parent.parent

_length = struct.Struct("!I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapper:
    """Maps the rows of one checked file by one set of transforms."""

    source: Source
    format: Format
    content: Content
    survey: Survey
    transforms: TransformSet
    pseudonym_key: bytes | None

    def map_after(self, after: int) -> Iterator[Loaded]:
        """Yield the good rows behind the line `after`, mapped.

        Raises:
            FileInvalid: the file cannot be read any more, or it changed.
            Unavailable: the process that reads it ended.

        """
        if self.survey.rows < _LARGE:
            for row in read_good(self.source, self.format, self.content, self.survey.bad, after):
                yield map_row(row, self.content, self.transforms, clock())
            return
        with self._process(after) as process:
            assert process.stdout is not None  # noqa: S101  it is a pipe
            for frame in _read_frames(process.stdout):
                if frame.error is not None:
                    raise FileInvalid(frame.error)
                yield from frame.loaded
                for line, raw in frame.raws:
                    yield map_row(FileRow(line, raw, read(raw)), self.content, self.transforms, clock())
                if frame.is_last:
                    return
        raise Unavailable("the process that reads the file ended: run the same command again to go on")

    @contextlib.contextmanager
    def _process(self, after: int) -> Iterator["subprocess.Popen[bytes]"]:
        setup = _Setup(
            name=self.source.name,
            file=self.source.fileno(),
            state=self.source.state,
            format=self.format,
            content=self.content,
            bad=self.survey.bad.tobytes(),
            after=after,
            transforms=[(transform.name, transform.text) for transform in self.transforms.transforms],
            pseudonym_key=self.pseudonym_key,
        )
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        process = subprocess.Popen(
            [sys.executable, "-m", "app.backfill.mapper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self.source.fileno()],
            # Ctrl-C in a terminal would reach it, too: this process decides when to stop.
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
        )
        with process:
            assert process.stdin is not None  # noqa: S101  it is a pipe
            try:
                process.stdin.write(msgspec.msgpack.encode(setup))
                process.stdin.close()
                yield process
            finally:
                process.kill()


class _Setup(msgspec.Struct, kw_only=True):
    """What the process gets on its standard input."""

    name: str
    file: int
    """The descriptor of the file, which it inherits."""
    state: State
    """What the file was when it was checked."""
    format: Format
    content: Content
    bad: bytes
    after: int
    transforms: list[tuple[str, str]]
    """(name, text)."""
    pseudonym_key: bytes | None


class _Frame(msgspec.Struct, kw_only=True):
    """What it answers: some rows, or why there are no more."""

    loaded: list[Loaded] = []
    """Without the calls' documents."""
    raws: list[tuple[int, bytes]] = []
    """Rows with half of a surrogate pair, which cannot be sent as text: the reader maps them itself."""
    error: str | None = None
    is_last: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frame).decode


def _read_frames(stream: IO[bytes]) -> Iterator[_Frame]:
    """Yield frames until the stream ends."""
    with contextlib.suppress(OSError, AttributeError):
        # Linux: a longer pipe needs fewer turns of the two processes.
        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    while len(head := stream.read(_length.size)) == _length.size:
        size = _length.unpack(head)[0]
        if len(data := stream.read(size)) < size:
            return
        yield _decode(data)


def _map_frames(setup: _Setup) -> Iterator[bytes]:
    """Yield the encoded frames of a file."""
    transforms = _parse_transforms(setup.transforms, setup.pseudonym_key)
    source = Source(setup.name, io.FileIO(setup.file), setup.state)
    survey = Survey()
    survey.bad.frombytes(setup.bad)
    loaded: list[Loaded] = []
    try:
        for row in read_good(source, setup.format, setup.content, survey.bad, setup.after):
            loaded.append(map_row(row, setup.content, transforms, clock()))
            if len(loaded) == _FRAME_ROWS:
                yield _to_frame(loaded)
                loaded = []
    except FileInvalid as error:
        yield _encode(_Frame(error=error.message))
        return
    yield _to_frame(loaded)
    yield _encode(_Frame(is_last=True))


def _parse_transforms(texts: list[tuple[str, str]], pseudonym_key: bytes | None) -> TransformSet:
    default = next((parse_transform(name, text, None, pseudonym_key) for name, text in texts if name == DEFAULT), None)
    others = [parse_transform(name, text, default, pseudonym_key) for name, text in texts if name != DEFAULT]
    return TransformSet(others if default is None else [default, *others])


def _to_frame(loaded: list[Loaded]) -> bytes:
    for _, record in loaded:
        if record.run.call is not None:
            record.run = msgspec.structs.replace(record.run, call=None)
    try:
        return _encode(_Frame(loaded=loaded))
    except UnicodeEncodeError:
        return _encode(_Frame(raws=[(line, record.raw) for line, record in loaded]))


def _main() -> None:
    """Write the frames of the file that standard input names to standard output."""
    setup = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Setup)
    frames: queue.Queue[bytes | None] = queue.Queue(_FRAMES_AHEAD)

    def write() -> None:
        try:
            while (frame := frames.get()) is not None:
                sys.stdout.buffer.write(_length.pack(len(frame)) + frame)
            sys.stdout.buffer.flush()
        except OSError:
            # Nobody reads any more.
            os._exit(0)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    for frame in _map_frames(setup):
        frames.put(frame)
    frames.put(None)
    writer.join()


if __name__ == "__main__":
    _main()
