"""Drafts of transforms: what people write in the editor and have not published. `conn` first.

There is one draft for each name. Whoever changes it says which revision they saw: a draft that somebody else changed
meanwhile is never overwritten.
"""

from collections.abc import Mapping

import msgspec
import sqlalchemy as sa

from app.store.inserts import Insert
from app.store.schema import drafts


class Draft(msgspec.Struct, frozen=True):
    """One draft."""

    name: str
    text: str
    revision: int
    base: bytes | None
    """Digest of the version that was live when it was begun; None: nothing was."""
    saved_at: int


class DraftMoved(Exception):
    """The draft has another revision than was seen; nothing was written. `draft` is what is there now."""

    def __init__(self, draft: Draft | None) -> None:
        self.draft = draft
        super().__init__()


_DRAFTS = Insert(drafts, ("name", "text", "revision", "base", "saved_at"), skip_known=True)


def find_draft(conn: sa.Connection, name: str) -> Draft | None:
    """Return the draft of a name, None where there is none."""
    row = conn.execute(sa.select(drafts).where(drafts.c.name == name, drafts.c.text.is_not(None))).one_or_none()
    return None if row is None else Draft(**row._mapping)  # noqa: SLF001  SQLAlchemy's own name for it


def list_drafted(conn: sa.Connection) -> set[str]:
    """Return the names that have a draft."""
    return set(conn.execute(sa.select(drafts.c.name).where(drafts.c.text.is_not(None))).scalars())


def save_draft(conn: sa.Connection, name: str, text: str, revision: int, base: bytes | None, now: int) -> Draft:
    """Keep a text as the draft of a name; `revision` is that of the draft it was begun from, 0 where there was none.

    `base` counts for a new draft only. A text that is there already is saved, whatever the revision: an answer that
    was lost on its way must not look like a conflict. Raises DraftMoved.
    """
    row = conn.execute(sa.select(drafts).where(drafts.c.name == name)).one_or_none()
    found = None if row is None or row.text is None else Draft(**row._mapping)  # noqa: SLF001
    if found is not None and found.text == text:
        return found
    if (found.revision if found else 0) != revision:
        raise DraftMoved(found)
    saved = Draft(name, text, row.revision + 1 if row else 1, found.base if found else base, now)
    if row is None:
        written = _DRAFTS.run(conn, [msgspec.structs.astuple(saved)])
    else:
        values = {"text": text, "revision": saved.revision, "base": saved.base, "saved_at": now}
        written = _change(conn, name, row.revision, values)
    if written != 1:
        raise DraftMoved(find_draft(conn, name))
    return saved


def discard_draft(conn: sa.Connection, name: str, revision: int, now: int) -> None:
    """Let there be no draft of a name; where there is none, all is well. Raises DraftMoved."""
    found = find_draft(conn, name)
    if found is None:
        return
    values = {"text": None, "revision": found.revision + 1, "base": None, "saved_at": now}
    if found.revision != revision or _change(conn, name, revision, values) != 1:
        raise DraftMoved(find_draft(conn, name))


def _change(conn: sa.Connection, name: str, revision: int, values: Mapping[str, object]) -> int:
    statement = sa.update(drafts).where(drafts.c.name == name, drafts.c.revision == revision).values(values)
    return conn.execute(statement).rowcount
