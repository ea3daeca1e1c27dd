"""The five fields of the event, compiled from the `event` of a file."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.core.fault import ELLIPSIS
from app.core.jmespath.expression import Expression, compile_expression, explain_null
from app.core.jmespath.functions import FUNCTIONS
from app.core.jmespath.functions.scopes import Scope
from app.core.jmespath.limits import MAX_CALL_SIZE, MAX_EVENT_STEPS, Bound, Budget, BudgetSpent
from app.core.transform.document import SourceText
from app.core.transform.schema import FIELDS
from app.core.yaml_text import Path
from app.errors import EventInvalid, ExpressionFailed, ExpressionInvalid

Search = Callable[[Any, Scope], Any]

SearchMaker = Callable[[Expression], Search]
"""Makes the search of an expression, either counted or not."""

PlacedExpression = tuple[Path, Expression]
"""An expression and its path in the file."""

FieldPlan = Callable[[SearchMaker], Search]
"""Makes the search of a field, given how to make those of its expressions."""

REQUIRED = FIELDS[:4]
_ALL = "*"
# The length of the path of `event.properties`; a longer one is inside a map.
_FIELD_PATH = 2
_SHOWN_CHARS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldPart:
    """The source of one field."""

    search: Search
    plan: FieldPlan
    expression: Expression | None
    """For the error message when it gives null; None for a constant or a map."""
    owner: str
    """The file that defines it."""
    leaves: tuple[tuple[str, Search], ...]
    """Its parts with their places in the file, so that an error can name the place."""
    expressions: tuple[PlacedExpression, ...]
    """All its expressions with their paths in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """The sources of all five fields."""

    owner: str
    """The file."""
    parts: tuple[FieldPart, FieldPart, FieldPart, FieldPart, FieldPart]
    whole: Search | None
    """One expression for the whole event; fields that it leaves out come from `parts`."""
    whole_expression: Expression | None
    own_id: bool
    """The file itself defines the idempotency id."""

    def search(self, document: dict[str, Any], scope: Scope) -> tuple[Sequence[Any], bool]:
        """Return the five values, and whether the idempotency id is the file's own.

        Raises:
            ExpressionFailed: names the expression that failed, and why.

        """
        name, idempotency, customer, time, properties = self.parts
        try:
            if self.whole is None:
                return (
                    name.search(document, scope),
                    idempotency.search(document, scope),
                    customer.search(document, scope),
                    time.search(document, scope),
                    properties.search(document, scope),
                ), self.own_id
            members = self.whole(document, scope)
            if type(members) is dict:
                return self._complete(members, document, scope)
        except BudgetSpent:
            # Locating it would repeat, uncounted, the work that was too much.
            raise
        except ExpressionFailed as error:
            raise self._locate_failure(error, document, scope) from None
        raise ExpressionFailed("event: must give an object with Lotus's fields", path="event")

    def steps(self, size: int) -> float:
        """Return the maximum steps for one event, from a call of this size."""
        return sum(bound.steps(size) for bound in self._bounds())

    def free_size(self) -> int | None:
        """Return the size of the largest call that needs no counting for one event; None if no call needs it."""
        bounds = self._bounds()
        fixed = sum(bound.steps(0) for bound in bounds)
        passes = sum(bound.passes for bound in bounds if bound.is_small)
        if fixed + passes * MAX_CALL_SIZE <= MAX_EVENT_STEPS:
            return None
        return max(0, int((MAX_EVENT_STEPS - fixed) / max(passes, 1)))

    def _bounds(self) -> list[Bound]:
        bounds = [expression.bound for part in self.parts for _, expression in part.expressions]
        if self.whole_expression is not None:
            bounds.append(self.whole_expression.bound)
        return bounds

    def counted(self, budget: Budget) -> "Fields":
        """Return a copy whose searches count every step against `budget`."""

        def make_search(expression: Expression) -> Search:
            return lambda document, scope: expression.search_counted(document, scope, budget)

        name, idempotency, customer, time, properties = (
            replace(part, search=part.plan(make_search)) for part in self.parts
        )
        whole = make_search(self.whole_expression) if self.whole_expression else None
        return replace(self, parts=(name, idempotency, customer, time, properties), whole=whole)

    def _complete(self, members: dict[str, Any], document: dict[str, Any], scope: Scope) -> tuple[Sequence[Any], bool]:
        if not members.keys() <= _KNOWN:
            unknown = next(key for key in members if key not in _KNOWN)
            why = "which is no field of a Lotus event"
            raise ExpressionFailed(f"gives {unknown[:_SHOWN_CHARS]!r}, {why}", kind=f"gives {ELLIPSIS}, {why}")
        values = [
            members[field] if members.get(field) is not None else part.search(document, scope)
            for field, part in zip(FIELDS, self.parts, strict=True)
        ]
        return values, members.get("idempotency_id") is not None

    def _locate_failure(self, error: ExpressionFailed, document: dict[str, Any], scope: Scope) -> ExpressionFailed:
        """Find the expression that failed by evaluating them again, one by one: calls that succeed pay nothing."""
        members: dict[str, Any] = {}
        if self.whole is not None:
            try:
                members = self.whole(document, scope)
                if not members.keys() <= _KNOWN:
                    return located(error, "event")
            except ExpressionFailed as again:
                return located(again, "event")
        for field, part in zip(FIELDS, self.parts, strict=True):
            if members.get(field) is not None:
                continue
            for place, search in part.leaves:
                try:
                    search(document, scope)
                except ExpressionFailed as again:
                    return located(again, place, self._owner_suffix(part))
        return error

    def _owner_suffix(self, part: FieldPart) -> str:
        return "" if part.owner == self.owner else f" ({part.owner}.yaml)"

    def explain(self, values: Sequence[Any], document: dict[str, Any]) -> EventInvalid:
        """Return the error for the first required field that is null, with the missing step of its expression."""
        at = next(index for index, value in enumerate(values[:4]) if value is None)
        field, part = FIELDS[at], self.parts[at]
        left_out = "`event` does not give it, and " if self.whole is not None else ""
        if part.expression is None:
            return EventInvalid(field, f"{field} is null: {left_out}its constant is null ({part.owner}.yaml)")
        why = _why_null(part.expression, document)
        return EventInvalid(field, f"{field} is null: {left_out}{why} ({part.owner}.yaml)")


def located(error: ExpressionFailed, place: str, suffix: str = "") -> ExpressionFailed:
    """Return the error of an expression with the place where it stands; `suffix` follows the message."""
    return ExpressionFailed(f"{place}: {error.message}{suffix}", path=place, kind=f"{place}: {error.kind}{suffix}")


_KNOWN = frozenset(FIELDS)


def _why_null(expression: Expression, document: dict[str, Any]) -> str:
    if step := explain_null(expression, document):
        return step.sentence()
    text = expression.text if len(expression.text) <= _SHOWN_CHARS else f"{expression.text[:_SHOWN_CHARS]}..."
    sentence = f"`{text}` gives null for this call"
    # lower(properties.regoin) is null because its argument is: search the arguments like the parts of an `||`.
    alternatives = replace(expression, tree={"type": "or_expression", "children": list(_arguments(expression.tree))})
    step = explain_null(alternatives, document)
    return f"{sentence}: {step.sentence()}" if step else sentence


def _arguments(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if tree["type"] in {"function_expression", "or_expression", "and_expression"}:
        for child in tree["children"]:
            yield from _arguments(child)
    else:
        yield tree


def compile_search(source: SourceText, path: Path, text: str) -> Expression:
    """Compile one expression of a file. Raises TransformInvalid with its position."""
    try:
        return compile_expression(text, functions=FUNCTIONS)
    except ExpressionInvalid as error:
        raise source.invalid_expression(path, error) from error


def compile_fields(source: SourceText, inherited: Fields | None) -> Fields:
    """Compile the `event` of a file; fields that it leaves out are `inherited`. Raises TransformInvalid."""
    written = source.value.get("event", {})
    whole = None
    if isinstance(written, str):
        whole, written = compile_search(source, ("event",), written), {}
    parts = []
    for position, field in enumerate(FIELDS):
        if field in written:
            parts.append(_compile_part(source, ("event", field), written[field]))
        elif inherited is not None:
            parts.append(inherited.parts[position])
        else:
            raise source.invalid(("event",), f"{source.name} must say where {field} comes from")
    name, idempotency, customer, time, properties = parts
    return Fields(
        owner=source.name,
        parts=(name, idempotency, customer, time, properties),
        whole=whole.search_in if whole else None,
        whole_expression=whole,
        own_id="idempotency_id" in written,
    )


def _compile_part(source: SourceText, path: Path, written: Any) -> FieldPart:
    leaves: list[tuple[str, Search]] = []
    expressions: list[PlacedExpression] = []
    plan = _compile_plan(source, path, written, leaves, expressions)
    alone = isinstance(written, str) and bool(expressions)
    return FieldPart(
        search=plan(_make_uncounted_search),
        plan=plan,
        expression=expressions[0][1] if alone else None,
        owner=source.name,
        leaves=tuple(leaves),
        expressions=tuple(expressions),
    )


def _make_uncounted_search(expression: Expression) -> Search:
    return expression.search_in


def _compile_plan(
    source: SourceText,
    path: Path,
    written: Any,
    leaves: list[tuple[str, Search]],
    expressions: list[PlacedExpression],
) -> FieldPlan:
    """Compile an expression, a constant, `*`, or a map of these; add to `leaves` the parts that can fail."""
    place = ".".join(map(str, path))[: 2 * _SHOWN_CHARS]
    if isinstance(written, str):
        # Inside a map, `*` always means all properties; as a field's own value, only for `properties`.
        if written == _ALL and (len(path) > _FIELD_PATH or path[-1] == "properties"):
            everything = _all_properties({}, frozenset())
            leaves.append((place, everything))
            return lambda _make_search: everything
        expression = compile_search(source, path, written)
        expressions.append((path, expression))
        leaves.append((place, expression.search_in))
        return lambda make_search: make_search(expression)
    if set(written) == {"const"}:
        constant = written["const"]
        return lambda _make_search: lambda _document, _scope: constant
    plans = [
        (key, _compile_plan(source, (*path, key), inner, leaves, expressions))
        for key, inner in written.items()
        if key != _ALL
    ]
    base = None
    if _ALL in written:
        base = _renamed_properties(source, (*path, _ALL), written[_ALL] or {})
        leaves.append((f"{place}.{_ALL}", base))
    return lambda make_search: _map_search([(key, plan(make_search)) for key, plan in plans], base)


def _map_search(parts: list[tuple[str, Search]], base: Search | None) -> Search:
    if base is None:
        return lambda document, scope: {key: search(document, scope) for key, search in parts}
    return lambda document, scope: {
        **base(document, scope),
        **{key: search(document, scope) for key, search in parts},
    }


def _renamed_properties(source: SourceText, path: Path, options: dict[str, Any]) -> Search:
    rename: dict[str, str] = options.get("rename", {})
    old_names: dict[str, str] = {}
    for key, name in rename.items():
        if (other := old_names.setdefault(name, key)) != key:
            raise source.invalid((*path, "rename", key), f"{other} gets the same new name")
    return _all_properties(rename, frozenset(options.get("drop", ())))


def _all_properties(rename: dict[str, str], drop: frozenset[str]) -> Search:
    # A property that already has a new name as its key is overwritten, whatever the order of the call's keys.
    taken = drop | frozenset(rename.values())

    def search(document: Any, _scope: Scope) -> dict[str, Any]:
        properties = document.get("properties")
        if properties is None:
            return {}
        if type(properties) is not dict:
            raise ExpressionFailed("`properties` of the call is no object", path="properties")
        if not taken:
            return properties
        result = {key: value for key, value in properties.items() if key not in taken and key not in rename}
        for key, name in rename.items():
            if key in properties and key not in drop:
                result[name] = properties[key]
        return result

    return search
