"""What stands against what: the event that was there first beside the one that a conflicting call would have made."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from app.calls.pretty import to_value_text
from app.calls.sql_conflicts import list_rivals
from app.core.outcome import Outcome
from app.store.engine import Connection
from app.store.review import CallRow, StoredResult
from app.store.review_events import EventRow

CONFLICTS_MAX = 20
"""Conflicting events of one call that are told whole."""

DIFFERENCES_MAX = 200
VALUE_CHARS = 2000
_NOT_COMPARED = frozenset({"time_created", "idempotency_id"})


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One place at which two events differ."""

    path: str
    there: str | None
    """JSON of what is stored; None where it has nothing there."""
    here: str | None
    compared: bool
    """Whether this makes it a conflict: times and ids do not."""


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """One event that was not counted, because another content stands under its id."""

    lane: str
    position: int
    idempotency_id: str
    rival_call_id: str | None
    there: EventRow | None
    """None where it cannot be found any more."""
    differences: list[Difference]


def tell_conflicts(conn: Connection, call: CallRow) -> list[Conflict]:
    """Return the conflicting events of a call with what they differ in."""
    conflicting = [one for one in call.results if one.result is Outcome.CONFLICT][:CONFLICTS_MAX]
    if not conflicting:
        return []
    rivals = list_rivals(
        conn,
        [one.idempotency_id for one in conflicting],
        [one.rival for one in conflicting if one.rival is not None],
    )
    return [_tell(result, _find(result, rivals)) for result in conflicting]


def _find(result: StoredResult, rivals: Sequence[EventRow]) -> EventRow | None:
    """Find what was there first: the event of that id; else, of the same message, the one in the same place."""
    by_id = [one for one in rivals if one.idempotency_id == result.idempotency_id]
    place = (result.rival, result.lane, result.position)
    by_place = [one for one in rivals if (one.call_id, one.lane, one.position) == place]
    return next((one for one in by_id if one.call_id == result.rival), None) or next(iter([*by_place, *by_id]), None)


def _tell(result: StoredResult, there: EventRow | None) -> Conflict:
    differences: list[Difference] = []
    if there is not None and result.event is not msgspec.UNSET:
        for path, old, new in differences_of(there.to_values(), result.read_event() or {}):
            if len(differences) == DIFFERENCES_MAX:
                break
            difference = Difference(path=path, there=_told(old), here=_told(new), compared=path not in _NOT_COMPARED)
            differences.append(difference)
    return Conflict(
        lane=result.lane,
        position=result.position,
        idempotency_id=result.idempotency_id,
        rival_call_id=None if result.rival is None else str(result.rival),
        there=there,
        differences=sorted(differences, key=lambda one: not one.compared),
    )


def differences_of(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Give (path, there, here) for each place at which two JSON values differ; a value that is not there is `...`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            inner = f"{path}.{key}" if path else key
            yield from differences_of(old.get(key, ...), new.get(key, ...), inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences_of(one, other, f"{path}[{index}]")
    elif type(old) is not type(new) or old != new:
        yield path, old, new


def _told(value: Any) -> str | None:
    return None if value is ... else to_value_text(value, VALUE_CHARS)
