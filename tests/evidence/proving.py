"""What the tests of evidence share: a maker, files that were changed afterwards, and how they are checked."""

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.core.times import parse_time
from app.evidence.hooks import Subject
from app.evidence.maker import EvidenceMaker
from app.evidence.signature import make_private_key, sign
from app.evidence.sql_evidence import EvidenceRecord, list_keys
from app.evidence.verification import Verification, verify_evidence
from app.metrics.recount import recount
from app.service.build import evidence_hooks
from app.store.engine import Database
from tests.builders import IDS

MOMENT = parse_time("2026-12-05T10:00:00Z")
Files = dict[str, bytes]


def make(database: Database, file: Path, *, now: int = MOMENT, **members: Any) -> EvidenceRecord:
    """Make evidence of `a_metric`, ann and October 2026."""
    subject = Subject(**{"metric": "a_metric", "customer_id": "ann", "month": "2026-10", "tz": "UTC", **members})
    with file.open("wb") as written:
        maker = EvidenceMaker(database, IDS, lambda: now, evidence_hooks())
        return maker.make(subject, "ann's accountant", written)


def public_key(database: Database) -> bytes:
    """Return the key that signs."""
    with database.reading() as conn:
        return list_keys(conn)[0].public_key


def problems(file: Path, key: bytes | None = None) -> list[str]:
    """Return what is wrong with a file."""
    return check(file, key).problems


def check(file: Path, key: bytes | None = None) -> Verification:
    """Check a file, without its signature if there is no key."""
    return verify_evidence(file, key, recount)


def unpack(file: Path) -> Files:
    """Return the files in a ZIP by name."""
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(files: Mapping[str, bytes], file: Path) -> Path:
    """Write a ZIP."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in files.items():
            archive.writestr(name, raw)
    return file


def with_digests(files: Files) -> Files:
    """Return files with a manifest that was made anew, as a forger would; its signature is the old one."""
    manifest = json.loads(files["manifest.json"])
    for name in manifest["files"]:
        manifest["files"][name] = {"sha256": hashlib.sha256(files[name]).hexdigest(), "bytes": len(files[name])}
    return {**files, "manifest.json": json.dumps(manifest).encode()}


def signed_by_another(files: Files) -> Files:
    """Return files whose manifest somebody signed with a key of their own."""
    return {**files, "signature.json": sign(make_private_key(), files["manifest.json"])}


def read_rows(raw: bytes) -> list[dict[str, str]]:
    """Return the rows of a CSV file, as any other program reads them."""
    return list(csv.DictReader(io.StringIO(raw.decode(), newline="")))


def with_cell(raw: bytes, line: int, column: str, change: Callable[[str], str]) -> bytes:
    """Return a CSV file with one cell changed."""
    rows = list(csv.reader(io.StringIO(raw.decode(), newline="")))
    at = rows[0].index(column)
    rows[line][at] = change(rows[line][at])
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
