"""How much an expression may cost: bounded from its text where that can be done, counted while it runs where not.

Sizes are of the *rendered* value (what its JSON would be): `[@, @]` shares its parts in memory, but not on the wire.
Every JMESPath construct gives at most a fixed multiple of what it is given, so for nearly all expressions a bound
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

# An expression whose result can be no more than 64 times the call, made in no more than 256 passes over it, runs
# uncounted. Ordinary transforms stay below 25 of either.
MAX_GROWTH = 64
MAX_PASSES = 256

# What an expression that is counted may use up in one search: 250,000 nodes, or 4 million characters of text. That is
# about a hundred times a call of Segment's largest size (32 KB), and takes about 30 ms.
MAX_STEPS = 250_000

# What all expressions together may use up for the events of one call, where they are counted: about half a second.
MAX_EACH_STEPS = 4_000_000

# What all expressions together may use up for one event before they are counted: about half a second. A transform whose
# expressions make fewer than 50 passes over the call never gets there.
MAX_EVENT_STEPS = 32_000_000

# The largest call that there is, 1 MiB of `[1,1,1,`, has so many values and so much text.
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
        """Return the most steps for an input of this size, where the expression runs uncounted; else its limit."""
        return self.passes * size + self.fixed if self.is_small else MAX_STEPS

    @property
    def is_small(self) -> bool:
        """Tell whether the expression can run without being counted."""
        return self.growth <= MAX_GROWTH and self.passes <= MAX_PASSES

    def then(self, after: "Bound") -> "Bound":
        """Bound `after` applied to the result of this."""
        # Nothing times what is unbounded is nothing, though not in floating point.
        passes = self.growth * after.passes if after.passes else 0
        return Bound(self.growth * after.growth, self.passes + passes, self.fixed + after.fixed)

    def each(self, *inner: "Bound") -> "Bound":
        """Bound a projection: each of `inner` is applied to every item of this; the last one gives the result."""
        # Items share the size of the list among them, so what is fixed for an item becomes a pass over the list.
        passes = sum(child.passes + child.fixed for child in inner) + 1
        return Bound(self.growth * max(1.0, inner[-1].growth), self.passes + self.growth * passes, self.fixed)


_ONE_STEP = Bound(1, 0, 1)
_ONE_PASS = Bound(1, 1, 1)


def _in_turn(children: list[Bound]) -> Bound:
    result = _ONE_STEP
    for child in children:
        result = result.then(child)
    return result


def _side_by_side(children: list[Bound], growth: float) -> Bound:
    return Bound(growth, sum(child.passes for child in children), sum(child.fixed for child in children) + 1)


def _made(children: list[Bound]) -> Bound:
    return _side_by_side(children, 1 + sum(child.growth for child in children))


def _compared(children: list[Bound]) -> Bound:
    # Comparing ends with the smaller side.
    smaller = min(child.growth for child in children)
    return _side_by_side([*children, Bound(0, smaller, 0)], 1)


def _chosen(children: list[Bound]) -> Bound:
    return _side_by_side(children, max((child.growth for child in children), default=1.0))


# What is not here gives one of its children, or a part of what it is given.
_BOUNDS: Mapping[str, Callable[[list[Bound]], Bound]] = {
    "subexpression": _in_turn,
    "index_expression": _in_turn,
    "pipe": _in_turn,
    "projection": lambda children: children[0].each(children[1]),
    "value_projection": lambda children: children[0].each(children[1]),
    # The tree has the condition after the right side.
    "filter_projection": lambda children: children[0].each(children[2], children[1]),
    "flatten": lambda children: children[0].then(_ONE_PASS),
    "comparator": _compared,
    "multi_select_list": _made,
    "multi_select_dict": _made,
}


def bound(node: Node, functions: Mapping[str, Function]) -> Bound:
    """Give the most that this tree can cost, for an input of any size."""
    kind: str = node["type"]
    if kind == "literal":
        return Bound(size_of(node["value"], _UNBOUNDED), 0, 1)
    if kind == "slice":
        return _ONE_PASS
    if kind == "function_expression":
        return _bound_call(node, functions)
    result = _BOUNDS.get(kind, _chosen)([bound(child, functions) for child in node["children"]])
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
        # Only a separator that comes from the call can multiply with the list: a literal is in the sum already.
        multiple = 1.0
    combined = _side_by_side(values, max(1.0, sum(argument.growth for argument in values)))
    result = combined.then(Bound(multiple, _SORT_PASSES if references else 1, 0))
    return result.each(*references) if references else result


def size_of(value: Any, limit: float) -> int:
    """Give the size of a JSON value in steps: one for each value and key, and one for each 16 characters of text.

    Counting ends where `limit` is passed, so that it costs no more than what it finds.
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
    """All expressions together have used up their steps: no one of them is to blame."""


@dataclass(slots=True)
class Budget:
    """The steps that are left to all searches for the events of one call."""

    left: int = MAX_EACH_STEPS

    def spend(self, steps: int) -> None:
        """Take steps; raises BudgetSpent when there are no more."""
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
        """Begin a search, which also spends from `budget`."""
        self._left = MAX_STEPS
        self._budget = budget

    def charge(self, steps: int) -> None:
        """Take steps; raises ExpressionFailed when there are no more."""
        if self._budget is not None:
            self._budget.spend(steps)
        self._left -= steps
        if self._left < 0:
            raise ExpressionFailed(
                f"the expression needs more than {MAX_STEPS:,} steps on this call, which is the limit; "
                "it copies or compares too much"
            )

    def counting_items(self, closure: Closure) -> Closure:
        """Wrap what a projection goes over: each item is a step."""
        charge = self.charge

        def counted(value: Any) -> Any:
            result = closure(value)
            charge(len(result) if isinstance(result, list | dict) else 1)
            return result

        return counted

    def counting_size(self, closure: Closure, times: int = 1) -> Closure:
        """Wrap what makes, compares or reads a whole value: each of its nodes is a step, or as many as `times` says."""

        def counted(value: Any) -> Any:
            result = closure(value)
            if result.__class__ in _LARGE:
                self.charge(times * size_of(result, self._left))
            else:
                self.charge(1)
            return result

        return counted
