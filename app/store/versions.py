"""Document texts by digest: every transform that was ever active. `conn` first."""

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa

from app.errors import NotFound
from app.store.inserts import Insert
from app.store.schema import versions

_VERSIONS = Insert(versions, ("digest", "kind", "name", "text", "inherits", "seen_at"), skip_known=True)


class Version(msgspec.Struct, frozen=True):
    """One version of one document."""

    digest: bytes
    kind: str
    name: str
    text: str
    inherits: bytes | None
    seen_at: int


def append_versions(conn: sa.Connection, seen: Iterable[Version]) -> int:
    """Keep versions; return how many were never seen before."""
    return _VERSIONS.run(conn, sorted((msgspec.structs.astuple(one) for one in seen), key=lambda row: row[0]))


def get_version(conn: sa.Connection, digest: bytes) -> Version:
    """Return a version. Raises NotFound."""
    row = conn.execute(sa.select(versions).where(versions.c.digest == digest)).one_or_none()
    if row is None:
        raise NotFound(f"there is no document version {digest.hex()}")
    return Version(**row._mapping)  # noqa: SLF001  SQLAlchemy's own name for it
