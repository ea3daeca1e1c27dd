"""The description of a function, the errors for its arguments, and the closure that calls it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from app.core.jmespath.semantics import type_name
from app.core.jmespath.shapes import Closure
from app.errors import ExpressionFailed

# What Python's own functions raise for unusable values.
_RAISED = (TypeError, ValueError, ArithmeticError, RecursionError, MemoryError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function that expressions can call, with the properties that the engine needs.

    `call` gets one positional argument for each argument in the expression: its value, or for a position in
    `expressions` a callable (`&price` becomes `item -> item's price`). Two flags change that:

    - `lazy`: `call(node, *closures)`. Nothing is evaluated yet; `closures[i](node)` gives the value of argument i.
    - `scoped`: `call(scope, *values)`. `scope` is the argument of `Expression.search_in` (for `search`: the document).
      With `growth=None` it returns a part of the scope as it is, which costs nothing until it is used in a result.

    It raises ExpressionFailed (see `wrong_type`) for what it cannot use. A TypeError, ValueError or ArithmeticError
    becomes an ExpressionFailed that names the function.
    """

    name: str
    call: Callable[..., Any]
    min_args: int
    # None: any number of arguments.
    max_args: int | None
    # The positions, from 0, of arguments written `&expression`.
    expressions: frozenset[int] = field(default=frozenset())
    # The result is at most this many times as large as all arguments together (4: at most four times). None: unknown;
    # then its result, and whatever is made of that, is counted at run time, at some 50 ns for each node. Results are
    # counted after they are made, so a function that can multiply its input has to limit itself first.
    growth: int | None = None
    # Where steps are counted: how many it takes for each step of its arguments.
    effort: int = 1
    lazy: bool = False
    scoped: bool = False

    def arity(self) -> str:
        """Return how many arguments it takes, in words."""
        if self.max_args is None:
            return f"at least {self.min_args} argument{'' if self.min_args == 1 else 's'}"
        if self.min_args != self.max_args:
            return f"{self.min_args} to {self.max_args} arguments"
        return f"{self.min_args} argument{'' if self.min_args == 1 else 's'}"


def null_safe(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that gives null if any of its values is null, and calls `call` otherwise."""

    def null_or_call(*values: Any) -> Any:
        return None if None in values else call(*values)

    return null_or_call


def wrong_type(function: str, position: int, expected: str, value: object) -> ExpressionFailed:
    """Make the error for an argument (counted from 1) of the wrong type; `expected` is text such as "a number"."""
    kind = type_name(value)
    article = "" if kind == "null" else "an " if kind[0] in "ao" else "a "
    return ExpressionFailed(f"{function}() takes {expected} as argument {position}, and was given {article}{kind}")


def wrong_list(function: str, position: int, expected: str, value: Any) -> ExpressionFailed:
    """Make the error for an array whose items have a wrong type, or for a value that is no array."""
    if value.__class__ is not list:
        return wrong_type(function, position, expected, value)
    names = " and ".join(sorted({f"{type_name(item)}s" for item in value}))
    return ExpressionFailed(f"{function}() takes {expected} as argument {position}, and was given an array of {names}")


def call(function: Function, arguments: tuple[Closure, ...]) -> Closure:
    """Make the closure that calls a function on its arguments' values; Python's exceptions become ExpressionFailed."""
    run = function.call
    name = function.name
    if len(arguments) == 1:
        (only,) = arguments

        def with_one(value: Any) -> Any:
            try:
                return run(only(value))
            except _RAISED as error:
                raise _failed(name, error) from None

        return with_one
    if len(arguments) == 2:  # noqa: PLR2004
        first, second = arguments

        def with_two(value: Any) -> Any:
            try:
                return run(first(value), second(value))
            except _RAISED as error:
                raise _failed(name, error) from None

        return with_two

    def with_many(value: Any) -> Any:
        try:
            return run(*[argument(value) for argument in arguments])
        except _RAISED as error:
            raise _failed(name, error) from None

    return with_many


def special_call(function: Function, arguments: tuple[Closure, ...], scope: list[Any]) -> Closure:
    """Make the closure that calls a lazy or scoped function; `scope` is the cell that each search fills."""
    run = function.call

    def with_more(value: Any) -> Any:
        before = (scope[0],) if function.scoped else ()
        try:
            if function.lazy:
                return run(*before, value, *arguments)
            return run(*before, *[argument(value) for argument in arguments])
        except _RAISED as error:
            raise _failed(function.name, error) from None

    return with_more


def _failed(name: str, error: Exception) -> ExpressionFailed:
    # Python's own message is left out: it may quote a value.
    if isinstance(error, RecursionError):
        return ExpressionFailed(f"{name}() was given a value that is nested too deeply")
    if isinstance(error, MemoryError):
        return ExpressionFailed(f"{name}() was given more than fits into memory")
    return ExpressionFailed(f"{name}() cannot work with the values it was given")
