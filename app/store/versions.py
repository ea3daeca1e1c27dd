"""Document texts by digest: each that was ever live or waited for a decision. `conn` first."""

from collections.abc import Iterable, Mapping

import msgspec
import sqlalchemy as sa

from app.errors import NotFound
from app.store.engine import Connection
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


def append_versions(conn: sa.Connection, new_versions: Iterable[Version]) -> int:
    """Store versions; return how many are new."""
    return _VERSIONS.run(
        conn, sorted((msgspec.structs.astuple(version) for version in new_versions), key=lambda row: row[0])
    )


def get_version(conn: sa.Connection, digest: bytes) -> Version:
    """Return a version. Raises NotFound."""
    row = conn.execute(sa.select(versions).where(versions.c.digest == digest)).one_or_none()
    if row is None:
        raise NotFound(f"there is no document version {digest.hex()}")
    return Version(**row._mapping)  # noqa: SLF001  SQLAlchemy's own name for it


def list_versions(conn: sa.Connection, digests: Iterable[bytes]) -> dict[bytes, Version]:
    """Return those of these versions that are stored, by digest."""
    rows = conn.execute(sa.select(versions).where(versions.c.digest.in_(set(digests))))
    return {row.digest: Version(**row._mapping) for row in rows}  # noqa: SLF001


def find_versions(conn: sa.Connection, kind: str, name: str, digest_prefix: str) -> list[Version]:
    """Return the versions of a name whose digest begins with this hexadecimal prefix."""
    rows = conn.execute(sa.select(versions).where(versions.c.kind == kind, versions.c.name == name))
    candidates = [Version(**row._mapping) for row in rows]  # noqa: SLF001
    return [version for version in candidates if version.digest.hex().startswith(digest_prefix.lower())]


def find_seen_texts(conn: sa.Connection, kind: str, texts: Mapping[str, str]) -> set[str]:
    """Return the names whose text in `texts` was ever stored under that name, whatever it inherited then."""
    query = sa.select(versions.c.name, versions.c.text).where(
        versions.c.kind == kind, versions.c.name.in_(list(texts)), versions.c.text.in_(list(texts.values()))
    )
    return {name for name, text in conn.execute(query) if texts[name] == text}


_PREFIX_MIN = 4


def find_one_version(conn: Connection, kind: str, name: str, digest_prefix: str) -> Version:
    """Return the version whose digest begins with `digest_prefix`. Raises NotFound unless exactly one does."""
    if len(digest_prefix) < _PREFIX_MIN:
        raise NotFound(f"name a version by at least {_PREFIX_MIN} of its digits")
    versions = find_versions(conn, kind, name, digest_prefix)
    if not versions:
        hint = "every answer, event and call names the version that made it"
        raise NotFound(f"the {kind} {name[:100]} has no version {digest_prefix[:40]!a}; {hint}")
    if len(versions) > 1:
        several = f"{len(versions)} versions that begin with {digest_prefix[:40]!a}"
        raise NotFound(f"the {kind} {name[:100]} has {several}; give more digits")
    return versions[0]
