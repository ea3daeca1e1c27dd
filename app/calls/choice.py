"""Which transforms match a call, and why the others do not."""

from enum import StrEnum

import msgspec

from app.core.segment import Call
from app.core.transform.transform import DEFAULT, Transform, TransformSet

_NAMES_SHOWN = 5


class TransformRole(StrEnum):
    """The part a transform plays for a call."""

    CHOSEN = "chosen"
    ALSO = "also"
    """It adds its events to those of the chosen transform."""
    PASSED_OVER = "passed over"
    """It matches the call, but another transform goes first."""
    OTHER_CALLS = "other calls"


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One transform and its role for a call."""

    name: str
    version: str
    role: TransformRole
    sentence: str


def list_candidates(transforms: TransformSet, call: Call) -> list[Candidate]:
    """Return all transforms of a set: those that take the call, then those passed over, then those of other calls."""
    choice = transforms.choose(call)
    candidates: list[Candidate] = []
    if choice.main is not None:
        candidates.append(_candidate(choice.main, TransformRole.CHOSEN, _takes(choice.main)))
    candidates += [
        _candidate(transform, TransformRole.ALSO, f"{_takes(transform)}, beside the others (also: true)")
        for transform in choice.also
    ]
    for transform in choice.passed_over:
        candidates.append(_candidate(transform, TransformRole.PASSED_OVER, _why_later(transform, choice.main)))
    names = {candidate.name for candidate in candidates}
    for transform in transforms.transforms:
        if transform.name not in names:
            candidates.append(_candidate(transform, TransformRole.OTHER_CALLS, f"takes {_match(transform)}"))
    return candidates


def _candidate(transform: Transform, role: TransformRole, sentence: str) -> Candidate:
    return Candidate(name=transform.name, version=transform.digest.hex(), role=role, sentence=sentence)


def _takes(transform: Transform) -> str:
    disabled = "" if transform.enabled else "; it is disabled, so the call is ignored"
    return f"takes {_match(transform)}{disabled}"


def _why_later(transform: Transform, main: Transform | None) -> str:
    first = main.name if main else "another"
    if transform.name == DEFAULT:
        return f"takes what no other does, and {first} does"
    if main is not None and main.priority != transform.priority:
        return f"takes it too, but {first} goes first: priority {main.priority} against {transform.priority}"
    return f"takes it too, but {first} goes first: of equal priority, its name comes first"


def _match(transform: Transform) -> str:
    """Return in words which calls a transform takes."""
    match = transform.source.value.get("match", {})
    kind = match.get("type", "track")
    if transform.name == DEFAULT and "event" not in match:
        return f"{kind} calls that no other takes"
    text = f"{kind} calls"
    if "event" in match:
        text += f" named {_names(match['event'])}"
    if "source" in match:
        text += f" of the source {_names(match['source'])}"
    return text


def _names(pattern: str | list[str]) -> str:
    names = [pattern] if isinstance(pattern, str) else pattern
    shown = " or ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} or one of {len(names) - _NAMES_SHOWN} more"
