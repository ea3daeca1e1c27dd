"""Helpers of the functions that we add: how they read their arguments, and how they are described.

Errors name the function, the argument's position and types. They never quote a value: a property may be a name.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from app.core.jmespath.call import Function, null_safe, wrong_list, wrong_type
from app.core.jmespath.functions.decimals import digits_text
from app.core.jmespath.standard_functions import MAX_JOINED_CHARS
from app.errors import ExpressionFailed

# A function that can multiply its input stops before it makes more than this.
MAX_CHARS = MAX_JOINED_CHARS

# Longer than any template, replacement or format that a person writes.
MAX_TEMPLATE_CHARS = 10_000


def function(
    call: Callable[..., Any],
    least: int,
    most: int | None = -1,
    *,
    growth: int | None,
    expressions: tuple[int, ...] = (),
    lazy: bool = False,
    scoped: bool = False,
    takes_null: bool = False,
) -> Function:
    """Describe a function that is named after its Python function, and takes `least` to `most` (None: any) arguments.

    Unless it is lazy or `takes_null`, it returns null if any of its values is null.
    """
    return Function(
        name=call.__name__.strip("_"),
        call=call if lazy or takes_null else null_safe(call),
        min_args=least,
        max_args=least if most == -1 else most,
        expressions=frozenset(expressions),
        growth=growth,
        lazy=lazy,
        scoped=scoped,
    )


def string(name: str, position: int, value: Any) -> str:
    """Require a string."""
    if value.__class__ is str:
        text: str = value
        return text
    raise wrong_type(name, position, "a string", value)


def template(name: str, position: int, value: Any) -> str:
    """Require a template string of limited length, since its placeholders are read one by one."""
    text = string(name, position, value)
    if len(text) > MAX_TEMPLATE_CHARS:
        raise ExpressionFailed(f"{name}() takes at most {MAX_TEMPLATE_CHARS:,} characters as argument {position}")
    return text


def array(name: str, position: int, value: Any) -> list[Any]:
    """Require an array."""
    if value.__class__ is list:
        items: list[Any] = value
        return items
    raise wrong_type(name, position, "an array", value)


def mapping(name: str, position: int, value: Any) -> dict[str, Any]:
    """Require an object."""
    if value.__class__ is dict:
        members: dict[str, Any] = value
        return members
    raise wrong_type(name, position, "an object", value)


def strings(name: str, position: int, value: Any) -> list[str]:
    """Require an array of strings, or one string, which becomes an array."""
    if value.__class__ is str:
        return [value]
    if value.__class__ is list and all(item.__class__ is str for item in value):
        items: list[str] = value
        return items
    raise wrong_list(name, position, "a string or an array of strings", value)


def whole_number(name: str, position: int, value: Any) -> int:
    """Require a whole number: 2 or 2.0."""
    if value.__class__ is int:
        number: int = value
        return number
    if value.__class__ is float:
        if value.is_integer():
            return int(value)
    elif value.__class__ is not Decimal:
        raise wrong_type(name, position, "a whole number", value)
    elif value == value.to_integral_value():
        return int(value)
    raise invalid_value(name, position, "a whole number", value)


def to_text(name: str, position: int, value: Any) -> str:
    """Write a string, a number or a boolean as text: 1.0 is `1`, and nothing has an exponent."""
    if value.__class__ is str:
        text: str = value
        return text
    if value.__class__ is bool:
        return "true" if value else "false"
    if value.__class__ in (int, float, Decimal):
        return digits_text(name, position, value)
    raise wrong_type(name, position, "a string, a number or a boolean", value)


def invalid_value(name: str, position: int, expected: str, value: Any) -> ExpressionFailed:
    """Make the error for an argument of the right type with an invalid value."""
    kind = "a string" if value.__class__ is str else "a number"
    return ExpressionFailed(f"{name}() takes {expected} as argument {position}, and was given {kind} that is not one")


def too_many_chars(name: str) -> ExpressionFailed:
    """Make the error for a result that would be too large."""
    return ExpressionFailed(f"{name}() would make more than {MAX_CHARS:,} characters, which is the limit")
