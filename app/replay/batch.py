"""Write one batch of decisions to the database: events, outcomes, history and ledger in one transaction."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple, Protocol

import msgspec

from app.core.outcome import Outcome
from app.core.pipeline import MAIN_LANE
from app.replay.correction import CallCorrection, Replacement
from app.replay.decide import Decision
from app.replay.sql_replays import CallChange, Void, count_changes, prepare_changes, renew_claims, void_events
from app.store import ledger
from app.store.clock import read_clock
from app.store.commit import OnEvents
from app.store.engine import Connection, RowRefused
from app.store.events import NewEvent, find_stored, give_up_ids, note_revisions, to_revision_id
from app.store.ids import Ids
from app.store.record import EventResult, MappedCall, to_key, unstorable
from app.store.settle import MapAgain, conclude, settle
from app.store.updates import Stale


class Hooks(NamedTuple):
    """What a replay does besides calls and events."""

    on_events: Sequence[OnEvents]
    count_delivered: Callable[[Connection, Sequence[int]], int]
    """Returns how many of these event ids Lotus has, as far as is known here."""


class HooksFactory(Protocol):
    """Makes the hooks of a replay."""

    def __call__(self, ids: Ids, *, forwards: bool) -> Hooks:
        """Make hooks that draw ids from `ids`. `forwards`: queue stored events for Lotus, else only where others do."""


TAKEN = "cannot be corrected: another call has the idempotency id of its event"


@dataclass(slots=True, kw_only=True)
class BatchResult:
    """The result of one batch."""

    changed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Calls by (outcome before, outcome now), without corrected calls."""
    same: int = 0
    """Calls whose outcome is unchanged."""
    corrected: int = 0
    voided: int = 0
    """Events."""
    delivered: int = 0
    """How many of the voided events Lotus already has, and keeps."""
    notes: list[tuple[int, str]] = field(default_factory=list)
    """(call id, why it is left unchanged)."""


@dataclass(slots=True, kw_only=True)
class BatchContext:
    """The transaction of a batch and what its writes need."""

    conn: Connection
    replay_id: int
    map_again: MapAgain
    next_id: Callable[[int], int]
    tag: int
    """Tag of this process's rows in the ledger."""
    now: int
    hooks: Hooks


def write(context: BatchContext, decisions: Sequence[Decision]) -> BatchResult:
    """Write the decisions of a batch.

    Raises:
        Stale: a call changed since it was read.
        RowRefused: the database does not accept a value.

    """
    result = BatchResult()
    replacements = _replace(context, decisions, result)
    voided_at = read_clock(context.conn) if replacements else context.now
    voids = [_void(replacement, voided_at) for replacement in chain.from_iterable(replacements.values())]
    blocked = {call_id for call_id, _ in result.notes}
    calls = [
        (decision, _mapped_call(decision))
        for decision in decisions
        if decision.run is not None and decision.row.id not in blocked
    ]
    changes = _Changes(context, calls)
    stored = settle(
        context.conn,
        [call for _, call in calls if call.run.outcome is not None or call.run.lanes],
        context.map_again,
        context.next_id,
        changes.prepare,
    )
    _note_revisions(context, replacements, stored)
    changes.write(result)
    if changes.call_changes:
        counts = count_changes(changes.call_changes)
        voided = [void.event_id for void in voids]
        if voids:
            counts[ledger.EVENT, Outcome.STORED, ""] += len(voids)
            counts[ledger.EVENT, ledger.VOIDED, ""] += len(voids)
            result.delivered = context.hooks.count_delivered(context.conn, voided)
        if stored or voids:
            for note in context.hooks.on_events:
                counts.update(note(context.conn, stored, voided, context.now))
        ledger.append(context.conn, context.tag, context.now, counts)
    result.voided = len(voids)
    return result


class _Changes:
    """The calls of a batch whose outcome changes, or of which an event is replaced."""

    def __init__(self, context: BatchContext, settled: list[tuple[Decision, MappedCall]]) -> None:
        """`settled` holds each decision with the call that was settled by it."""
        self._context = context
        self._settled = settled
        self._same = 0
        self._corrected: set[int] = set()
        self._run: Callable[[], None] = lambda: None
        self.call_changes: list[CallChange] = []

    def prepare(self) -> None:
        """Make the changes from the outcomes of the calls, and their rows; a second call makes them anew."""
        self.call_changes, self._same, self._corrected = [], 0, set()
        for decision, call in self._settled:
            change = _to_call_change(decision, call)
            if decision.correction is not None and decision.correction.replacements:
                self._corrected.add(decision.row.id)
                self.call_changes.append(change)
            elif change.differs():
                self.call_changes.append(change)
            else:
                self._same += 1
        context = self._context
        self._run = prepare_changes(context.conn, context.replay_id, context.now, self.call_changes)

    def write(self, result: BatchResult) -> None:
        """Write the changes, and count them in `result`. Raises Stale."""
        self._run()
        result.same += self._same
        result.corrected += len(self._corrected)
        result.changed += Counter(
            (change.row.outcome, change.outcome)
            for change in self.call_changes
            if change.row.id not in self._corrected or change.outcome != change.row.outcome
        )


def _mapped_call(decision: Decision) -> MappedCall:
    row, run = decision.row, decision.run
    assert run is not None  # noqa: S101  only these are written
    if decision.correction is not None:
        named = {lane.name: lane for lane in decision.correction.to_lanes()}
        run = msgspec.structs.replace(run, lanes=tuple(named.get(lane.name, lane) for lane in run.lanes))
    return MappedCall(row.id, row.received_at, run, row.message_id, decision.user_id, made_lanes=decision.made_lanes)


def _to_call_change(decision: Decision, call: MappedCall) -> CallChange:
    row, run = decision.row, call.run
    transform, digest, customer_id = run.transform, run.digest, to_key(call.customer_id)
    if run.lanes:
        transform, digest = run.lanes[0].transform, run.lanes[0].digest
    if decision.made_lanes:
        right = decision.correction.results if decision.correction else ()
        results = sorted([*decision.unchanged_results, *right, *_settled(call)], key=_place)
        # A copy: this may be called again, and must then start from the settled call.
        call = msgspec.structs.replace(call)
        conclude(call, results)
        transform, digest, customer_id = row.transform, row.transform_digest, row.customer_id
        lane = next((lane for lane in run.lanes if decision.correction and lane.name == results[0].lane), None)
        if lane is not None:
            transform, digest, customer_id = lane.transform, lane.digest, to_key(lane.events[0].customer_id)
    return CallChange(
        row,
        call.outcome or Outcome.REJECTED,
        call.reason,
        call.detail,
        transform,
        digest,
        customer_id,
        call.results,
        call.fault,
    )


def _settled(call: MappedCall) -> tuple[EventResult, ...]:
    """Return the result of each event settled just now; `call.results` omits a single stored one."""
    if call.results or not call.run.lanes:
        return call.results
    lane = call.run.lanes[0]
    return (EventResult(lane.name, 0, lane.events[0].idempotency_id, Outcome.STORED),)


def _place(result: EventResult) -> tuple[bool, str, int]:
    return result.lane != MAIN_LANE, result.lane, result.position


def _replace(context: BatchContext, decisions: Sequence[Decision], result: BatchResult) -> dict[int, list[Replacement]]:
    """Void the events that are to be replaced; return their replacements by call id.

    A call with an event whose new id is taken is left unchanged, and noted in `result`.
    """
    corrections = [(decision.row, decision.correction) for decision in decisions if decision.correction is not None]
    if not any(correction.replacements for _, correction in corrections):
        return {}
    taken_ids = _TakenIds(context.conn, [correction for _, correction in corrections])
    replacements: dict[int, list[Replacement]] = {}
    claims: list[tuple[bytes, bytes, str, str, int]] = []
    for call, correction in corrections:
        if not correction.replacements:
            continue
        if not taken_ids.reserve(correction):
            result.notes.append((call.id, TAKEN))
            continue
        replacements[call.id] = correction.replacements
        if (key := call.message_id) is not None:
            claims += [(lane.content, lane.digest, key, lane.name, call.id) for lane in correction.lanes.values()]
    voided_at = read_clock(context.conn) if replacements else context.now
    voids = [_void(replacement, voided_at) for replacement in chain.from_iterable(replacements.values())]
    void_events(context.conn, context.replay_id, voids)
    give_up_ids(
        context.conn,
        {
            (event.base, event.revision or 1, event.id)
            for call, correction in corrections
            for replacement in replacements.get(call.id, ())
            if replacement.moves
            for event in correction.chain(replacement)
        },
    )
    renew_claims(context.conn, claims)
    return replacements


class _TakenIds:
    """The idempotency ids in use, kept up to date while the corrections of a batch are handled in order."""

    def __init__(self, conn: Connection, corrections: Sequence[CallCorrection]) -> None:
        self._conn = conn
        self._taken = self._among({new.new_id for correction in corrections for new in correction.replacements})

    def reserve(self, correction: CallCorrection) -> bool:
        """Reserve the ids of all new events of a call; return False, reserving none, if another call has one."""
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
                # A transform may produce an id of this form by itself.
                replacement.revision += 1
                self._taken |= self._among({replacement.new_id})
            ids.add(replacement.new_id)
        self._taken = (self._taken - freed) | ids
        return True

    def _among(self, ids: set[str]) -> set[str]:
        return set(find_stored(self._conn, ids))


def _void(replacement: Replacement, now: int) -> Void:
    old = replacement.old
    reason = f"corrected by a replay: other {replacement.why}"
    id_ = to_revision_id(old.base, old.revision or 1)
    return Void(old.id, id_, replacement.new_id, now, replacement.digest, reason)


def _note_revisions(
    context: BatchContext, replacements: dict[int, list[Replacement]], stored: Sequence[NewEvent]
) -> None:
    """Store the revision of each new event. Raises Stale if another process took one of the ids meanwhile."""
    if not replacements:
        return
    ids = {new.lane.events[new.position].idempotency_id: new.id for new in stored}
    new = [(replacement, ids.get(replacement.new_id)) for replacement in chain.from_iterable(replacements.values())]
    if any(id_ is None for _, id_ in new):
        raise Stale
    note_revisions(
        context.conn,
        [
            (replacement.base_id, replacement.revision, id_)
            for replacement, id_ in new
            if replacement.revision > 1 and id_ is not None
        ],
    )


def decide_unstorable(decision: Decision, refusal: RowRefused) -> Decision:
    """Return the decision for a call with values the database does not accept: rejected, as on receipt."""
    return Decision(row=decision.row, run=unstorable(decision.run, refusal), user_id=decision.row.customer_id)
