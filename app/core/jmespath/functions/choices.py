"""Functions that choose and decide. `if`, `coalesce` and `default_empty` evaluate only the alternative they return."""

from typing import Any

from app.core.jmespath.call import Function
from app.core.jmespath.functions.arguments import array, function
from app.core.jmespath.semantics import equals, is_true
from app.core.jmespath.shapes import Closure

PLACEHOLDERS = ("undefined", "null", "NaN", "[object Object]", "None", "(null)")
"""What programs write for a missing id; all events without an id would become one customer, or one event."""


def is_placeholder(text: str) -> bool:
    """Tell whether an id is blank, or a word for a missing id."""
    stripped = text.strip()
    return not stripped or stripped in PLACEHOLDERS


def _if(node: Any, condition: Closure, then: Closure, otherwise: Closure | None = None) -> Any:
    if is_true(condition(node)):
        return then(node)
    return None if otherwise is None else otherwise(node)


def _coalesce(node: Any, *alternatives: Closure) -> Any:
    for alternative in alternatives:
        value = alternative(node)
        if value is not None:
            return value
    return None


def _default_empty(node: Any, value: Closure, fallback: Closure) -> Any:
    result = value(node)
    if result is None or result in ("", [], {}) or (result.__class__ is str and result.isspace()):
        return fallback(node)
    return result


def _any(values: Any, condition: Closure) -> bool:
    return any(is_true(condition(item)) for item in array("any", 1, values))


def _all(values: Any, condition: Closure) -> bool:
    return all(is_true(condition(item)) for item in array("all", 1, values))


def _in(value: Any, values: Any) -> bool | None:
    if values is None:
        return None
    return any(equals(value, item) for item in array("in", 2, values))


def _real_id(value: Any) -> Any:
    return None if value.__class__ is str and is_placeholder(value) else value


CHOICE: tuple[Function, ...] = (
    function(_if, 2, 3, growth=1, lazy=True),
    function(_coalesce, 1, None, growth=1, lazy=True),
    function(_default_empty, 2, growth=1, lazy=True),
    function(_any, 2, expressions=(1,), growth=1),
    function(_all, 2, expressions=(1,), growth=1),
    function(_in, 2, growth=1, takes_null=True),
    function(_real_id, 1, growth=1),
)
