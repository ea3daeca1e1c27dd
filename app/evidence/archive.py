"""Writes the ZIP of evidence in a stream: equal contents give equal bytes, whatever the time and the machine."""

import hashlib
import zipfile
from collections.abc import Iterable
from typing import IO

from app.evidence.manifest import FileDigest

_CREATED = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_READABLE = 0o644 << 16


class ArchiveWriter:
    """One ZIP on its way into a file that can seek. Memory holds one piece at a time."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)
        self.digests: dict[str, FileDigest] = {}
        """Of the files that are in it so far, by name."""

    def add(self, name: str, pieces: Iterable[bytes]) -> None:
        """Add a file."""
        info = zipfile.ZipInfo(name, _CREATED)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.create_system = _UNIX
        info.external_attr = _READABLE
        digest, size = hashlib.sha256(), 0
        with self._zip.open(info, "w", force_zip64=True) as member:
            for piece in pieces:
                member.write(piece)
                digest.update(piece)
                size += len(piece)
        self.digests[name] = FileDigest(digest.hexdigest(), size)

    def close(self) -> None:
        """Write the end of the ZIP; the file stays open."""
        self._zip.close()
