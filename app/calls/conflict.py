"""Conflicts: the stored event compared with the one that the conflicting call would have made."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from app.calls.pretty import to_value_text
from app.core.outcome import Outcome
from app.store.engine import Connection
from app.store.review import CallRow, StoredResult
from app.store.review_events import EventRow, list_conflicting_events

CONFLICTS_MAX = 20
"""Conflicting events of one call that are compared."""

DIFFERENCES_MAX = 200
VALUE_CHARS = 2000
_NOT_COMPARED = frozenset({"time_created", "idempotency_id"})


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One path at which two events differ."""

    path: str
    stored: str | None
    """JSON of the stored value; None if the stored event has none."""
    incoming: str | None
    compared: bool
    """Whether this difference counts as a conflict: times and ids do not."""


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """One event that was not counted, because an event with other content has its id."""

    lane: str
    position: int
    idempotency_id: str
    rival_call_id: str | None
    stored: EventRow | None
    """None if it cannot be found any more."""
    differences: list[Difference]


def list_conflicts(conn: Connection, call: CallRow) -> list[Conflict]:
    """Return the conflicting events of a call, each with its differences from the stored event."""
    conflicting = [result for result in call.results if result.result is Outcome.CONFLICT][:CONFLICTS_MAX]
    if not conflicting:
        return []
    rivals = list_conflicting_events(
        conn,
        [result.idempotency_id for result in conflicting],
        [result.rival for result in conflicting if result.rival is not None],
    )
    return [_to_conflict(result, _find_stored(result, rivals)) for result in conflicting]


def _find_stored(result: StoredResult, rivals: Sequence[EventRow]) -> EventRow | None:
    """Find the stored event: the one with that id, else the rival call's event of the same lane and position."""
    by_id = [event for event in rivals if event.idempotency_id == result.idempotency_id]
    place = (result.rival, result.lane, result.position)
    by_place = [event for event in rivals if (event.call_id, event.lane, event.position) == place]
    return next((event for event in by_id if event.call_id == result.rival), None) or next(
        iter([*by_place, *by_id]), None
    )


def _to_conflict(result: StoredResult, stored: EventRow | None) -> Conflict:
    differences: list[Difference] = []
    if stored is not None and result.event is not msgspec.UNSET:
        for path, old, new in differences_of(stored.to_values(), result.read_event() or {}):
            if len(differences) == DIFFERENCES_MAX:
                break
            difference = Difference(
                path=path, stored=_shown(old), incoming=_shown(new), compared=path not in _NOT_COMPARED
            )
            differences.append(difference)
    return Conflict(
        lane=result.lane,
        position=result.position,
        idempotency_id=result.idempotency_id,
        rival_call_id=None if result.rival is None else str(result.rival),
        stored=stored,
        differences=sorted(differences, key=lambda difference: not difference.compared),
    )


def differences_of(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, old, new) for each path at which two JSON values differ; a missing value is `...`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            inner = f"{path}.{key}" if path else key
            yield from differences_of(old.get(key, ...), new.get(key, ...), inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (old_item, new_item) in enumerate(zip(old, new, strict=True)):
            yield from differences_of(old_item, new_item, f"{path}[{index}]")
    elif type(old) is not type(new) or old != new:
        yield path, old, new


def _shown(value: Any) -> str | None:
    return None if value is ... else to_value_text(value, VALUE_CHARS)
