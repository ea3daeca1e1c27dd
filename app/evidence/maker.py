"""Makes evidence: reads one snapshot into a ZIP, signs its manifest, and records the digest."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import IO

from app.core.csv_text import to_file_name
from app.core.json_text import encode
from app.core.times import format_time
from app.errors import BadQuery, Unavailable
from app.evidence.archive import ArchiveWriter
from app.evidence.hooks import EvidenceHooks, Subject
from app.evidence.manifest import ADJUSTMENTS, CALLS, MANIFEST, SIGNATURE, Manifest, write_manifest
from app.evidence.signature import sign
from app.evidence.sql_calls import read_calls_not_counted
from app.evidence.sql_evidence import EvidenceRecord, append_record, ensure_key, read_private_key
from app.store.engine import Connection, Database, DuplicateKey
from app.store.ids import Ids
from app.store.query import check_texts, parse_zone

_CUSTOMER_MAX = 255
_TRIES = 10


class EvidenceMaker:
    """Makes evidence files of one database."""

    def __init__(self, database: Database, ids: Ids, clock: Callable[[], int], hooks: EvidenceHooks) -> None:
        self._database = database
        self._ids = ids
        self._clock = clock
        self._hooks = hooks

    def make(self, subject: Subject, author: str, file: IO[bytes]) -> EvidenceRecord:
        """Write the evidence of a number into an empty file that can seek, and record it.

        Raises:
            NotFound: there is no such metric or version.
            BadQuery: there is no such month or zone, or the month has not begun.
            Unavailable: the database cannot be read or written, or the disk is full.

        """
        with self._database.writing() as conn:
            key_id = ensure_key(conn, self._clock())
        now = self._clock()
        try:
            with self._database.reading() as conn, contextlib.closing(ArchiveWriter(file)) as archive:
                manifest = self._write(conn, subject, now, archive)
                archive.add(SIGNATURE, [sign(read_private_key(conn, key_id), manifest)])
        except OSError as error:
            raise Unavailable(f"the evidence file cannot be written: {error.strerror}") from error
        return self._record(subject, author, hashlib.sha256(manifest).digest(), key_id, now)

    def _record(self, subject: Subject, author: str, digest: bytes, key_id: int, now: int) -> EvidenceRecord:
        for _ in range(_TRIES):
            record = EvidenceRecord(
                id=self._ids.next(now),
                metric=subject.metric,
                customer_id=subject.customer_id,
                month=subject.month,
                tz=subject.tz,
                manifest_digest=digest,
                key_id=key_id,
                author=author,
                made_at=now,
            )
            try:
                with self._database.writing() as conn:
                    append_record(conn, record)
            except DuplicateKey:
                # Another process has our tag, and made an id in the same microsecond.
                self._ids.renew()
            else:
                return record
        raise Unavailable("the evidence could not be recorded: its ids are taken; try again")

    def _write(self, conn: Connection, subject: Subject, now: int, archive: ArchiveWriter) -> bytes:
        """Write all files but the signature; return the bytes of the manifest."""
        number = self._hooks.read_number(conn, subject, now)
        for name, pieces in number.read():
            archive.add(name, _encoded(pieces))
        period, zone = (number.start, number.end), parse_zone(subject.tz)
        not_counted = read_calls_not_counted(conn, subject.customer_id, number.event_name, period, zone)
        archive.add(CALLS, _encoded(not_counted))
        archive.add(ADJUSTMENTS, [encode(self._hooks.list_adjustments(conn, subject))])
        manifest = write_manifest(
            Manifest(
                program=program_version(),
                metric=subject.metric,
                version=number.version,
                customer_id=subject.customer_id,
                month=subject.month,
                tz=subject.tz,
                start=format_time(number.start),
                end=format_time(number.end),
                moment=format_time(now),
                files=dict(archive.digests),
            )
        )
        archive.add(MANIFEST, [manifest])
        return manifest


def check_subject(subject: Subject) -> Subject:
    """Return a subject whose texts can be searched for. Raises BadQuery."""
    check_texts({"metric": subject.metric, "customer_id": subject.customer_id, "version": subject.version or ""})
    if not 0 < len(subject.customer_id) <= _CUSTOMER_MAX:
        raise BadQuery(f"customer_id must be the id of a customer, up to {_CUSTOMER_MAX} characters")
    return subject


def to_evidence_name(subject: Subject) -> str:
    """Return the file name: the metric, the customer, the month, the zone."""
    return to_file_name("evidence", subject.metric, subject.customer_id, subject.month, subject.tz, suffix=".zip")


def program_version() -> str:
    """Return the version of this program."""
    try:
        return metadata.version("segment-lotus")
    except metadata.PackageNotFoundError:
        return "a checkout"


def _encoded(pieces: Iterator[str]) -> Iterator[bytes]:
    return (piece.encode() for piece in pieces)
