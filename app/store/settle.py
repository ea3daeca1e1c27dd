"""Decides what only the database knows of a mapped call: stored, duplicate or conflict. In the call's transaction.

Two unique keys decide. First each call claims its message: the second call to claim it makes no events, whatever the
transforms say today and whatever lanes they have. Then the events of the winners are inserted by idempotency id. A
loser is a *duplicate* if its content equals the stored one, else a *conflict*. If another version of a transform made
the stored event, the new call is first mapped by that version: a changed transform never looks like a conflict.
"""

from collections.abc import Callable, Mapping, Sequence

import sqlalchemy as sa

from app.core.fault import CONFLICT
from app.core.lotus import LotusEvent
from app.core.outcome import Outcome, Reason
from app.core.pipeline import MAIN_LANE, Lane, equals_content
from app.core.segment import Call
from app.store.engine import DuplicateKey
from app.store.events import (
    Claim,
    NewEvent,
    StoredEvent,
    find_claims,
    find_stored,
    prepare_claims,
    prepare_events,
    release_claims,
)
from app.store.inserts import BoundStatement, pipelined
from app.store.record import EventResult, MappedCall

# (connection, call, digest of a version, when the call came) -> the lane that the version makes of it, None if none.
MapAgain = Callable[[sa.Connection, Call, bytes, int], Lane | None]
NextId = Callable[[int], int]

_Share = tuple[MappedCall, Lane]
_Pairs = list[tuple[MappedCall, NewEvent]]
_Insertion = tuple[_Pairs, BoundStatement]


def settle(
    conn: sa.Connection,
    calls: Sequence[MappedCall],
    map_again: MapAgain,
    next_id: NextId,
    then: Callable[[], None] = lambda: None,
) -> list[NewEvent]:
    """Store the events of `calls` and write each call's outcome, reason, detail and results into it.

    Returns the new events. `then` prepares what depends on the outcomes: it is called while a server stores the events,
    with the outcomes as if all of them were new, and again if they were not.
    """
    mapped = []
    for call in calls:
        if call.run.outcome is None:
            mapped.append(call)
        else:
            run = call.run
            call.outcome, call.reason, call.detail, call.fault = run.outcome, run.reason, run.detail, run.fault
    if not mapped:
        then()
        return []
    return _Settlement(conn, mapped, map_again, then).run(next_id)


class _Settlement:
    """The settlement of one group of mapped calls."""

    def __init__(
        self, conn: sa.Connection, calls: Sequence[MappedCall], map_again: MapAgain, then: Callable[[], None]
    ) -> None:
        self.conn = conn
        self.calls = calls
        self.map_again = map_again
        self.then = then
        self.results: dict[int, list[EventResult]] = {call.id: [] for call in calls}
        self.new: list[NewEvent] = []

    def run(self, next_id: NextId) -> list[NewEvent]:
        shares = [(call, lane) for call in self.calls for lane in call.run.lanes]
        while shares:
            winners, losers, (pairs, insert) = self._claim(shares, next_id)
            all_new = self._insert(pairs, insert, last=not losers)
            if all_new and not losers:
                return self.new
            if not all_new:
                self._release(winners)
            shares = self._compare_losers(losers) if losers else []
        self._conclude(self.results)
        return self.new

    def _conclude(self, results: Mapping[int, list[EventResult]]) -> None:
        """Set the outcomes by these results of each call, and prepare what depends on them."""
        for call in self.calls:
            conclude(call, _in_order(call, results[call.id]))
        self.then()

    def _claim(self, shares: list[_Share], next_id: NextId) -> tuple[list[_Share], list[_Share], _Insertion]:
        """Claim the messages; return the shares that were first, the others, and the events of the first ones.

        A call that holds a message holds all its lanes; the rows of further lanes record what was made there. A call
        that made events before, and makes more of them in a replay, claims those further lanes.
        """
        new_claims = _claims_to_make(shares)
        with pipelined(self.conn, len(new_claims)):
            claimed = prepare_claims(self.conn, new_claims).send()
            # As if all were first, which they nearly always are; meanwhile the server works.
            events = self._prepare(shares, next_id)
        winners, losers = shares, list[_Share]()
        if claimed.rowcount != len(new_claims):
            holders = find_claims(self.conn, (claim[0] for claim in new_claims))
            winners = []
            for call, lane in shares:
                key, lanes = call.message_key, call.made_lanes
                first = key is None or lane.name in lanes or holders[key, _slot(call, lane)].call_id == call.id
                (winners if first else losers).append((call, lane))
        further = [
            (key, lane.name, lane, call.id)
            for call, lane in winners
            if lane.name != MAIN_LANE and (key := call.message_key) is not None
        ]
        if further:
            prepare_claims(self.conn, further).send()
        return winners, losers, self._prepare(winners, next_id) if losers else events

    def _prepare(self, winners: list[_Share], next_id: NextId) -> _Insertion:
        pairs = [
            (call, NewEvent(next_id(call.received_at), call.id, lane, position))
            for call, lane in winners
            for position in range(len(lane.events))
        ]
        return pairs, prepare_events(self.conn, [new for _, new in pairs])

    def _insert(self, pairs: _Pairs, insert: BoundStatement, *, last: bool) -> bool:
        """Insert events and add the result of each; return whether all are new. `last`: no other call is left."""
        with pipelined(self.conn, len(pairs)):
            written = insert.send()
            # As if all were new, which they nearly always are; meanwhile the server works.
            expected = {call_id: [*results] for call_id, results in self.results.items()}
            for _, new in pairs:
                expected[new.call_id].append(_stored(new))
            if last:
                self._conclude(expected)
        if written.rowcount == len(pairs):
            self.results = expected
            self.new += [new for _, new in pairs]
            return True
        self._resolve(pairs)
        return False

    def _resolve(self, pairs: _Pairs) -> None:
        """Find which events were stored, and which were left out for a stored event with the same id."""
        stored = find_stored(self.conn, (_idempotency_id(new) for _, new in pairs))
        fresh = {new.id for _, new in pairs}
        for call, new in pairs:
            rival = stored.get(_idempotency_id(new))
            if rival is None:
                # Left out, but not for its idempotency id: another process made the same event id.
                raise DuplicateKey("events.id")
            if rival.id == new.id:
                self.new.append(new)
            # This event itself, stored just now or by an earlier run of the same call; not its twin in the same call.
            own = _is_of_same_lane(new, rival) and (rival.id == new.id or rival.id not in fresh)
            result = _stored(new) if own else self._compare_with(call, new.lane, new.position, rival)
            self.results[call.id].append(result)

    def _compare_with(self, call: MappedCall, lane: Lane, position: int, rival: StoredEvent) -> EventResult:
        """Compare an event with the one that already has its idempotency id."""
        again = self._map_again(call, lane, rival.transform_digest)
        twin, place = (lane, position) if again is None else (again, _find_same(again, lane.events[position], rival))
        equal = place is not None and equals_content(twin, rival.content, place)
        return to_result(lane, position, rival.call_id, equal=equal)

    def _release(self, winners: list[_Share]) -> None:
        """Release the claims of calls that made only conflicts: after a fix they may still make their events."""
        released = set()
        for call, lane in winners:
            if (key := call.message_key) is None:
                continue
            results = self.results[call.id]
            if not call.made_lanes and all(result.result is Outcome.CONFLICT for result in results):
                released |= {(key, lane.name), (key, MAIN_LANE)}
            elif lane.name != MAIN_LANE and _only_conflicts(results, lane.name):
                released.add((key, lane.name))
        release_claims(self.conn, sorted(released))

    def _compare_losers(self, losers: list[_Share]) -> list[_Share]:
        """Decide the results of the losers; return those that may try again, since the first released its claim."""
        claimed = find_claims(self.conn, (key for call, _ in losers if (key := call.message_key) is not None))
        open_again: list[_Share] = []
        for call, lane in losers:
            key = call.message_key or ""
            # The first call may have had other lanes: then its main lane decides whether this one is the same.
            claim = claimed.get((key, lane.name)) or claimed.get((key, MAIN_LANE))
            if claim is None:
                open_again.append((call, lane))
                continue
            equal = self._same(call, lane, claim)
            self.results[call.id] += [
                to_result(lane, position, claim.call_id, equal=equal) for position in range(len(lane.events))
            ]
        return self._without_hopeless(open_again) if open_again else []

    def _without_hopeless(self, shares: list[_Share]) -> list[_Share]:
        """Drop what would only conflict, so that a message sent a thousand times is not tried a thousand times."""
        stored = find_stored(self.conn, (event.idempotency_id for _, lane in shares for event in lane.events))
        hopeful: list[_Share] = []
        for call, lane in shares:
            results = [
                self._compare_with(call, lane, position, rival)
                for position, event in enumerate(lane.events)
                if (rival := stored.get(event.idempotency_id)) is not None
            ]
            if len(results) == len(lane.events) and _only_conflicts(results, lane.name):
                self.results[call.id] += results
            else:
                hopeful.append((call, lane))
        return hopeful

    def _same(self, call: MappedCall, lane: Lane, claim: Claim) -> bool:
        again = self._map_again(call, lane, claim.transform_digest)
        return equals_content(lane if again is None else again, claim.content)

    def _map_again(self, call: MappedCall, lane: Lane, digest: bytes) -> Lane | None:
        """Map a call by the version that made the stored event; None if it is this one, or takes no such call."""
        if digest == lane.digest or (parsed := call.find_call()) is None:
            return None
        return self.map_again(self.conn, parsed, digest, call.received_at)


def _claims_to_make(shares: list[_Share]) -> list[tuple[str, str, Lane, int]]:
    """Return the claims to make: one for each message, with the content of its first lane."""
    rows: list[tuple[str, str, Lane, int]] = []
    last = None
    for call, lane in shares:
        key, made = call.message_key, call.made_lanes
        if key is None or (call is last and not made) or lane.name in made:
            continue
        rows.append((key, lane.name, lane, call.id) if made else (key, MAIN_LANE, call.run.lanes[0], call.id))
        last = call
    return rows


def _slot(call: MappedCall, lane: Lane) -> str:
    """Return the lane name under which a call claims its message to make events in `lane`."""
    return lane.name if call.made_lanes else MAIN_LANE


def _find_same(again: Lane, event: LotusEvent, rival: StoredEvent) -> int | None:
    """Return the index at which an earlier version makes an event: by its id, else the rival's; None if there is none.

    Another call may have the same event at another index; and the version may have given it another id.
    """
    for place, other in enumerate(again.events):
        if other.idempotency_id == event.idempotency_id:
            return place
    return rival.position if rival.position < len(again.events) else None


def _is_of_same_lane(new: NewEvent, rival: StoredEvent) -> bool:
    """Whether the stored event was made by the same call, in the same lane."""
    return (rival.call_id, rival.lane) == (new.call_id, new.lane.name)


def _idempotency_id(new: NewEvent) -> str:
    return new.lane.events[new.position].idempotency_id


def _stored(new: NewEvent) -> EventResult:
    return EventResult(new.lane.name, new.position, _idempotency_id(new), Outcome.STORED)


def to_result(lane: Lane, position: int, rival: int | None, *, equal: bool) -> EventResult:
    """Return the result of an event whose idempotency id or message was stored before."""
    event = lane.events[position]
    if equal:
        return EventResult(lane.name, position, event.idempotency_id, Outcome.DUPLICATE, rival)
    return EventResult(lane.name, position, event.idempotency_id, Outcome.CONFLICT, rival, event.to_document())


def _only_conflicts(results: list[EventResult], lane: str) -> bool:
    return all(result.result is Outcome.CONFLICT for result in results if result.lane == lane)


def _in_order(call: MappedCall, results: list[EventResult]) -> list[EventResult]:
    """Sort results by the call's lanes, and not by when they were decided."""
    if len(call.run.lanes) == 1:
        return results
    places = {lane.name: place for place, lane in enumerate(call.run.lanes)}
    return sorted(results, key=lambda result: (places[result.lane], result.position))


def conclude(call: MappedCall, results: Sequence[EventResult]) -> None:
    """Set a call's outcome from its events' results: conflict if any is, else stored if any is new, else duplicate."""
    if len(results) == 1 and results[0].result is Outcome.STORED:
        # Nearly every call: its one event was stored, which needs no list, since the event itself shows it.
        call.outcome, call.reason, call.detail, call.results, call.fault = Outcome.STORED, None, None, (), None
        return
    call.fault = None
    for result in results:
        if result.result is Outcome.CONFLICT:
            call.outcome, call.reason, call.fault = Outcome.CONFLICT, Reason.CONFLICT, CONFLICT
            other = f"call {result.rival}" if result.rival is not None else "another call"
            call.detail = f"the event {result.idempotency_id!r} is already there with other content, made by {other}"
            break
    else:
        if any(result.result is Outcome.STORED for result in results):
            call.outcome, call.reason, call.detail = Outcome.STORED, None, None
        else:
            call.outcome, call.reason = Outcome.DUPLICATE, Reason.DUPLICATE
            call.detail = f"call {results[0].rival} already made this event"
    call.results = tuple(results)
