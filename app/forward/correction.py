"""Deliveries follow corrections: what counts no more is not sent, what Lotus has is surplus, what replaces it is held.

Lotus can neither void nor change what it has. So an event that replaces a delivered one is held back, sent all the
same, or, where metrics are sums, made up for by a difference: as the correction chose.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from app.core.lotus import LotusEvent
from app.core.text import printable
from app.errors import BadQuery
from app.forward.sql_deliveries import (
    DeliveryState,
    OutboxRow,
    hold_back,
    lock_deliveries,
    move,
    queue_events,
    queue_events_if_used,
    read_deliveries_of,
    restore_deliveries,
    set_states,
    void_locked,
)
from app.forward.sql_differences import (
    UNDO,
    OutboxDifference,
    append_differences,
    find_told,
    list_differences,
    read_shares,
    settle,
    to_note,
    unsettle,
)
from app.forward.timing import TOO_OLD, is_too_old
from app.store.corrections import CorrectionState, CorrectionStep, LotusChoice
from app.store.differences import FindDifferences, LotusShare, SumDifference
from app.store.engine import Connection
from app.store.ledger import Entry

_NO_DIFFERENCE = "no difference: the sums stay the same, correction"
_WAY_OUT = "choose hold, and take the amount for the invoice from `segment-lotus deliveries export`"


class OutboxFollower:
    """Follows corrections step by step, each in its transaction."""

    def __init__(
        self, next_id: Callable[[int], int], find_differences: FindDifferences, *, forwards: bool = False
    ) -> None:
        """`next_id` makes an id at a time. `forwards`: queue new events, else only where the outbox is in use."""
        self._next_id = next_id
        self._find_differences = find_differences
        self._queue = queue_events if forwards else queue_events_if_used

    def follow(self, conn: Connection, step: CorrectionStep) -> Counter[Entry]:
        """Follow one step of a correction, or of its undo; return the ledger's changes."""
        before = lock_deliveries(conn, step.voided)
        counts = void_locked(conn, before, step.now)
        counts.update(restore_deliveries(conn, step.revived, step.now))
        moved: set[int] = set()
        if step.correction.state in {CorrectionState.UNDOING, CorrectionState.UNDONE}:
            counts.update(self._take_back(conn, step))
        elif step.correction.lotus == LotusChoice.DIFFERENCE:
            counts.update(self._make_up(conn, step, before, moved))
        counts.update(self._store(conn, step, before, moved))
        return counts

    def check(
        self,
        conn: Connection,
        event_ids: Sequence[int],
        choice: str,
        now: int,
        replacements: Mapping[int, LotusEvent] | None = None,
    ) -> None:
        """Check that a choice can be carried out for events that are made void, or replaced by `replacements`.

        Raises:
            BadQuery: names an event that is in the way, says why, and the way out.

        """
        rows = read_deliveries_of(conn, event_ids) if choice != LotusChoice.HOLD else {}
        roots = _roots(rows)
        if choice == LotusChoice.SEND:
            told = find_told(conn, [root for event_id, root in roots.items() if event_id != root])
            if event_id := next((event_id for event_id, root in roots.items() if root in told), None):
                raise BadQuery(
                    f"the number of event {event_id} reached Lotus as a difference: sent itself, it would count twice; "
                    "choose difference or hold"
                )
        if choice == LotusChoice.DIFFERENCE:
            named = replacements or {}
            for event_id, share, difference in self._find(conn, rows, roots, named):
                why = TOO_OLD if is_too_old(share.event.time_created, now) else difference.obstacle
                if why is not None:
                    raise BadQuery(
                        f"no difference corrects the event {printable(share.event.idempotency_id)[:100]!r} "
                        f"({event_id}) in Lotus: {why}; {_WAY_OUT}"
                    )

    def _store(
        self, conn: Connection, step: CorrectionStep, before: Mapping[int, OutboxRow], moved: set[int]
    ) -> Counter[Entry]:
        """Queue the events that a step added, or hold them back for those that Lotus has."""
        replaced = {new: old for old, new in step.replacements.items()}
        held: dict[int, int] = {}
        free = []
        roots = _roots(before, step.now)
        told = find_told(conn, [root for event_id, root in roots.items() if event_id != root])
        for event in step.added:
            old = replaced.get(event.id)
            root = None if old is None else roots.get(old)
            sends = step.correction.lotus == LotusChoice.SEND and root not in told
            if root is None or sends or event.id in moved:
                free.append(event)
            else:
                held[event.id] = root
        counts = hold_back(conn, held, step.now)
        counts.update(self._queue(conn, free, (), step.now))
        return counts

    def _make_up(
        self, conn: Connection, step: CorrectionStep, before: Mapping[int, OutboxRow], moved: set[int]
    ) -> Counter[Entry]:
        """Queue the differences of a step; the ids of replacements that count elsewhere are added to `moved`."""
        added = {event.id: event.lane.events[event.position] for event in step.added}
        replacements = {old: added[new] for old, new in step.replacements.items() if new in added}
        further: list[OutboxDifference] = []
        notes: list[tuple[int, str]] = []
        roots = _roots(before)
        for event_id, share, difference in self._find(conn, before, roots, replacements):
            # Checked before the correction began. What got in the way since stays surplus, for a person to settle.
            if difference.obstacle is not None or is_too_old(share.event.time_created, step.now):
                continue
            root = roots[event_id]
            if difference.properties is None:
                notes.append((root, f"{_NO_DIFFERENCE} {step.correction.id}"))
            else:
                further.append(self._to_difference(step, root, share.event, difference.properties))
                notes.append((root, to_note(further[-1].idempotency_id)))
            if difference.moves:
                moved.add(step.replacements[event_id])
        counts = append_differences(conn, further, step.now)
        settled = settle(conn, notes, step.correction.author, step.now)
        move(counts, DeliveryState.SURPLUS, DeliveryState.CREDITED, settled)
        return counts

    def _take_back(self, conn: Connection, step: CorrectionStep) -> Counter[Entry]:
        """Withdraw the differences that the correction made for these events; what may be in Lotus is made up for."""
        rows = lock_deliveries(conn, step.revived)
        roots = [row.event_id if row.held_for is None else row.held_for for row in rows.values()]
        counts: Counter[Entry] = Counter()
        sent = []
        notes = [(root, f"{_NO_DIFFERENCE} {step.correction.id}") for root in roots]
        for difference, row in list_differences(conn, step.correction.id, roots):
            notes.append((difference.corrected_id, to_note(difference.idempotency_id)))
            if _was_never_sent(row):
                counts.update(set_states(conn, [row.event_id], DeliveryState(row.state), DeliveryState.VOIDED))
            else:
                sent.append((difference, row))
        pairs = [(LotusShare(event=difference.to_event()), None) for difference, _ in sent]
        further = []
        for (difference, row), reverse in zip(sent, self._find_differences(conn, pairs), strict=True):
            if reverse.properties is None:
                # Other metrics are live by now. Lotus keeps it, and a person settles it.
                state = DeliveryState(row.state)
                after = DeliveryState.SURPLUS if state is DeliveryState.DELIVERED else DeliveryState.VOIDED
                counts.update(set_states(conn, [row.event_id], state, after))
            else:
                event = difference.to_event()
                further.append(
                    self._to_difference(step, difference.corrected_id, event, reverse.properties, suffix=UNDO)
                )
        counts.update(append_differences(conn, further, step.now))
        # Of a revived event, which is delivered by now, only the note goes.
        unsettle(conn, notes, DeliveryState.DELIVERED, DeliveryState.DELIVERED)
        reopened = unsettle(conn, notes, DeliveryState.CREDITED, DeliveryState.SURPLUS)
        move(counts, DeliveryState.CREDITED, DeliveryState.SURPLUS, reopened)
        return counts

    def _find(
        self,
        conn: Connection,
        rows: Mapping[int, OutboxRow],
        roots: Mapping[int, int],
        replacements: Mapping[int, LotusEvent],
    ) -> list[tuple[int, LotusShare, SumDifference]]:
        """Return the difference of each event of which Lotus has something."""
        event_ids = sorted(roots)
        shares = read_shares(conn, roots.values())
        pairs = [(shares[roots[event_id]], replacements.get(event_id)) for event_id in event_ids]
        settled = self._find_settled(conn, rows, roots)
        return [
            (event_id, share, SumDifference(obstacle=settled.get(event_id)) if event_id in settled else difference)
            for event_id, (share, _), difference in zip(
                event_ids, pairs, self._find_differences(conn, pairs), strict=True
            )
        ]

    def _find_settled(
        self, conn: Connection, rows: Mapping[int, OutboxRow], roots: Mapping[int, int]
    ) -> dict[int, str]:
        """Return why the differences of some events would be wrong: a person settled their surplus in another way."""
        others = {event_id: root for event_id, root in roots.items() if rows[event_id].event_id != root}
        state_of = read_deliveries_of(conn, others.values())
        told = find_told(conn, others.values())
        return {
            event_id: f"its surplus was settled already ({printable(state_of[root].note or '')[:100]})"
            for event_id, root in others.items()
            if state_of[root].state == DeliveryState.CREDITED
            and root not in told
            and not (state_of[root].note or "").startswith(_NO_DIFFERENCE)
        }

    def _to_difference(
        self, step: CorrectionStep, root: int, event: LotusEvent, properties: str, suffix: str = ""
    ) -> OutboxDifference:
        return OutboxDifference(
            event_id=self._next_id(step.now),
            correction_id=step.correction.id,
            corrected_id=root,
            idempotency_id=f"correction-{step.correction.id}-{root}{suffix}",
            event_name=event.event_name,
            customer_id=event.customer_id,
            time_created=event.time_created,
            properties=properties,
        )


def _roots(rows: Mapping[int, OutboxRow], now: int | None = None) -> dict[int, int]:
    """Return, by event id, the event that Lotus has of it; those of which it has nothing are left out.

    `now`: count those, too, that a worker may be sending.
    """
    roots: dict[int, int] = {}
    for row in rows.values():
        if row.state == DeliveryState.HELD and row.held_for is not None:
            roots[row.event_id] = row.held_for
        elif row.state == DeliveryState.DELIVERED or (now is not None and row.is_in_flight(now)):
            roots[row.event_id] = row.event_id
    return roots


def _was_never_sent(row: OutboxRow) -> bool:
    """Tell whether Lotus surely does not have it."""
    if row.state in {DeliveryState.FAILED, DeliveryState.UNFORWARDABLE}:
        return True
    return row.state == DeliveryState.WAITING and row.claim is None and row.attempt_id is None
