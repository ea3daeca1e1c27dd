"""The undo of a batch, whoever made it: what it made void counts again, and what it had put there counts no more."""

from collections.abc import Sequence

import msgspec

from app.store.corrections import CorrectedEvent, EventState, set_event_states
from app.store.engine import Connection
from app.store.updates import Stale
from app.store.voids import find_void_times, revive, void_by_person


class Undone(msgspec.Struct, frozen=True, kw_only=True):
    """What the undo of some events of a batch did."""

    revived: list[int]
    """Ids of events that count again."""
    removed: list[int]
    """Ids of events that count no more."""
    left: int
    """How many were left: something else has corrected them since."""


def undo_events(conn: Connection, correction_id: int, page: Sequence[CorrectedEvent], reason: str, now: int) -> Undone:
    """Undo a batch for these of its events.

    An event that the batch made void is revived if it is void since then, and its replacement counts; what the batch
    added is made void if it counts. Raises Stale.
    """
    ids = {event.event_id for event in page} | {event.replacement_id for event in page if event.replacement_id}
    times = find_void_times(conn, ids)
    states = [(event, _decide(event, times)) for event in page]
    revived = [(event.event_id, event.voided_at or 0) for event, state in states if state is EventState.REVIVED]
    removed = [
        event.event_id if state is EventState.REMOVED else event.replacement_id
        for event, state in states
        if state is EventState.REMOVED or (state is EventState.REVIVED and event.replacement_id is not None)
    ]
    removed_ids = [event_id for event_id in removed if event_id is not None]
    if revive(conn, revived) != len(revived) or void_by_person(conn, removed_ids, now, reason) != len(removed_ids):
        raise Stale
    set_event_states(conn, correction_id, states, now)
    left = sum(state is EventState.LEFT for _, state in states)
    return Undone(revived=[event_id for event_id, _ in revived], removed=removed_ids, left=left)


def _decide(event: CorrectedEvent, times: dict[int, int | None]) -> EventState:
    """Return what becomes of an event of a batch; `times`: since when it and its replacement are void."""
    missing = -1
    if event.state == EventState.ADDED:
        return EventState.REMOVED if times.get(event.event_id, missing) is None else EventState.LEFT
    is_void_by_it = times.get(event.event_id, missing) == event.voided_at
    stands = event.replacement_id is None or times.get(event.replacement_id, missing) is None
    return EventState.REVIVED if is_void_by_it and stands else EventState.LEFT
