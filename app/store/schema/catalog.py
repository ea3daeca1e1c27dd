"""Documents that people write: versions, publications, drafts."""

from sqlalchemy import Column, Index, Table, Text

from app.store.schema.base import METADATA, Digest, Id

versions = Table(
    "versions",
    METADATA,
    Column("digest", Digest, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("inherits", Digest),
    Column("seen_at", Id, nullable=False),
    comment="Every document text that was ever active, by digest.",
)

publications = Table(
    "publications",
    METADATA,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", Digest, comment="the version that became live; NULL: taken out"),
    Column("origin", Text, nullable=False, comment="file or editor"),
    Column("published_at", Id, nullable=False),
    comment="Which version of each document is live: the last row of its name. Rows are only ever added.",
)
Index("publications_kind_name", publications.c.kind, publications.c.name, publications.c.id)

drafts = Table(
    "drafts",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("text", Text, comment="NULL: it was published or discarded"),
    # A discarded draft keeps its row, so that no revision is ever used for two texts.
    Column("revision", Id, nullable=False, comment="grows with every change, for ever"),
    Column("base", Digest, comment="the live version that it was begun from"),
    Column("saved_at", Id, nullable=False),
    comment="What people write in the editor and have not published; one draft for each transform.",
)
