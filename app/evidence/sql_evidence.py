"""Evidence as rows: the keys that sign it, and the digest of each file that was made. `conn` first."""

import msgspec
import sqlalchemy as sa

from app.evidence.signature import make_private_key, to_public_key
from app.store.inserts import Insert
from app.store.schema import evidence, signing_keys

_FIRST_KEY = 1
"""The id of the first key: of two nodes that make one at once, the second finds that of the first."""

_KEYS = Insert(signing_keys, ("id", "private_key", "public_key", "made_at"), skip_known=True)


class SigningKey(msgspec.Struct, frozen=True):
    """A key, without its private half."""

    id: int
    public_key: bytes
    made_at: int


class EvidenceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One evidence file that was made."""

    id: int
    metric: str
    customer_id: str
    month: str
    tz: str
    manifest_digest: bytes
    """SHA-256."""
    key_id: int
    author: str
    made_at: int


_EVIDENCE = Insert(evidence, EvidenceRecord.__struct_fields__)


def ensure_key(conn: sa.Connection, now: int) -> int:
    """Return the id of the key that signs; make the first one `now` if there is none."""
    newest = sa.select(sa.func.max(signing_keys.c.id))
    key_id: int | None = conn.execute(newest).scalar()
    if key_id is None:
        private_key = make_private_key()
        _KEYS.run(conn, [(_FIRST_KEY, private_key, to_public_key(private_key), now)])
        key_id = _FIRST_KEY
    return key_id


def read_private_key(conn: sa.Connection, key_id: int) -> bytes:
    """Return the private half of a key. It signs, and goes nowhere else."""
    return bytes(conn.execute(sa.select(signing_keys.c.private_key).where(signing_keys.c.id == key_id)).scalar_one())


def list_keys(conn: sa.Connection) -> list[SigningKey]:
    """Return all keys, the one that signs first."""
    columns = [signing_keys.c[name] for name in SigningKey.__struct_fields__]
    return [SigningKey(*row) for row in conn.execute(sa.select(*columns).order_by(signing_keys.c.id.desc()))]


def append_record(conn: sa.Connection, record: EvidenceRecord) -> None:
    """Insert the record of a file."""
    _EVIDENCE.run(conn, [msgspec.structs.astuple(record)])


def list_records(conn: sa.Connection, limit: int, before: int | None = None) -> list[EvidenceRecord]:
    """Return the last `limit` records below the id `before`, newest first."""
    query = sa.select(evidence).order_by(evidence.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(evidence.c.id < before)
    return [EvidenceRecord(**row._mapping) for row in conn.execute(query)]  # noqa: SLF001  SQLAlchemy's own name
