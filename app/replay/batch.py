"""Write one batch of decisions to the database: events, outcomes, history and ledger in one transaction."""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from app.core.outcome import Outcome
from app.core.pipeline import MAIN_LANE
from app.replay.context import BatchContext, BatchResult
from app.replay.decide import Decision
from app.replay.exchange import keep_revisions, replace_events
from app.replay.sql_replays import CallChange, Void, count_changes, prepare_changes
from app.store import ledger
from app.store.corrections import CorrectedEvent, CorrectionStep, EventState, LotusChoice, append_corrected
from app.store.engine import RowRefused
from app.store.events import NewEvent
from app.store.record import EventResult, MappedCall, to_key, unstorable
from app.store.settle import conclude, settle


def write(context: BatchContext, decisions: Sequence[Decision]) -> BatchResult:
    """Write the decisions of a batch.

    Raises:
        Stale: a call changed since it was read.
        RowRefused: the database does not accept a value.

    """
    result = BatchResult()
    replacements, voids = replace_events(context, decisions, result)
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
    new_ids = keep_revisions(context, replacements, stored)
    changes.write(result)
    if changes.call_changes:
        counts = count_changes(changes.call_changes)
        if voids:
            counts[ledger.EVENT, Outcome.STORED, ""] += len(voids)
            counts[ledger.EVENT, ledger.VOIDED, ""] += len(voids)
        if stored or voids:
            counts.update(_tell(context, stored, voids, new_ids, result))
        ledger.append(context.conn, context.tag, context.now, counts)
    result.voided = len(voids)
    return result


def _tell(
    context: BatchContext,
    stored: Sequence[NewEvent],
    voids: Sequence[Void],
    new_ids: dict[int, int],
    result: BatchResult,
) -> Counter[ledger.Entry]:
    """Tell the hooks which events are new and which are void; of a correction, keep what became of each.

    `new_ids` has the id of the event that stands for each voided one. Returns the ledger's changes.
    """
    conn, counts = context.conn, Counter[ledger.Entry]()
    if context.correction is None:
        for hook in context.hooks.on_events:
            counts.update(hook(conn, stored, (), context.now))
        return counts
    voided_ids = [void.event_id for void in voids]
    result.delivered, result.withdrawn = context.hooks.count_deliveries(conn, voided_ids)
    if context.is_rehearsal and context.correction.lotus not in {None, LotusChoice.HOLD}:
        made = {event.id: event.lane.events[event.position] for event in stored}
        instead = {old_id: made[new_id] for old_id, new_id in new_ids.items() if new_id in made}
        context.hooks.check_lotus(conn, voided_ids, context.correction.lotus or "", context.now, instead)
    replaced = dict(zip([void.event_id for void in voids], result.owners, strict=True))
    owner_before = {new_id: replaced[old_id] for old_id, new_id in new_ids.items()}
    added = [event.id for event in stored if event.id not in owner_before]
    result.added = len(added)
    owners = {event.id: _owner(event) for event in stored}
    result.moved = [owner for event_id, owner in owners.items() if owner != owner_before.get(event_id)]
    result.gained = context.hooks.measure(conn, [event.id for event in stored])
    append_corrected(
        conn,
        context.correction.id,
        [
            *(CorrectedEvent(void.event_id, void.at, replacement_id=new_ids[void.event_id]) for void in voids),
            *(CorrectedEvent(event_id, None, EventState.ADDED.value) for event_id in added),
        ],
    )
    step = CorrectionStep(
        correction=context.correction,
        now=voids[0].at if voids else context.now,
        voided=voided_ids,
        added=stored,
        replacements=new_ids,
    )
    for on_step in context.hooks.on_step:
        counts.update(on_step(conn, step))
    return counts


def _owner(new: NewEvent) -> tuple[str, str]:
    event = new.lane.events[new.position]
    return event.customer_id, event.event_name


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


def decide_unstorable(decision: Decision, refusal: RowRefused) -> Decision:
    """Return the decision for a call with values the database does not accept: rejected, as on receipt."""
    return Decision(row=decision.row, run=unstorable(decision.run, refusal), user_id=decision.row.customer_id)
