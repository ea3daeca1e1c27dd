"""Checks an evidence file without the service and its database: signature, digests, and the number itself."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from app.evidence.hooks import Recount
from app.evidence.manifest import FORMAT, MANIFEST, SIGNATURE, Manifest, read_manifest
from app.evidence.reader import EvidenceArchive, EvidenceBroken, open_evidence
from app.evidence.signature import check_signature

PROBLEMS_MAX = 20
"""The most problems that are named."""


class Verification(msgspec.Struct, kw_only=True):
    """What was found out about a file."""

    manifest: Manifest | None = None
    """None if it could not be read."""
    manifest_digest: str = ""
    """SHA-256, in hexadecimal digits."""
    problems: list[str]
    """What is wrong, as sentences; of many the first."""


def verify_evidence(path: Path, public_key: bytes | None, recount: Recount) -> Verification:
    """Check a file; without a key its signature is not checked, and the rest is."""
    result = Verification(problems=[])
    try:
        with open_evidence(path) as archive:
            for problem in _check(archive, public_key, recount, result):
                result.problems.append(problem)
                if len(result.problems) == PROBLEMS_MAX:
                    result.problems.append("there may be more: these are the first")
                    break
    except EvidenceBroken as error:
        result.problems.append(str(error))
    return result


def _check(archive: EvidenceArchive, public_key: bytes | None, recount: Recount, result: Verification) -> Iterator[str]:
    raw = archive.read_small(MANIFEST)
    signature = archive.read_small(SIGNATURE)
    result.manifest_digest = hashlib.sha256(raw).hexdigest()
    problem = check_signature(public_key, raw, signature) if public_key is not None else None
    if problem is not None:
        yield problem
    try:
        result.manifest = manifest = read_manifest(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        yield f"{MANIFEST} cannot be read"
        return
    if manifest.format != FORMAT:
        yield f"it is of the format {manifest.format[:40]!a}, and this program reads {FORMAT!a}"
        return
    yield from archive.check_digests(manifest.files)
    yield from recount(manifest, archive.open_lines)
