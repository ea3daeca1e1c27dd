"""Numbers in JSON values: equal ones in one form, and none that JSON cannot hold."""

from decimal import Decimal
from typing import Any

# From here on a double does not tell each whole number from the next.
_FIRST_INEXACT = 2.0**53

# Where integers end that other programs read as integers, and equal numbers are written as doubles here.
_HUGE = 10**19


class NotFinite(ValueError):
    """A number is infinite or not a number, and JSON cannot hold it. `path` is where it stands, "" for the top."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path or 'the value'} is not a finite number")


def with_numbers_by_value(value: Any) -> Any:
    """Give a JSON value in which equal numbers have one form: 2.0 is 2, and 10**22 is 1e22.

    Equal is what is equal as written, so a double counts as its shortest form says. The same object comes back where
    nothing differs, which is nearly always. Raises RecursionError for what nests too deep to be encoded, too.
    """
    return by_value(value) if holds_other_form(value) else value


def whole_digits(number: float) -> int:
    """Return a whole double by its digits: int() alone makes of 1e23 the double's own 99999999999999991611392."""
    return int(number) if -_FIRST_INEXACT < number < _FIRST_INEXACT else int(Decimal(repr(number)))


def by_value(value: Any) -> Any:
    """Return a value as `with_numbers_by_value` does, where a number in it is known to have another form."""
    kind = value.__class__
    if kind is dict:
        return {key: by_value(inner) for key, inner in value.items()}
    if kind is list:
        return [by_value(inner) for inner in value]
    if kind is float:
        return whole_digits(value) if -_HUGE < value < _HUGE and value.is_integer() else value
    return _short_form(value) if kind is int else value


def _short_form(number: int) -> float | int:
    """Return a huge integer as the double that is written with the same digits, where there is one.

    The other way round, each six bytes of `1e300` would become three hundred.
    """
    if -_HUGE < number < _HUGE:
        return number
    try:
        double = float(number)
    except OverflowError:
        return number
    return double if Decimal(repr(double)) == number else number


def holds_other_form(value: Any) -> bool:
    """Tell whether a number in a value has another form, or is none: infinite, or NaN."""
    # Most values are text, and no value costs a call.
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
                # The difference: not 0 where it is infinite or NaN.
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
