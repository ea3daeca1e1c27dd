"""Drafts of transforms: texts from the editor that are not published yet. `conn` first.

There is one draft for each name. A change names the revision it is based on: a draft that somebody else changed
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
    """Digest of the version that was live when the draft was begun; None: nothing was live."""
    saved_at: int


class DraftConflict(Exception):
    """The draft has another revision than the expected one; nothing was written. `draft` is the current draft."""

    def __init__(self, draft: Draft | None) -> None:
        self.draft = draft
        super().__init__()


_DRAFTS = Insert(drafts, ("name", "text", "revision", "base", "saved_at"), skip_known=True)


def find_draft(conn: sa.Connection, name: str) -> Draft | None:
    """Return the draft of a name; None if there is none."""
    row = conn.execute(sa.select(drafts).where(drafts.c.name == name, drafts.c.text.is_not(None))).one_or_none()
    return None if row is None else Draft(**row._mapping)  # noqa: SLF001  SQLAlchemy's own name for it


def list_drafted(conn: sa.Connection) -> set[str]:
    """Return the names that have a draft."""
    return set(conn.execute(sa.select(drafts.c.name).where(drafts.c.text.is_not(None))).scalars())


def save_draft(conn: sa.Connection, name: str, text: str, revision: int, base: bytes | None, now: int) -> Draft:
    """Save a text as the draft of a name; `revision` is that of the draft it is based on, 0 if there was none.

    `base` is used for a new draft only. Saving the text that the draft already has succeeds whatever the revision: a
    retry after a lost answer must not look like a conflict. Raises DraftConflict.
    """
    row = conn.execute(sa.select(drafts).where(drafts.c.name == name)).one_or_none()
    current = None if row is None or row.text is None else Draft(**row._mapping)  # noqa: SLF001
    if current is not None and current.text == text:
        return current
    if (current.revision if current else 0) != revision:
        raise DraftConflict(current)
    saved = Draft(name, text, row.revision + 1 if row else 1, current.base if current else base, now)
    if row is None:
        count = _DRAFTS.run(conn, [msgspec.structs.astuple(saved)])
    else:
        values = {"text": text, "revision": saved.revision, "base": saved.base, "saved_at": now}
        count = _update(conn, name, row.revision, values)
    if count != 1:
        raise DraftConflict(find_draft(conn, name))
    return saved


def discard_draft(conn: sa.Connection, name: str, revision: int, now: int) -> None:
    """Discard the draft of a name; does nothing if there is none. Raises DraftConflict."""
    draft = find_draft(conn, name)
    if draft is None:
        return
    values = {"text": None, "revision": draft.revision + 1, "base": None, "saved_at": now}
    if draft.revision != revision or _update(conn, name, revision, values) != 1:
        raise DraftConflict(find_draft(conn, name))


def _update(conn: sa.Connection, name: str, revision: int, values: Mapping[str, object]) -> int:
    """Compare-and-set: update the draft if it still has `revision`; return how many rows matched."""
    statement = sa.update(drafts).where(drafts.c.name == name, drafts.c.revision == revision).values(values)
    return conn.execute(statement).rowcount
