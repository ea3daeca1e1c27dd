"""Compile a tree to one Python function.

jmespath.py walks its tree on each search: a dictionary look-up, a method look-up and two calls for each node. Here the
tree is walked once, and each node becomes a closure over the closures of its parts: see shapes.py, projections.py and
call.py for the closures themselves.
"""

from collections.abc import Mapping
from typing import Any

from app.core.jmespath import projections, shapes
from app.core.jmespath.call import Function, call, special_call
from app.core.jmespath.limits import Bound, Meter, bound
from app.core.jmespath.parser import Node
from app.core.jmespath.semantics import ORDERINGS
from app.core.jmespath.shapes import Closure, Path
from app.errors import ExpressionFailed

# Comparators with their sides exchanged, so that a literal is always on the right.
_MIRRORED = {"lt": "gt", "lte": "gte", "gt": "lt", "gte": "lte", "eq": "eq", "ne": "ne"}
_BOOLEAN = frozenset({"comparator", "not_expression"})


def path_of(node: Node) -> Path | None:
    """Return the keys of a plain chain of fields (`a.b.c`; `@` is the empty chain); None for any other node."""
    kind = node["type"]
    if kind == "field":
        return (node["value"],)
    if kind in ("current", "identity"):
        return ()
    if kind in ("subexpression", "pipe"):
        keys: Path = ()
        for child in node["children"]:
            path = path_of(child)
            if path is None:
                return None
            keys += path
        return keys
    return None


def _with_default(node: Node) -> tuple[Node, Any]:
    """Split `a || literal` into node and default; a literal is its own default, other nodes have none."""
    if node["type"] == "or_expression" and len(node["children"]) == 2:  # noqa: PLR2004
        first, last = node["children"]
        if last["type"] == "literal":
            return first, last["value"]
    return node, node["value"] if node["type"] == "literal" else None


class Closures:
    """Makes the closure of a tree.

    With a meter, parts that could explode are counted at run time. A part with a small bound is not, as long as its
    input is a part of the call: its cost is then a share of a few passes over the call. The result of an unbounded part
    could be large, and be used again and again, so after one (`_maker_after`) everything is counted.
    """

    __slots__ = ("_functions", "_meter", "_scope", "_spares")

    def __init__(
        self, functions: Mapping[str, Function], meter: Meter | None, scope: list[Any], *, spares: bool = True
    ) -> None:
        self._functions = functions
        self._meter = meter
        # One cell, filled at the start of each search, that scoped functions read.
        self._scope = scope
        # Whether parts with a small bound are spared from counting.
        self._spares = spares

    def make(self, node: Node) -> Closure:
        """Return the closure of a node: value in, value out; it raises ExpressionFailed."""
        path = path_of(node)
        if path is not None:
            return shapes.chain(path)
        maker = self
        if self._meter is not None and self._is_spared(node):
            maker = Closures(self._functions, None, self._scope)
        closure: Closure = getattr(maker, "_" + node["type"])(node)
        return closure

    def _is_spared(self, node: Node) -> bool:
        return self._spares and bound(node, self._functions).is_small

    def _maker_after(self, *, small: bool) -> "Closures":
        """Return the maker for parts whose input is the result of others: `small` if all of those are spared."""
        if self._meter is None or not self._spares or small:
            return self
        return Closures(self._functions, self._meter, self._scope, spares=False)

    def _make_all(self, nodes: list[Node]) -> tuple[Closure, ...]:
        return tuple(self.make(node) for node in nodes)

    def _make_items(self, node: Node) -> Closure:
        """Make the input of a projection."""
        closure = self.make(node)
        return self._meter.counting_items(closure) if self._meter else closure

    def _count_size(self, closure: Closure) -> Closure:
        """Count the size of a closure's results."""
        return self._meter.counting_size(closure) if self._meter else closure

    def _make_counted(self, node: Node, times: int = 1) -> Closure:
        """Make a part that a comparison or function reads as a whole, which costs `times` its size."""
        closure = self.make(node)
        if self._meter is None or self._is_spared(node):
            return closure
        return self._meter.counting_size(closure, times)

    def _literal(self, node: Node) -> Closure:
        return shapes.constant(node["value"])

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
        bounds = slice(*node["children"])

        def part(value: Any) -> Any:
            if value.__class__ is not list:
                return None
            if bounds.step == 0:
                raise ExpressionFailed("the step of a slice cannot be 0")
            return value[bounds]

        return part

    def _subexpression(self, node: Node) -> Closure:
        # Neighbouring fields become one chain: `a.b[0].c.d` is (a.b), [0], (c.d). An empty chain changes nothing.
        closures: list[Closure] = []
        path: Path = ()
        maker = self
        so_far = Bound(1, 0, 0)
        for child in node["children"]:
            more = path_of(child)
            if more is not None:
                path += more
                continue
            if path:
                closures.append(shapes.chain(path))
                path = ()
            if self._meter is not None:
                maker = self._maker_after(small=so_far.is_small)
                so_far = so_far.then(bound(child, self._functions))
            closures.append(maker.make(child))
        if path:
            closures.append(shapes.chain(path))
        return shapes.steps(closures)

    _pipe = _subexpression
    _index_expression = _subexpression

    def _or_expression(self, node: Node) -> Closure:
        *first, last = node["children"]
        if last["type"] == "literal":
            return shapes.first_true_or_literal(self._make_all(first), last["value"])
        return shapes.first_true(self._make_all(first), self.make(last))

    def _and_expression(self, node: Node) -> Closure:
        *first, last = node["children"]
        return shapes.all_true(self._make_all(first), self.make(last))

    def _not_expression(self, node: Node) -> Closure:
        return shapes.opposite(self.make(node["children"][0]))

    def _comparator(self, node: Node) -> Closure:
        left, right = node["children"]
        kind = node["value"]
        if left["type"] == "literal":
            left, right, kind = right, left, _MIRRORED[kind]
        if right["type"] == "literal":
            literal = right["value"]
            if kind in ORDERINGS:
                path = path_of(left)
                if literal.__class__ in (int, float) and path is not None and len(path) == 1:
                    return shapes.field_order_with_number(path[0], literal, kind)
                if literal.__class__ in (int, float):
                    return shapes.order_with_number(self.make(left), literal, kind)
            elif literal.__class__ is str:
                return shapes.equality_with_text(self.make(left), literal, kind)
            elif literal is None or literal.__class__ is bool:
                return shapes.identity_with(self.make(left), literal, kind)
        return shapes.comparison(self._make_counted(left), self.make(right), kind)

    def _multi_select_list(self, node: Node) -> Closure:
        return self._count_size(shapes.array(self._make_all(node["children"])))

    def _multi_select_dict(self, node: Node) -> Closure:
        pairs = [(pair["value"], pair["children"][0]) for pair in node["children"]]
        if len({key for key, _ in pairs}) < len(pairs):
            # A key occurs twice, so the order of evaluation matters: no special shape applies.
            return self._count_size(shapes.object_in_turn(tuple((key, self.make(child)) for key, child in pairs)))
        blank: dict[str, Any] = {}
        levels: dict[str | None, shapes.Level] = {}
        computed: list[tuple[str, Closure]] = []
        for key, child in pairs:
            place, blank[key] = _with_default(child)
            match path_of(place):
                case (*parents, name) if len(parents) <= 1:
                    parent = parents[0] if parents else None
                    level = levels.setdefault(parent, shapes.Level(parent))
                    (level.fields if place is child else level.defaults).append((key, name))
                case _ if child["type"] != "literal":
                    computed.append((key, self.make(child)))
        if not computed and list(levels) == [None] and len(levels[None].fields) == len(pairs):
            return self._count_size(shapes.object_of_fields(tuple(levels[None].fields)))
        return self._count_size(shapes.object_of_parts(blank, list(levels.values()), computed))

    def _flatten(self, node: Node) -> Closure:
        return self._count_size(projections.flat(self._make_items(node["children"][0])))

    def _projection(self, node: Node) -> Closure:
        base, right = node["children"]
        match path_of(right):
            case (name,):
                # A meter has to see the flattened array.
                if base["type"] == "flatten" and self._meter is None:
                    return projections.field_of_each_flat(self.make(base["children"][0]), name)
                return self._count_size(projections.field_of_each(self._make_items(base), name))
            case _:
                return self._count_size(
                    projections.each(self._make_items(base), self._maker_after(small=self._is_spared(base)).make(right))
                )

    def _value_projection(self, node: Node) -> Closure:
        base, right = node["children"]
        return self._count_size(
            projections.each_value(self._make_items(base), self._maker_after(small=self._is_spared(base)).make(right))
        )

    def _filter_projection(self, node: Node) -> Closure:
        base, right, condition = node["children"]
        maker = self._maker_after(small=self._is_spared(base))
        items, holds = self._make_items(base), maker.make(condition)
        if condition["type"] in _BOOLEAN:
            item_closure = None if path_of(right) == () else maker.make(right)
            return self._count_size(projections.matching_boolean(items, holds, item_closure))
        return self._count_size(projections.matching(items, holds, maker.make(right)))

    def _function_expression(self, node: Node) -> Closure:
        function = self._functions[node["value"]]
        values = [child for index, child in enumerate(node["children"]) if index not in function.expressions]
        maker = self._maker_after(small=all(map(self._is_spared, values)))
        arguments: list[Closure] = []
        for position, child in enumerate(node["children"]):
            if position in function.expressions:
                reference = maker.make(child["children"][0])
                arguments.append(reference if function.lazy else shapes.constant(reference))
            else:
                arguments.append(self._make_counted(child, function.effort))
        if function.scoped and function.growth is None:
            # Its result exists already. It is counted where it becomes part of another value, or is read.
            return special_call(function, tuple(arguments), self._scope)
        if function.lazy or function.scoped:
            return self._count_size(special_call(function, tuple(arguments), self._scope))
        return self._count_size(call(function, tuple(arguments)))
