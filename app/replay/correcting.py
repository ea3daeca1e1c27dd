"""What today's transforms would have made of a call whose events are stored: what differs, and what replaces it.

An event is only ever replaced by another one, never taken away: where today's transform makes none, or fewer, the
call is left as it is and reported. Whether money is to be given back is for a person to say.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from app.core.lotus import IDEMPOTENCY_ID_MAX, LotusEvent
from app.core.outcome import Outcome
from app.core.pipeline import Lane, Run
from app.store.kept import OwnEvent
from app.store.record import EventResult

_SUFFIX = re.compile(r"(.*)~[0-9]+", re.DOTALL)


class CannotCorrect(Exception):
    """Says in a sentence why a call is left as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """A new event, and the one it stands for now."""

    lane: Lane
    """Today's, with the idempotency ids under which its events are stored."""
    position: int
    old: OwnEvent | None
    """None: there was no such event yet."""
    why: str

    @property
    def event(self) -> LotusEvent:
        """Return the new event."""
        return self.lane.events[self.position]


@dataclass(slots=True, kw_only=True)
class Correction:
    """What is to be done about the events of one call."""

    replacements: list[Replacement] = field(default_factory=list)
    results: list[EventResult] = field(default_factory=list)
    """Of the events that are right already."""
    lanes: dict[str, Lane] = field(default_factory=dict)
    """Today's lanes in which something is replaced, by name."""


def correct(own: Sequence[OwnEvent], done: Run) -> Correction:
    """Compare the stored events of a call with what today's transforms made of it. Raises CannotCorrect."""
    if done.outcome is not None:
        raise CannotCorrect(f"today it would be {done.outcome} ({done.reason})")
    today = {lane.name: lane for lane in done.lanes}
    ids = {one.idempotency_id for one in own}
    correction = Correction()
    for name in sorted({one.lane for one in own}):
        if name not in today:
            raise CannotCorrect(f"today there would be no event in the lane {name}")
        live = sorted((one for one in own if one.lane == name and not one.voided), key=lambda one: one.position)
        _correct_lane(correction, live, today[name], ids)
    return correction


def _correct_lane(correction: Correction, live: list[OwnEvent], lane: Lane, ids: set[str]) -> None:
    pairs = _pair(live, lane, ids)
    replaced: list[tuple[int, OwnEvent | None, str]] = []
    events = list(lane.events)
    for position, event in enumerate(lane.events):
        old = pairs.get(position)
        why = "there was no such event" if old is None else _difference(old, event, ids)
        if old is not None and not why:
            result = EventResult(lane.name, position, old.idempotency_id, Outcome.STORED)
            correction.results.append(result)
            continue
        free = _free_id(event.idempotency_id, ids)
        ids.add(free)
        events[position] = msgspec.structs.replace(event, idempotency_id=free)
        replaced.append((position, old, why))
    if not replaced:
        return
    named = msgspec.structs.replace(lane, events=tuple(events))
    correction.lanes[lane.name] = lane
    correction.replacements += [
        Replacement(lane=named, position=position, old=old, why=why) for position, old, why in replaced
    ]


def _pair(live: list[OwnEvent], lane: Lane, ids: set[str]) -> dict[int, OwnEvent]:
    """Find for each event of today the stored one it stands for: of the same id, else the next that is left."""
    by_id = {_base(one.idempotency_id, ids): one for one in live}
    pairs = {
        position: by_id.pop(event.idempotency_id)
        for position, event in enumerate(lane.events)
        if event.idempotency_id in by_id
    }
    left = sorted(by_id.values(), key=lambda one: one.position)
    unpaired = [position for position in range(len(lane.events)) if position not in pairs]
    if len(left) > len(unpaired):
        raise CannotCorrect("today there would be fewer events than are stored")
    return {**pairs, **dict(zip(unpaired, left, strict=False))}


def _difference(old: OwnEvent, event: LotusEvent, ids: set[str]) -> str:
    """Name the fields that differ; "" for none."""
    fields = {
        "event_name": old.event_name == event.event_name,
        "idempotency_id": _base(old.idempotency_id, ids) == event.idempotency_id,
        "customer_id": old.customer_id == event.customer_id,
        "time_created": old.time_created == event.time_created,
        "properties": old.properties == event.properties,
    }
    return ", ".join(name for name, same in fields.items() if not same)


def _base(idempotency_id: str, ids: set[str]) -> str:
    """Return an id without the `~n` of a correction: one only where the call also made the event without it."""
    found = _SUFFIX.fullmatch(idempotency_id)
    return found[1] if found and found[1] in ids else idempotency_id


def _free_id(wanted: str, ids: set[str]) -> str:
    """Return the id of the next version of an event."""
    free, version = wanted, 1
    while free in ids:
        version += 1
        free = f"{wanted}~{version}"
    if len(free) > IDEMPOTENCY_ID_MAX:
        raise CannotCorrect(f"{len(wanted)} characters of idempotency id leave no room for ~{version}")
    return free
