"""Reads event properties as numbers or text, and formats numbers.

The rules are in docs/metrics.md, "Values". Everything is exact: the decimal contexts are those of
`app.core.jmespath.functions.decimals`, wide enough for the sum of any number of values within the bounds.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from math import isfinite
from types import MappingProxyType
from typing import Any

from app.core.jmespath.functions.decimals import BLANKS, ROUNDED, WIDE, find_decimal, is_within
from app.core.json_numbers import whole_digits, with_numbers_by_value
from app.core.json_text import decode, encode_canonical
from app.errors import UnparsableJson

ZERO = Decimal(0)

# From here on doubles, which JSON numbers are, cannot represent every whole number.
_FIRST_INEXACT = 2**53

_NOT_FINITE = re.compile(rf"[{BLANKS}]*+[+-]?(?:nan|inf(?:inity)?)[{BLANKS}]*+", re.IGNORECASE)


class Skip(StrEnum):
    """Why an event that passes all filters is left out of a number."""

    MISSING = "missing"
    NULL = "null"
    EMPTY = "empty"
    BOOLEAN = "boolean"
    OBJECT = "object"
    ARRAY = "array"
    TEXT = "text"
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"
    UNREADABLE = "unreadable"
    """None of the event's properties can be read. It passes all filters, to show wherever it may be missing."""


_SKIPPED_KINDS: Mapping[type, Skip] = {bool: Skip.BOOLEAN, dict: Skip.OBJECT, list: Skip.ARRAY, type(None): Skip.NULL}


UNREADABLE: Mapping[str, Any] = MappingProxyType({})
"""Stands for properties that cannot be read; compared by identity."""


def read_properties(text: str) -> Mapping[str, Any]:
    """Return the properties of a stored event; UNREADABLE if they are damaged, or nested deeper than `decode` reads.

    A single bad event must not abort a scan over all of them: it is skipped, and counted as skipped.
    """
    try:
        properties = decode(text.encode())
    except (UnparsableJson, UnicodeEncodeError):
        return UNREADABLE
    return properties if type(properties) is dict else UNREADABLE


def read_number(properties: Mapping[str, Any], name: str) -> Decimal | Skip:
    """Return the numeric value of a property, exact to 38 digits, or why it has none."""
    if name not in properties:
        return Skip.MISSING
    value = properties[name]
    skip = _find_skip(value)
    if skip is not None:
        return skip
    number = find_decimal(_as_json(value))
    if number is None:
        return Skip.TEXT
    if not is_within(number):
        return Skip.OUT_OF_RANGE
    # Equal values get one form: no trailing zeros, and no zero with an exponent or a sign.
    return number.normalize(WIDE) if number else ZERO


def _find_skip(value: Any) -> Skip | None:
    kind = value.__class__
    if kind is str:
        if not value.strip(BLANKS):
            return Skip.EMPTY
        return Skip.NOT_FINITE if _NOT_FINITE.fullmatch(value) else None
    if kind is float and not isfinite(value):
        return Skip.NOT_FINITE
    return _SKIPPED_KINDS.get(kind)


def _as_json(value: Any) -> Any:
    """Return a number as JSON defines it: a double, however many digits it is written with. Text keeps all digits."""
    if value.__class__ is int and not -_FIRST_INEXACT <= value <= _FIRST_INEXACT:
        try:
            return float(value)
        except OverflowError:
            # Larger than any double: `find_decimal` treats it as infinite.
            return value
    return value


def read_text(properties: Mapping[str, Any], name: str) -> str | None:
    """Return a property as text (see `to_text`); None if it is missing or null."""
    value = properties.get(name)
    return None if value is None else to_text(value)


def to_text(value: Any) -> str:
    """Return a value as JSON text, a string without quotes, equal for equal numbers: 1, 1.0 and "1" give the same.

    A string is taken as it is: "1.0" gives another text.
    """
    if value.__class__ is str:
        text: str = value
        # Half of a surrogate pair cannot be encoded in an answer; it is escaped, as in JSON.
        return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
    if value.__class__ is float and value.is_integer():
        value = whole_digits(value)
    if value.__class__ is int:
        return str(value)
    return encode_canonical(with_numbers_by_value(value)).decode()


def add(left: Decimal, right: Decimal) -> Decimal:
    """Return the exact sum."""
    return WIDE.add(left, right)


def subtract(left: Decimal, right: Decimal) -> Decimal:
    """Return the exact difference."""
    return WIDE.subtract(left, right)


def divide(number: Decimal, by: int) -> Decimal:
    """Return a quotient, rounded half up to 38 significant digits if it is longer."""
    return ROUNDED.divide(number, Decimal(by))


def from_fraction(number: Fraction) -> Decimal:
    """Return a fraction as a decimal, rounded half up to 38 significant digits if it is longer."""
    return ROUNDED.divide(Decimal(number.numerator), Decimal(number.denominator))


def interpolate(ordered: list[Decimal], percentile: Decimal) -> Decimal:
    """Return a percentile of ascending values, interpolated linearly between the two nearest. Exact.

    `percentile` is from 0 to 100; there must be at least one value.
    """
    rank = WIDE.divide(WIDE.multiply(percentile, Decimal(len(ordered) - 1)), Decimal(100))
    below = int(rank)
    share = WIDE.subtract(rank, Decimal(below))
    if not share:
        return ordered[below]
    step = WIDE.subtract(ordered[below + 1], ordered[below])
    return add(ordered[below], WIDE.multiply(step, share))


def format_number(number: Decimal) -> str:
    """Format a number without an exponent or trailing zeros: 1.50 is `1.5`, 1e3 is `1000`."""
    return format(number.normalize(WIDE), "f") if number else "0"
