"""`match`: which calls a transform takes."""

import re
from dataclasses import dataclass
from fnmatch import translate
from typing import Any

from app.core.segment import Call
from app.core.transform.document import SourceText

MAX_NAME_CHARS = 1_000
"""No pattern matches a longer name: Segment's end at 255, and `*` followed by `?`s is tried at each character."""

MAX_PATTERN_CHARS = 20_000
"""Limit for all patterns of one transform, as regular expressions. With the longest name they take 50 ms at worst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which calls a transform takes."""

    type: str
    events: frozenset[str]
    """Names of track events."""
    patterns: tuple[re.Pattern[str], ...]
    """Patterns of names. Without names and patterns: all calls of that type."""
    sources: frozenset[str]
    """projectIds; empty: all."""

    def accepts(self, call: Call) -> bool:
        """Tell whether the transform takes this call."""
        if self.sources:
            source = call.document.get("projectId")
            if type(source) is not str or source not in self.sources:
                return False
        return self.accepts_name(call.type, call.event)

    def accepts_name(self, kind: str, event: str | None) -> bool:
        """Tell whether the transform takes calls of a type and event name, leaving the source aside."""
        if kind != self.type:
            return False
        if not self.events and not self.patterns:
            return True
        if event is None:
            return False
        if event in self.events:
            return True
        return len(event) <= MAX_NAME_CHARS and any(pattern.match(event) for pattern in self.patterns)

    def excess(self) -> str | None:
        """Return why the patterns are too long to be published; None if they are not."""
        size = sum(len(pattern.pattern) for pattern in self.patterns)
        if size <= MAX_PATTERN_CHARS:
            return None
        return f"its patterns have {size:,} characters together, and {MAX_PATTERN_CHARS:,} are the most"


def compile_match(source: SourceText) -> Match:
    """Compile the `match` of a file. Raises TransformInvalid."""
    match = source.value.get("match", {})
    kind = match.get("type", "track")
    if "event" in match and kind != "track":
        sentence = f"only track calls have an event; choose {kind} calls with `when`, such as: when: name == 'Home'"
        raise source.invalid(("match", "event"), sentence)
    names = _list(match.get("event"))
    return Match(
        type=kind,
        events=frozenset(name for name in names if not _is_pattern(name)),
        # `[` is special in fnmatch, but not here.
        patterns=tuple(re.compile(translate(name.replace("[", "[[]"))) for name in names if _is_pattern(name)),
        sources=frozenset(_list(match.get("source"))),
    )


def _list(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else value


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name
