"""What only the database can say of a mapped call: stored, duplicate or conflict. All inside the call's transaction.

Two unique keys decide. First each call claims (message id, lane): who comes second makes no events, whatever the
transforms say today. Then the events of the winners are inserted by idempotency id. A loser is a *duplicate* when its
content equals what is there, else a *conflict*. Where what is there was made by another version of a transform, the
new call is mapped by that version before comparing, so that a changed transform never looks like a conflict.
"""

from collections.abc import Callable

import msgspec
import sqlalchemy as sa

from app.core.lotus import LotusEvent
from app.core.outcome import Outcome, Reason
from app.core.pipeline import Lane
from app.core.segment import Call
from app.core.times import format_time
from app.store.events import (
    Claim,
    append_claims,
    append_events,
    event_row,
    find_claims,
    find_stored,
    release_claims,
)
from app.store.record import EventResult, Record

# (connection, call, digest of a transform version) -> the lane that version makes of the call, None where it cannot.
MapAgain = Callable[[sa.Connection, Call, bytes], Lane | None]
NextId = Callable[[int], int]


def settle(conn: sa.Connection, records: list[Record], map_again: MapAgain, next_id: NextId) -> None:
    """Store the events of `records` and write each record's outcome, reason, detail and results into it."""
    mapped = []
    for record in records:
        if record.run.outcome is None:
            mapped.append(record)
        else:
            record.outcome, record.reason, record.detail = record.run.outcome, record.run.reason, record.run.detail
    if mapped:
        _Settlement(conn, mapped, map_again).run(next_id)


class _Settlement:
    """The state of settling one group of mapped records."""

    def __init__(self, conn: sa.Connection, records: list[Record], map_again: MapAgain) -> None:
        self.conn = conn
        self.records = records
        self.map_again = map_again
        self.results: dict[int, list[EventResult]] = {record.id: [] for record in records}

    def run(self, next_id: NextId) -> None:
        won = append_claims(
            self.conn,
            [
                (key, lane, record.id)
                for record in self.records
                if (key := record.message_key) is not None
                for lane in record.run.lanes
            ],
        )
        winners: list[tuple[Record, Lane]] = []
        losers: list[tuple[Record, Lane]] = []
        for record in self.records:
            for lane in record.run.lanes:
                first = record.message_id is None or (record.id, lane.name) in won
                (winners if first else losers).append((record, lane))
        self._store(winners, next_id)
        if losers:
            self._compare(losers)
        for record in self.records:
            _conclude(record, self.results[record.id])

    def _store(self, winners: list[tuple[Record, Lane]], next_id: NextId) -> None:
        owners: dict[int, tuple[Record, Lane, int]] = {}
        rows = []
        for record, lane in winners:
            for position in range(len(lane.events)):
                event_id = next_id(record.received_at)
                owners[event_id] = (record, lane, position)
                rows.append(event_row(event_id, record.id, lane, position))
        new = append_events(self.conn, rows)
        late = {event_id: owner for event_id, owner in owners.items() if event_id not in new}
        there = (
            find_stored(self.conn, [lane.events[at].idempotency_id for _, lane, at in late.values()]) if late else {}
        )
        for event_id, (record, lane, position) in owners.items():
            event = lane.events[position]
            if event_id in new:
                result = EventResult(lane.name, position, event.idempotency_id, Outcome.STORED)
            else:
                rival = there[event.idempotency_id]
                equal = rival.content == event.content or (
                    rival.transform_digest != lane.digest
                    and rival.content == self._content_again(record, rival.transform_digest, rival.position)
                )
                result = _result(lane, position, rival.call_id, equal=equal)
            self.results[record.id].append(result)
        if late:
            # A call that made nothing but conflicts has not had its events: after a fix it may still make them.
            release_claims(
                self.conn,
                [
                    (key, lane.name)
                    for record, lane in winners
                    if (key := record.message_key) is not None and _only_conflicts(self.results[record.id], lane.name)
                ],
            )

    def _compare(self, losers: list[tuple[Record, Lane]]) -> None:
        keys = sorted({key for record, _ in losers if (key := record.message_key) is not None})
        claimed = find_claims(self.conn, keys)
        by_id = {record.id: record for record in self.records}
        for record, lane in losers:
            claim = claimed.get((record.message_key or "", lane.name))
            if claim is None:
                # The winner is in this very group and was itself a conflict: the same call again is one, too.
                rivals = [one for one in by_id.values() if one.message_key == record.message_key and one is not record]
                rival_id = next((one.id for one in rivals if self.results[one.id]), None)
                equal = False
            else:
                rival_id, equal = claim.call_id, self._same(record, lane, claim)
            self.results[record.id] += [
                _result(lane, position, rival_id, equal=equal) for position in range(len(lane.events))
            ]

    def _same(self, record: Record, lane: Lane, claim: Claim) -> bool:
        if claim.content == lane.content:
            return True
        if claim.transform_digest == lane.digest or record.run.call is None:
            return False
        again = self.map_again(self.conn, record.run.call, claim.transform_digest)
        return again is not None and again.content == claim.content

    def _content_again(self, record: Record, digest: bytes, position: int) -> bytes | None:
        if record.run.call is None:
            return None
        again = self.map_again(self.conn, record.run.call, digest)
        return again.events[position].content if again is not None and position < len(again.events) else None


def _result(lane: Lane, position: int, rival: int | None, *, equal: bool) -> EventResult:
    event = lane.events[position]
    if equal:
        return EventResult(lane.name, position, event.idempotency_id, Outcome.DUPLICATE, rival)
    return EventResult(lane.name, position, event.idempotency_id, Outcome.CONFLICT, rival, to_document(event))


def to_document(event: LotusEvent) -> dict[str, object]:
    """Return an event as JSON-ready values, under Lotus's names."""
    return {
        "event_name": event.event_name,
        "idempotency_id": event.idempotency_id,
        "customer_id": event.customer_id,
        "time_created": format_time(event.time_created),
        "properties": msgspec.Raw(event.properties.encode()),
    }


def _only_conflicts(results: list[EventResult], lane: str) -> bool:
    return all(result.result is Outcome.CONFLICT for result in results if result.lane == lane)


def _conclude(record: Record, results: list[EventResult]) -> None:
    """Sum the results of a call's events up: conflict if any is, else stored if any is new, else duplicate."""
    for result in results:
        if result.result is Outcome.CONFLICT:
            record.outcome, record.reason = Outcome.CONFLICT, Reason.CONFLICT
            other = f"call {result.rival}" if result.rival is not None else "another call"
            record.detail = f"the event {result.idempotency_id!r} is already there with other content, made by {other}"
            break
    else:
        if any(result.result is Outcome.STORED for result in results):
            record.outcome, record.reason, record.detail = Outcome.STORED, None, None
        else:
            record.outcome, record.reason = Outcome.DUPLICATE, Reason.DUPLICATE
            record.detail = f"call {results[0].rival} already made this event"
    # A call whose one event was stored needs no list: the event itself says so.
    record.results = tuple(results) if len(results) > 1 or record.outcome is not Outcome.STORED else ()
