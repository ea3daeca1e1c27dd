"""One batch of judged calls into the database: the events, the outcomes, the history and the ledger together."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from app.core.outcome import Outcome, Reason
from app.core.pipeline import MAIN_LANE, Run
from app.replay.correction import Correction, Replacement
from app.replay.decide import Decision
from app.replay.sql_replays import CallChange, Stale, Void, count_changes, prepare_changes, renew_claims, void_events
from app.store import ledger
from app.store.commit import OnEvents
from app.store.engine import Connection
from app.store.events import NewEvent, find_stored, give_up_ids, note_revisions, to_revision_id
from app.store.ids import Ids
from app.store.keys import to_key
from app.store.record import EventResult, Record
from app.store.settle import MapAgain, conclude, settle


class Hooks(NamedTuple):
    """What a replay sets in motion outside of calls and events."""

    on_events: Sequence[OnEvents]
    count_delivered: Callable[[Connection, Sequence[int]], int]
    """Counts those of some events that Lotus has, as far as is known here."""


class HooksOf(Protocol):
    """Makes hooks."""

    def __call__(self, ids: Ids, *, forwards: bool) -> Hooks:
        """Make them for whoever draws these ids. `forwards`: what is stored is to reach Lotus; else where others do."""


TAKEN = "cannot be corrected: another call has the idempotency id of its event"


@dataclass(slots=True, kw_only=True)
class BatchResult:
    """What became of a batch."""

    changed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Calls by (outcome before, outcome now), those that were corrected left out."""
    same: int = 0
    """Calls that end today as they did."""
    corrected: int = 0
    voided: int = 0
    """Events."""
    delivered: int = 0
    """Of these, how many Lotus has already, and keeps."""
    notes: list[tuple[int, str]] = field(default_factory=list)
    """(call id, why it is left as it is)."""


@dataclass(slots=True, kw_only=True)
class BatchContext:
    """The transaction of a batch."""

    conn: Connection
    replay_id: int
    map_again: MapAgain
    next_id: Callable[[int], int]
    tag: int
    """Of the ledger's rows that are ours."""
    now: int
    hooks: Hooks


def write(writing: BatchContext, judged: Sequence[Decision]) -> BatchResult:
    """Write what was judged.

    Raises:
        Stale: a call is not any more what it was when it was read.
        RowRefused: the database does not take a value.

    """
    written = BatchResult()
    replacements = _replace(writing, judged, written)
    voids = [_void(writing, replacement) for one in replacements.values() for replacement in one]
    blocked = {call_id for call_id, _ in written.notes}
    records = [(one, _record(one)) for one in judged if one.run is not None and one.row.id not in blocked]
    changes = _Changes(writing, records)
    made = settle(
        writing.conn,
        [record for _, record in records if record.run.outcome is not None or record.run.lanes],
        writing.map_again,
        writing.next_id,
        changes.prepare,
    )
    _note_revisions(writing, replacements, made)
    changes.write(written)
    if changes.verdicts:
        counts = count_changes(changes.verdicts)
        voided = [void.event_id for void in voids]
        if voids:
            counts[ledger.EVENT, Outcome.STORED, ""] += len(voids)
            counts[ledger.EVENT, ledger.VOIDED, ""] += len(voids)
            written.delivered = writing.hooks.count_delivered(writing.conn, voided)
        if made or voids:
            for note in writing.hooks.on_events:
                counts.update(note(writing.conn, made, voided, writing.now))
        ledger.append(writing.conn, writing.tag, writing.now, counts)
    written.voided = len(voids)
    return written


class _Changes:
    """The calls of a batch whose outcome is another one, or of which an event was replaced."""

    def __init__(self, writing: BatchContext, settled: list[tuple[Decision, Record]]) -> None:
        """Of each call: what was judged, and what is settled."""
        self._writing = writing
        self._settled = settled
        self._same = 0
        self._corrected: set[int] = set()
        self._run: Callable[[], None] = lambda: None
        self.verdicts: list[CallChange] = []

    def prepare(self) -> None:
        """Make the verdicts from the outcomes of the records, and their rows; where that was done before, anew."""
        self.verdicts, self._same, self._corrected = [], 0, set()
        for one, record in self._settled:
            verdict = _verdict(one, record)
            if one.correction is not None and one.correction.replacements:
                self._corrected.add(one.row.id)
                self.verdicts.append(verdict)
            elif verdict.differs():
                self.verdicts.append(verdict)
            else:
                self._same += 1
        writing = self._writing
        self._run = prepare_changes(writing.conn, writing.replay_id, writing.now, self.verdicts)

    def write(self, written: BatchResult) -> None:
        """Write them, and count them in `written`. Raises Stale."""
        self._run()
        written.same += self._same
        written.corrected += len(self._corrected)
        written.changed += Counter(
            (verdict.row.outcome, verdict.outcome)
            for verdict in self.verdicts
            if verdict.row.id not in self._corrected or verdict.outcome != verdict.row.outcome
        )


def _record(one: Decision) -> Record:
    row, run = one.row, one.run
    assert run is not None  # noqa: S101  only these are written
    if one.correction is not None:
        named = {lane.name: lane for lane in one.correction.to_lanes()}
        run = msgspec.structs.replace(run, lanes=tuple(named.get(lane.name, lane) for lane in run.lanes))
    return Record(
        row.id,
        0,
        0,
        row.received_at,
        "",
        b"",
        run,
        None,
        row.message_id,
        None,
        one.user_id,
        made_lanes=one.made_lanes,
    )


def _verdict(one: Decision, record: Record) -> CallChange:
    row, run = one.row, record.run
    transform, digest, customer_id = run.transform, run.digest, to_key(record.customer_id)
    if run.lanes:
        transform, digest = run.lanes[0].transform, run.lanes[0].digest
    if one.made_lanes:
        right = one.correction.results if one.correction else ()
        results = sorted([*one.kept, *right, *_settled(record)], key=_place)
        # A copy: this may be asked again, and then begins with what was settled.
        record = msgspec.structs.replace(record)
        conclude(record, results)
        transform, digest, customer_id = row.transform, row.transform_digest, row.customer_id
        lane = next((lane for lane in run.lanes if one.correction and lane.name == results[0].lane), None)
        if lane is not None:
            transform, digest, customer_id = lane.transform, lane.digest, to_key(lane.events[0].customer_id)
    return CallChange(
        row,
        record.outcome or Outcome.REJECTED,
        record.reason,
        record.detail,
        transform,
        digest,
        customer_id,
        record.results,
    )


def _settled(record: Record) -> tuple[EventResult, ...]:
    """Return the result of each event that was settled just now; a single stored one is left out of `results`."""
    if record.results or not record.run.lanes:
        return record.results
    lane = record.run.lanes[0]
    return (EventResult(lane.name, 0, lane.events[0].idempotency_id, Outcome.STORED),)


def _place(result: EventResult) -> tuple[bool, str, int]:
    return result.lane != MAIN_LANE, result.lane, result.position


def _replace(writing: BatchContext, judged: Sequence[Decision], written: BatchResult) -> dict[int, list[Replacement]]:
    """Make events void for which others are to be stored; return what is to stand for them, by call.

    A call of which an event has nowhere to go is left as it is, and noted in `written`.
    """
    corrections = [(one, one.correction) for one in judged if one.correction is not None]
    if not any(correction.replacements for _, correction in corrections):
        return {}
    holders = _Holders(writing.conn, [correction for _, correction in corrections])
    replacements: dict[int, list[Replacement]] = {}
    claims: list[tuple[bytes, bytes, str, str, int]] = []
    for one, correction in corrections:
        if not correction.replacements:
            continue
        if not holders.take(correction):
            written.notes.append((one.row.id, TAKEN))
            continue
        replacements[one.row.id] = correction.replacements
        if (key := one.row.message_id) is not None:
            claims += [(lane.content, lane.digest, key, lane.name, one.row.id) for lane in correction.lanes.values()]
    voids = [_void(writing, replacement) for some in replacements.values() for replacement in some]
    void_events(writing.conn, writing.replay_id, voids)
    give_up_ids(
        writing.conn,
        {
            (event.base, event.revision or 1, event.id)
            for one, correction in corrections
            for replacement in replacements.get(one.row.id, ())
            if replacement.moves
            for event in correction.chain(replacement)
        },
    )
    renew_claims(writing.conn, claims)
    return replacements


class _Holders:
    """Which idempotency ids are taken, while the corrections of a batch are gone through in order."""

    def __init__(self, conn: Connection, corrections: Sequence[Correction]) -> None:
        self._conn = conn
        self._taken = self._among({new.new_id for one in corrections for new in one.replacements})

    def take(self, correction: Correction) -> bool:
        """Take the ids of all new events of a call; False: one is another's, and none is taken."""
        freed = {
            event.idempotency_id
            for replacement in correction.replacements
            if replacement.moves
            for event in correction.chain(replacement)
        }
        ids: set[str] = set()
        for replacement in correction.replacements:
            while replacement.new_id in self._taken | ids and replacement.new_id not in freed - ids:
                if replacement.revision == 1:
                    return False
                # A transform of somebody's may make such an id by itself.
                replacement.revision += 1
                self._taken |= self._among({replacement.new_id})
            ids.add(replacement.new_id)
        self._taken = (self._taken - freed) | ids
        return True

    def _among(self, ids: set[str]) -> set[str]:
        return set(find_stored(self._conn, ids))


def _void(writing: BatchContext, replacement: Replacement) -> Void:
    old = replacement.old
    reason = f"corrected by a replay: other {replacement.why}"
    id_ = to_revision_id(old.base, old.revision or 1)
    return Void(old.id, id_, replacement.new_id, writing.now, replacement.digest, reason)


def _note_revisions(
    writing: BatchContext, replacements: dict[int, list[Replacement]], made: Sequence[NewEvent]
) -> None:
    """Note which revision each new event is. Raises Stale where another process took the id of one meanwhile."""
    if not replacements:
        return
    ids = {new.lane.events[new.position].idempotency_id: new.id for new in made}
    new = [(replacement, ids.get(replacement.new_id)) for some in replacements.values() for replacement in some]
    if any(id_ is None for _, id_ in new):
        raise Stale
    note_revisions(
        writing.conn,
        [(one.base_id, one.revision, id_) for one, id_ in new if one.revision > 1 and id_ is not None],
    )


def unstorable(one: Decision, why: str) -> Decision:
    """Return a call whose values the database does not take: rejected, as when it comes."""
    digest = one.run.digest if one.run else None
    transform = one.run.transform if one.run else None
    sentence = f"the database does not take a value of this call ({why})"
    return Decision(
        row=one.row,
        run=Run(Outcome.REJECTED, Reason.UNSTORABLE, sentence, None, transform, digest, ()),
        user_id=one.row.customer_id,
    )
