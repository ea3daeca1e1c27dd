"""A version of a document, by the first digits of its digest."""

from app.errors import NotFound
from app.store.engine import Connection
from app.store.versions import Version, find_versions

_PREFIX_MIN = 4


def find_one_version(conn: Connection, kind: str, name: str, digest_prefix: str) -> Version:
    """Return the version of a name. Raises NotFound where there is none, or more than one."""
    if len(digest_prefix) < _PREFIX_MIN:
        raise NotFound(f"name a version by {_PREFIX_MIN} of its digits at least")
    found = find_versions(conn, kind, name, digest_prefix)
    if not found:
        known = "every answer, event and call names the one it was made by"
        raise NotFound(f"the {kind} {name[:100]} has no version {digest_prefix[:40]!a}; {known}")
    if len(found) > 1:
        several = f"{len(found)} versions that begin with {digest_prefix[:40]!a}"
        raise NotFound(f"the {kind} {name[:100]} has {several}; write more of it")
    return found[0]
