"""Evidence: the keys that sign it, and the digest of each file that was made."""

from sqlalchemy import Column, Table, Text

from app.store.schema.base import METADATA, Digest, Id

signing_keys = Table(
    "signing_keys",
    METADATA,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("private_key", Digest, nullable=False, comment="Ed25519, 32 bytes"),
    Column("public_key", Digest, nullable=False, comment="32 bytes"),
    Column("made_at", Id, nullable=False),
    comment="Keys that sign evidence: the last one signs, all of them verify.",
)

evidence = Table(
    "evidence",
    METADATA,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("metric", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("month", Text, nullable=False),
    Column("tz", Text, nullable=False),
    Column("manifest_digest", Digest, nullable=False, comment="SHA-256"),
    Column("key_id", Id, nullable=False),
    Column("author", Text, nullable=False),
    Column("made_at", Id, nullable=False),
    comment="Each evidence file that was made.",
)
