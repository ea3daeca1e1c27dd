"""Numbers as billing needs them: exact decimals, within the bounds of docs/metrics.md.

A number counts as its shortest form (0.1 is one tenth), and text that is a finite decimal is a number too, with or
without blanks around it. Everything is exact to 38 significant digits; longer values, such as a third, or a double
printed with 60 digits, are rounded there, half up. Python's own decimal context, which rounds at 28 digits, is never
used.

Results are JSON numbers where a JSON number (a double) is exact, and a `Decimal` otherwise: a number everywhere in an
expression, and its digits as text in an event. A double would be another number.
"""

import re
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_UP, Context, Decimal
from typing import Any, TypeAlias

from app.core.jmespath.call import wrong_type
from app.errors import ExpressionFailed

Number: TypeAlias = int | float | Decimal

MAX_DIGITS = 38
MIN_EXPONENT = -30
MAX_EXPONENT = 38

# Every sum and product of two numbers within the bounds is exact in it, and so are a million of them added up.
WIDE = Context(prec=160, rounding=ROUND_HALF_UP, Emin=MIN_EMIN, Emax=MAX_EMAX)
ROUNDED = Context(prec=MAX_DIGITS, rounding=ROUND_HALF_UP, Emin=MIN_EMIN, Emax=MAX_EMAX)

BLANKS = " \t\n\r\v\f"
"""The white space that PostgreSQL, and so Lotus, accepts around a number in text."""

_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE](?P<exponent>[+-]?[0-9]+))?")
_EXPONENT_DIGITS = 6
_BEYOND = Decimal("Infinity")

# From here on a double cannot distinguish each whole number from the next.
_FIRST_INEXACT = 2**53
_LONGEST_INTEGER = 10**64
_LARGEST = 10 ** (MAX_EXPONENT + 1)
_WIDEST = 10**MAX_DIGITS

_BOUNDS = f"an exponent from {MIN_EXPONENT} to {MAX_EXPONENT}"


def find_decimal(value: Any) -> Decimal | None:
    """Give the value of a JSON number or of text that is a finite decimal, in 38 digits; None for anything else.

    A value outside the bounds is found too (see `is_within`), perhaps as Infinity.
    """
    kind = value.__class__
    if kind is int:
        return ROUNDED.plus(Decimal(value)) if -_LARGEST < value < _LARGEST else _BEYOND
    if kind is float:
        return Decimal(repr(value))
    if kind is Decimal:
        return ROUNDED.plus(value)
    return _parse(value) if kind is str else None


def _parse(text: str) -> Decimal | None:
    text = text.strip(BLANKS)
    match = _DECIMAL.fullmatch(text)
    if match is None:
        return None
    exponent = match["exponent"]
    if exponent is not None and len(exponent.lstrip("+-").lstrip("0")) > _EXPONENT_DIGITS:
        # Whatever the digits before it: nobody waits for ten million digits.
        return _BEYOND
    return ROUNDED.plus(Decimal(text))


def is_within(number: Decimal) -> bool:
    """Tell whether a number is within the bounds of docs/metrics.md."""
    if not number:
        return True
    return number.is_finite() and MIN_EXPONENT <= number.adjusted() <= MAX_EXPONENT


def exact_number(name: str, position: int, value: Any) -> Decimal:
    """Return the argument of a function as an exact number.

    Raises:
        ExpressionFailed: it is no number, or outside the bounds.
    """
    if value.__class__ is int and -_WIDEST < value < _WIDEST:
        return Decimal(value)
    number = find_decimal(value)
    if number is None:
        if value.__class__ is str:
            raise ExpressionFailed(
                f"{name}() takes a number as argument {position}, and was given a string that is not one"
            )
        raise wrong_type(name, position, "a number", value)
    if not is_within(number):
        raise out_of_bounds(name, position)
    return number


def out_of_bounds(name: str, position: int) -> ExpressionFailed:
    """Make the error for an argument that is a number outside the bounds."""
    return ExpressionFailed(f"{name}() takes numbers with {_BOUNDS}, and argument {position} is beyond")


def round_result(name: str, number: Decimal) -> Decimal:
    """Round a result to 38 digits, half up.

    Raises:
        ExpressionFailed: it is too large, or too small.
    """
    if number:
        number = ROUNDED.plus(number)
        if not MIN_EXPONENT <= number.adjusted() <= MAX_EXPONENT:
            raise ExpressionFailed(f"{name}() gives numbers with {_BOUNDS}, and this one would be beyond")
    return number


def plain_number(number: Decimal) -> Number:
    """Return a number as in JSON where that is exact: an int below 2**53, or a float; else the Decimal."""
    if number == number.to_integral_value() and -_FIRST_INEXACT < number < _FIRST_INEXACT:
        return int(number)
    double = float(number)
    if Decimal(repr(double)) == number:
        return double
    # Equal numbers give equal text: no trailing zeros, and whole numbers in full.
    number = number.normalize(WIDE)
    return number if number != number.to_integral_value() else number.quantize(Decimal(1), context=WIDE)


def to_number(value: Any) -> Number | None:
    """Return a JSON number unchanged, and numeric text as a number; null for anything else.

    Raises:
        ExpressionFailed: it is a number outside the bounds, for which null would be misleading.
    """
    if value.__class__ in (int, Decimal):
        return value
    if value.__class__ is float and value - value == 0:
        return value
    number = find_decimal(value)
    if number is None:
        return None
    if not is_within(number):
        raise out_of_bounds("to_number", 1)
    # Digits alone are a whole number of that size, as they are in JSON.
    return int(number) if value.strip(BLANKS).lstrip("+-").isdigit() else plain_number(number)


def digits_text(name: str, position: int, value: Number) -> str:
    """Write a number without an exponent and without needless zeros: 1.0 is `1`, 1e-7 is `0.0000001`.

    Raises:
        ExpressionFailed: that would be more than 69 digits.
    """
    if value.__class__ is int and -_LONGEST_INTEGER < value < _LONGEST_INTEGER:
        return str(value)
    number = exact_number(name, position, value)
    return format(number.normalize(WIDE), "f") if number else "0"
