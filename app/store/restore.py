"""What the undo of a replay gives back beside the events themselves: idempotency ids, and what calls say of them.

A correction that moves an event to another base id frees the old one (`app.store.events.give_up_ids`). An undo needs it
again, also where another event of the same batch took it: both are then undone in one step. `conn` first.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import sqlalchemy as sa

from app.store.arrays import look_up
from app.store.corrections import CorrectedEvent, EventState
from app.store.events import base_id_of, find_stored, give_up_ids, public_id
from app.store.record import EventResult
from app.store.results import results_text, to_event_results
from app.store.schema import calls, corrected_events, events
from app.store.updates import Stale, Update

_IDS = Update(events, new=("idempotency_id",), known=("id",))
_CALLS = Update(
    calls,
    new=("transform", "transform_digest", "customer_id", "results"),
    known=("id", "transform_digest", "results"),
)
_OPEN = (EventState.VOIDED.value, EventState.ADDED.value)


class _Named(msgspec.Struct, frozen=True):
    """An event, the id that it was made with, and the one that it is stored under."""

    id: int
    call_id: int
    lane: str
    base_id: str
    revision: int
    public_id: str
    stored_id: str


class GivenUpIds:
    """The ids that events of a batch need to count again, and which they gave up."""

    def __init__(self, conn: sa.Connection, correction_id: int, page: Sequence[CorrectedEvent]) -> None:
        """Read what belongs to a page of a batch; `page` becomes longer by what holds the ids of its events."""
        self._conn = conn
        self.page = list(page)
        self._needed: dict[int, list[_Named]] = {}
        """By an event of the batch: those with its base id that gave theirs up, it and what it had replaced."""
        self._holders: dict[str, int] = {}
        """By a needed id: the event that has it now."""
        self._removed: set[int] = set()
        """Those of them that the undo of another batch removed: their ids are free where one is needed."""
        fresh = self.page
        while moved := self._find_moved([event.event_id for event in fresh if event.replacement_id is not None]):
            self._needed.update(moved)
            ids = {named.public_id for chain in moved.values() for named in chain}
            held = {id_: event.id for id_, event in find_stored(conn, ids).items()}
            self._holders.update(held)
            self._removed |= self._find_removed(set(held.values()))
            fresh = self._find_rows(correction_id, set(held.values()))
            self.page += fresh

    def find_blocked(self, states: Mapping[int, EventState]) -> set[int]:
        """Return the events of the batch that cannot count again, as the ids are in use by events that stay.

        `states`: what would become of each event of the page.
        """
        blocked: set[int] = set()
        while True:
            removed = self._removed | {
                event.event_id if event.replacement_id is None else event.replacement_id
                for event in self.page
                if event.event_id not in blocked and states[event.event_id] is not EventState.LEFT
            }
            more = {
                event_id
                for event_id, chain in self._needed.items()
                if states.get(event_id) is EventState.REVIVED
                and any(self._holders.get(named.public_id, None) not in {None, *removed} for named in chain)
            }
            if more <= blocked:
                return blocked
            blocked |= more

    def restore(self, revived: Iterable[int]) -> None:
        """Give events that count again their ids back; what has them now, and is void, gives them up."""
        chains = [named for event_id in revived for named in self._needed.get(event_id, ())]
        holders = {self._holders[named.public_id] for named in chains if named.public_id in self._holders}
        give_up_ids(
            self._conn, [(named.base_id, named.revision, named.id) for named in self._read(events.c.id, holders)]
        )
        _IDS.run(self._conn, sorted(((named.public_id, named.id) for named in chains), key=lambda row: row[1]))

    def _find_moved(self, event_ids: Sequence[int]) -> dict[int, list[_Named]]:
        own = [named for named in self._read(events.c.id, event_ids) if named.stored_id != named.public_id]
        if not own:
            return {}
        chains: dict[tuple[int, str, str], list[_Named]] = {}
        for named in self._read(events.c.call_id, {named.call_id for named in own}):
            if named.stored_id != named.public_id:
                chains.setdefault((named.call_id, named.lane, named.base_id), []).append(named)
        return {
            named.id: [
                former
                for former in chains[named.call_id, named.lane, named.base_id]
                # Later revisions were made after it, and removed by the undo of their own batch.
                if former.revision <= named.revision
            ]
            for named in own
        }

    def _read(self, column: sa.Column[int], keys: Iterable[int]) -> list[_Named]:
        columns = (events.c.id, events.c.call_id, events.c.lane, events.c.idempotency_id, events.c.base_id)
        return [
            _Named(
                row.id,
                row.call_id,
                row.lane,
                base_id_of(row.idempotency_id, row.base_id),
                row.revision or 1,
                public_id(row.idempotency_id, row.base_id, row.revision),
                row.idempotency_id,
            )
            for row in look_up(self._conn, sa.select(*columns, events.c.revision), column, keys)
        ]

    def _find_removed(self, holders: set[int]) -> set[int]:
        removed: set[int] = set()
        for column, state in (
            (corrected_events.c.event_id, EventState.REMOVED),
            (corrected_events.c.replacement_id, EventState.REVIVED),
        ):
            query = sa.select(column).join(events, events.c.id == column)
            query = query.where(corrected_events.c.state == state.value, events.c.voided_at.is_not(None))
            removed.update(row[0] for row in look_up(self._conn, query, column, holders))
        return removed

    def _find_rows(self, correction_id: int, holders: set[int]) -> list[CorrectedEvent]:
        known = {event.event_id for event in self.page}
        query = sa.select(*(corrected_events.c[name] for name in CorrectedEvent.__struct_fields__)).where(
            corrected_events.c.correction_id == correction_id, corrected_events.c.state.in_(_OPEN)
        )
        rows: dict[int, CorrectedEvent] = {}
        for column in (corrected_events.c.event_id, corrected_events.c.replacement_id):
            for row in look_up(self._conn, query, column, holders):
                rows[row.event_id] = CorrectedEvent(*row)
        return [row for event_id, row in sorted(rows.items()) if event_id not in known]


class _Made(msgspec.Struct, frozen=True):
    """An event, and what its call says of it."""

    id: int
    call_id: int
    position: int
    public_id: str
    transform: str
    transform_digest: bytes
    customer_id: str


def restore_calls(conn: sa.Connection, replacements: Mapping[int, int]) -> None:
    """Let calls tell of the events that count again, by the id of the removed one that had replaced each.

    Their outcome stays. Raises Stale.
    """
    made = _read_made(conn, {*replacements.keys(), *replacements.values()})
    pairs_of: dict[int, list[tuple[_Made, _Made]]] = {}
    for new_id, old_id in replacements.items():
        pairs_of.setdefault(made[new_id].call_id, []).append((made[new_id], made[old_id]))
    columns = (calls.c.id, calls.c.transform, calls.c.transform_digest, calls.c.customer_id, calls.c.results)
    changes = []
    for call in look_up(conn, sa.select(*columns), calls.c.id, pairs_of):
        pairs = sorted(pairs_of[call.id], key=_position)
        old_ids = {new.public_id: old.public_id for new, old in pairs}
        results = [_renamed(result, old_ids) for result in to_event_results(call.results)]
        transform, digest, customer = call.transform, call.transform_digest, call.customer_id
        decider = next((pair for pair in pairs if pair[0].transform_digest == digest), None)
        if decider is not None:
            new, old = decider
            transform, digest = old.transform, old.transform_digest
            customer = old.customer_id if customer == new.customer_id else customer
        changes.append(
            (transform, digest, customer, results_text(results), call.id, call.transform_digest, call.results)
        )
    if _CALLS.run(conn, sorted(changes, key=lambda row: row[4])) != len(changes):
        raise Stale


def _read_made(conn: sa.Connection, event_ids: Iterable[int]) -> dict[int, _Made]:
    names = ("transform", "transform_digest", "customer_id")
    columns = (events.c.id, events.c.call_id, events.c.position, events.c.idempotency_id, events.c.base_id)
    query = sa.select(*columns, events.c.revision, *(events.c[name] for name in names))
    return {
        row.id: _Made(
            row.id,
            row.call_id,
            row.position,
            public_id(row.idempotency_id, row.base_id, row.revision),
            row.transform,
            row.transform_digest,
            row.customer_id,
        )
        for row in look_up(conn, query, events.c.id, event_ids)
    }


def _position(pair: tuple[_Made, _Made]) -> tuple[int, int]:
    return pair[0].position, pair[0].id


def _renamed(result: EventResult, old_ids: Mapping[str, str]) -> EventResult:
    return msgspec.structs.replace(result, idempotency_id=old_ids.get(result.idempotency_id, result.idempotency_id))
