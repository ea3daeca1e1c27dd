"""Fingerprints of secrets that stored rows depend on, so that a changed secret is never used. `conn` first."""

from hashlib import scrypt

import sqlalchemy as sa

from app.store.inserts import Insert
from app.store.schema import fingerprints

PSEUDONYM_KEY = "pseudonym_key"

_FIRST = Insert(fingerprints, ("name", "fingerprint"), skip_known=True)


def make_fingerprint(secret: str) -> bytes:
    """Return 16 bytes that identify a secret; slow (50 ms), to make guessing it expensive."""
    return scrypt(secret.encode(), salt=b"segment-lotus", n=2**14, r=8, p=1, dklen=16)


def keep_fingerprint(conn: sa.Connection, name: str, fingerprint: bytes) -> bytes | None:
    """Store a fingerprint unless there is one; return the stored one."""
    _FIRST.run(conn, [(name, fingerprint)])
    return find_fingerprint(conn, name)


def find_fingerprint(conn: sa.Connection, name: str) -> bytes | None:
    """Return the stored fingerprint; None if there is none."""
    return conn.execute(sa.select(fingerprints.c.fingerprint).where(fingerprints.c.name == name)).scalar()


def replace_fingerprint(conn: sa.Connection, name: str, fingerprint: bytes) -> None:
    """Replace the stored fingerprint."""
    conn.execute(sa.delete(fingerprints).where(fingerprints.c.name == name))
    _FIRST.run(conn, [(name, fingerprint)])
