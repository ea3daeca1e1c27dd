"""The differences between the events that two sets of transforms make of one call."""

from collections.abc import Iterator
from typing import Any

from app.core.pipeline import Lane
from app.core.transform.examples import to_document


def differences(active: tuple[Lane, ...], draft: tuple[Lane, ...]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, before, after) for each path at which the events of a call differ, each path once."""
    if [lane.events for lane in active] == [lane.events for lane in draft] and _lanes(active) == _lanes(draft):
        return
    paths: set[str] = set()
    before, after = _by_lane(active), _by_lane(draft)
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            change = "made" if name in after else "no longer made"
            yield f"the lane {name} is {change}", before.get(name), after.get(name)
            continue
        if len(before[name]) != len(after[name]):
            yield "number of events", len(before[name]), len(after[name])
        for old, new in zip(before[name], after[name], strict=False):
            for path, was, now in _walk_values("", old, new):
                if path not in paths:
                    paths.add(path)
                    yield path, was, now


def _lanes(lanes: tuple[Lane, ...]) -> list[str]:
    return [lane.name for lane in lanes]


def _by_lane(lanes: tuple[Lane, ...]) -> dict[str, list[dict[str, Any]]]:
    return {lane.name: [to_document(event) for event in lane.events] for lane in lanes}


_MISSING = object()


def _walk_values(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            was, now = old.get(key, _MISSING), new.get(key, _MISSING)
            yield from _walk_values(f"{path}.{key}" if path else key, was, now)
    elif old != new or not (type(old) is type(new) or {type(old), type(new)} == {int, float}):
        yield path, _shown(old), _shown(new)


def _shown(value: Any) -> Any:
    return "(missing)" if value is _MISSING else value
