"""One batch of judged calls into the database: the events, the outcomes, the history and the ledger together."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from app.core.outcome import Outcome, Reason
from app.core.pipeline import MAIN_LANE, Run
from app.replay.correcting import Correction
from app.replay.judging import Judged
from app.store import ledger
from app.store.deliveries import count_waiting, request_deliveries, void_deliveries
from app.store.engine import Connection
from app.store.events import NewEvent, Stored, find_stored, prepare_events
from app.store.keys import to_key
from app.store.record import EventResult, Record
from app.store.replays import Stale, Verdict, Void, count_changes, prepare_changes, renew_claims, void_events
from app.store.settle import MapAgain, conclude, settle, to_result
from app.store.usage_tail import append_tail

TAKEN = "cannot be corrected: another call has the idempotency id of its event"


@dataclass(slots=True, kw_only=True)
class Written:
    """What became of a batch."""

    changed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Calls by (outcome before, outcome now), those that were corrected left out."""
    same: int = 0
    """Calls that end today as they did."""
    corrected: int = 0
    voided: int = 0
    """Events."""
    notes: list[tuple[int, str]] = field(default_factory=list)
    """(call id, why it is left as it is)."""


@dataclass(slots=True, kw_only=True)
class Writing:
    """The transaction of a batch."""

    conn: Connection
    replay_id: int
    map_again: MapAgain
    next_id: Callable[[int], int]
    tag: int
    """Of the ledger's rows that are ours."""
    now: int
    forwards: bool = False
    """Each event that is stored is to reach Lotus."""


def write(writing: Writing, judged: Sequence[Judged]) -> Written:
    """Write what was judged.

    Raises:
        Stale: a call is not any more what it was when it was read.
        RowRefused: the database does not take a value.

    """
    written = Written()
    voids: list[Void] = []
    made: list[NewEvent] = []
    corrections = _correct(writing, judged, written, voids, made)
    records = [(one, _record(one, one.run)) for one in judged if one.run is not None]
    changes = _Changes(writing, [(one, record, corrections.get(one.row.id)) for one, record in records])
    made += settle(
        writing.conn,
        [record for _, record in records if record.run.outcome is not None or record.run.lanes],
        writing.map_again,
        writing.next_id,
        changes.prepare,
    )
    if made or voids:
        append_tail(writing.conn, writing.next_id(writing.now), made, [one.event_id for one in voids])
    changes.write(written)
    if changes.verdicts:
        counts = count_changes(changes.verdicts)
        if voids:
            counts[ledger.EVENT, Outcome.STORED, ""] += len(voids)
            counts[ledger.EVENT, ledger.VOIDED, ""] += len(voids)
            counts.update(void_deliveries(writing.conn, [one.event_id for one in voids], writing.now))
        if writing.forwards and made:
            request_deliveries(writing.conn, made, writing.now)
            counts.update(count_waiting(len(made)))
        ledger.append(writing.conn, writing.tag, writing.now, counts)
    written.voided = len(voids)
    return written


class _Changes:
    """The calls of a batch whose outcome is another one."""

    def __init__(self, writing: Writing, settled: list[tuple[Judged, Record, list[EventResult] | None]]) -> None:
        """Of each call: what was judged, what is settled, and the results of its corrections, None without any."""
        self._writing = writing
        self._settled = settled
        self._same = 0
        self._run: Callable[[], None] = lambda: None
        self.verdicts: list[Verdict] = []

    def prepare(self) -> None:
        """Make the verdicts from the outcomes of the records, and their rows; where that was done before, anew."""
        self.verdicts, self._same = [], 0
        for one, record, corrected in self._settled:
            if one.correction is not None and corrected is None:
                continue
            verdict = _verdict(one, record, corrected)
            if corrected is not None or verdict.differs():
                self.verdicts.append(verdict)
            else:
                self._same += 1
        writing = self._writing
        self._run = prepare_changes(writing.conn, writing.replay_id, writing.now, self.verdicts)

    def write(self, written: Written) -> None:
        """Write them, and count them in `written`. Raises Stale."""
        self._run()
        corrected = {one.row.id for one, _, results in self._settled if results is not None}
        written.same += self._same
        written.corrected += len(corrected)
        written.changed += Counter(
            (one.row.outcome, one.outcome) for one in self.verdicts if one.row.id not in corrected
        )


def _record(one: Judged, run: Run) -> Record:
    row = one.row
    return Record(row.id, 0, 0, row.received_at, "", b"", run, None, row.message_id, None, one.user_id)


def _verdict(one: Judged, record: Record, corrected: list[EventResult] | None) -> Verdict:
    row, run = one.row, record.run
    transform, digest, customer_id = run.transform, run.digest, to_key(record.customer_id)
    if run.lanes:
        transform, digest = run.lanes[0].transform, run.lanes[0].digest
    if one.kept or corrected is not None:
        results = sorted([*one.kept, *(corrected or ()), *_settled(record)], key=_place)
        # A copy: this may be asked again, and then begins with what was settled.
        record = msgspec.structs.replace(record)
        conclude(record, results)
        transform, digest, customer_id = row.transform, row.transform_digest, row.customer_id
        lane = one.correction.lanes.get(results[0].lane) if one.correction else None
        if lane is not None:
            transform, digest, customer_id = lane.transform, lane.digest, to_key(lane.events[0].customer_id)
    return Verdict(
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


def _correct(
    writing: Writing, judged: Sequence[Judged], written: Written, voids: list[Void], made: list[NewEvent]
) -> dict[int, list[EventResult]]:
    """Replace events; return the results of the calls that were corrected, by call.

    `voids` and `made` get what was replaced, and by what.
    """
    wanted = [(one, one.correction) for one in judged if one.correction is not None]
    if not wanted:
        return {}
    ids = [event.event.idempotency_id for _, correction in wanted for event in correction.replacements]
    there = find_stored(writing.conn, ids)
    taken = set(there)
    new: list[NewEvent] = []
    claims: list[tuple[bytes, bytes, str, str, int]] = []
    corrected: dict[int, list[EventResult]] = {}
    for one, correction in wanted:
        if _is_blocked(correction, taken, there):
            written.notes.append((one.row.id, TAKEN))
            continue
        results = list(correction.results)
        for event in correction.replacements:
            idempotency_id = event.event.idempotency_id
            rival = there.get(idempotency_id)
            if rival is not None:
                equal = rival.content == event.event.content
                results.append(to_result(event.lane, event.position, rival.call_id, equal=equal))
                continue
            taken.add(idempotency_id)
            new.append(NewEvent(writing.next_id(writing.now), one.row.id, event.lane, event.position))
            results.append(EventResult(event.lane.name, event.position, idempotency_id, Outcome.STORED))
            if event.old is not None:
                reason = f"corrected by a replay: other {event.why}"
                old = event.old
                voids.append(Void(old.id, old.idempotency_id, idempotency_id, writing.now, event.lane.digest, reason))
        corrected[one.row.id] = results
        key = one.row.message_id
        if key is not None:
            claims += [(lane.content, lane.digest, key, lane.name, one.row.id) for lane in correction.lanes.values()]
    void_events(writing.conn, writing.replay_id, voids)
    if prepare_events(writing.conn, new).send()() != len(new):
        raise Stale
    made += new
    renew_claims(writing.conn, claims)
    return corrected


def _is_blocked(correction: Correction, taken: set[str], there: dict[str, Stored]) -> bool:
    """Whether an event could not be replaced, or two calls of this batch want one idempotency id."""
    return any(
        one.event.idempotency_id in taken and (one.old is not None or one.event.idempotency_id not in there)
        for one in correction.replacements
    )


def unstorable(one: Judged, why: str) -> Judged:
    """Return a call whose values the database does not take: rejected, as when it comes."""
    digest = one.run.digest if one.run else None
    transform = one.run.transform if one.run else None
    sentence = f"the database does not take a value of this call ({why})"
    return Judged(
        row=one.row,
        run=Run(Outcome.REJECTED, Reason.UNSTORABLE, sentence, None, transform, digest, ()),
        user_id=one.row.customer_id,
    )
