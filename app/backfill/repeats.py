"""Finds ids that occur twice in a file, in bounded memory."""

import contextlib
import tempfile
from collections.abc import Iterator
from hashlib import blake2b
from types import TracebackType
from typing import Self

_DIGEST_BYTES = 16
_LINE_BYTES = 6
_RECORD_BYTES = _DIGEST_BYTES + _LINE_BYTES
_PARTITIONS = 64
_IN_MEMORY_BYTES = 256 << 10


class Repeats:
    """The ids of a file by the first bits of their digests.

    An id takes 22 bytes, whatever its length: 220 MB for ten million. A partition of more than 256 KB is kept in a
    temporary file, so 16 MB are in memory; and one of 64 partitions at a time is read back and sorted.
    """

    def __init__(self) -> None:
        self._files = contextlib.ExitStack()
        self._partitions = [
            self._files.enter_context(tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES))  # noqa: SIM115  it is one
            for _ in range(_PARTITIONS)
        ]
        self._write = [partition.write for partition in self._partitions]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def add(self, id_: str, line: int) -> None:
        """Add an id and its line."""
        digest = blake2b(id_.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES).digest()
        self._write[digest[0] % _PARTITIONS](digest + line.to_bytes(_LINE_BYTES))

    def find(self) -> Iterator[tuple[int, int]]:
        """Yield (line, first line with the same id) for each id but its first, in no order."""
        for partition in self._partitions:
            partition.seek(0)
            data = partition.read()
            records = sorted(data[at : at + _RECORD_BYTES] for at in range(0, len(data), _RECORD_BYTES))
            first = b""
            for record in records:
                if first and record.startswith(first[:_DIGEST_BYTES]):
                    yield _line_of(record), _line_of(first)
                else:
                    first = record


def _line_of(record: bytes) -> int:
    return int.from_bytes(record[_DIGEST_BYTES:])
