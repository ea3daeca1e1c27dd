"""Arithmetic: decimal and exact, so that `multiply(0.1, 3)` is 0.3 (see functions_decimal.py)."""

import math
from collections.abc import Callable
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Any

from app.core.jmespath.call import Function, wrong_list
from app.core.jmespath.functions.arguments import array, function, invalid_value, whole_number
from app.core.jmespath.functions.decimals import (
    MAX_EXPONENT,
    MIN_EXPONENT,
    ROUNDED,
    WIDE,
    Number,
    exact_number,
    find_decimal,
    is_within,
    plain_number,
    round_result,
    to_number,
)
from app.core.jmespath.semantics import NUMBER_TYPES, type_name
from app.core.jmespath.standard_functions import BUILT_IN
from app.core.json_numbers import whole_digits, with_numbers_by_value
from app.errors import ExpressionFailed

_SAFE = 2**53

# To add a decimal takes 0.6 us, and a step counts for 50 ns.
_EFFORT = 12

_jmespath_to_string = BUILT_IN["to_string"].call


def _add(*values: Any) -> Number:
    first, second = values[:2]
    if first.__class__ is int and second.__class__ is int and len(values) == 2:  # noqa: PLR2004
        total: int = first + second
        if -_SAFE < total < _SAFE:
            return total
    return _reduce("add", WIDE.add, values)


def _subtract(first: Any, second: Any) -> Number:
    return _reduce("subtract", WIDE.subtract, (first, second))


def _multiply(*values: Any) -> Number:
    return _reduce("multiply", WIDE.multiply, values)


def _divide(first: Any, second: Any) -> Number:
    dividend, divisor = exact_number("divide", 1, first), exact_number("divide", 2, second)
    if not divisor:
        raise _by_zero("divide")
    return plain_number(round_result("divide", ROUNDED.divide(dividend, divisor)))


def _modulo(first: Any, second: Any) -> Number:
    dividend, divisor = exact_number("modulo", 1, first), exact_number("modulo", 2, second)
    if not divisor:
        raise _by_zero("modulo")
    remainder = WIDE.remainder(dividend, divisor)
    # The sign is the divisor's, as in Python, Ruby and Liquid: modulo(-1, 7) is 6.
    if remainder and (remainder < 0) != (divisor < 0):
        remainder = WIDE.add(remainder, divisor)
    return plain_number(round_result("modulo", remainder))


def _reduce(name: str, operation: Callable[[Decimal, Decimal], Decimal], values: tuple[Any, ...]) -> Number:
    total = exact_number(name, 1, values[0])
    for position, value in enumerate(values[1:], 2):
        total = round_result(name, operation(total, exact_number(name, position, value)))
    return plain_number(total)


def _by_zero(name: str) -> ExpressionFailed:
    return ExpressionFailed(f"{name}() cannot divide by zero; if() can keep it from being asked to")


def _round(value: Any, digits: Any = 0) -> Number:
    number = exact_number("round", 1, value)
    places = whole_number("round", 2, digits)
    if not -MAX_EXPONENT <= places <= -MIN_EXPONENT:
        raise invalid_value("round", 2, f"a whole number from {-MAX_EXPONENT} to {-MIN_EXPONENT}", places)
    rounded = number.quantize(Decimal(1).scaleb(-places, WIDE), ROUND_HALF_UP, WIDE)
    return plain_number(round_result("round", rounded))


def _floor(value: Any) -> Number:
    return _to_whole("floor", value, math.floor, ROUND_FLOOR)


def _ceil(value: Any) -> Number:
    return _to_whole("ceil", value, math.ceil, ROUND_CEILING)


def _to_whole(name: str, value: Any, of_double: Callable[[float], int], rounding: str) -> Number:
    if value.__class__ is int:
        number: int = value
        return number
    # A finite double gives an int, as in JMESPath, however large or small it is.
    if value.__class__ is float and value - value == 0:
        return whole_digits(value) if value.is_integer() else of_double(value)
    return plain_number(round_result(name, exact_number(name, 1, value).to_integral_value(rounding, WIDE)))


def _sum(values: Any) -> Number:
    return plain_number(round_result("sum", _total("sum", values)))


def _avg(values: Any) -> Number | None:
    total = _total("avg", values)
    return plain_number(round_result("avg", ROUNDED.divide(total, Decimal(len(values))))) if values else None


def _total(name: str, values: Any) -> Decimal:
    """Add up JSON numbers. Numeric text is not accepted, as in JMESPath's own; `sum_by` accepts it."""
    if values.__class__ is not list or not NUMBER_TYPES.issuperset(map(type, values)):
        raise wrong_list(name, 1, "an array of numbers", values)
    total = Decimal(0)
    if set(map(type, values)) == {int} and -_SAFE < (small := sum(values)) < _SAFE:
        return Decimal(small)
    for value in values:
        total = WIDE.add(total, exact_number(name, 1, value))
    return total


def _to_string(value: Any) -> Any:
    if value.__class__ is float and value.is_integer():
        return str(whole_digits(value))
    return _jmespath_to_string(with_numbers_by_value(value) if value.__class__ in (list, dict) else value)


def _sum_by(values: Any, expression: Callable[[Any], Any]) -> Number | None:
    total = Decimal(0)
    for item in array("sum_by", 1, values):
        value = expression(item)
        if value is None:
            return None
        number = find_decimal(value)
        if number is None:
            kind = "a string that is not one" if value.__class__ is str else type_name(value)
            raise ExpressionFailed(f"sum_by() takes an expression that gives numbers as argument 2, and it gave {kind}")
        total = WIDE.add(total, number if is_within(number) else exact_number("sum_by", 2, value))
    return plain_number(round_result("sum_by", total))


def _to_number(value: Any) -> Number | None:
    return to_number(value)


NUMBER: tuple[Function, ...] = (
    function(_add, 2, None, growth=1),
    function(_subtract, 2, growth=1),
    function(_multiply, 2, None, growth=1),
    function(_divide, 2, growth=1),
    function(_modulo, 2, growth=1),
    function(_round, 1, 2, growth=1),
    function(_floor, 1, growth=1),
    function(_ceil, 1, growth=1),
    function(_sum_by, 2, expressions=(1,), growth=1),
    replace(function(_sum, 1, growth=1, takes_null=True), effort=_EFFORT),
    replace(function(_avg, 1, growth=1, takes_null=True), effort=_EFFORT),
    # As for to_json: a number is one step, and up to 400 characters.
    function(_to_string, 1, growth=26, takes_null=True),
    function(_to_number, 1, growth=1),
)
