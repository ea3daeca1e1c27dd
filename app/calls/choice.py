"""Which transforms take a call, and why not the others."""

from enum import StrEnum

import msgspec

from app.core.segment import Call
from app.core.transform.transform import DEFAULT, Transform, TransformSet

_NAMES_SHOWN = 5


class TransformRole(StrEnum):
    """How a transform stands to a call."""

    CHOSEN = "chosen"
    ALSO = "also"
    """It adds its events to those of the one that is chosen."""
    PASSED_OVER = "passed over"
    """It takes such calls, and another goes first."""
    OTHER_CALLS = "other calls"


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One transform, and what it has to do with the call."""

    name: str
    version: str
    verdict: TransformRole
    sentence: str


def tell_choice(transforms: TransformSet, call: Call) -> list[Candidate]:
    """Return all transforms of a set: first those that take the call, then those that would have, then the others."""
    choice = transforms.choose(call)
    told: list[Candidate] = []
    if choice.main is not None:
        told.append(_candidate(choice.main, TransformRole.CHOSEN, _takes(choice.main)))
    told += [
        _candidate(one, TransformRole.ALSO, f"{_takes(one)}, beside the others (also: true)") for one in choice.also
    ]
    for one in choice.passed_over:
        told.append(_candidate(one, TransformRole.PASSED_OVER, _why_later(one, choice.main)))
    known = {one.name for one in told}
    for one in transforms.transforms:
        if one.name not in known:
            told.append(_candidate(one, TransformRole.OTHER_CALLS, f"takes {_match(one)}"))
    return told


def _candidate(transform: Transform, verdict: TransformRole, sentence: str) -> Candidate:
    return Candidate(name=transform.name, version=transform.digest.hex(), verdict=verdict, sentence=sentence)


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
    """Say in words what a transform takes."""
    said = transform.source.value.get("match", {})
    kind = said.get("type", "track")
    if transform.name == DEFAULT and "event" not in said:
        return f"{kind} calls that no other takes"
    text = f"{kind} calls"
    if "event" in said:
        text += f" named {_names(said['event'])}"
    if "source" in said:
        text += f" of the source {_names(said['source'])}"
    return text


def _names(said: str | list[str]) -> str:
    names = [said] if isinstance(said, str) else said
    shown = " or ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} or one of {len(names) - _NAMES_SHOWN} more"
