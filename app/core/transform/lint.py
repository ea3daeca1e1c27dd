"""Find suspicious places in valid transforms."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.core.jmespath.closures import path_of
from app.core.jmespath.expression import Expression
from app.core.transform.fields import REQUIRED
from app.core.transform.lint_expressions import lint_expressions
from app.core.transform.schema import FIELDS
from app.core.transform.transform import DEFAULT, Transform, TransformSet
from app.core.yaml_text import Path
from app.errors import DocumentInvalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A suspicious place that a person should look at."""

    transform: str
    path: Path
    """Where in the file."""
    sentence: str
    blocking: bool
    """Whether it cannot have been intended, so that `check` fails."""


def lint(transforms: TransformSet) -> Iterator[Finding]:
    """Check a set of transforms, each on its own and all together."""
    for transform in transforms.transforms:
        if transform.name != DEFAULT:
            yield from _find_shadowed(transform, transforms)
            yield from _lint_file(transform)
        for place, sentence, blocking in lint_expressions(transform):
            yield Finding(transform=transform.name, path=place, sentence=sentence, blocking=blocking)


def list_publishing_errors(transform: Transform) -> Iterator[DocumentInvalid]:
    """Yield the errors that block publishing a version; a version that is already live stays in use despite them."""
    yield from transform.source.list_unstorable()
    if (sentence := transform.match.excess()) is not None:
        yield transform.source.invalid(("match", "event"), sentence)
    if transform.input_check is not None and (excess := transform.input_check.excess) is not None:
        yield transform.source.invalid(("input_schema", *excess.path), str(excess))


def _lint_file(transform: Transform) -> Iterator[Finding]:
    if not transform.source.value.get("examples"):
        sentence = "has no example: nothing shows that it does what it should"
        yield Finding(transform=transform.name, path=(), sentence=sentence, blocking=False)
    if transform.fields.whole is not None:
        return
    for field, part in zip(FIELDS, transform.fields.parts, strict=True):
        if field not in REQUIRED or part.owner != transform.name or part.expression is None:
            continue
        path = path_of(part.expression.tree)
        if path and not _is_required(transform, path):
            sentence = (
                f"is null for a call without `{part.expression.text}`, which is then rejected; give a second way"
                " with coalesce(), or say in input_schema that it is required and of what type"
            )
            yield Finding(transform=transform.name, path=("event", field), sentence=sentence, blocking=False)


def _is_required(transform: Transform, path: tuple[str, ...]) -> bool:
    """Tell whether every call that satisfies input_schema has a value at `path` that is not null."""
    schema = transform.source.value.get("input_schema")
    if transform.each is not None and path[0] in {"item", "index"}:
        if path == ("index",):
            return True
        each = _each_path(transform.each_expression)
        schema = _property_schema(schema, each) if each else None
        schema = schema.get("items") if isinstance(schema, dict) else None
        path = path[1:]
        if not path:
            return _is_never_null(schema)
    for key in path:
        if not isinstance(schema, dict) or key not in schema.get("required", ()):
            return False
        schema = schema.get("properties", {}).get(key)
    return _is_never_null(schema)


def _each_path(expression: Expression | None) -> tuple[str, ...] | None:
    return path_of(expression.tree) if expression else None


def _property_schema(schema: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        schema = schema.get("properties", {}).get(key) if isinstance(schema, dict) else None
    return schema


def _is_never_null(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    kinds = schema.get("type", "null")
    allowed = schema.get("enum", [schema["const"]] if "const" in schema else None)
    return "null" not in ([kinds] if isinstance(kinds, str) else kinds) or (allowed is not None and None not in allowed)


def _find_shadowed(transform: Transform, transforms: TransformSet) -> Iterator[Finding]:
    """Find event names that another transform always takes first, so that this one never sees them."""

    def is_first(other: Transform) -> bool:
        return not other.match.sources and transforms.goes_before(other, transform)

    kind = transform.match.type
    path: Path = ("match", "event") if "event" in transform.source.value.get("match", {}) else ("match",)
    if transform.match.patterns or not transform.match.events:
        every = next(filter(is_first, transforms.list_takers_of_all(kind)), None)
        if every is not None:
            sentence = f"{every.name} takes every {kind} call before it: it is never reached"
            yield Finding(transform=transform.name, path=path, sentence=sentence, blocking=True)
            return
    taken: dict[str, str] = {}
    for name in sorted(transform.match.events):
        first = next(filter(is_first, transforms.list_takers(kind, name)), None)
        if first is not None:
            taken[name] = first.name
    all_taken = len(taken) == len(transform.match.events) and not transform.match.patterns
    for name, taker in taken.items():
        sentence = f"{name!r} is taken by {taker} before it" + (": it is never reached" if all_taken else "")
        yield Finding(transform=transform.name, path=path, sentence=sentence, blocking=all_taken)
