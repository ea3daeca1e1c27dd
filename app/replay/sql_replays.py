"""Writes of a replay: new outcomes with their history, corrected events, and its progress. `conn` first."""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import sqlalchemy as sa

from app.core.fault import Fault
from app.core.outcome import Outcome
from app.store.faults import FaultRow, append_faults
from app.store.history import OutcomeChange
from app.store.inserts import Insert, pipelined
from app.store.kept import KeptCall
from app.store.ledger import CALL, EVENT, Entry
from app.store.record import EventResult, to_detail
from app.store.results import results_text, to_event_results
from app.store.schema import calls, claims, events, outcome_changes, replays, voids
from app.store.updates import Stale, Update


class Replay(msgspec.Struct, kw_only=True):
    """One replay and its progress."""

    id: int
    what: str
    """JSON of the request."""
    transforms: bytes
    """Digest of the set of transform versions that it uses."""
    cursor: int
    until_id: int
    total: int
    counts: str
    started_at: int
    finished_at: int | None = None
    progress_at: int | None = None
    """When it last made progress; None: no process runs it."""
    stop_asked_at: int | None = None


class CallChange(msgspec.Struct, gc=False):
    """A call as stored, and its new outcome."""

    row: KeptCall
    outcome: Outcome
    reason: str | None
    detail: str | None
    transform: str | None
    digest: bytes | None
    customer_id: str | None
    """As an indexable key."""
    results: tuple[EventResult, ...]
    fault: Fault | None

    def fault_row(self) -> FaultRow | None:
        """Return what it has in common with calls that fail like it; None if it has its events now."""
        if self.fault is None:
            return None
        return FaultRow(self.outcome, self.reason, self.transform, self.digest, self.fault)

    def differs(self) -> bool:
        """Return whether there is anything to write. A duplicate that stays one never differs."""
        row = self.row
        if row.outcome == self.outcome == Outcome.DUPLICATE:
            return False
        if row.outcome != self.outcome or row.reason != self.reason:
            return True
        detail = to_detail(self.detail) if self.detail is not None else None
        return (detail, results_text(self.results)) != (row.detail, row.results)


class Void(msgspec.Struct, frozen=True):
    """An event that another one replaces."""

    event_id: int
    idempotency_id: str
    replaced_by: str
    at: int
    digest: bytes
    reason: str


_REPLAYS = Insert(replays, Replay.__struct_fields__)
_CHANGES = Insert(outcome_changes, ("call_id", *OutcomeChange.__struct_fields__))
_VOIDS = Insert(voids, ("replay_id", "event_id", "idempotency_id", "replaced_by"))
_CALLS = Update(
    calls,
    new=("outcome", "reason", "detail", "transform", "transform_digest", "customer_id", "results", "fault"),
    known=("id", "outcome", "reason", "transform_digest", "results"),
)
_EVENTS_VOID = Update(events, new=("voided_at", "voided_by", "void_reason"), known=("id", "voided_at"))
_CLAIMS = Update(claims, new=("content", "transform_digest"), known=("message_id", "lane", "call_id"))


def prepare_changes(conn: sa.Connection, replay_id: int, at: int, changes: Sequence[CallChange]) -> Callable[[], None]:
    """Prepare the new outcomes of calls and their history; the returned function writes them, and raises Stale."""
    faults = {change.row.id: fault for change in changes if (fault := change.fault_row()) is not None}
    history = _CHANGES.prepare(
        conn,
        [
            (
                change.row.id,
                replay_id,
                at,
                change.row.outcome,
                change.row.reason,
                change.row.transform_digest,
                change.outcome,
                change.reason,
                change.digest,
            )
            for change in changes
        ],
    )
    update = _CALLS.prepare(
        conn,
        [
            (
                change.outcome,
                change.reason,
                to_detail(change.detail) if change.detail is not None else None,
                change.transform,
                change.digest,
                change.customer_id,
                results_text(change.results) if change.results else None,
                faults[change.row.id].key if change.fault is not None else None,
                change.row.id,
                change.row.outcome,
                change.row.reason,
                change.row.transform_digest,
                change.row.results,
            )
            for change in changes
        ],
    )

    def run() -> None:
        with pipelined(conn):
            history.send()
            changed = update.send()
            append_faults(conn, faults.values())
        if changed.rowcount != len(changes):
            raise Stale

    return run


def count_changes(changes: Sequence[CallChange]) -> Counter[Entry]:
    """Return the ledger counts: minus one for each old outcome, plus one for each new one."""
    counts: Counter[Entry] = Counter()
    moves = Counter((change.row.outcome, change.row.reason, change.outcome, change.reason) for change in changes)
    for (before, before_reason, now, now_reason), moved in moves.items():
        counts[CALL, before, before_reason or ""] -= moved
        counts[CALL, now, now_reason or ""] += moved
    for change in changes:
        row = change.row
        if row.outcome != Outcome.STORED and row.results is None and not change.results:
            counts[EVENT, Outcome.STORED, ""] += change.outcome is Outcome.STORED
            continue
        _count_events(counts, row.outcome, to_event_results(row.results), -1)
        _count_events(counts, change.outcome, change.results, 1)
    return counts


def _count_events(counts: Counter[Entry], outcome: str, results: tuple[EventResult, ...], step: int) -> None:
    if not results and outcome == Outcome.STORED:
        counts[EVENT, Outcome.STORED, ""] += step
    for result in results:
        counts[EVENT, result.result, ""] += step


def void_events(conn: sa.Connection, replay_id: int, new_voids: Sequence[Void]) -> None:
    """Mark events as void; their rows stay. Raises Stale."""
    rows = [(void.at, void.digest, void.reason, void.event_id, None) for void in new_voids]
    if _EVENTS_VOID.run(conn, rows) != len(rows):
        raise Stale
    _VOIDS.run(conn, [(replay_id, void.event_id, void.idempotency_id, void.replaced_by) for void in new_voids])


def renew_claims(conn: sa.Connection, new_claims: Sequence[tuple[bytes, bytes, str, str, int]]) -> None:
    """Update claims; each row is (content, digest, message key, lane, call id)."""
    _CLAIMS.run(conn, sorted(new_claims, key=lambda row: row[2:4]))


def list_voids(conn: sa.Connection, replay_id: int) -> list[str]:
    """Return the idempotency ids of the events that a replay voided."""
    query = sa.select(voids.c.idempotency_id).where(voids.c.replay_id == replay_id).order_by(voids.c.event_id)
    return list(conn.execute(query).scalars())


def append_replay(conn: sa.Connection, replay: Replay) -> None:
    """Insert a replay."""
    _REPLAYS.run(conn, [msgspec.structs.astuple(replay)])


def save_progress(conn: sa.Connection, replay: Replay, before: int) -> None:
    """Store the progress of a replay whose cursor was `before`. Raises Stale if another process moved it."""
    changed = conn.execute(
        sa.update(replays)
        .where(replays.c.id == replay.id, replays.c.cursor == before, replays.c.finished_at.is_(None))
        .values(
            cursor=replay.cursor,
            until_id=replay.until_id,
            total=replay.total,
            counts=replay.counts,
            finished_at=replay.finished_at,
            progress_at=replay.progress_at,
        )
    )
    if changed.rowcount != 1:
        raise Stale


def find_unfinished(conn: sa.Connection, what: str) -> Replay | None:
    """Return the latest replay of this request, if it is unfinished."""
    query = sa.select(replays).where(replays.c.what == what).order_by(replays.c.id.desc()).limit(1)
    row = conn.execute(query).one_or_none()
    return None if row is None or row.finished_at is not None else Replay(**row._mapping)  # noqa: SLF001
