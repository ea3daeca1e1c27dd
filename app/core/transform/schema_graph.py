"""Which parts of a JSON Schema look at which values of a call, and how often, assuming that nothing ends early.

A schema looks at the same value as those inside its `anyOf`, `allOf`, `if`, `not` and behind its `$ref`; and it leads
to schemas for the keys and items of the value. Schemas are identified by their paths and must satisfy the metaschema.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from app.core.jmespath.limits import size_of
from app.core.transform.schema_patterns import count_bytes, count_positions
from app.core.yaml_text import Path, value_at

HUGE = 1 << 60
"""Larger numbers are as good as infinite, and are capped at this."""

# Limit on the memory of all patterns of one schema together.
MAX_PATTERN_BYTES = 8 << 20

# References between thousands of schemas must not make the analysis itself slow.
_MAX_LINKS = 50_000
_MAX_CHAIN = 100

_SAME_VALUE = ("not", "if", "then", "else")
_SAME_VALUE_LISTS = ("allOf", "anyOf", "oneOf")
_SAME_VALUE_MAPS = ("dependentSchemas", "dependencies")
_EACH_ITEM = ("items", "additionalItems", "contains", "unevaluatedItems")
_EACH_KEY = ("additionalProperties", "unevaluatedProperties")
_UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")

_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_SIGNED_64 = 1 << 63
_NUMBERS = frozenset({int, float})
_PARTED = frozenset({list, dict})

# In evaluations: comparing with a float takes half a microsecond, with each part of an array or object a quarter.
_SLOW_NUMBER = 50
_EACH_CHOICE = 25

# For `uniqueItems`, an item is compared with some of its neighbours.
_COMPARISONS = 8

# Stands for reading all of a value, as `uniqueItems` does. No schema has this path.
_WHOLE: Path = ("", "uniqueItems")

Times = defaultdict[Path, int]
"""How often each schema looks at a value."""


class Unbounded(ValueError):
    """The cost of the schema is not bounded; `path` is the place in it."""

    def __init__(self, path: Path, message: str) -> None:
        self.path = path
        super().__init__(message)


def _times() -> Times:
    return defaultdict(int)


@dataclass(slots=True)
class Links:
    """The work of a schema, and of all that look at the same value, and the schemas it leads to."""

    own: int = 0
    """Evaluations of the value itself."""
    positions: int = 0
    """Positions of all patterns applied to its text, or to the text of its keys."""
    numbers: int = 0
    """How often it is compared as a number."""
    unique: int = 0
    """How often its items are compared with each other."""
    any_key: Times = field(default_factory=_times)
    keys: defaultdict[str, Times] = field(default_factory=lambda: defaultdict(_times))
    """For a key that is named: what is added to `any_key` or, below zero, does not apply to it."""
    any_item: Times = field(default_factory=_times)
    items: defaultdict[int, Times] = field(default_factory=lambda: defaultdict(_times))
    """For an item by its position: what is added to `any_item`."""

    @property
    def grows(self) -> bool:
        """Tell whether it looks at keys or items that it does not name, so that its work grows with the call."""
        return bool(self.any_key or self.any_item)

    def named(self) -> Iterator[Times]:
        """Yield the schemas of each key and position that is named."""
        yield from self.keys.values()
        yield from self.items.values()

    def heaviest(self, weights: Mapping[Path, int]) -> int:
        """Return the largest total weight of the schemas of any one key or item."""
        of_key, of_item = total_weight(self.any_key, weights), total_weight(self.any_item, weights)
        return max(
            of_key,
            of_item,
            max((of_key + total_weight(named, weights) for named in self.keys.values()), default=0),
            max((of_item + total_weight(named, weights) for named in self.items.values()), default=0),
        )


def total_weight(times: Times, weights: Mapping[Path, int]) -> int:
    """Return the total weight of the schemas that look at one value."""
    return sum(weights[path] * count for path, count in times.items())


class SchemaGraph:
    """The links of each schema that a call can get to, by path."""

    def __init__(self, schema: Any) -> None:
        """Follow all links. Raises Unbounded."""
        self.links: dict[Path, Links] = {}
        self._schema = schema
        self._closures: dict[Path, Times] = {}
        self._heights: dict[Path, int] = {}
        self._unfinished: set[Path] = set()
        self._size = 0
        self._patterns: set[str] = set()
        self._anchors: dict[tuple[Path, str], list[Path]] = {}
        self._dynamic: dict[str, list[Path]] = {}
        self._find_anchors(schema, (), ())
        pending: list[Path] = [()]
        while pending:
            path = pending.pop()
            if path not in self.links:
                links = self.links[path] = self._make_links(path)
                for times in (links.any_key, links.any_item, *links.named()):
                    pending.extend(times)
                    self._count_links(path, len(times))
        if sum(map(count_bytes, self._patterns)) > MAX_PATTERN_BYTES:
            raise Unbounded((), f"its patterns take more than {MAX_PATTERN_BYTES >> 20} MiB of memory together")

    def _count_links(self, path: Path, links: int) -> None:
        self._size += links
        if self._size > _MAX_LINKS:
            raise Unbounded(path, "too many schemas refer to each other to say what they cost")

    def _make_links(self, path: Path) -> Links:
        links = Links()
        if path == _WHOLE:
            links.own = links.any_key[_WHOLE] = links.any_item[_WHOLE] = 1
            return links
        for inner, times in self._same_value_closure(path).items():
            schema = self._schema_at(inner)
            if isinstance(schema, dict):
                self._add_keywords(links, inner, schema, times)
            else:
                links.own += times
        return links

    def _add_keywords(self, links: Links, path: Path, schema: dict[str, Any], times: int) -> None:
        """Add the work of one schema, done `times` over."""
        own, numbers = _comparison_cost(schema)
        links.own += times * (len(schema) + own)
        links.numbers += times * numbers
        if "pattern" in schema:
            links.positions += times * self._positions(schema["pattern"])
        self._add_keys(links, path, schema, times)
        self._add_items(links, path, schema, times)

    def _add_keys(self, links: Links, path: Path, schema: dict[str, Any], times: int) -> None:
        properties = schema.get("properties", {})
        links.own += times * len(properties)
        for pattern in schema.get("patternProperties", ()):
            links.positions += times * self._positions(pattern)
            links.any_key[*path, "patternProperties", pattern] += times
        if "propertyNames" in schema:
            links.any_key[*path, "propertyNames"] += times
        # `false` and `true` look at nothing.
        unnamed = [(*path, key) for key in _EACH_KEY if isinstance(schema.get(key), dict)]
        for other in unnamed:
            links.any_key[other] += times
        for key in properties:
            named = links.keys[key]
            named[*path, "properties", key] += times
            for other in unnamed:
                named[other] -= times

    def _add_items(self, links: Links, path: Path, schema: dict[str, Any], times: int) -> None:
        for key in _EACH_ITEM:
            if isinstance(schema.get(key), dict):
                links.any_item[*path, key] += times
        for index, _ in enumerate(schema.get("prefixItems", ())):
            links.items[index][*path, "prefixItems", index] += times
        if schema.get("uniqueItems") is True:
            links.any_item[_WHOLE] += _COMPARISONS * times
            links.unique += times

    def _positions(self, pattern: str) -> int:
        self._patterns.add(pattern)
        return count_positions(pattern)

    def _same_value_closure(self, path: Path) -> Times:
        """Return all schemas that look at the same value as this one, and how often."""
        if path in self._closures:
            return self._closures[path]
        if path in self._unfinished:
            raise Unbounded(path, "refers back to itself for the same value, so that checking it need never end")
        if len(self._unfinished) > _MAX_CHAIN:
            raise Unbounded(path, f"more than {_MAX_CHAIN} schemas refer to each other in a row")
        self._unfinished.add(path)
        closure = _times()
        closure[path] = 1
        height = 0
        for inner in self._same_value_schemas(path):
            for other, count in self._same_value_closure(inner).items():
                closure[other] = min(closure[other] + count, HUGE)
            height = max(height, self._heights[inner] + 1)
        schema = self._schema_at(path)
        if isinstance(schema, dict) and not schema.keys().isdisjoint(_UNEVALUATED):
            # To find out what the others have evaluated, they are run again, and so are those inside them.
            for other in closure:
                closure[other] = min(closure[other] * (2 + height), HUGE)
        self._unfinished.discard(path)
        self._heights[path] = height
        self._closures[path] = closure
        self._count_links(path, len(closure))
        return closure

    def _same_value_schemas(self, path: Path) -> Iterator[Path]:
        """Yield the schemas inside a schema that look at the same value."""
        schema = self._schema_at(path)
        if not isinstance(schema, dict):
            return
        if path and "$schema" in schema:
            raise Unbounded((*path, "$schema"), "a schema inside another cannot be of a draft of its own")
        yield from ((*path, key) for key in _SAME_VALUE if key in schema)
        for key in _SAME_VALUE_LISTS:
            yield from ((*path, key, index) for index, _ in enumerate(schema.get(key, ())))
        for key in _SAME_VALUE_MAPS:
            yield from ((*path, key, name) for name in schema.get(key, ()))
        if "$ref" in schema:
            yield from self._resolve(path, schema["$ref"])
        if "$dynamicRef" in schema:
            reference = schema["$dynamicRef"]
            yield from {*self._resolve(path, reference), *self._dynamic.get(reference.removeprefix("#"), ())}

    def _resolve(self, path: Path, reference: str) -> list[Path]:
        """Return the targets of a reference; none if it leads nowhere, which the compiler reports better."""
        base = self._base(path)
        pointer = unquote(reference.removeprefix("#"))
        if pointer and not pointer.startswith("/"):
            return self._anchors.get((base, pointer), [])
        target = base
        for token in pointer.split("/")[1:]:
            key = token.replace("~1", "/").replace("~0", "~")
            target = (*target, int(key) if isinstance(self._schema_at(target), list) and key.isdecimal() else key)
        return [target] if self._schema_at(target) is not None else []

    def _base(self, path: Path) -> Path:
        """Return the schema with an `$id` that a path belongs to."""
        for end in range(len(path), 0, -1):
            inner = self._schema_at(path[:end])
            if isinstance(inner, dict) and isinstance(inner.get("$id"), str):
                return path[:end]
        return ()

    def _find_anchors(self, inner: Any, path: Path, base: Path) -> None:
        if isinstance(inner, dict):
            base = path if isinstance(inner.get("$id"), str) else base
            for key in ("$anchor", "$dynamicAnchor"):
                if isinstance(name := inner.get(key), str):
                    self._anchors.setdefault((base, name), []).append(path)
                    if key == "$dynamicAnchor":
                        self._dynamic.setdefault(name, []).append(path)
            for key, value in inner.items():
                self._find_anchors(value, (*path, key), base)
        elif isinstance(inner, list):
            for index, value in enumerate(inner):
                self._find_anchors(value, (*path, index), base)

    def _schema_at(self, path: Path) -> Any:
        return value_at(self._schema, path)


def _comparison_cost(schema: dict[str, Any]) -> tuple[int, int]:
    """Return what the keywords cost beyond one evaluation each, and how many numbers they compare with."""
    own = len(schema.get("required", ())) + sum(map(len, schema.get("dependentRequired", {}).values()))
    limits = [schema[key] for key in _LIMITS if key in schema]
    choices = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())]
    if len({type(choice) for choice in choices}) == 1 and is_quick(choices[0]):
        # These are looked up in a set, not compared one by one.
        limits.append(choices[0])
    elif choices:
        own += sum(_EACH_CHOICE * size_of(choice, HUGE) if type(choice) in _PARTED else 1 for choice in choices)
        limits += _numbers_in(choices)
    numbers = [limit for limit in limits if type(limit) in _NUMBERS]
    slow = sum(not is_quick(limit) for limit in numbers)
    return own + _SLOW_NUMBER * slow, len(numbers)


def is_quick(value: Any) -> bool:
    """Tell whether jsonschema_rs compares with it in nanoseconds: text, and integers of 64 bits."""
    return type(value) is str or (type(value) is int and -_SIGNED_64 <= value < _SIGNED_64)


def _numbers_in(values: list[Any]) -> list[Any]:
    pending, numbers = list(values), []
    for value in pending:  # it grows while it is walked
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif type(value) in _NUMBERS:
            numbers.append(value)
    return numbers
