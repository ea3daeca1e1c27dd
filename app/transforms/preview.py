"""What a draft would have made of kept calls, beside what is live. Reads only, and holds a few samples at a time.

Both sides are whole sets of transforms, the draft's with the draft in the place of its name: what it takes away from
others is seen, too.
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
from app.store.calls import to_detail
from app.store.engine import Database
from app.store.kept import KeptCall, read_kept
from app.store.review import CallFilters, list_call_ids

BATCH = 500

KINDS_MAX = 50
"""Kinds of change, or of failure, of which a sample is kept; the others are counted together."""

PATHS_MAX = 200
"""Paths below properties whose nulls are counted."""

DEPTH_MAX = 8
OTHERS = "others"


class Sample(msgspec.Struct, kw_only=True):
    """How many calls are of one kind, and one of them."""

    kind: str
    count: int
    call_id: str
    detail: str | None = None
    """The sentence that this call gets."""
    before: Any = None
    """What stands there by what is live; of a call that made no event, nothing."""
    after: Any = None


class NullRate(msgspec.Struct, kw_only=True):
    """How often a path is null or missing in the events of a side; None where that side made none."""

    path: str
    active: float | None
    draft: float | None


class Report(msgspec.Struct, kw_only=True):
    """What `preview` says."""

    transform: str
    active_digest: str | None
    """None: nothing is live under that name."""
    draft_digest: str
    calls: int
    """Calls that were read."""
    concerned: int
    """Those that the draft takes, or the live version of it."""
    removed: int
    """Calls whose bytes are gone."""
    same: int
    changed: int
    changes: list[Sample]
    """By path: a call counts for each path at which its events differ."""
    newly_failing: list[Sample]
    newly_mapped: list[Sample]
    no_longer_mapped: list[Sample]
    otherwise: list[Sample]
    """Made no event and make none, for another reason."""
    null_rates: list[NullRate]


class _Samples:
    """Counts by kind, with the first of each."""

    def __init__(self) -> None:
        self._by_kind: dict[str, Sample] = {}

    def add(self, kind: str, call_id: int, detail: str | None = None, before: Any = None, after: Any = None) -> None:
        if kind not in self._by_kind and len(self._by_kind) >= KINDS_MAX:
            kind = OTHERS
        found = self._by_kind.get(kind)
        if found is None:
            found = Sample(
                kind=kind, count=0, call_id=str(call_id), detail=to_detail(detail), before=before, after=after
            )
            self._by_kind[kind] = found
        found.count += 1

    def sorted(self) -> list[Sample]:
        """Return the most frequent first."""
        return sorted(self._by_kind.values(), key=lambda one: (-one.count, one.kind))


@dataclass(slots=True)
class _Nulls:
    """Of one side: events, and how often each path holds something."""

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


def read_draft(name: str, text: str, catalog: Catalog, *, keep: bool = True) -> tuple[Transform, TransformSet]:
    """Return a draft, and the set that would be active with it. Raises TransformInvalid.

    `keep`: the catalog remembers what was read, which is of no use for a text that is still being written.
    """
    live = {one.name: one for one in catalog.active.transforms}
    default = live.get(DEFAULT)
    if name != DEFAULT and default is None:
        raise TransformInvalid(f"no {DEFAULT} is live, which {name} inherits from")
    draft = catalog.parse(name, text, None if name == DEFAULT else default, keep=keep)
    if name != DEFAULT:
        return draft, TransformSet([*(one for one in live.values() if one.name != name), draft])
    heirs = [catalog.parse(one.name, one.text, draft, keep=keep) for one in live.values() if one.name != DEFAULT]
    return draft, TransformSet([draft, *heirs])


class Preview:
    """Compares a draft with what is live."""

    def __init__(self, active: TransformSet, draft: Transform, with_draft: TransformSet) -> None:
        self._active = active
        self._draft = draft
        self._with_draft = with_draft
        self._calls = self._concerned = self._removed = self._same = self._changed = 0
        self._changes, self._failing, self._mapped = _Samples(), _Samples(), _Samples()
        self._unmapped, self._otherwise = _Samples(), _Samples()
        self._nulls = {"active": _Nulls(), "draft": _Nulls()}

    def look(self, row: KeptCall) -> None:
        """Run one call by both sides."""
        self._calls += 1
        if row.raw is None:
            self._removed += 1
            return
        document = row.read()
        draft = run(row.raw, document, self._with_draft, row.received_at)
        if draft.call is None:
            return
        taken = {one.name for set_ in (self._with_draft, self._active) for one in set_.choose(draft.call).all}
        if self._draft.name not in taken and self._draft.name != DEFAULT:
            return
        self._concerned += 1
        active = run(row.raw, document, self._active, row.received_at)
        self._compare(row.id, active, draft)
        for side, done in (("active", active), ("draft", draft)):
            for lane in done.lanes:
                if self._counts(lane, draft if side == "active" else active):
                    for event in lane.events:
                        self._nulls[side].add(event)

    def _counts(self, lane: Lane, other: Run) -> bool:
        """Whether a lane is the draft's, or stands where the other side's of that name does."""
        if self._draft.name in {lane.transform, DEFAULT}:
            return True
        return any(one.name == lane.name and one.transform == self._draft.name for one in other.lanes)

    def _compare(self, call_id: int, active: Run, draft: Run) -> None:
        if active.outcome is None and draft.outcome is None:
            changes = list(differences(active.lanes, draft.lanes))
            self._changed += bool(changes)
            self._same += not changes
            for path, before, after in changes:
                self._changes.add(path, call_id, None, before, after)
        elif draft.outcome is None:
            self._mapped.add(_ended(active), call_id, None, None, _to_documents(draft.lanes))
        elif draft.outcome is Outcome.REJECTED and active.outcome is not Outcome.REJECTED:
            self._failing.add(_ended(draft), call_id, draft.detail, _to_documents(active.lanes) or None)
        elif active.outcome is None:
            self._unmapped.add(_ended(draft), call_id, draft.detail, _to_documents(active.lanes))
        elif (active.outcome, active.reason, active.detail) == (draft.outcome, draft.reason, draft.detail):
            self._same += 1
        else:
            self._otherwise.add(f"{_ended(active)} > {_ended(draft)}", call_id, draft.detail)

    def report(self) -> Report:
        """Return what was found."""
        active, draft = self._nulls["active"], self._nulls["draft"]
        live = next((one for one in self._active.transforms if one.name == self._draft.name), None)
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
    """Give the newest calls in batches, newest first; all of them where `limit` is None."""
    before: int | None = None
    left = limit
    while left is None or left > 0:
        with database.reading() as conn:
            ids = list_call_ids(conn, filters, before=before, limit=BATCH if left is None else min(BATCH, left))
        if not ids:
            return
        rest = sorted(ids)
        while rest:
            # Fewer than asked for, where their bytes are too many to be held at once.
            with database.reading() as conn:
                rows = read_kept(conn, rest)
            if not rows:
                break
            yield rows
            rest = rest[len(rows) :]
        before = ids[-1]
        left = None if left is None else left - len(ids)


def preview(
    database: Database, compared: Preview, filters: CallFilters, limit: int | None, advance: Callable[[int], None]
) -> Report:
    """Look at the newest calls; `advance` is told of the calls of each batch."""
    for rows in read_newest(database, filters, limit):
        for row in rows:
            compared.look(row)
        advance(len(rows))
    return compared.report()


def _ended(done: Run) -> str:
    return f"{done.outcome} ({done.reason})"


def _to_documents(lanes: tuple[Lane, ...]) -> list[dict[str, Any]]:
    return [to_document(event) for lane in lanes for event in islice(lane.events, 3)]
