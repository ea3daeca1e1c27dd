"""JMESPath's rules for values: types, truth, equality and order."""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Any

from app.errors import ExpressionFailed

# Without bool, which is no number in JMESPath, though it is one in Python. Our own arithmetic gives Decimal.
NUMBER_TYPES = frozenset({int, float, Decimal})

_TYPE_NAMES: Mapping[type, str] = {
    bool: "boolean",
    int: "number",
    float: "number",
    Decimal: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}

ORDERINGS: Mapping[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "lt": ("<", operator.lt),
    "lte": ("<=", operator.le),
    "gt": (">", operator.gt),
    "gte": (">=", operator.ge),
}


_NUMBER_TEXT = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?")


def type_name(value: object) -> str:
    """Return JMESPath's name for the type of a value."""
    return _TYPE_NAMES.get(value.__class__, "value that is not JSON")


def is_true(value: Any) -> bool:
    """Tell whether a value counts as true in JMESPath: all but null, false, and empty text, arrays and objects.

    0 is true. The closures of the hot path repeat this test inline.
    """
    return bool(value) or (value == 0 and value is not False)


def equals(left: Any, right: Any) -> bool:
    """Compare as JMESPath does: 1 is not true and 0 is not false, though in Python they are."""
    if left.__class__ is bool or right.__class__ is bool:
        return left is right
    try:
        return bool(left == right)
    except RecursionError:
        raise ExpressionFailed("`==` cannot compare values that are nested this deeply") from None


def order_key(values: list[Any]) -> Callable[[Any], Any] | None:
    """Return the `key` by which sorted() is to order numbers; None: by the numbers themselves.

    Python compares a Decimal with a double's binary value, but 0.1 is to count as one tenth.
    """
    return _exact_number if Decimal in set(map(type, values)) else None


def _exact_number(number: Any) -> Any:
    return Decimal(repr(number)) if number.__class__ is float else number


def in_order(left: Any, right: Any, kind: str) -> Any:
    """Compare two values by size (`kind` is a key of ORDERINGS): null unless both are numbers or strings.

    Raises ExpressionFailed for a number and a string, which have no order, and for numeric strings whose order as text
    differs from their order as numbers.
    """
    for value in (left, right):
        if value.__class__ not in NUMBER_TYPES and value.__class__ is not str:
            return None
    sign, compare = ORDERINGS[kind]
    if left.__class__ is str and right.__class__ is str:
        result = compare(left, right)
        numbers = _numbers((left, right))
        if len(numbers) == 2 and compare(*numbers) is not result:  # noqa: PLR2004 - both of them
            raise _order_error(f"`{sign}`")
        return result
    try:
        if Decimal in (left.__class__, right.__class__):
            return compare(_exact_number(left), _exact_number(right))
        return compare(left, right)
    except (TypeError, ArithmeticError):
        names = f"a {type_name(left)} with a {type_name(right)}"
        raise ExpressionFailed(f"`{sign}` cannot compare {names}; to_number() makes numbers of text") from None


def check_order(function: str, values: Iterable[Any]) -> None:
    """Check values that a function has sorted, or an extreme value and another.

    Raises ExpressionFailed if two of them are numeric strings that are in another order as numbers.
    """
    if any(first > second for first, second in pairwise(_numbers(values))):
        raise _order_error(f"{function}()")


def _numbers(values: Iterable[Any]) -> list[Decimal]:
    """Return the values of those strings that are numbers, of at most 80 digits."""
    return [Decimal(value) for value in values if value.__class__ is str and _NUMBER_TEXT.fullmatch(value)]


def _order_error(what: str) -> ExpressionFailed:
    why = "orders strings by their letters, and these are numbers in another order; to_number() makes numbers of text"
    return ExpressionFailed(f"{what} {why}")
