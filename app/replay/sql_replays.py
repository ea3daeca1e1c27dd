"""What a replay writes: new outcomes with their history, corrected events, and how far it came. `conn` first."""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import sqlalchemy as sa

from app.core.outcome import Outcome
from app.store.calls import to_detail
from app.store.history import OutcomeChange
from app.store.inserts import Insert, pipelined
from app.store.kept import KeptCall
from app.store.ledger import CALL, EVENT, Entry
from app.store.record import EventResult
from app.store.results import results_text, to_event_results
from app.store.schema import calls, claims, events, outcome_changes, replays, voids
from app.store.updates import Update


class Stale(Exception):
    """What was read of a call is not so any more: somebody else replayed it meanwhile."""


class Replay(msgspec.Struct, kw_only=True):
    """One replay, and how far it came."""

    id: int
    what: str
    """JSON of what was asked for."""
    transforms: bytes
    """Digest of the set of versions that it runs calls by."""
    cursor: int
    until_id: int
    total: int
    counts: str
    started_at: int
    finished_at: int | None = None
    progress_at: int | None = None
    """When it last came on; None: no process runs it."""
    stop_asked_at: int | None = None


class CallChange(msgspec.Struct, gc=False):
    """What a call was, and what it is now."""

    row: KeptCall
    outcome: Outcome
    reason: str | None
    detail: str | None
    transform: str | None
    digest: bytes | None
    customer_id: str | None
    """As an indexable key."""
    results: tuple[EventResult, ...]

    def differs(self) -> bool:
        """Tell whether there is anything to write. A duplicate that stays one is the copy it was, of whatever name."""
        row = self.row
        if row.outcome == self.outcome == Outcome.DUPLICATE:
            return False
        return (self.outcome, self.reason, to_detail(self.detail), self.results_text()) != (
            row.outcome,
            row.reason,
            row.detail,
            row.results,
        )

    def results_text(self) -> str | None:
        """Return the results as they stand in the database."""
        return results_text(self.results)


class Void(msgspec.Struct, frozen=True):
    """An event that another one stands for now."""

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
    new=("outcome", "reason", "detail", "transform", "transform_digest", "customer_id", "results"),
    known=("id", "outcome", "reason", "transform_digest", "results"),
)
_EVENTS_VOID = Update(events, new=("voided_at", "voided_by", "void_reason"), known=("id", "voided_at"))
_CLAIMS = Update(claims, new=("content", "transform_digest"), known=("message_id", "lane", "call_id"))


def lock_replays(conn: sa.Connection) -> None:
    """Let no other replay write until this transaction ends; calls that come in do not wait.

    SQLite has one writer at a time anyway.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(sa.text("LOCK TABLE replays IN SHARE ROW EXCLUSIVE MODE"))


def prepare_changes(conn: sa.Connection, replay_id: int, at: int, verdicts: Sequence[CallChange]) -> Callable[[], None]:
    """Make ready to give calls their new outcome, and to write down what it was. What is returned raises Stale."""
    history = _CHANGES.prepare(
        conn,
        [
            (
                one.row.id,
                replay_id,
                at,
                one.row.outcome,
                one.row.reason,
                one.row.transform_digest,
                one.outcome,
                one.reason,
                one.digest,
            )
            for one in verdicts
        ],
    )
    change = _CALLS.prepare(
        conn,
        [
            (
                one.outcome,
                one.reason,
                to_detail(one.detail),
                one.transform,
                one.digest,
                one.customer_id,
                one.results_text(),
                one.row.id,
                one.row.outcome,
                one.row.reason,
                one.row.transform_digest,
                one.row.results,
            )
            for one in verdicts
        ],
    )

    def run() -> None:
        with pipelined(conn):
            history.send()
            changed = change.send()
        if changed() != len(verdicts):
            raise Stale

    return run


def count_changes(verdicts: Sequence[CallChange]) -> Counter[Entry]:
    """Count for the ledger: what was goes down, what is goes up."""
    counts: Counter[Entry] = Counter()
    moves = Counter((one.row.outcome, one.row.reason, one.outcome, one.reason) for one in verdicts)
    for (was, why, now, therefore), moved in moves.items():
        counts[CALL, was, why or ""] -= moved
        counts[CALL, now, therefore or ""] += moved
    for one in verdicts:
        row = one.row
        if row.outcome != Outcome.STORED and row.results is None and not one.results:
            counts[EVENT, Outcome.STORED, ""] += one.outcome is Outcome.STORED
            continue
        _count_events(counts, row.outcome, to_event_results(row.results), -1)
        _count_events(counts, one.outcome, one.results, 1)
    return counts


def _count_events(counts: Counter[Entry], outcome: str, results: tuple[EventResult, ...], step: int) -> None:
    if not results and outcome == Outcome.STORED:
        counts[EVENT, Outcome.STORED, ""] += step
    for result in results:
        counts[EVENT, result.result, ""] += step


def void_events(conn: sa.Connection, replay_id: int, made_void: Sequence[Void]) -> None:
    """Make events void; they stay where they are. Raises Stale."""
    rows = [(one.at, one.digest, one.reason, one.event_id, None) for one in made_void]
    if _EVENTS_VOID.run(conn, rows) != len(rows):
        raise Stale
    _VOIDS.run(conn, [(replay_id, one.event_id, one.idempotency_id, one.replaced_by) for one in made_void])


def renew_claims(conn: sa.Connection, renewed: Sequence[tuple[bytes, bytes, str, str, int]]) -> None:
    """Let claims say (content, digest) of what was made anew: (.., message key, lane, call id)."""
    _CLAIMS.run(conn, sorted(renewed, key=lambda row: row[2:4]))


def list_voids(conn: sa.Connection, replay_id: int) -> list[str]:
    """Return the idempotency ids of the events that a replay made void."""
    query = sa.select(voids.c.idempotency_id).where(voids.c.replay_id == replay_id).order_by(voids.c.event_id)
    return list(conn.execute(query).scalars())


def append_replay(conn: sa.Connection, replay: Replay) -> None:
    """Begin a replay."""
    _REPLAYS.run(conn, [msgspec.structs.astuple(replay)])


def save_progress(conn: sa.Connection, replay: Replay, before: int) -> None:
    """Write down how far a replay came; `before` is where it was. Raises Stale where somebody else goes on with it."""
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
    """Return the last replay of these words, where it did not come to its end."""
    query = sa.select(replays).where(replays.c.what == what).order_by(replays.c.id.desc()).limit(1)
    row = conn.execute(query).one_or_none()
    return None if row is None or row.finished_at is not None else Replay(**row._mapping)  # noqa: SLF001
