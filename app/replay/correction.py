"""Corrections: how the stored events of a call differ from those of the live transforms, and what replaces them.

An event is only ever replaced by another one, never removed: if the live transform makes none, or fewer, the call is
left unchanged and reported. A refund is for a person to decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from app.core.lotus import IDEMPOTENCY_ID_MAX, LotusEvent, equals_properties
from app.core.outcome import Outcome
from app.core.pipeline import Lane, Run
from app.store.events import to_revision_id
from app.store.kept import OwnEvent
from app.store.record import EventResult


class CannotCorrect(Exception):
    """The message says why a call is left unchanged."""


@dataclass(slots=True, kw_only=True)
class Replacement:
    """A stored event, and the one that replaces it."""

    old: OwnEvent
    lane: str
    position: int
    """Position of the new event in its lane."""
    base_id: str
    """The idempotency id that the transform gives it today."""
    revision: int
    """1: the new event has the base id. From 2 on: its id is `<base id>~<revision>`."""
    digest: bytes
    """Digest of the version that makes the new event."""
    why: str

    @property
    def new_id(self) -> str:
        """The idempotency id of the new event."""
        return to_revision_id(self.base_id, self.revision)

    @property
    def moves(self) -> bool:
        """Whether the base id changes, so that the old one becomes free."""
        return self.base_id != self.old.base


@dataclass(slots=True, kw_only=True)
class CallCorrection:
    """The changes to the events of one call."""

    own: Sequence[OwnEvent]
    """The events that the call made, void ones too."""
    replacements: list[Replacement] = field(default_factory=list)
    results: list[EventResult] = field(default_factory=list)
    """Results of the lanes that do not change."""
    lanes: dict[str, Lane] = field(default_factory=dict)
    """The lanes that change, by name, as made by the live transforms; unchanged events keep their stored ids."""

    def to_lanes(self) -> tuple[Lane, ...]:
        """Return the changing lanes with the new ids of their events."""
        named = dict(self.lanes)
        for replacement in self.replacements:
            lane = named[replacement.lane]
            events = list(lane.events)
            events[replacement.position] = msgspec.structs.replace(
                events[replacement.position], idempotency_id=replacement.new_id
            )
            named[replacement.lane] = msgspec.structs.replace(lane, events=tuple(events))
        return tuple(named.values())

    def chain(self, replacement: Replacement) -> list[OwnEvent]:
        """Return the stored event and those it replaced: all with its lane and base id."""
        old = replacement.old
        return [event for event in self.own if (event.lane, event.base) == (old.lane, old.base)]


def correct(own: Sequence[OwnEvent], run: Run) -> CallCorrection:
    """Compare the stored events of a call with those of the live transforms (`run`). Raises CannotCorrect."""
    if run.outcome is not None:
        raise CannotCorrect(f"today it would be {run.outcome} ({run.reason})")
    today = {lane.name: lane for lane in run.lanes}
    correction = CallCorrection(own=own)
    for name in sorted({event.lane for event in own}):
        if name not in today:
            raise CannotCorrect(f"today there would be no event in the lane {name}")
        live = sorted((event for event in own if event.lane == name and not event.voided), key=_position)
        _correct_lane(correction, live, today[name])
    return correction


def _correct_lane(correction: CallCorrection, live: list[OwnEvent], lane: Lane) -> None:
    pairs = _pair(live, lane)
    events = list(lane.events)
    replacements: list[Replacement] = []
    for position, event in enumerate(lane.events):
        old = pairs.get(position)
        if old is None:
            continue
        why = _difference(old, event)
        if not why:
            events[position] = msgspec.structs.replace(event, idempotency_id=old.idempotency_id)
            continue
        replacements.append(
            Replacement(
                old=old,
                lane=lane.name,
                position=position,
                base_id=event.idempotency_id,
                revision=_next_revision(event.idempotency_id, correction.own),
                digest=lane.digest,
                why=why,
            )
        )
    if not replacements and len(pairs) == len(events):
        correction.results += [
            EventResult(lane.name, position, event.idempotency_id, Outcome.STORED)
            for position, event in enumerate(events)
        ]
        return
    correction.replacements += replacements
    correction.lanes[lane.name] = msgspec.structs.replace(lane, events=tuple(events))


def _position(event: OwnEvent) -> int:
    return event.position


def _pair(live: list[OwnEvent], lane: Lane) -> dict[int, OwnEvent]:
    """Pair each new event, by position, with the stored one it replaces: of its base id, else the next unpaired."""
    by_id = {event.base: event for event in live}
    pairs = {
        position: by_id.pop(event.idempotency_id)
        for position, event in enumerate(lane.events)
        if event.idempotency_id in by_id
    }
    left = sorted(by_id.values(), key=_position)
    unpaired = [position for position in range(len(lane.events)) if position not in pairs]
    if len(left) > len(unpaired):
        raise CannotCorrect("today there would be fewer events than are stored")
    return {**pairs, **dict(zip(unpaired, left, strict=False))}


def _difference(old: OwnEvent, event: LotusEvent) -> str:
    """Return the names of the fields that differ, or ""."""
    fields = {
        "event_name": old.event_name == event.event_name,
        "idempotency_id": old.base == event.idempotency_id,
        "customer_id": old.customer_id == event.customer_id,
        "time_created": old.time_created == event.time_created,
        "properties": equals_properties(old.properties, event.properties),
    }
    return ", ".join(name for name, same in fields.items() if not same)


def _next_revision(base_id: str, own: Sequence[OwnEvent]) -> int:
    """Return the next revision of a base id in this call: 1 if it has none yet. Raises CannotCorrect."""
    revision = max((event.revision or 1 for event in own if event.base == base_id), default=0) + 1
    if len(to_revision_id(base_id, revision)) > IDEMPOTENCY_ID_MAX:
        raise CannotCorrect(f"{len(base_id)} characters of idempotency id leave no room for ~{revision}")
    return revision
