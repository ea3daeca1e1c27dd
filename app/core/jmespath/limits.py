"""The cost of an expression: bounded from its text where that is possible, otherwise counted while it runs.

Sizes are of the *rendered* value (what its JSON would be): `[@, @]` shares its parts in memory, but not on the wire.
The result of every JMESPath construct is at most a fixed multiple of its input, so for nearly all expressions a bound
follows from the tree alone, and running them costs nothing more. Only where the multiple is large (`[@,@] | [@,@] |
...`) or unknown (a function that reaches the whole call from inside a projection) is the work counted at run time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from app.core.jmespath.call import Function
from app.core.jmespath.parser import Node
from app.core.jmespath.shapes import Closure
from app.core.jmespath.standard_functions import BUILT_IN
from app.errors import ExpressionFailed

# An expression whose result is at most 64 times the call, made in at most 256 passes over it, runs uncounted.
# Ordinary transforms stay below 25 of either.
MAX_GROWTH = 64
MAX_PASSES = 256

# The budget of one search of a counted expression: 250,000 nodes, or 4 million characters of text. That is
# about a hundred times a call of Segment's largest size (32 KB), and takes about 30 ms.
MAX_STEPS = 250_000

# The budget of all expressions together for the events of one call, where they are counted: about half a second.
MAX_EACH_STEPS = 4_000_000

# The most that all expressions together may need for one event without being counted: about half a second. A transform
# whose expressions make fewer than 50 passes over the call never gets there.
MAX_EVENT_STEPS = 32_000_000

# The steps of the largest possible call, 1 MiB of `[1,1,1,`: values and text.
MAX_CALL_SIZE = 600_000

_CHARS_A_STEP = 16
_UNBOUNDED = float("inf")
# The types that can be larger than one step.
_LARGE: frozenset[type] = frozenset({str, list, dict})
# A sort compares each item with about this many others.
_SORT_PASSES = 16


class Bound(NamedTuple):
    """The most that a node can cost on an input of size n: a result of `growth * n`, in `passes * n + fixed` steps."""

    growth: float
    passes: float
    fixed: float

    def steps(self, size: int) -> float:
        """Return the most steps for an input of this size; the limit of a search where the expression is counted."""
        return self.passes * size + self.fixed if self.is_small else MAX_STEPS

    @property
    def is_small(self) -> bool:
        """Tell whether the expression can run uncounted."""
        return self.growth <= MAX_GROWTH and self.passes <= MAX_PASSES

    def then(self, after: "Bound") -> "Bound":
        """Return the bound of `after` applied to the result of this."""
        # Zero times infinity is zero here, unlike in floating point.
        passes = self.growth * after.passes if after.passes else 0
        return Bound(self.growth * after.growth, self.passes + passes, self.fixed + after.fixed)

    def each(self, *inner: "Bound") -> "Bound":
        """Return the bound of a projection: all of `inner` applied to every item; the last one gives the result."""
        # Items share the size of the list among them, so what is fixed for an item becomes a pass over the list.
        passes = sum(child.passes + child.fixed for child in inner) + 1
        return Bound(self.growth * max(1.0, inner[-1].growth), self.passes + self.growth * passes, self.fixed)


_ONE_STEP = Bound(1, 0, 1)
_ONE_PASS = Bound(1, 1, 1)


def _bound_sequence(children: list[Bound]) -> Bound:
    result = _ONE_STEP
    for child in children:
        result = result.then(child)
    return result


def _bound_parts(children: list[Bound], growth: float) -> Bound:
    return Bound(growth, sum(child.passes for child in children), sum(child.fixed for child in children) + 1)


def _bound_construction(children: list[Bound]) -> Bound:
    return _bound_parts(children, 1 + sum(child.growth for child in children))


def _bound_comparison(children: list[Bound]) -> Bound:
    # Comparing ends with the smaller side.
    smaller = min(child.growth for child in children)
    return _bound_parts([*children, Bound(0, smaller, 0)], 1)


def _bound_choice(children: list[Bound]) -> Bound:
    return _bound_parts(children, max((child.growth for child in children), default=1.0))


# Other nodes give one of their children, or a part of their input.
_BOUNDS: Mapping[str, Callable[[list[Bound]], Bound]] = {
    "subexpression": _bound_sequence,
    "index_expression": _bound_sequence,
    "pipe": _bound_sequence,
    "projection": lambda children: children[0].each(children[1]),
    "value_projection": lambda children: children[0].each(children[1]),
    # The tree has the condition after the right side.
    "filter_projection": lambda children: children[0].each(children[2], children[1]),
    "flatten": lambda children: children[0].then(_ONE_PASS),
    "comparator": _bound_comparison,
    "multi_select_list": _bound_construction,
    "multi_select_dict": _bound_construction,
}


def bound(node: Node, functions: Mapping[str, Function]) -> Bound:
    """Return the most that this tree can cost, for an input of any size."""
    kind: str = node["type"]
    if kind == "literal":
        return Bound(size_of(node["value"], _UNBOUNDED), 0, 1)
    if kind == "slice":
        return _ONE_PASS
    if kind == "function_expression":
        return _bound_call(node, functions)
    result = _BOUNDS.get(kind, _bound_choice)([bound(child, functions) for child in node["children"]])
    if kind == "key_val_pair":
        # The key is in the result too.
        return result._replace(growth=result.growth + size_of(node["value"], _UNBOUNDED))
    return result


def _bound_call(node: Node, functions: Mapping[str, Function]) -> Bound:
    function = functions[node["value"]]
    arguments = [bound(child, functions) for child in node["children"]]
    values = [argument for index, argument in enumerate(arguments) if index not in function.expressions]
    references = [argument for index, argument in enumerate(arguments) if index in function.expressions]
    multiple = _UNBOUNDED if function.growth is None else float(function.growth)
    first = node["children"][0] if node["children"] else node
    if function is BUILT_IN["join"] and first["type"] == "literal" and isinstance(first["value"], str):
        # Only a separator from the call can multiply with the list: a literal is already part of the sum.
        multiple = 1.0
    combined = _bound_parts(values, max(1.0, sum(argument.growth for argument in values)))
    result = combined.then(Bound(multiple, _SORT_PASSES if references else 1, 0))
    return result.each(*references) if references else result


def size_of(value: Any, limit: float) -> int:
    """Return the size of a JSON value in steps: one for each value and key, and one for each 16 characters of text.

    Counting stops when `limit` is passed, so it costs no more than the size it returns.
    """
    size = 0
    pending = [value]
    while pending:
        item = pending.pop()
        size += 1
        if item.__class__ is str:
            size += len(item) // _CHARS_A_STEP
        elif item.__class__ is list:
            pending.extend(item)
        elif item.__class__ is dict:
            pending.extend(item.values())
            pending.extend(item)
        # What is still pending counts too: extending by a long list costs as much as looking at it.
        if size + len(pending) > limit:
            return size + len(pending)
    return size


class BudgetSpent(ExpressionFailed):
    """All expressions together have used up their steps; no single one is to blame."""


@dataclass(slots=True)
class Budget:
    """The steps that are left for all searches for the events of one call."""

    left: int = MAX_EACH_STEPS

    def spend(self, steps: int) -> None:
        """Take `steps`; raises BudgetSpent when none are left."""
        self.left -= steps
        if self.left < 0:
            raise BudgetSpent(
                f"the events of this call need more than {MAX_EACH_STEPS:,} steps together, which is the limit; "
                "there are too many items, or the expressions read too much of the call"
            )


class Meter:
    """The steps that one search has left. One search at a time owns a meter, so threads and greenlets never share."""

    __slots__ = ("_budget", "_left")

    def __init__(self) -> None:
        self._left = MAX_STEPS
        self._budget: Budget | None = None

    def reset(self, budget: Budget | None = None) -> None:
        """Start a search, which also takes its steps from `budget`."""
        self._left = MAX_STEPS
        self._budget = budget

    def charge(self, steps: int) -> None:
        """Take `steps`; raises ExpressionFailed when none are left."""
        if self._budget is not None:
            self._budget.spend(steps)
        self._left -= steps
        if self._left < 0:
            raise ExpressionFailed(
                f"the expression needs more than {MAX_STEPS:,} steps on this call, which is the limit; "
                "it copies or compares too much"
            )

    def counting_items(self, closure: Closure) -> Closure:
        """Wrap the input of a projection: each item is a step."""
        charge = self.charge

        def counted(value: Any) -> Any:
            result = closure(value)
            charge(len(result) if isinstance(result, list | dict) else 1)
            return result

        return counted

    def counting_size(self, closure: Closure, times: int = 1) -> Closure:
        """Wrap a closure that makes, compares or reads a whole value: each node of it is `times` steps."""

        def counted(value: Any) -> Any:
            result = closure(value)
            if result.__class__ in _LARGE:
                self.charge(times * size_of(result, self._left))
            else:
                self.charge(1)
            return result

        return counted
