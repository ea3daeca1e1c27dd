"""The undo of a batch, whoever made it: what it made void counts again, and what it had put there counts no more."""

from collections.abc import Sequence

import msgspec

from app.store.corrections import CorrectedEvent, EventState, set_event_states
from app.store.engine import Connection
from app.store.restore import GivenUpIds, restore_calls
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
    given_up = GivenUpIds(conn, correction_id, page)
    page = given_up.page
    ids = {event.event_id for event in page} | {event.replacement_id for event in page if event.replacement_id}
    times = find_void_times(conn, ids)
    states = {event.event_id: _decide(event, times) for event in page}
    states |= dict.fromkeys(given_up.find_blocked(states), EventState.LEFT)
    undone = [event for event in page if states[event.event_id] is not EventState.LEFT]
    revived = [(event.event_id, event.voided_at) for event in undone if event.voided_at is not None]
    removed = [
        event_id
        for event in undone
        if (event_id := event.event_id if event.voided_at is None else event.replacement_id) is not None
    ]
    if revive(conn, revived) != len(revived) or void_by_person(conn, removed, now, reason) != len(removed):
        raise Stale
    given_up.restore(event_id for event_id, _ in revived)
    restore_calls(conn, {event.replacement_id: event.event_id for event in undone if event.replacement_id is not None})
    set_event_states(conn, correction_id, [(event, states[event.event_id]) for event in page], now)
    return Undone(revived=[event_id for event_id, _ in revived], removed=removed, left=len(page) - len(undone))


def _decide(event: CorrectedEvent, times: dict[int, int | None]) -> EventState:
    """Return what becomes of an event of a batch; `times`: since when it and its replacement are void."""
    missing = -1
    if event.state == EventState.ADDED:
        return EventState.REMOVED if times.get(event.event_id, missing) is None else EventState.LEFT
    is_void_by_it = times.get(event.event_id, missing) == event.voided_at
    stands = event.replacement_id is None or times.get(event.replacement_id, missing) is None
    return EventState.REVIVED if is_void_by_it and stands else EventState.LEFT
