"""Numbers in JSON values: gives equal numbers the same form, and refuses those that JSON cannot represent."""

from decimal import Decimal
from typing import Any

# From here on a double cannot distinguish each whole number from the next.
_FIRST_INEXACT = 2.0**53

# Beyond this, other programs no longer read integers as integers; here such numbers take the form of doubles.
_HUGE = 10**19


class NotFinite(ValueError):
    """A number is infinite or NaN, which JSON cannot represent. `path` is its place in the value, "" for the top."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path or 'the value'} is not a finite number")


def with_numbers_by_value(value: Any) -> Any:
    """Return a JSON value in which equal numbers have one form: 2.0 becomes 2, and 10**22 becomes 1e22.

    Numbers are equal if they are equal as written, so a double counts as its shortest form. Returns the same object
    where nothing differs, which is nearly always. Raises RecursionError for a value that nests too deep.
    """
    return by_value(value) if holds_other_form(value) else value


def whole_digits(number: float) -> int:
    """Return a whole double as the integer of its written digits: int(1e23) would be 99999999999999991611392."""
    return int(number) if -_FIRST_INEXACT < number < _FIRST_INEXACT else int(Decimal(repr(number)))


def by_value(value: Any) -> Any:
    """Do what `with_numbers_by_value` does, for a value that is known to have a number in another form."""
    kind = value.__class__
    if kind is dict:
        return {key: by_value(inner) for key, inner in value.items()}
    if kind is list:
        return [by_value(inner) for inner in value]
    if kind is float:
        return whole_digits(value) if -_HUGE < value < _HUGE and value.is_integer() else value
    return _short_form(value) if kind is int else value


def _short_form(number: int) -> float | int:
    """Return a huge integer as the double that is written with the same digits, if any.

    The reverse would turn each six bytes of `1e300` into three hundred.
    """
    if -_HUGE < number < _HUGE:
        return number
    try:
        double = float(number)
    except OverflowError:
        return number
    return double if Decimal(repr(double)) == number else number


def holds_other_form(value: Any) -> bool:
    """Tell whether a number in a value has another form, or is infinite or NaN."""
    # Most values are text; none costs a function call.
    levels: list[Any] = [value.values()] if value.__class__ is dict else [(value,)]
    for level in levels:  # it grows while it is walked
        for item in level:
            kind = item.__class__
            if kind is str:
                continue
            if kind is int:
                if not -_HUGE < item < _HUGE:
                    return True
            elif kind is float:
                # The difference: not 0 if it is infinite or NaN.
                if (item.is_integer() and -_HUGE < item < _HUGE) or item - item != 0:
                    return True
            elif kind is dict:
                levels.append(item.values())
            elif kind is list:
                levels.append(item)
    return False


def is_finite(value: Any) -> bool:
    """Tell whether no number in a value is infinite or NaN. Not recursive."""
    values = [value]
    for item in values:  # it grows while it is walked
        kind = type(item)
        if kind is dict:
            values.extend(item.values())
        elif kind is list:
            values.extend(item)
        elif kind is float and item - item != 0:
            return False
    return True


def refuse_not_finite(value: Any) -> None:
    """Raise NotFinite for the first number in `value` that is infinite or NaN. Not recursive."""
    left: list[tuple[str, Any]] = [("", value)]
    while left:
        path, item = left.pop()
        if isinstance(item, float):
            if item - item != 0:  # infinite or NaN: only there is the difference not 0
                raise NotFinite(path)
        elif isinstance(item, dict):
            left.extend((f"{path}.{key}" if path else key, inner) for key, inner in reversed(item.items()))
        elif isinstance(item, list):
            left.extend((f"{path}[{index}]", inner) for index, inner in reversed([*enumerate(item)]))
