"""Opens an evidence file that may be anything: within limits on names, sizes and what it unpacks to."""

import contextlib
import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from app.evidence.manifest import CONTENTS, MANIFEST, SIGNATURE, FileDigest

SMALL_BYTES = 1 << 20
"""Of the manifest and its signature."""

TOTAL_BYTES = 8 << 30
"""Of all files together, unpacked: some 20 million events."""

_LINE_BYTES = 16 << 20
_PIECE = 1 << 16
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)
"""What the library raises where a ZIP is damaged."""


class EvidenceBroken(Exception):
    """It cannot be read as an evidence file; the message says why."""


class EvidenceArchive:
    """An evidence file that is open for reading."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        """Raises EvidenceBroken unless it holds exactly the files of evidence."""
        self._zip = archive
        infos = archive.infolist()
        names = [info.filename for info in infos]
        expected = {*CONTENTS, MANIFEST, SIGNATURE}
        if len(names) > len(expected):
            raise EvidenceBroken(f"it holds {len(names):,} files in place of {len(expected)}, or some of them twice")
        if strange := sorted(set(names) - expected):
            raise EvidenceBroken(f"it holds {strange[0][:60]!a}, which is no part of evidence")
        if missing := sorted(expected - set(names)):
            raise EvidenceBroken(f"it does not hold {', '.join(missing)}")
        for info in infos:
            if info.compress_type not in _METHODS or info.flag_bits & _ENCRYPTED:
                raise EvidenceBroken(f"{info.filename} is encrypted, or packed in an unusual way")
        if sum(info.file_size for info in infos) > TOTAL_BYTES:
            raise EvidenceBroken(f"it unpacks to more than {TOTAL_BYTES:,} bytes")

    def read_small(self, name: str) -> bytes:
        """Return the bytes of the manifest or its signature. Raises EvidenceBroken."""
        raw = b""
        for piece in self._pieces(name):
            raw += piece
            if len(raw) > SMALL_BYTES:
                raise EvidenceBroken(f"{name} is larger than {SMALL_BYTES:,} bytes")
        return raw

    def check_digests(self, digests: Mapping[str, FileDigest]) -> Iterator[str]:
        """Yield a sentence for each file that is not as the manifest says. Raises EvidenceBroken."""
        if set(digests) != set(CONTENTS):
            yield f"{MANIFEST} does not list exactly {', '.join(CONTENTS)}"
        for name in CONTENTS:
            digest, size = hashlib.sha256(), 0
            for piece in self._pieces(name):
                digest.update(piece)
                size += len(piece)
            if name in digests and digests[name] != FileDigest(digest.hexdigest(), size):
                yield f"{name} was changed: its digest is not the one in {MANIFEST}"

    @contextlib.contextmanager
    def open_lines(self, name: str) -> Iterator[Iterator[str]]:
        """Yield the lines of a file with their ends. Raises EvidenceBroken."""
        with self._open(name) as member:
            yield self._lines(name, member)

    def _lines(self, name: str, member: IO[bytes]) -> Iterator[str]:
        with _plain(name):
            while line := member.readline(_LINE_BYTES):
                if len(line) == _LINE_BYTES:
                    raise EvidenceBroken(f"{name} has a line of more than {_LINE_BYTES:,} bytes")
                yield line.decode()

    def _pieces(self, name: str) -> Iterator[bytes]:
        with self._open(name) as member, _plain(name):
            while piece := member.read(_PIECE):
                yield piece

    def _open(self, name: str) -> IO[bytes]:
        with _plain(name):
            return self._zip.open(name)


@contextlib.contextmanager
def open_evidence(path: Path) -> Iterator[EvidenceArchive]:
    """Yield an evidence file. Raises EvidenceBroken."""
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise EvidenceBroken(error.strerror or "it cannot be read") from error
    except _FAULTS as error:
        raise EvidenceBroken("it is not a ZIP file, or a part of it is missing") from error
    with archive:
        yield EvidenceArchive(archive)


@contextlib.contextmanager
def _plain(name: str) -> Iterator[None]:
    try:
        yield
    except _FAULTS as error:
        raise EvidenceBroken(f"{name} is damaged ({type(error).__name__})") from error
