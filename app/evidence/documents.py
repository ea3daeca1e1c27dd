"""Keys and records of evidence as documents. A key's document never has its private half."""

from typing import Any

from app.core.times import format_time
from app.evidence.signature import ALGORITHM, to_key_text
from app.evidence.sql_evidence import EvidenceRecord, SigningKey


def to_key_document(key: SigningKey, *, signs: bool) -> dict[str, Any]:
    """Return a public key; `signs`: new files are signed with it."""
    return {
        "algorithm": ALGORITHM,
        "public_key": to_key_text(key.public_key),
        "made_at": format_time(key.made_at),
        "signs": signs,
    }


def to_record_document(record: EvidenceRecord, keys: dict[int, SigningKey]) -> dict[str, Any]:
    """Return the record of a file; `keys` by their ids."""
    return {
        "id": str(record.id),
        "metric": record.metric,
        "customer_id": record.customer_id,
        "month": record.month,
        "tz": record.tz,
        "manifest_sha256": record.manifest_digest.hex(),
        "public_key": to_key_text(keys[record.key_id].public_key),
        "author": record.author,
        "made_at": format_time(record.made_at),
    }
