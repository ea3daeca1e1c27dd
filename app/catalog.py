"""What is kept as documents: transforms, from files to versions in the database.

Every version that was ever active stays readable by its digest, so that a call can be compared with, shown by, or
mapped again by the very version that made its event.
"""

from collections.abc import Callable
from pathlib import Path

from app.core.pipeline import Lane, map_call
from app.core.segment import Call
from app.core.transform import DEFAULT, Transform, TransformSet, parse_transform
from app.errors import EventInvalid, ExpressionFailed, NotFound, TransformInvalid
from app.store.engine import Connection, Database
from app.store.versions import Version, append_versions, get_version

_KIND = "transform"
_FILE_BYTES_MAX = 256 * 1024


def read_transforms(folder: Path) -> TransformSet:
    """Read every `*.yaml` file of a folder.

    Raises:
        TransformInvalid: names the file, line and column of the first problem.

    """
    texts = {path.stem: _read(path) for path in sorted(folder.glob("*.yaml"))}
    if DEFAULT not in texts:
        raise TransformInvalid(f"{folder} has no {DEFAULT}.yaml, which all transforms inherit from")
    default = parse_transform(DEFAULT, texts.pop(DEFAULT), None)
    return TransformSet([default, *(parse_transform(name, text, default) for name, text in texts.items())])


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise TransformInvalid(f"{path.name} cannot be read: {error.strerror}") from error
    if len(raw) > _FILE_BYTES_MAX:
        raise TransformInvalid(f"{path.name} is larger than {_FILE_BYTES_MAX // 1024} KiB")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise TransformInvalid(f"{path.name} is not UTF-8 at byte {error.start}") from error


class Catalog:
    """The active transforms, and every earlier version by digest."""

    def __init__(self, active: TransformSet) -> None:
        self.active = active
        self._published = False
        self._by_digest: dict[bytes, Transform | None] = {one.digest: one for one in active.transforms}

    def publish(self, database: Database, clock: Callable[[], int]) -> None:
        """Keep the active versions in the database, once; nothing may be mapped by a version that is not kept.

        Raises:
            Unavailable: it cannot be reached now. The next call tries again.

        """
        if self._published:
            return
        now = clock()
        rows = [Version(one.digest, _KIND, one.name, one.text, one.inherits, now) for one in self.active.transforms]
        with database.writing() as conn:
            append_versions(conn, rows)
        self._published = True

    def find_transform(self, conn: Connection, digest: bytes) -> Transform | None:
        """Return a version by digest, None where it is unknown or cannot be read by this program any more."""
        if digest not in self._by_digest:
            self._by_digest[digest] = self._load(conn, digest)
        return self._by_digest[digest]

    def _load(self, conn: Connection, digest: bytes) -> Transform | None:
        try:
            version = get_version(conn, digest)
            default = self.find_transform(conn, version.inherits) if version.inherits else None
            if version.inherits and default is None:
                return None
            transform = parse_transform(version.name, version.text, default)
        except (NotFound, TransformInvalid):
            return None
        # Another engine made it: what this one would make of the text may differ.
        return transform if transform.digest == digest else None

    def map_again(self, conn: Connection, call: Call, digest: bytes) -> Lane | None:
        """Map a call by an earlier version; None where that version is unknown or makes no event of it.

        A version that would not have taken the call says nothing about it: another event under the same idempotency
        id must stay a conflict, even where that version would have mapped it alike.
        """
        transform = self.find_transform(conn, digest)
        if transform is None or not transform.accepts(call):
            return None
        try:
            return map_call(call, transform)
        except (EventInvalid, ExpressionFailed):
            return None
