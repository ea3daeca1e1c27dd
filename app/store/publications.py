"""Which version of each document is and was live. Append-only; the last row of a name counts."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec
import sqlalchemy as sa

from app.store.inserts import Insert
from app.store.schema import publications


class Origin(StrEnum):
    """Where a published version came from."""

    FILE = "file"
    EDITOR = "editor"


class Publication(msgspec.Struct, frozen=True):
    """One publication. `digest` None: the document was unpublished."""

    id: int
    kind: str
    name: str
    digest: bytes | None
    origin: str
    published_at: int


_PUBLICATIONS = Insert(publications, ("id", "kind", "name", "digest", "origin", "published_at"))


def lock_publications(conn: sa.Connection) -> None:
    """Block other publications until the end of this transaction; reads and ingestion continue."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.text("LOCK TABLE publications IN SHARE ROW EXCLUSIVE MODE"))
    # SQLite has only one writer anyway.


def append_publications(conn: sa.Connection, published: Sequence[Publication]) -> None:
    """Make versions live, in this order. Only under `lock_publications`.

    Ids ascend even if the clocks of nodes differ: an id that is not above the last one is increased.
    """
    last = find_latest_id(conn) or 0
    moved = []
    for publication in published:
        last = max(publication.id, last + 1)
        moved.append(msgspec.structs.replace(publication, id=last))
    _PUBLICATIONS.run(conn, [msgspec.structs.astuple(publication) for publication in moved])


def find_latest_id(conn: sa.Connection) -> int | None:
    """Return the id of the last publication; as long as it is the same, so are all live versions."""
    return conn.execute(sa.select(sa.func.max(publications.c.id))).scalar()


def find_latest_moment(conn: sa.Connection, kind: str) -> int:
    """Return when a document of a kind was last published, in microseconds since 1970; 0 if none was."""
    query = sa.select(sa.func.max(publications.c.published_at)).where(publications.c.kind == kind)
    return conn.execute(query).scalar() or 0


def list_live(conn: sa.Connection, kind: str) -> dict[str, Publication]:
    """Return the last publication of each name, including unpublished ones."""
    last = sa.select(sa.func.max(publications.c.id)).where(publications.c.kind == kind).group_by(publications.c.name)
    rows = conn.execute(sa.select(publications).where(publications.c.id.in_(last)))
    return {row.name: Publication(**row._mapping) for row in rows}  # noqa: SLF001  SQLAlchemy's own name for it


def find_publication(conn: sa.Connection, kind: str, name: str, moment: int) -> Publication | None:
    """Return the publication of a name that was the last one at a moment; None if there was none yet."""
    query = sa.select(publications).where(
        publications.c.kind == kind, publications.c.name == name, publications.c.published_at <= moment
    )
    row = conn.execute(query.order_by(publications.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else Publication(**row._mapping)  # noqa: SLF001


def list_history(conn: sa.Connection, kind: str, name: str) -> list[Publication]:
    """Return all publications of a name, newest first."""
    query = sa.select(publications).where(publications.c.kind == kind, publications.c.name == name)
    rows = conn.execute(query.order_by(publications.c.id.desc()))
    return [Publication(**row._mapping) for row in rows]  # noqa: SLF001
