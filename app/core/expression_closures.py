"""A tree to one Python function: closures specialised for the shapes that transforms are made of.

jmespath.py walks its tree on each search: a dictionary look-up, a method look-up and two calls for each node. Here the
tree is walked once, and each node becomes a closure over what it needs. The common shapes (`a.b.c`, `a || b`, a
comparison with a literal, an object of fields, a projection of a field) have closures of their own, in which no further
call is made. Speed is the only reason for the special ones: each agrees with the general one beside it.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from app.core.expression_functions import NUMBER_TYPES, Function, type_name
from app.core.expression_limits import Closure, Meter
from app.core.expression_text import Node
from app.errors import ExpressionFailed

_ORDERINGS: Mapping[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "lt": ("<", operator.lt),
    "lte": ("<=", operator.le),
    "gt": (">", operator.gt),
    "gte": (">=", operator.ge),
}
# Mirrored, so that a literal can always stand on the right.
_MIRRORED = {"lt": "gt", "lte": "gte", "gt": "lt", "gte": "lte", "eq": "eq", "ne": "ne"}

Path: TypeAlias = tuple[str, ...]


def is_true(value: Any) -> bool:
    """Tell whether JMESPath takes a value as true: all but null, false, and empty text, arrays and objects. 0 is true."""
    return bool(value) or (value == 0 and value is not False)


def equals(left: Any, right: Any) -> bool:
    """Compare as JMESPath does: 1 is not true and 0 is not false, though in Python they are."""
    if left.__class__ is bool or right.__class__ is bool:
        return left is right
    return bool(left == right)


def path_of(node: Node) -> Path | None:
    """Give the keys of a plain chain of fields (`a.b.c`, and `@` as the empty chain); None for anything else."""
    kind = node["type"]
    if kind == "field":
        return (node["value"],)
    if kind in ("current", "identity"):
        return ()
    if kind in ("subexpression", "pipe"):
        steps = [path_of(child) for child in node["children"]]
        if None not in steps:
            return tuple(key for step in steps for key in step or ())
    return None


def path_closure(path: Path) -> Closure:
    """Make the closure of a chain of fields."""
    if not path:
        return _itself
    if len(path) == 1:
        (only,) = path

        def one_step(value: Any) -> Any:
            try:
                return value.get(only)
            except AttributeError:
                return None

        return one_step
    if len(path) == 2:  # noqa: PLR2004
        first, second = path

        def two_steps(value: Any) -> Any:
            try:
                value = value.get(first)
                return None if value is None else value.get(second)
            except AttributeError:
                return None

        return two_steps

    def steps(value: Any) -> Any:
        try:
            for key in path:
                value = value.get(key)
                if value is None:
                    return None
        except AttributeError:
            return None
        return value

    return steps


def _itself(value: Any) -> Any:
    return value


class Closures:
    """Makes the closure of a tree. With a meter, what copies, compares or repeats is counted as it runs."""

    __slots__ = ("_functions", "_meter", "_scope")

    def __init__(self, functions: Mapping[str, Function], meter: Meter | None, scope: list[Any]) -> None:
        self._functions = functions
        self._meter = meter
        # One cell, filled at the start of each search, that scoped functions read.
        self._scope = scope

    def make(self, node: Node) -> Closure:
        """Give the closure of a node: value in, value out; raises ExpressionFailed."""
        path = path_of(node)
        if path is not None:
            return path_closure(path)
        made: Closure = getattr(self, "_" + node["type"])(node)
        return made

    def _items(self, node: Node) -> Closure:
        """Make what a projection goes over."""
        closure = self.make(node)
        return self._meter.counting_items(closure) if self._meter else closure

    def _sized(self, closure: Closure) -> Closure:
        return self._meter.counting_size(closure) if self._meter else closure

    # --- one value from one value

    def _literal(self, node: Node) -> Closure:
        literal = node["value"]
        return lambda _: literal

    def _index(self, node: Node) -> Closure:
        index = node["value"]

        def item(value: Any) -> Any:
            if value.__class__ is not list:
                return None
            try:
                return value[index]
            except IndexError:
                return None

        return item

    def _slice(self, node: Node) -> Closure:
        wanted = slice(*node["children"])

        def part(value: Any) -> Any:
            if value.__class__ is not list:
                return None
            if wanted.step == 0:
                raise ExpressionFailed("the step of a slice cannot be 0")
            return value[wanted]

        return part

    def _subexpression(self, node: Node) -> Closure:
        closures = [self.make(child) for child in _joined_paths(node["children"])]
        if len(closures) == 1:
            return closures[0]
        if len(closures) == 2:  # noqa: PLR2004
            first, second = closures
            return lambda value: second(first(value))

        def one_after_another(value: Any) -> Any:
            for closure in closures:
                value = closure(value)
            return value

        return one_after_another

    _pipe = _subexpression
    _index_expression = _subexpression

    # --- choices

    def _or_expression(self, node: Node) -> Closure:
        *first, last_node = node["children"]
        last = self.make(last_node)
        if len(first) == 1:
            (only,) = map(self.make, first)
            if last_node["type"] == "literal":
                literal = last_node["value"]

                def or_literal(value: Any) -> Any:
                    result = only(value)
                    return result if result or (result == 0 and result is not False) else literal

                return or_literal

            def either(value: Any) -> Any:
                result = only(value)
                return result if result or (result == 0 and result is not False) else last(value)

            return either
        alternatives = tuple(map(self.make, first))

        def first_true(value: Any) -> Any:
            for alternative in alternatives:
                result = alternative(value)
                if result or (result == 0 and result is not False):
                    return result
            return last(value)

        return first_true

    def _and_expression(self, node: Node) -> Closure:
        *first, last_node = node["children"]
        conditions = tuple(map(self.make, first))
        last = self.make(last_node)

        def all_true(value: Any) -> Any:
            for condition in conditions:
                result = condition(value)
                if not (result or (result == 0 and result is not False)):
                    return result
            return last(value)

        return all_true

    def _not_expression(self, node: Node) -> Closure:
        closure = self.make(node["children"][0])

        def opposite(value: Any) -> bool:
            result = closure(value)
            return not (result or (result == 0 and result is not False))

        return opposite

    # --- comparisons

    def _comparator(self, node: Node) -> Closure:
        left_node, right_node = node["children"]
        kind = node["value"]
        if left_node["type"] == "literal":
            left_node, right_node, kind = right_node, left_node, _MIRRORED[kind]
        left = self._sized(self.make(left_node))
        if right_node["type"] == "literal":
            literal = right_node["value"]
            if kind in _ORDERINGS:
                return _ordering_with(left, literal, kind)
            return _equality_with(left, literal, negated=kind == "ne")
        right = self.make(right_node)
        if kind == "eq":
            return lambda value: equals(left(value), right(value))
        if kind == "ne":
            return lambda value: not equals(left(value), right(value))
        return lambda value: _order(left(value), right(value), kind)

    # --- objects and arrays

    def _multi_select_list(self, node: Node) -> Closure:
        closures = tuple(map(self.make, node["children"]))

        def array(value: Any) -> Any:
            return None if value is None else [closure(value) for closure in closures]

        return self._sized(array)

    def _multi_select_dict(self, node: Node) -> Closure:
        pairs = [(pair["value"], pair["children"][0]) for pair in node["children"]]
        if len({key for key, _ in pairs}) < len(pairs):
            every = tuple((key, self.make(child)) for key, child in pairs)

            def in_turn(value: Any) -> Any:
                return None if value is None else {key: closure(value) for key, closure in every}

            return self._sized(in_turn)
        return self._sized(self._object(pairs))

    def _object(self, pairs: list[tuple[str, Node]]) -> Closure:
        # The keys in their order, with the literals already in place: copying it is the cheapest way to a new object.
        blank: dict[str, Any] = {key: child["value"] if child["type"] == "literal" else None for key, child in pairs}
        fields: list[tuple[str, str]] = []
        below: dict[str, list[tuple[str, str]]] = {}
        others: list[tuple[str, Closure]] = []
        for key, child in pairs:
            path = path_of(child)
            if path is not None and len(path) == 1:
                fields.append((key, path[0]))
            elif path is not None and len(path) == 2:  # noqa: PLR2004
                below.setdefault(path[0], []).append((key, path[1]))
            elif child["type"] != "literal":
                others.append((key, self.make(child)))
        return _object_closure(blank, tuple(fields), tuple((key, tuple(found)) for key, found in below.items()), others)

    # --- projections

    def _flatten(self, node: Node) -> Closure:
        base = self._items(node["children"][0])

        def flat(value: Any) -> Any:
            items = base(value)
            if items.__class__ is not list:
                return None
            result: list[Any] = []
            for item in items:
                if item.__class__ is list:
                    result.extend(item)
                else:
                    result.append(item)
            return result

        return self._sized(flat)

    def _projection(self, node: Node) -> Closure:
        base_node, right_node = node["children"]
        base = self._items(base_node)
        path = path_of(right_node)
        if path is not None and len(path) == 1:
            return self._sized(_field_of_each(base, path[0]))
        right = self.make(right_node)

        def each(value: Any) -> Any:
            items = base(value)
            if items.__class__ is not list:
                return None
            return [result for item in items if (result := right(item)) is not None]

        return self._sized(each)

    def _value_projection(self, node: Node) -> Closure:
        base_node, right_node = node["children"]
        base = self._items(base_node)
        right = self.make(right_node)

        def each_value(value: Any) -> Any:
            found = base(value)
            if found.__class__ is not dict:
                return None
            return [result for item in found.values() if (result := right(item)) is not None]

        return self._sized(each_value)

    def _filter_projection(self, node: Node) -> Closure:
        base_node, right_node, condition_node = node["children"]
        base = self._items(base_node)
        condition = self.make(condition_node)
        right = None if path_of(right_node) == () else self.make(right_node)

        def matching(value: Any) -> Any:
            items = base(value)
            if items.__class__ is not list:
                return None
            found: list[Any] = []
            for item in items:
                result = condition(item)
                if result or (result == 0 and result is not False):
                    if right is None:
                        if item is not None:
                            found.append(item)
                    elif (result := right(item)) is not None:
                        found.append(result)
            return found

        return self._sized(matching)

    # --- functions

    def _function_expression(self, node: Node) -> Closure:
        function = self._functions[node["value"]]
        arguments: list[Closure] = []
        for position, child in enumerate(node["children"]):
            if position in function.expressions:
                reference = self.make(child["children"][0])
                arguments.append(reference if function.lazy else _constant(reference))
            else:
                arguments.append(self._sized(self.make(child)))
        closure = _call_closure(function, tuple(arguments), self._scope)
        return self._sized(closure)


def _joined_paths(nodes: list[Node]) -> list[Node]:
    """Make neighbouring fields one chain: `a.b[0].c.d` is (a.b), [0], (c.d); steps that change nothing are left out."""
    joined: list[Node] = []
    for node in nodes:
        path = path_of(node)
        if path == ():
            continue
        before = path_of(joined[-1]) if joined else None
        if path is not None and before is not None:
            joined[-1] = {"type": "subexpression", "children": [joined[-1], node]}
        else:
            joined.append(node)
    return joined


def _constant(value: Any) -> Closure:
    return lambda _: value


def _order(left: Any, right: Any, kind: str) -> Any:
    """Compare two values by size: null unless both are numbers or strings."""
    left_type, right_type = left.__class__, right.__class__
    if (left_type in NUMBER_TYPES or left_type is str) and (right_type in NUMBER_TYPES or right_type is str):
        sign, compare = _ORDERINGS[kind]
        try:
            return compare(left, right)
        except (TypeError, ArithmeticError):
            names = f"a {type_name(left)} with a {type_name(right)}"
            raise ExpressionFailed(f"`{sign}` cannot compare {names}; to_number() makes numbers of text") from None
    return None


def _ordering_with(left: Closure, literal: Any, kind: str) -> Closure:
    compare = _ORDERINGS[kind][1]
    like = literal.__class__
    if like is int or like is float:

        def with_number(value: Any) -> Any:
            result = left(value)
            if result.__class__ is int or result.__class__ is float:
                return compare(result, literal)
            return _order(result, literal, kind)

        return with_number
    return lambda value: _order(left(value), literal, kind)


def _equality_with(left: Closure, literal: Any, *, negated: bool) -> Closure:
    if literal is None or literal.__class__ is bool:
        if negated:
            return lambda value: left(value) is not literal
        return lambda value: left(value) is literal
    if literal.__class__ is str:
        if negated:
            return lambda value: bool(left(value) != literal)
        return lambda value: bool(left(value) == literal)
    if negated:
        return lambda value: not equals(left(value), literal)
    return lambda value: equals(left(value), literal)


def _object_closure(
    blank: dict[str, Any],
    fields: tuple[tuple[str, str], ...],
    below: tuple[tuple[str, tuple[tuple[str, str], ...]], ...],
    others: list[tuple[str, Closure]],
) -> Closure:
    """Make the closure of an object: fields, fields one level down by their parent, and whatever is neither."""
    copy_blank = blank.copy
    rest = tuple(others)

    def build(value: Any) -> Any:
        if value is None:
            return None
        result = copy_blank()
        if value.__class__ is dict:
            get = value.get
            for key, name in fields:
                result[key] = get(name)
            for parent, members in below:
                inner = get(parent)
                if inner.__class__ is dict:
                    get_inner = inner.get
                    for key, name in members:
                        result[key] = get_inner(name)
        for key, closure in rest:
            result[key] = closure(value)
        return result

    return build


def _field_of_each(base: Closure, name: str) -> Closure:
    def field_of_each(value: Any) -> Any:
        items = base(value)
        if items.__class__ is not list:
            return None
        try:
            return [found for item in items if (found := item.get(name)) is not None]
        except AttributeError:
            return [
                found for item in items if item.__class__ is dict and (found := item.get(name)) is not None
            ]

    return field_of_each


def _call_closure(function: Function, arguments: tuple[Closure, ...], scope: list[Any]) -> Closure:
    """Make the closure of a call. What Python itself raises inside a function becomes a sentence with its name."""
    call = function.call
    name = function.name
    raised = (TypeError, ValueError, ArithmeticError)

    def failed() -> ExpressionFailed:
        return ExpressionFailed(f"{name}() cannot work with the value it was given")

    if function.lazy or function.scoped:

        def special(value: Any) -> Any:
            before = (scope[0],) if function.scoped else ()
            try:
                if function.lazy:
                    return call(*before, value, *arguments)
                return call(*before, *(argument(value) for argument in arguments))
            except raised:
                raise failed() from None

        return special
    if len(arguments) == 1:
        (only,) = arguments

        def with_one(value: Any) -> Any:
            try:
                return call(only(value))
            except raised:
                raise failed() from None

        return with_one
    if len(arguments) == 2:  # noqa: PLR2004
        first, second = arguments

        def with_two(value: Any) -> Any:
            try:
                return call(first(value), second(value))
            except raised:
                raise failed() from None

        return with_two

    def with_many(value: Any) -> Any:
        try:
            return call(*[argument(value) for argument in arguments])
        except raised:
            raise failed() from None

    return with_many
