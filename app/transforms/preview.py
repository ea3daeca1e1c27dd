"""Compares what a draft and the live versions make of stored calls. Reads only, and holds few samples in memory.

Both sides are whole sets of transforms; in the draft's, the draft replaces the live version of its name. So the report
also shows calls that the draft takes from other transforms.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec

from app.catalog.live import Catalog
from app.core.json_text import decode
from app.core.lotus import LotusEvent
from app.core.outcome import Outcome
from app.core.pipeline import Lane, Run, run
from app.core.transform.differences import differences
from app.core.transform.examples import to_document
from app.core.transform.transform import DEFAULT, Transform, TransformSet
from app.errors import TransformInvalid
from app.store.engine import Database
from app.store.kept import KeptCall, read_kept
from app.store.record import to_detail
from app.store.review import CallFilters, list_call_ids

BATCH = 500

KINDS_MAX = 50
"""Kinds of change, or of failure, with a sample each; further kinds are counted together."""

PATHS_MAX = 200
"""Paths below properties whose nulls are counted."""

DEPTH_MAX = 8
OTHERS = "others"


class Sample(msgspec.Struct, kw_only=True):
    """The number of calls of one kind, and one of them."""

    kind: str
    count: int
    call_id: str
    detail: str | None = None
    """The detail of this call's outcome."""
    before: Any = None
    """The value made by the live versions; None for a call that made no event."""
    after: Any = None


class NullRate(msgspec.Struct, kw_only=True):
    """How often a path is null or missing in the events of a side; None if that side made no events."""

    path: str
    active: float | None
    draft: float | None


class Report(msgspec.Struct, kw_only=True):
    """The result of comparing a draft with the live versions."""

    transform: str
    active_digest: str | None
    """None: nothing is live under that name."""
    draft_digest: str
    calls: int
    """Calls that were read."""
    concerned: int
    """Calls that the draft takes, or its live version does."""
    removed: int
    """Calls whose bytes were removed by retention."""
    same: int
    changed: int
    changes: list[Sample]
    """By path; a call counts once for each path at which its events differ."""
    newly_failing: list[Sample]
    newly_mapped: list[Sample]
    no_longer_mapped: list[Sample]
    otherwise: list[Sample]
    """Calls that make no event on either side, for different reasons."""
    null_rates: list[NullRate]


class _Samples:
    """Counts calls by kind, and keeps the first of each."""

    def __init__(self) -> None:
        self._by_kind: dict[str, Sample] = {}

    def add(self, kind: str, call_id: int, detail: str | None = None, before: Any = None, after: Any = None) -> None:
        if kind not in self._by_kind and len(self._by_kind) >= KINDS_MAX:
            kind = OTHERS
        sample = self._by_kind.get(kind)
        if sample is None:
            sample = Sample(
                kind=kind,
                count=0,
                call_id=str(call_id),
                detail=to_detail(detail) if detail is not None else None,
                before=before,
                after=after,
            )
            self._by_kind[kind] = sample
        sample.count += 1

    def sorted(self) -> list[Sample]:
        """Return the most frequent first."""
        return sorted(self._by_kind.values(), key=lambda sample: (-sample.count, sample.kind))


@dataclass(slots=True)
class _Nulls:
    """The events of one side, and how often each path below their properties is not null."""

    events: int = 0
    filled: Counter[str] = field(default_factory=Counter)
    paths: set[str] = field(default_factory=set)

    def add(self, event: LotusEvent) -> None:
        self.events += 1
        self._walk("properties", decode(event.properties.encode()), 0)

    def _walk(self, path: str, value: dict[str, Any], depth: int) -> None:
        for key, inner in value.items():
            where = f"{path}.{key}"
            if isinstance(inner, dict) and inner and depth < DEPTH_MAX:
                self._walk(where, inner, depth + 1)
            elif where in self.paths or len(self.paths) < PATHS_MAX:
                self.paths.add(where)
                self.filled[where] += inner is not None

    def rate(self, path: str) -> float | None:
        return round(1 - self.filled[path] / self.events, 4) if self.events else None


def read_draft(name: str, text: str, catalog: Catalog, *, cache: bool = True) -> tuple[Transform, TransformSet]:
    """Return a draft, and the set that would be active with it. Raises TransformInvalid.

    `cache`: the catalog remembers what it parsed, which is of no use for a text that is still being edited.
    """
    active = catalog.active.transforms
    default = next((transform for transform in active if transform.name == DEFAULT), None)
    if name != DEFAULT and default is None:
        raise TransformInvalid(f"{DEFAULT}, which {name} inherits from, is not live")
    draft = catalog.parse(name, text, None if name == DEFAULT else default, cache=cache)
    unchanged = [transform for transform in active if transform.name != name]
    if name == DEFAULT:
        unchanged = [catalog.parse(each.name, each.text, draft, cache=cache) for each in unchanged]
    return draft, TransformSet([*unchanged, draft])


class Preview:
    """Compares a draft with the live versions, call by call."""

    def __init__(self, active: TransformSet, draft: Transform, with_draft: TransformSet) -> None:
        self._active = active
        self._draft = draft
        self._with_draft = with_draft
        self._calls = self._concerned = self._removed = self._same = self._changed = 0
        self._changes, self._failing, self._mapped = _Samples(), _Samples(), _Samples()
        self._unmapped, self._otherwise = _Samples(), _Samples()
        self._nulls = {"active": _Nulls(), "draft": _Nulls()}

    def compare(self, row: KeptCall) -> None:
        """Map one call by both sides, and count the difference."""
        self._calls += 1
        if row.raw is None:
            self._removed += 1
            return
        document = row.read()
        draft = run(row.raw, document, self._with_draft, row.received_at)
        if draft.call is None:
            return
        sides = (self._with_draft, self._active)
        takers = {transform.name for side in sides for transform in side.choose(draft.call).all}
        if self._draft.name not in takers and self._draft.name != DEFAULT:
            return
        self._concerned += 1
        active = run(row.raw, document, self._active, row.received_at)
        self._compare(row.id, active, draft)
        for side, result in (("active", active), ("draft", draft)):
            for lane in result.lanes:
                if self._counts(lane, draft if side == "active" else active):
                    for event in lane.events:
                        self._nulls[side].add(event)

    def _counts(self, lane: Lane, other: Run) -> bool:
        """Tell whether the draft's name made this lane, or the lane of the same name on the other side."""
        if self._draft.name in {lane.transform, DEFAULT}:
            return True
        return any(row.name == lane.name and row.transform == self._draft.name for row in other.lanes)

    def _compare(self, call_id: int, active: Run, draft: Run) -> None:
        if active.outcome is None and draft.outcome is None:
            changes = list(differences(active.lanes, draft.lanes))
            self._changed += bool(changes)
            self._same += not changes
            for path, before, after in changes:
                self._changes.add(path, call_id, None, before, after)
        elif draft.outcome is None:
            self._mapped.add(_outcome_text(active), call_id, None, None, _to_documents(draft.lanes))
        elif draft.outcome is Outcome.REJECTED and active.outcome is not Outcome.REJECTED:
            self._failing.add(_outcome_text(draft), call_id, draft.detail, _to_documents(active.lanes) or None)
        elif active.outcome is None:
            self._unmapped.add(_outcome_text(draft), call_id, draft.detail, _to_documents(active.lanes))
        elif (active.outcome, active.reason, active.detail) == (draft.outcome, draft.reason, draft.detail):
            self._same += 1
        else:
            self._otherwise.add(f"{_outcome_text(active)} > {_outcome_text(draft)}", call_id, draft.detail)

    def report(self) -> Report:
        """Return the report on all calls compared so far."""
        active, draft = self._nulls["active"], self._nulls["draft"]
        live = next((each for each in self._active.transforms if each.name == self._draft.name), None)
        return Report(
            transform=self._draft.name,
            active_digest=live.digest.hex() if live else None,
            draft_digest=self._draft.digest.hex(),
            calls=self._calls,
            concerned=self._concerned,
            removed=self._removed,
            same=self._same,
            changed=self._changed,
            changes=self._changes.sorted(),
            newly_failing=self._failing.sorted(),
            newly_mapped=self._mapped.sorted(),
            no_longer_mapped=self._unmapped.sorted(),
            otherwise=self._otherwise.sorted(),
            null_rates=[
                NullRate(path=path, active=active.rate(path), draft=draft.rate(path))
                for path in sorted(active.paths | draft.paths)
            ],
        )


def read_newest(database: Database, filters: CallFilters, limit: int | None) -> Iterator[list[KeptCall]]:
    """Yield the newest calls in batches, newest batch first; all of them where `limit` is None."""
    before: int | None = None
    left = limit
    while left is None or left > 0:
        with database.reading() as conn:
            ids = list_call_ids(conn, filters, before=before, limit=BATCH if left is None else min(BATCH, left))
        if not ids:
            return
        unread = sorted(ids)
        while unread:
            # Returns fewer rows than ids where their bytes are too many to be held at once.
            with database.reading() as conn:
                rows = read_kept(conn, unread)
            if not rows:
                break
            yield rows
            unread = unread[len(rows) :]
        before = ids[-1]
        left = None if left is None else left - len(ids)


def compare_newest(
    database: Database, comparison: Preview, filters: CallFilters, limit: int | None, advance: Callable[[int], None]
) -> Report:
    """Compare the newest calls, all of them where `limit` is None; `advance` gets the number of calls of each batch."""
    for rows in read_newest(database, filters, limit):
        for row in rows:
            comparison.compare(row)
        advance(len(rows))
    return comparison.report()


def _outcome_text(result: Run) -> str:
    return f"{result.outcome} ({result.reason})"


def _to_documents(lanes: tuple[Lane, ...]) -> list[dict[str, Any]]:
    return [to_document(event) for lane in lanes for event in islice(lane.events, 3)]
