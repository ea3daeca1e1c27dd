"""Work on unchecked texts: preview, comparison, publishing.

A draft may be slow or large, however good its author is. So all of this runs in the sandbox, a separate process, and
never in the process that receives calls. The results are JSON, ready to be sent.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from app.catalog.actions import CatalogActions
from app.catalog.files import to_path
from app.catalog.live import Catalog, Live
from app.catalog.publish import Clock, NextId
from app.core.json_text import encode
from app.core.outcome import Outcome
from app.core.pipeline import Run, explain, run
from app.core.segment import read
from app.core.transform.differences import differences
from app.core.transform.examples import to_document
from app.errors import NotFound, TransformInvalid
from app.store.engine import Connection, Database
from app.store.kept import read_kept
from app.store.publications import find_latest_id
from app.transforms.checked_draft import CheckedDraft
from app.transforms.preview import Preview, read_draft
from app.transforms.sql_drafts import DraftConflict, discard_draft, find_draft
from app.transforms.traffic import list_ids_matched
from app.transforms.trial import TRIED_CALLS, try_on_calls

IMPACT_CALLS = 1000
_IMPACT_BATCH = 200
_DIFFERENCES_MAX = 500
_ID_DIGITS = 18


class PreviewRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A draft, and the call to try it on: `call` as text, or a stored one by its id; without either, none."""

    text: str
    call: str | None = None
    call_id: str | None = None


class ImpactRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A draft, and the number of newest calls to compare it on."""

    text: str
    last: int = IMPACT_CALLS


class PublishRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A text to publish; `live` is the version that its author saw as live.

    `revision` is that of the draft with this text. That draft is discarded afterwards, as is any draft with this text.
    """

    text: str
    live: str | None
    revision: int = 0


class RollbackRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A version to roll back to."""

    version: str


class UnpublishRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The version to unpublish, which its author saw as live."""

    live: str


class ResolveRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which side is right if a file differs from the live version."""

    take: Literal["file", "live"]


class DraftWorkbench:
    """Works on texts, with a database and a catalog of its own."""

    def __init__(self, database: Database, catalog: Catalog, folder: Path, next_id: NextId, clock: Clock) -> None:
        self._database = database
        self._catalog = catalog
        self._folder = folder
        self._clock = clock
        self._actions = CatalogActions(database, catalog, folder, next_id, clock)
        self._live: Live | None = None
        self._last_draft: tuple[tuple[str, str], CheckedDraft] | None = None

    def warm(self) -> None:
        """Read the live versions, so that the first job need not wait for them. Raises Unavailable."""
        with self._database.reading() as conn:
            self._read_live(conn)

    def preview(self, name: str, request: PreviewRequest) -> bytes:
        """Try a draft on one call, beside the live version. Raises NotFound if there is no such stored call."""
        began = time.perf_counter()
        to_path(self._folder, name)
        with self._database.reading() as conn:
            live = self._read_live(conn)
            call = self._find_call(conn, request)
        checked = self._check(name, request.text, live)
        active = draft = None
        changes: list[dict[str, Any]] = []
        if call is not None:
            raw, document, received_at = call
            active = run(raw, document, self._catalog.active, received_at)
            if checked.with_draft is not None:
                draft = run(raw, document, checked.with_draft, received_at)
                pairs = differences(active.lanes, draft.lanes)
                changes = [
                    {"path": path, "before": before, "after": after}
                    for (path, before, after), _ in zip(pairs, range(_DIFFERENCES_MAX), strict=False)
                ]
        return encode(
            {
                "problems": checked.problems,
                "draft": _to_run_document(draft) if draft else None,
                "active": _to_run_document(active) if active else None,
                "differences": changes,
                "examples": checked.examples,
                "took_ms": round((time.perf_counter() - began) * 1000, 1),
            }
        )

    def impact(self, name: str, request: ImpactRequest) -> bytes:
        """Compare a draft with the live versions, on the newest calls that either takes. Raises TransformInvalid."""
        to_path(self._folder, name)
        with self._database.reading() as conn:
            live = self._read_live(conn)
            draft, with_draft = read_draft(name, request.text, self._catalog, cache=False)
            ids = set(list_ids_matched(conn, draft.match, request.last))
            before = live.transforms.get(name)
            if before is not None:
                ids.update(list_ids_matched(conn, before.match, request.last))
        comparison = Preview(self._catalog.active, draft, with_draft)
        unread = sorted(ids)[-request.last :]
        while unread:
            with self._database.reading() as conn:
                rows = read_kept(conn, unread[:_IMPACT_BATCH])
            if not rows:
                break
            for row in rows:
                comparison.compare(row)
            unread = unread[len(rows) :]
        return encode(comparison.report())

    def publish(self, name: str, request: PublishRequest) -> bytes:
        """Make a text live. Raises EditConflict, TransformInvalid."""
        expected = _to_digest(request.live) if request.live is not None else None
        self._try_on_calls(name, request.text)
        change = self._actions.publish_text(name, request.text, expected)
        is_discarded = self._discard_draft(name, request.text, request.revision)
        return encode(
            {
                "version": change.digest.hex() if change.digest else None,
                "inheriting": change.inheriting,
                # Its former name.
                "heirs": change.inheriting,
                "draft_kept": not is_discarded,
            }
        )

    def rollback(self, name: str, request: RollbackRequest) -> bytes:
        """Make an earlier version live. Raises NotFound, TransformInvalid."""
        to_path(self._folder, name)
        with self._database.reading() as conn:
            text = self._actions.find_version(conn, name, request.version).text
        self._try_on_calls(name, text)
        return self._version_json(self._actions.roll_back(name, request.version).digest)

    def unpublish(self, name: str, request: UnpublishRequest) -> bytes:
        """Take the live version out of use. Raises NotFound, EditConflict, TransformInvalid."""
        return self._version_json(self._actions.unpublish(name, _to_digest(request.live)).digest)

    def resolve(self, name: str, request: ResolveRequest) -> bytes:
        """Publish the file, or write the live text into it. Raises NotFound, TransformInvalid."""
        path = to_path(self._folder, name)
        if request.take == "file":
            if not path.exists():
                # Publishing a file that is gone would unpublish the transform, which nobody intends by a click.
                raise NotFound(
                    f"there is no {path.name}; to unpublish {name}: segment-lotus transforms unpublish {name}"
                )
            return self._version_json(self._actions.publish(name).digest)
        try:
            return self._version_json(self._actions.pull(name).digest)
        except OSError as error:
            raise TransformInvalid(f"{path} cannot be written: {error.strerror}") from error

    def _try_on_calls(self, name: str, text: str) -> None:
        """Map the newest calls that a text takes. Raises TransformInvalid if one takes too long."""
        to_path(self._folder, name)
        with self._database.reading() as conn:
            self._read_live(conn)
            draft, with_draft = read_draft(name, text, self._catalog, cache=False)
            rows = read_kept(conn, list_ids_matched(conn, draft.match, TRIED_CALLS))
        try_on_calls(name, with_draft, rows)

    def _version_json(self, digest: bytes | None) -> bytes:
        return encode({"version": digest.hex() if digest else None})

    def _read_live(self, conn: Connection) -> Live:
        if self._live is None or find_latest_id(conn) != self._live.latest:
            self._live = self._catalog.read_live(conn)
            self._catalog.activate(self._live)
            self._last_draft = None
        return self._live

    def _find_call(self, conn: Connection, request: PreviewRequest) -> tuple[bytes, Any, int] | None:
        if request.call is not None:
            raw = request.call.encode()
            return raw, read(raw), self._clock()
        if request.call_id is None:
            return None
        number = request.call_id
        rows = (
            read_kept(conn, [int(number)])
            if number.isascii() and number.isdecimal() and len(number) <= _ID_DIGITS
            else []
        )
        if not rows:
            raise NotFound(f"there is no call {number[:40]!r}")
        if rows[0].raw is None:
            raise NotFound(f"the bytes of call {number} were removed by retention; choose a newer one")
        return rows[0].raw, rows[0].read(), rows[0].received_at

    def _check(self, name: str, text: str, live: Live) -> CheckedDraft:
        """Check a draft and run its examples; the last result is cached, so that another call costs little."""
        if self._last_draft is None or self._last_draft[0] != (name, text):
            self._last_draft = ((name, text), CheckedDraft(name, text, self._catalog, live))
        return self._last_draft[1]

    def _discard_draft(self, name: str, text: str, revision: int) -> bool:
        """Discard the draft that was published. Returns False if a newer one was saved meanwhile, which is kept."""
        try:
            with self._database.writing() as conn:
                draft = find_draft(conn, name)
                if draft is not None:
                    discard_draft(conn, name, draft.revision if draft.text == text else revision, self._clock())
        except DraftConflict:
            return False
        return True


def _to_digest(version: str) -> bytes:
    try:
        return bytes.fromhex(version)
    except ValueError:
        raise NotFound(f"{version!r} is not a version") from None


def _to_run_document(result: Run) -> dict[str, Any]:
    return {
        # Only the database knows whether it is new; if it is, it would be stored.
        "outcome": result.outcome or Outcome.STORED,
        "reason": result.reason,
        "detail": result.detail,
        "steps": [msgspec.to_builtins(step) for step in explain(result)],
        "events": list(_events(result)),
    }


def _events(result: Run) -> Iterator[dict[str, Any]]:
    for lane in result.lanes:
        for event in lane.events:
            yield {**to_document(event), "lane": lane.name}
