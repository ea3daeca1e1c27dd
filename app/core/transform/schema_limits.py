"""Limits on the cost of an `input_schema`, bounded from the schema alone, for calls of any size and depth.

jsonschema_rs can be neither interrupted nor metered, so its work is bounded before it begins. An evaluation is one
keyword at one value. Schemas for the same value add up, so each level of a call has a weight: the most evaluations
that any one value there can need. A call needs at most its values times the largest weight of its levels; values that
the schema names are counted once. A schema that refers to itself twice for the same value doubles its weight with each
level. Nothing is assumed to end early.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from app.core.fault import ELLIPSIS
from app.core.json_text import MAX_DEPTH
from app.core.outcome import Reason
from app.core.transform.schema_graph import HUGE, SchemaGraph, Times, Unbounded, is_quick, total_weight
from app.core.yaml_text import MAX_DEPTH as YAML_DEPTH
from app.core.yaml_text import Path, value_at
from app.errors import CallRejected

# The most that a schema may need to be published, for an ordinary call of this size: about 10 ms. Segment's largest
# calls, of 32 KB, have about a thousand values; real calls stay below 20 levels.
ORDINARY_VALUES = 1_000
ORDINARY_DEPTH = 20
MAX_ORDINARY_EVALUATIONS = 1_000_000

# Positions of all patterns applied to one text. With 32 KB of text this takes 100 ms for a pattern written to be slow,
# and 0.1 ms for others.
MAX_POSITIONS = 1_000

# The most that one call of any size may need: about 50 ms, and 100 ms for each of the other two.
MAX_EVALUATIONS = 4_000_000
MAX_PATTERN_WORK = 32_000_000
MAX_NUMBER_MICROSECONDS = 100_000

# Below these no call can take long, since none has more than 1 MiB: nothing is counted.
_FREE_EVALUATIONS = 64
_FREE_POSITIONS = 64
_FREE_NUMBERS = 250

# Numbers that do not fit into a machine word are compared digit by digit: 1e-300 or an integer of 390 digits.
_SLOW_MICROSECONDS = 200
_LARGE_FLOAT = 1e25
_SMALL_FLOAT = 1e-15

# For each pair of such integers in an array whose items must be unique: they may all have the same hash.
_PAIR_MICROSECONDS = 20

_encode = msgspec.json.Encoder().encode

_ROOT: Times = defaultdict(int, {(): 1})

# Limit on the keys that a schema names, counted again behind each `$ref`.
_MAX_NAMED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """The cost of a schema as a function of the call. Tuples by depth: the last entry holds for all deeper levels."""

    named: int
    """Evaluations of the values that the schema names: the same for every call."""
    named_numbers: int
    """Numbers that it compares those values with."""
    parts: tuple[Path, ...]
    """The places in a call where it looks at every key or item, so that its work grows with the call."""
    evaluations: tuple[int, ...]
    """The most evaluations for any one value of these parts, by depth."""
    numbers: tuple[int, ...]
    """The most comparisons for any one number of these parts, by depth."""
    positions: tuple[int, ...]
    """Positions of all patterns applied to any one text, by depth."""
    unique: bool
    """It compares items with each other."""
    quick_bytes: int
    """A call of up to so many bytes, or with growing parts of up to so many, cannot take long."""
    heaviest: Path
    """The schema that needs the most evaluations for its own value."""
    most_positions: Path
    """The schema with the most positions."""

    @property
    def is_free(self) -> bool:
        """Tell whether no call can take long."""
        grows = self.evaluations[-1] > _FREE_EVALUATIONS or self.numbers[-1] > 0 or self.unique
        return not self._measures_all and not (self.parts and grows)

    @property
    def _measures_all(self) -> bool:
        """Tell whether the whole call is measured, and not only the parts that grow."""
        return self.named_numbers > _FREE_NUMBERS or self.positions[-1] > _FREE_POSITIONS

    def count(self, values: int, depth: int) -> int:
        """Return the most evaluations for growing parts with so many values on so many levels."""
        return self.named + _at_depth(self.evaluations, depth) * values if self.parts else self.named

    def excess(self) -> Unbounded | None:
        """Return why the schema is too heavy to be published, and where; None if it is not."""
        needed = self.count(ORDINARY_VALUES, ORDINARY_DEPTH)
        if needed > MAX_ORDINARY_EVALUATIONS:
            sentence = (
                f"a call of {ORDINARY_VALUES:,} values on {ORDINARY_DEPTH} levels could need {_amount(needed)}"
                f" evaluations of this, and {MAX_ORDINARY_EVALUATIONS:,} are the most; what stands in anyOf, oneOf and"
                " allOf or behind $ref multiplies, on each level again where a schema refers to itself more than once"
            )
            return Unbounded(self.heaviest, sentence)
        positions = _at_depth(self.positions, ORDINARY_DEPTH)
        if positions > MAX_POSITIONS:
            sentence = (
                f"its patterns have {_amount(positions)} positions for one text, and {MAX_POSITIONS:,} are the most;"
                " {n,m} repeats what stands before it, where maxLength costs nothing"
            )
            return Unbounded(self.most_positions, sentence)
        return None

    def verify(self, document: dict[str, Any]) -> None:
        """Raise CallRejected (input_schema) if checking this call could take too long."""
        parts = [document] if self._measures_all else _find_parts(document, self.parts)
        try:
            # Each value is at least a byte: most calls are small enough and need not be measured.
            if len(_encode(parts)) <= self.quick_bytes:
                return
        except (OverflowError, UnicodeEncodeError, RecursionError):
            pass
        size = measure(parts)
        needed = self.count(size.values, size.depth)
        if needed > MAX_EVALUATIONS:
            raise _too_large(f"it could need {{}} evaluations, and {MAX_EVALUATIONS:,} are the most", _amount(needed))
        if _at_depth(self.positions, size.depth) * size.text > MAX_PATTERN_WORK:
            raise _too_large("its {} bytes of text are too many for patterns of this length", f"{size.text:,}")
        spent = (self.named_numbers + _at_depth(self.numbers, size.depth)) * size.slow_numbers * _SLOW_MICROSECONDS
        if self.unique:
            spent += size.slow_numbers**2 * _PAIR_MICROSECONDS
        if spent > MAX_NUMBER_MICROSECONDS:
            raise _too_large("it holds {} numbers that are extremely large or small", f"{size.slow_numbers:,}")


def weigh(schema: Any) -> Weight:
    """Bound the cost of a schema that satisfies the metaschema. Raises Unbounded."""
    graph = SchemaGraph(schema)
    heaviest = max(graph.links, key=lambda path: graph.links[path].own)
    if graph.links[heaviest].own > MAX_EVALUATIONS:
        needed = _amount(graph.links[heaviest].own)
        raise Unbounded(heaviest, f"needs {needed} evaluations for one value, and {MAX_EVALUATIONS:,} are the most")
    named, named_numbers, parts = _walk_names(graph)
    evaluations = _by_depth(graph, {path: links.own for path, links in graph.links.items()}, parts.values())
    numbers = _by_depth(graph, {path: links.numbers for path, links in graph.links.items()}, parts.values())
    positions = _by_depth(graph, {path: links.positions for path, links in graph.links.items()}, [_ROOT])
    slow_numbers = MAX_NUMBER_MICROSECONDS // _SLOW_MICROSECONDS // max(named_numbers + numbers[-1], 1)
    return Weight(
        named=named,
        named_numbers=named_numbers,
        parts=tuple(parts),
        evaluations=evaluations,
        numbers=numbers,
        positions=positions,
        unique=any(links.unique for links in graph.links.values()),
        quick_bytes=min(
            (MAX_EVALUATIONS - min(named, MAX_EVALUATIONS)) // max(evaluations[-1], 1),
            MAX_PATTERN_WORK // max(positions[-1], 1),
            # An extremely small number takes at least five bytes; integers that large are not encoded.
            5 * slow_numbers,
        ),
        heaviest=heaviest,
        most_positions=max(graph.links, key=lambda path: graph.links[path].positions),
    )


@dataclass(slots=True)
class CallSize:
    """The size of a call, or of parts of it."""

    values: int = 0
    """Keys included."""
    depth: int = 0
    text: int = 0
    """Bytes of text, in UTF-8."""
    slow_numbers: int = 0
    """Integers of more than 64 bits, and floats of many digits."""


def measure(parts: list[Any]) -> CallSize:
    """Measure parts of a call."""
    size = CallSize()
    level = parts
    while level:
        below: list[Any] = []
        for value in level:
            kind = value.__class__
            if kind is str:
                size.text += len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
            elif kind is dict:
                below.extend(value)
                below.extend(value.values())
            elif kind is list:
                below.extend(value)
            elif kind is float:
                size.slow_numbers += not (_SMALL_FLOAT < abs(value) < _LARGE_FLOAT or value == 0)
            elif kind is int:
                size.slow_numbers += not is_quick(value)
        size.values += len(level)
        size.depth += 1
        level = below
    return size


def _find_parts(document: Any, parts: Iterable[Path]) -> list[Any]:
    return [value for part in parts if (value := value_at(document, part)) is not None]


def _by_depth(graph: SchemaGraph, level: Mapping[Path, int], parts: Collection[Times]) -> tuple[int, ...]:
    """Return for each depth the weight of the heaviest value down to it.

    `level` is the weight of each schema by itself, `parts` are the schemas of the first level.
    """
    most = [_heaviest(parts, level)]
    while len(most) <= MAX_DEPTH and most[-1] < HUGE:
        below = {path: min(links.heaviest(level), HUGE) for path, links in graph.links.items()}
        if below == level or not any(below.values()):
            break
        most.append(max(most[-1], _heaviest(parts, below)))
        level = below
    return tuple(most)


def _heaviest(parts: Collection[Times], level: Mapping[Path, int]) -> int:
    return min(max((total_weight(times, level) for times in parts), default=0), HUGE)


def _walk_names(graph: SchemaGraph) -> tuple[int, int, dict[Path, Times]]:
    """Follow the keys that a schema names; return evaluations, numbers, and the schemas of the growing parts."""
    evaluations = numbers = steps = 0
    parts: dict[Path, Times] = {}
    pending: list[tuple[Path, Path, int]] = [((), (), 1)]
    while pending:
        place, path, times = pending.pop()
        links = graph.links[path]
        steps += 1
        if steps > _MAX_NAMED or len(place) > YAML_DEPTH:
            # It leads back to itself, and grows with the call.
            return 0, 0, {(): _ROOT}
        if links.grows:
            times_of = parts.setdefault(place, defaultdict(int))
            times_of[path] += times
            continue
        evaluations += links.own * times
        numbers += links.numbers * times
        following: list[tuple[str | int, Times]] = [*links.keys.items(), *links.items.items()]
        for key, named in following:
            pending.extend(((*place, key), inner, times * count) for inner, count in named.items())
    return min(evaluations, HUGE), min(numbers, HUGE), parts


def _at_depth(levels: tuple[int, ...], depth: int) -> int:
    return levels[min(depth, len(levels) - 1)]


def _amount(count: int) -> str:
    return f"{count:,}" if count < HUGE else "any number of"


def _too_large(sentence: str, amount: str) -> CallRejected:
    """Make the error; `sentence` has `{}` for the amount."""
    what = "the call is too large to be checked by input_schema"
    return CallRejected(
        Reason.INPUT_SCHEMA, f"{what}: {sentence.format(amount)}", kind=f"{what}: {sentence.format(ELLIPSIS)}"
    )
