"""What is done with texts that nobody has checked yet: trying them, comparing them, publishing them.

A draft may be slow or large, however good its author is. So all of this runs in the sandbox, a process of its own,
and never where calls come in. What it returns is JSON, ready to be sent.
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
from app.catalog.status import breaks_inheriting
from app.core.json_text import encode
from app.core.outcome import Outcome
from app.core.pipeline import Run, explain, run
from app.core.segment import read
from app.core.transform.differences import differences
from app.core.transform.examples import run_examples, to_call, to_document
from app.core.transform.lint import lint, list_publishing_errors
from app.core.transform.transform import DEFAULT, Transform, TransformSet
from app.errors import DocumentInvalid, NotFound, TransformInvalid
from app.store.engine import Connection, Database
from app.store.kept import read_kept
from app.store.publications import find_latest_id
from app.transforms.preview import Preview, read_draft
from app.transforms.sql_drafts import DraftMoved, discard_draft, find_draft
from app.transforms.traffic import list_ids_matched
from app.transforms.trial import TRIED_CALLS, try_on_calls

IMPACT_CALLS = 1000
_IMPACT_AT_ONCE = 200
_DIFFERENCES_MAX = 500
_ID_DIGITS = 18


class TryText(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A draft, and the call to try it on: `call` as text, or a kept one by its id; neither: none."""

    text: str
    call: str | None = None
    call_id: str | None = None


class CompareText(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A draft, and how many of the newest calls to look at."""

    text: str
    last: int = IMPACT_CALLS


class PublishText(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A text to publish; `live` is the version that its author takes for the live one.

    `revision` is that of the draft which it is: that draft is discarded then. A draft with the same text is, too.
    """

    text: str
    live: str | None
    revision: int = 0


class RollBack(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A version to go back to."""

    version: str


class Resolve(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which side is right where a file is not what is live."""

    take: Literal["file", "live"]


class ProblemDocument(msgspec.Struct, kw_only=True):
    """What is wrong with a text, and where: line and column from 1."""

    line: int
    column: int
    message: str
    grave: bool


class DraftWorkbench:
    """Works on texts, with a database and a catalog of its own."""

    def __init__(self, database: Database, catalog: Catalog, folder: Path, next_id: NextId, clock: Clock) -> None:
        self._database = database
        self._catalog = catalog
        self._folder = folder
        self._clock = clock
        self._acts = CatalogActions(database, catalog, folder, next_id, clock)
        self._live: Live | None = None
        self._last: tuple[tuple[str, str], _Read] | None = None

    def warm(self) -> None:
        """Read what is live, so that the first who asks need not wait for it. Raises Unavailable."""
        with self._database.reading() as conn:
            self._read_live(conn)

    def preview(self, name: str, asked: TryText) -> bytes:
        """Try a draft on one call, beside what is live. Raises NotFound for a kept call that is not there."""
        began = time.perf_counter()
        to_path(self._folder, name)
        with self._database.reading() as conn:
            live = self._read_live(conn)
            given = self._find_call(conn, asked)
        found = self._read(name, asked.text, live)
        active = draft = None
        changes: list[dict[str, Any]] = []
        if given is not None:
            raw, document, received_at = given
            active = run(raw, document, self._catalog.active, received_at)
            if found.with_draft is not None:
                draft = run(raw, document, found.with_draft, received_at)
                pairs = differences(active.lanes, draft.lanes)
                changes = [
                    {"path": path, "before": before, "after": after}
                    for (path, before, after), _ in zip(pairs, range(_DIFFERENCES_MAX), strict=False)
                ]
        return encode(
            {
                "problems": found.problems,
                "draft": _to_run_document(draft) if draft else None,
                "active": _to_run_document(active) if active else None,
                "differences": changes,
                "examples": found.examples,
                "took_ms": round((time.perf_counter() - began) * 1000, 1),
            }
        )

    def impact(self, name: str, asked: CompareText) -> bytes:
        """Compare a draft with what is live, on the newest calls that either takes. Raises TransformInvalid."""
        to_path(self._folder, name)
        with self._database.reading() as conn:
            live = self._read_live(conn)
            draft, with_draft = read_draft(name, asked.text, self._catalog, keep=False)
            ids = set(list_ids_matched(conn, draft.match, asked.last))
            before = live.transforms.get(name)
            if before is not None:
                ids.update(list_ids_matched(conn, before.match, asked.last))
        compared = Preview(self._catalog.active, draft, with_draft)
        rest = sorted(ids)[-asked.last :]
        while rest:
            with self._database.reading() as conn:
                rows = read_kept(conn, rest[:_IMPACT_AT_ONCE])
            if not rows:
                break
            for row in rows:
                compared.look(row)
            rest = rest[len(rows) :]
        return encode(compared.report())

    def publish(self, name: str, asked: PublishText) -> bytes:
        """Make a text live. Raises EditConflict, TransformInvalid."""
        try:
            seen = bytes.fromhex(asked.live) if asked.live is not None else None
        except ValueError:
            raise NotFound(f"{asked.live!r} is no version") from None
        self._try_on_calls(name, asked.text)
        change = self._acts.publish_text(name, asked.text, seen)
        kept = self._discard(name, asked.text, asked.revision)
        return encode(
            {"version": change.digest.hex() if change.digest else None, "heirs": change.heirs, "draft_kept": kept}
        )

    def rollback(self, name: str, asked: RollBack) -> bytes:
        """Make an earlier version live. Raises NotFound, TransformInvalid."""
        to_path(self._folder, name)
        with self._database.reading() as conn:
            text = self._acts.find_version(conn, name, asked.version).text
        self._try_on_calls(name, text)
        return self._told(self._acts.roll_back(name, asked.version).digest)

    def resolve(self, name: str, asked: Resolve) -> bytes:
        """Publish the file, or write what is live into it. Raises NotFound, TransformInvalid."""
        path = to_path(self._folder, name)
        if asked.take == "file":
            if not path.exists():
                # To publish a file that is gone is to take the transform out: nobody means that by a click.
                raise NotFound(f"there is no {path.name}; `segment-lotus transforms publish {name}` takes {name} out")
            return self._told(self._acts.publish(name).digest)
        try:
            return self._told(self._acts.pull(name).digest)
        except OSError as error:
            raise TransformInvalid(f"{path} cannot be written: {error.strerror}") from error

    def _try_on_calls(self, name: str, text: str) -> None:
        """Map the newest calls that a text takes. Raises TransformInvalid where that cannot be done in time."""
        to_path(self._folder, name)
        with self._database.reading() as conn:
            self._read_live(conn)
            draft, with_draft = read_draft(name, text, self._catalog, keep=False)
            rows = read_kept(conn, list_ids_matched(conn, draft.match, TRIED_CALLS))
        try_on_calls(name, with_draft, rows)

    def _told(self, digest: bytes | None) -> bytes:
        return encode({"version": digest.hex() if digest else None})

    def _read_live(self, conn: Connection) -> Live:
        if self._live is None or find_latest_id(conn) != self._live.latest:
            self._live = self._catalog.read_live(conn)
            self._catalog.activate(self._live)
            self._last = None
        return self._live

    def _find_call(self, conn: Connection, asked: TryText) -> tuple[bytes, Any, int] | None:
        if asked.call is not None:
            raw = asked.call.encode()
            return raw, read(raw), self._clock()
        if asked.call_id is None:
            return None
        number = asked.call_id
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

    def _read(self, name: str, text: str, live: Live) -> "_Read":
        """Read a draft and run its examples; the one before is remembered, so that another call costs little."""
        if self._last is None or self._last[0] != (name, text):
            self._last = ((name, text), _Read(name, text, self._catalog, live))
        return self._last[1]

    def _discard(self, name: str, text: str, revision: int) -> bool:
        """Let the draft go that is live now; one that somebody else saved meanwhile stays, and that is told."""
        try:
            with self._database.writing() as conn:
                found = find_draft(conn, name)
                if found is not None:
                    discard_draft(conn, name, found.revision if found.text == text else revision, self._clock())
        except DraftMoved:
            return True
        return False


class _Read:
    """A draft, read, with what its examples and the checks say."""

    def __init__(self, name: str, text: str, catalog: Catalog, live: Live) -> None:
        self.with_draft: TransformSet | None = None
        self.problems: list[ProblemDocument] = []
        self.examples: list[dict[str, Any]] = []
        try:
            draft, self.with_draft = read_draft(name, text, catalog, keep=False)
        except TransformInvalid as error:
            self.problems.append(_to_problem(error, name, grave=True))
            return
        self.problems += [_to_problem(error, name, grave=True) for error in list_publishing_errors(draft)]
        self._run_examples(draft)
        for finding in lint(self.with_draft):
            if finding.transform == name:
                where = draft.source.invalid(finding.path, finding.sentence)
                self.problems.append(_to_problem(where, name, grave=finding.grave))
        if name == DEFAULT:
            for sentence in breaks_inheriting(catalog, live, draft, set()):
                self.problems.append(_to_problem(TransformInvalid(sentence), name, grave=True))
        self.problems.sort(key=lambda one: (one.line, one.column))

    def _run_examples(self, draft: Transform) -> None:
        given = draft.source.value.get("examples", ())
        for result in run_examples(draft):
            passed = result.difference is None
            call = to_call(given[result.position]["given"], draft)
            self.examples.append({"name": result.name, "passed": passed, "message": result.difference, "call": call})
            if not passed:
                place = ("examples", result.position)
                error = draft.source.invalid(place, f"{result.name}: {result.difference}")
                self.problems.append(_to_problem(error, draft.name, grave=True))


def _to_problem(error: DocumentInvalid, name: str, *, grave: bool) -> ProblemDocument:
    line, column = error.place or (1, 1)
    sentence = error.sentence.removeprefix(f"{name}.yaml: ")
    return ProblemDocument(line=line, column=column, message=sentence, grave=grave)


def _to_run_document(done: Run) -> dict[str, Any]:
    return {
        # Whether it is new only the database knows: it would be stored, where it is.
        "outcome": done.outcome or Outcome.STORED,
        "reason": done.reason,
        "detail": done.detail,
        "steps": [msgspec.to_builtins(step) for step in explain(done)],
        "events": list(_events(done)),
    }


def _events(done: Run) -> Iterator[dict[str, Any]]:
    for lane in done.lanes:
        for event in lane.events:
            yield {**to_document(event), "lane": lane.name}
