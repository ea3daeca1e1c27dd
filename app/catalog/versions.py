"""Looks a version of a document up by the first digits of its digest."""

from app.errors import NotFound
from app.store.engine import Connection
from app.store.versions import Version, find_versions

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
