"""JMESPath's own 26 functions.

Each does exactly what jmespath.py 1.1.0 does, and its errors say what it expected. They name types, never values: a
property may be a name or an address. min(), max() and sort() refuse one thing that jmespath.py accepts: numeric strings
whose order as text differs from their order as numbers ('9' and '10').
"""

import json
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from app.core.jmespath.call import Function, wrong_list, wrong_type
from app.core.jmespath.semantics import NUMBER_TYPES, check_order, order_key, type_name
from app.errors import ExpressionFailed

_STRING_TYPES = frozenset({str})

# A separator times a list can be far larger than both. 4 million characters are more than any event may have.
MAX_JOINED_CHARS = 4_000_000

_to_json = json.JSONEncoder(separators=(",", ":"), default=str).encode


def _no_string(function: str, *values: Any) -> ExpressionFailed:
    """Make the error for the first value that is no string."""
    position = next(position for position, value in enumerate(values, 1) if value.__class__ is not str)
    return wrong_type(function, position, "a string", values[position - 1])


def _check_number(function: str, value: Any) -> None:
    if value.__class__ not in NUMBER_TYPES:
        raise wrong_type(function, 1, "a number", value)


def _check_array(function: str, position: int, value: Any) -> None:
    if value.__class__ is not list:
        raise wrong_type(function, position, "an array", value)


def _check_alike(function: str, value: Any) -> None:
    """Require an array of numbers or an array of strings, for functions that order items."""
    if value.__class__ is list:
        types = set(map(type, value))
        if types <= NUMBER_TYPES or types == _STRING_TYPES:
            return
    raise wrong_list(function, 1, "an array of numbers or an array of strings", value)


def _check_extreme(function: str, extreme: Any, values: list[Any]) -> None:
    """Check the result of min() or max() against every value."""
    if extreme.__class__ is str:
        for value in values:
            check_order(function, (value, extreme) if function == "max" else (extreme, value))


def _check_object(function: str, value: Any) -> None:
    if value.__class__ is not dict:
        raise wrong_type(function, 1, "an object", value)


def _abs(value: Any) -> Any:
    _check_number("abs", value)
    # abs() of a Decimal rounds to the digits of the context.
    return value.copy_abs() if value.__class__ is Decimal else abs(value)


def _avg(values: Any) -> Any:
    total = _sum(values, "avg")
    return total / len(values) if values else None


def _ceil(value: Any) -> int:
    _check_number("ceil", value)
    whole: int = math.ceil(value)
    return whole


def _contains(subject: Any, search: Any) -> bool:
    if subject.__class__ is str:
        if search.__class__ is not str:
            # Here jmespath.py raises Python's own TypeError.
            raise wrong_type("contains", 2, "a string", search)
    elif subject.__class__ is not list:
        raise wrong_type("contains", 1, "an array or a string", subject)
    return search in subject


def _ends_with(text: Any, suffix: Any) -> bool:
    if text.__class__ is str and suffix.__class__ is str:
        holds: bool = text.endswith(suffix)
        return holds
    raise _no_string("ends_with", text, suffix)


def _floor(value: Any) -> int:
    _check_number("floor", value)
    whole: int = math.floor(value)
    return whole


def _join(separator: Any, texts: Any) -> str:
    if separator.__class__ is not str:
        raise wrong_type("join", 1, "a string", separator)
    if texts.__class__ is list:
        if len(separator) * len(texts) > MAX_JOINED_CHARS:
            raise ExpressionFailed(f"join() would make more than {MAX_JOINED_CHARS:,} characters, which is the limit")
        try:
            joined: str = separator.join(texts)
        except TypeError:
            pass
        else:
            return joined
    raise wrong_list("join", 2, "an array of strings", texts)


def _keys(value: Any) -> list[Any]:
    _check_object("keys", value)
    return list(value)


def _length(value: Any) -> int:
    if value.__class__ not in (str, list, dict):
        raise wrong_type("length", 1, "a string, an array or an object", value)
    return len(value)


def _map(expression: Callable[[Any], Any], values: Any) -> list[Any]:
    _check_array("map", 2, values)
    return [expression(value) for value in values]


def _max(values: Any) -> Any:
    _check_alike("max", values)
    greatest = max(values, key=order_key(values), default=None)
    _check_extreme("max", greatest, values)
    return greatest


def _min(values: Any) -> Any:
    _check_alike("min", values)
    least = min(values, key=order_key(values), default=None)
    _check_extreme("min", least, values)
    return least


def _merge(*objects: Any) -> dict[Any, Any]:
    # jmespath.py checks only the first argument; of the others it accepts whatever dict.update does.
    _check_object("merge", objects[0])
    merged: dict[Any, Any] = {}
    for position, value in enumerate(objects, 1):
        try:
            merged.update(value)
        except (TypeError, ValueError):
            raise wrong_type("merge", position, "an object", value) from None
    return merged


def _not_null(*values: Any) -> Any:
    for value in values:
        if value is not None:
            return value
    return None


def _reverse(value: Any) -> Any:
    if value.__class__ not in (list, str):
        raise wrong_type("reverse", 1, "an array or a string", value)
    return value[::-1]


def _sort(values: Any) -> list[Any]:
    _check_alike("sort", values)
    ordered = sorted(values, key=order_key(values))
    check_order("sort", ordered)
    return ordered


def _starts_with(text: Any, prefix: Any) -> bool:
    if text.__class__ is str and prefix.__class__ is str:
        holds: bool = text.startswith(prefix)
        return holds
    raise _no_string("starts_with", text, prefix)


def _sum(values: Any, name: str = "sum") -> Any:
    if values.__class__ is not list or not NUMBER_TYPES.issuperset(map(type, values)):
        raise wrong_list(name, 1, "an array of numbers", values)
    return sum(values)


def _to_array(value: Any) -> list[Any]:
    return value if value.__class__ is list else [value]


def _to_number(value: Any) -> Any:
    if value.__class__ in NUMBER_TYPES:
        return value
    if value.__class__ is not str:
        return None
    for convert in (int, float):
        try:
            return convert(value)
        except ValueError:
            continue
    return None


def _to_string(value: Any) -> str:
    kind = value.__class__
    if kind is str:
        text: str = value
        return text
    # The encoder takes a microsecond even for a number, and ids are made of these two types only.
    return repr(value) if kind is int else str(value) if kind is Decimal else _to_json(value)


def _values(value: Any) -> list[Any]:
    _check_object("values", value)
    return list(value.values())


def _keys_for(function: str, expression: Callable[[Any], Any], values: Any) -> list[Any]:
    """Return the key of each item, all numbers or all strings, for a function that orders items."""
    _check_array(function, 1, values)
    keys = [expression(value) for value in values]
    types = set(map(type, keys))
    if types and not types <= NUMBER_TYPES and types != _STRING_TYPES:
        names = " and ".join(sorted({f"{type_name(key)}s" for key in keys}))
        expected = "an expression that gives only numbers or only strings"
        raise ExpressionFailed(f"{function}() takes {expected} as argument 2, and it gave {names}")
    key = order_key(keys)
    return keys if key is None else [key(value) for value in keys]


def _sort_by(values: Any, expression: Callable[[Any], Any]) -> list[Any]:
    keys = _keys_for("sort_by", expression, values)
    return [values[index] for index in sorted(range(len(keys)), key=keys.__getitem__)]


def _min_by(values: Any, expression: Callable[[Any], Any]) -> Any:
    keys = _keys_for("min_by", expression, values)
    return values[min(range(len(keys)), key=keys.__getitem__)] if keys else None


def _max_by(values: Any, expression: Callable[[Any], Any]) -> Any:
    keys = _keys_for("max_by", expression, values)
    return values[max(range(len(keys)), key=keys.__getitem__)] if keys else None


def _built_in(
    call: Callable[..., Any],
    count: int = 1,
    *,
    variadic: bool = False,
    expressions: tuple[int, ...] = (),
    growth: int | None = 1,
) -> Function:
    return Function(
        name=call.__name__.removeprefix("_"),
        call=call,
        min_args=count,
        max_args=None if variadic else count,
        expressions=frozenset(expressions),
        growth=growth,
    )


def _type(value: Any) -> str:
    return type_name(value)


BUILT_IN: Mapping[str, Function] = {
    function.name: function
    for function in (
        _built_in(_abs),
        _built_in(_avg),
        _built_in(_ceil),
        _built_in(_contains, 2),
        _built_in(_ends_with, 2),
        _built_in(_floor),
        # A separator taken from the call multiplies with the list.
        _built_in(_join, 2, growth=None),
        _built_in(_keys),
        _built_in(_length),
        _built_in(_map, 2, expressions=(0,)),
        _built_in(_max),
        _built_in(_max_by, 2, expressions=(1,)),
        _built_in(_merge, variadic=True),
        _built_in(_min),
        _built_in(_min_by, 2, expressions=(1,)),
        _built_in(_not_null, variadic=True),
        _built_in(_reverse),
        _built_in(_sort),
        _built_in(_sort_by, 2, expressions=(1,)),
        _built_in(_starts_with, 2),
        _built_in(_sum),
        _built_in(_to_array, growth=2),
        _built_in(_to_number),
        # A number becomes up to 24 characters, and quotes inside text two or, inside JSON inside JSON, four.
        _built_in(_to_string, growth=3),
        _built_in(_type),
        _built_in(_values),
    )
}
