"""Compile JMESPath text: `compile_expression(text).search(document)`.

jmespath.py parses the text and is the reference; the compiled form gives the same results and fails on the same calls,
many times faster (benchmarks/transform.py). Results share their parts with the document and with the expression's
literals: copy a result before changing it.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from app.core.jmespath.call import Function
from app.core.jmespath.closures import Closures, path_of
from app.core.jmespath.limits import Bound, Budget, Meter, bound
from app.core.jmespath.parser import ExpressionInvalidAt, Node, parse
from app.core.jmespath.semantics import is_true
from app.core.jmespath.shapes import Closure, Path
from app.core.jmespath.standard_functions import BUILT_IN
from app.errors import ExpressionFailed

# Comparing a key with thousands of others, or with very long ones, would cost more than the hint is worth.
_KEYS_COMPARED = 500
_KEY_CHARS_COMPARED = 64

# Levels of closures that fit wherever the caller itself still fits: each takes one or two of Python's 1,000 frames.
_SHALLOW = 20

_FOLDABLE = frozenset({"comparator", "not_expression", "or_expression", "and_expression", "function_expression"})


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """A JMESPath expression, ready to run: on any number of threads and greenlets at once."""

    # The source text.
    text: str
    # `search(document)` gives the result for any JSON document, or raises ExpressionFailed and nothing else.
    search: Callable[[Any], Any] = field(repr=False)
    # `search_in(document, scope)` is the same, with the scope that scoped functions see besides their arguments.
    search_in: Callable[[Any, Any], Any] = field(repr=False)
    # `search_counted(document, scope, budget)` is the same, and counts all its steps against the budget.
    search_counted: Callable[[Any, Any, Budget], Any] = field(repr=False)
    # The most it can cost, known from its text alone.
    bound: Bound = field(repr=False)
    tree: Node = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingStep:
    """Why a chain of fields gave null: the first key of the chain that is missing, or is empty before an `||`."""

    # The path of the keys that exist, as written: "" at the top.
    parent: str
    missing: str
    # The most similar key beside it, if any.
    nearest: str | None
    # The key exists, but `||` skips its empty value.
    is_empty: bool = False

    def sentence(self, where: str = "this call") -> str:
        """Return it as text: "`properties.regoin` is not in this call; did you mean `region`?"."""
        path = f"{self.parent}.{self.missing}" if self.parent else self.missing
        if self.is_empty:
            return f"`{path}` is empty"
        hint = f"; did you mean `{self.nearest}`?" if self.nearest else ""
        return f"`{path}` is not in {where}{hint}"


def compile_expression(text: str, *, functions: Mapping[str, Function] | None = None) -> Expression:
    """Compile JMESPath text; `functions` are those it may call besides JMESPath's own, or in place of one by its name.

    Raises:
        ExpressionInvalidAt: (an ExpressionInvalid) the text is invalid; the message says why and shows the position.
    """
    callables = {**BUILT_IN, **functions} if functions else BUILT_IN
    tree = parse(text)
    try:
        _check_calls(tree, text, callables)
        tree = _fold_constants(tree, callables)
        limit = bound(tree, callables)
        search, search_in = _make_searches(tree, callables, limit)
        search_counted = _make_counted_search(tree, callables)
    except RecursionError:
        # The limits leave half of the stack free, so the caller itself is deep in it.
        raise ExpressionInvalidAt("the expression is nested too deeply to be compiled from here", text, 0) from None
    return Expression(text, search, search_in, search_counted, limit, tree)


def explain_null(expression: Expression, document: Any) -> MissingStep | None:
    """Return which key was missing, for an expression that gave null.

    Works for chains of fields and for chains joined by `||` (where it prefers an empty value, then a key with a similar
    one beside it); None for any other expression, and where every key exists and the value itself is null.
    """
    tree = expression.tree
    chains = tree["children"] if tree["type"] == "or_expression" else [tree]
    paths = [path for chain in chains if (path := path_of(chain))]
    steps = [step for path in paths if (step := _missing_step(path, document, paths))]
    steps.sort(key=lambda step: (not step.is_empty, step.nearest is None))
    return steps[0] if steps else None


def _missing_step(path: Path, document: Any, looked_up: Sequence[Path]) -> MissingStep | None:
    for index, key in enumerate(path):
        if not isinstance(document, dict) or key not in document:
            # A key that the expression looks up elsewhere was not meant here.
            beside = {other[index] for other in looked_up if other[:index] == path[:index] and len(other) > index}
            keys = [name for name in document if name not in beside] if isinstance(document, dict) else []
            short = tuple(name for name in keys[:_KEYS_COMPARED] if len(name) <= _KEY_CHARS_COMPARED)
            nearest = _find_similar(key[:_KEY_CHARS_COMPARED], short)
            return MissingStep(parent=".".join(path[:index]), missing=key, nearest=nearest)
        document = document[key]
    if document is None or is_true(document):
        return None
    return MissingStep(parent=".".join(path[:-1]), missing=path[-1], nearest=None, is_empty=True)


# Calls that lack a key usually have the same keys: comparing them took half of the time of a rejected call.
@lru_cache(maxsize=128)
def _find_similar(key: str, names: tuple[str, ...]) -> str | None:
    near = difflib.get_close_matches(key, names, n=1)
    return near[0] if near else None


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    if node["type"] != "slice":
        for child in node["children"]:
            yield from _nodes(child)


def _check_calls(tree: Node, text: str, functions: Mapping[str, Function]) -> None:
    """Check on compilation what jmespath checks when a call is reached: function names and numbers of arguments."""
    for node in _nodes({"type": "whole", "children": [tree]}):
        if node["type"] == "function_expression":
            _check_call(node, text, functions)
        elif node["type"] != "slice":
            for child in node["children"]:
                if child["type"] == "expref":
                    reason = "`&` can only stand before an argument of a function that takes an expression"
                    raise ExpressionInvalidAt(reason, text, child["start"])


def _check_call(node: Node, text: str, functions: Mapping[str, Function]) -> None:
    name, start, arguments = node["value"], node["start"], node["children"]
    function = functions.get(name)
    if function is None:
        near = difflib.get_close_matches(name, functions, n=1)
        hint = f"; did you mean {near[0]}()?" if near else ""
        raise ExpressionInvalidAt(f"there is no function {name}(){hint}", text, start)
    count = len(arguments)
    if count < function.min_args or (function.max_args is not None and count > function.max_args):
        raise ExpressionInvalidAt(f"{name}() takes {function.arity()}, not {count}", text, start)
    for position, argument in enumerate(arguments):
        is_expression = position in function.expressions
        if is_expression and argument["type"] != "expref":
            reason = f"{name}() takes an expression, written with `&`, as argument {position + 1}"
            raise ExpressionInvalidAt(reason, text, start)
        if not is_expression and argument["type"] == "expref":
            reason = f"{name}() takes a value, written without `&`, as argument {position + 1}"
            raise ExpressionInvalidAt(reason, text, argument["start"])


def _fold_constants(node: Node, functions: Mapping[str, Function]) -> Node:
    """Evaluate the parts that do not depend on the input: `to_number('5')` becomes 5."""
    if node["type"] == "slice":
        return node
    children = [_fold_constants(child, functions) for child in node["children"]]
    node = {**node, "children": children}
    if node["type"] not in _FOLDABLE or not children or any(child["type"] != "literal" for child in children):
        return node
    # Only JMESPath's own functions are known to be constant for constant arguments.
    if node["type"] == "function_expression" and functions[node["value"]] is not BUILT_IN.get(node["value"]):
        return node
    # to_string(to_array(to_string(to_array(...)))) doubles at each step: it is left to a search, which counts.
    if not bound(node, functions).is_small:
        return node
    try:
        value = Closures(functions, None, [None]).make(node)(None)
    except ExpressionFailed:
        # It fails only for an input that reaches it, as in jmespath.
        return node
    return {"type": "literal", "value": value, "children": []}


def _make_searches(
    tree: Node, functions: Mapping[str, Function], limit: Bound
) -> tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]:
    calls = [functions[node["value"]] for node in _nodes(tree) if node["type"] == "function_expression"]
    if limit.is_small and not any(function.scoped for function in calls):
        closure = Closures(functions, None, [None]).make(tree)
        # A shallow closure raises only ExpressionFailed, made by its parts: it needs no guard.
        search = closure if _depth(tree) <= _SHALLOW else _guard(closure)
        return search, lambda document, _scope: search(document)

    run = _with_states(lambda meter, cell: Closures(functions, None if limit.is_small else meter, cell).make(tree))
    return lambda document: run(document, document, None), lambda document, scope: run(document, scope, None)


def _make_counted_search(tree: Node, functions: Mapping[str, Function]) -> Callable[[Any, Any, Budget], Any]:
    """Return the search that counts its steps. It is compiled on first use, which most expressions never have."""
    searches: list[Callable[[Any, Any, Budget | None], Any]] = []

    def search(document: Any, scope: Any, budget: Budget) -> Any:
        if not searches:
            searches.append(_with_states(lambda meter, cell: Closures(functions, meter, cell, spares=False).make(tree)))
        return searches[0](document, scope, budget)

    return search


def _with_states(make: Callable[[Meter, list[Any]], Closure]) -> Callable[[Any, Any, Budget | None], Any]:
    """Return the search of a closure that has state while it runs: its meter, and the scope it sees.

    Each search takes a state from a pool, or makes one; pop and append are atomic, so threads never share one, and
    neither do nested searches.
    """

    def state() -> tuple[Meter, list[Any], Closure]:
        meter, cell = Meter(), [None]
        return meter, cell, _guard(make(meter, cell))

    idle = [state()]

    def search(document: Any, scope: Any, budget: Budget | None) -> Any:
        try:
            meter, cell, closure = idle.pop()
        except IndexError:
            meter, cell, closure = _guard(lambda _: state())(None)
        meter.reset(budget)
        cell[0] = scope
        try:
            return closure(document)
        finally:
            cell[0] = None
            idle.append((meter, cell, closure))

    return search


def _depth(node: Node) -> int:
    return 1 + max((_depth(child) for child in node["children"]), default=0) if node["type"] != "slice" else 1


def _guard(closure: Closure) -> Closure:
    def guarded(document: Any) -> Any:
        try:
            return closure(document)
        except RecursionError:
            raise ExpressionFailed("the call is nested too deeply for this expression") from None
        except MemoryError:
            raise ExpressionFailed("the result of the expression does not fit into memory") from None
        # A safety net: each known cause has a sentence of its own. The cause is not chained, for it may quote a value.
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ExpressionFailed(f"the expression cannot be used on this call ({type(error).__name__})") from None

    return guarded
