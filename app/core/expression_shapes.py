"""The closures of single constructs: each takes the closures of its parts, and gives one function of the value.

Where one construct has several closures, the first is general, and the others do the same for a common shape in less
time: without a call for each part, and by looking keys up in the way that is fastest when they are there.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from app.core.expression_functions import Function
from app.core.expression_values import ORDERINGS, equals, in_order
from app.errors import ExpressionFailed

Closure: TypeAlias = Callable[[Any], Any]
Path: TypeAlias = tuple[str, ...]

# What Python's own functions raise for values that they cannot use.
_RAISED = (TypeError, ValueError, ArithmeticError, RecursionError, MemoryError)


def constant(value: Any) -> Closure:
    """Give the same, whatever comes."""
    return lambda _: value


def chain(path: Path) -> Closure:
    """Follow keys: `a.b.c`."""
    if not path:
        return lambda value: value
    if len(path) == 1:
        return _one_key(*path)
    if len(path) == 2:  # noqa: PLR2004 - two keys, not a magic number
        return _two_keys(*path)

    def keys(value: Any) -> Any:
        try:
            for key in path:
                value = value.get(key)
                if value is None:
                    return None
        except AttributeError:
            return None
        return value

    return keys


def _one_key(name: str) -> Closure:
    def one_key(value: Any) -> Any:
        try:
            return value.get(name)
        except AttributeError:
            return None

    return one_key


def _two_keys(first: str, second: str) -> Closure:
    def two_keys(value: Any) -> Any:
        try:
            value = value.get(first)
            return None if value is None else value.get(second)
        except AttributeError:
            return None

    return two_keys


def steps(closures: list[Closure]) -> Closure:
    """Give each closure the result of the one before."""
    if len(closures) == 1:
        return closures[0]
    if len(closures) == 2:  # noqa: PLR2004
        first, second = closures
        return lambda value: second(first(value))

    def one_after_another(value: Any) -> Any:
        for closure in closures:
            value = closure(value)
        return value

    return one_after_another


def first_true(alternatives: tuple[Closure, ...], last: Closure) -> Closure:
    """Choose by `||`: the first that is true, else the last."""
    if len(alternatives) == 1:
        (only,) = alternatives

        def either(value: Any) -> Any:
            result = only(value)
            return result if result or (result == 0 and result is not False) else last(value)

        return either

    def first_that_is_true(value: Any) -> Any:
        for alternative in alternatives:
            result = alternative(value)
            if result or (result == 0 and result is not False):
                return result
        return last(value)

    return first_that_is_true


def or_literal(only: Closure, literal: Any) -> Closure:
    """Choose by `||`, with a literal as the default."""

    def value_or_literal(value: Any) -> Any:
        result = only(value)
        return result if result or (result == 0 and result is not False) else literal

    return value_or_literal


def all_true(conditions: tuple[Closure, ...], last: Closure) -> Closure:
    """Choose by `&&`: the first that is not true, else the last."""

    def first_that_is_not_true(value: Any) -> Any:
        for condition in conditions:
            result = condition(value)
            if not (result or (result == 0 and result is not False)):
                return result
        return last(value)

    return first_that_is_not_true


def opposite(closure: Closure) -> Closure:
    """Negate: `!a`."""

    def negated(value: Any) -> bool:
        result = closure(value)
        return not (result or (result == 0 and result is not False))

    return negated


def comparison(left: Closure, right: Closure, kind: str) -> Closure:
    """Compare two values."""
    if kind == "eq":
        return lambda value: equals(left(value), right(value))
    if kind == "ne":
        return lambda value: not equals(left(value), right(value))
    return lambda value: in_order(left(value), right(value), kind)


def order_with_number(left: Closure, number: float, kind: str) -> Closure:
    """Compare by size with a number that is written in the expression."""
    compare = ORDERINGS[kind][1]

    def with_number(value: Any) -> Any:
        result = left(value)
        if result.__class__ is int or result.__class__ is float:
            return compare(result, number)
        return in_order(result, number, kind)

    return with_number


def equality_with_text(left: Closure, text: str, kind: str) -> Closure:
    """Compare with text that is written in the expression: nothing but that text equals it."""
    if kind == "ne":
        return lambda value: left(value) != text
    return lambda value: left(value) == text


def array(closures: tuple[Closure, ...]) -> Closure:
    """Make an array: `[a, b]`."""

    def make_array(value: Any) -> Any:
        if value is None:
            return None
        result = []
        for closure in closures:
            result.append(closure(value))  # noqa: PERF401 - in Python 3.11 a comprehension is one call more
        return result

    return make_array


def object_in_turn(pairs: tuple[tuple[str, Closure], ...]) -> Closure:
    """Make an object: `{a: b, c: d}`."""

    def make_object(value: Any) -> Any:
        if value is None:
            return None
        result = {}
        for key, closure in pairs:
            result[key] = closure(value)
        return result

    return make_object


def object_of_fields(pairs: tuple[tuple[str, str], ...]) -> Closure:
    """Make an object of fields alone."""
    general = object_in_turn(tuple((key, _one_key(name)) for key, name in pairs))

    def make_object(value: Any) -> Any:
        # Subscripts take two thirds of the time of `get`, unless one fails.
        try:
            result = {}
            for key, name in pairs:
                result[key] = value[name]
        except (KeyError, TypeError):
            return general(value)
        return result

    return make_object


def object_of_parts(
    blank: dict[str, Any],
    fields: tuple[tuple[str, str], ...],
    below: tuple[tuple[str, tuple[tuple[str, str], ...]], ...],
    others: tuple[tuple[str, Closure], ...],
) -> Closure:
    """Make an object from `blank`, which has all keys in their order and the literals in place.

    Then come the fields, the fields one level down (found together under their parent), and whatever is neither.
    """
    copy_blank = blank.copy

    def make_object(value: Any) -> Any:
        if value is None:
            return None
        result = copy_blank()
        if value.__class__ is dict:
            for key, name in fields:
                result[key] = value.get(name)
            for parent, members in below:
                inner = value.get(parent)
                if inner.__class__ is dict:
                    for key, name in members:
                        result[key] = inner.get(name)
        for key, closure in others:
            result[key] = closure(value)
        return result

    return make_object


def flat(base: Closure) -> Closure:
    """Take one level of arrays out: `a[]`."""

    def flatten(value: Any) -> Any:
        items = base(value)
        if items.__class__ is not list:
            return None
        result: list[Any] = []
        for item in items:
            if item.__class__ is list:
                result.extend(item)
            else:
                result.append(item)
        return result

    return flatten


def each(base: Closure, right: Closure) -> Closure:
    """Apply to each item, and leave nulls out: `a[*].b`."""

    def every_item(value: Any) -> Any:
        items = base(value)
        if items.__class__ is not list:
            return None
        found = []
        for item in items:
            result = right(item)
            if result is not None:
                found.append(result)
        return found

    return every_item


def field_of_each(base: Closure, name: str) -> Closure:
    """Take one field of each item."""

    def every_field(value: Any) -> Any:
        items = base(value)
        if items.__class__ is not list:
            return None
        found = []
        for item in items:
            if item.__class__ is dict:
                result = item.get(name)
                if result is not None:
                    found.append(result)
        return found

    return every_field


def field_of_each_flat(base: Closure, name: str) -> Closure:
    """Take one field of each item of a flattened array: `a[].b`, without making that array."""

    def every_flat_field(value: Any) -> Any:
        items = base(value)
        if items.__class__ is not list:
            return None
        found = []
        for item in items:
            if item.__class__ is dict:
                result = item.get(name)
                if result is not None:
                    found.append(result)
            elif item.__class__ is list:
                for inner in item:
                    if inner.__class__ is dict:
                        result = inner.get(name)
                        if result is not None:
                            found.append(result)
        return found

    return every_flat_field


def each_value(base: Closure, right: Closure) -> Closure:
    """Apply to each value of an object: `a.*.b`."""

    def every_value(value: Any) -> Any:
        found = base(value)
        if found.__class__ is not dict:
            return None
        return [result for item in found.values() if (result := right(item)) is not None]

    return every_value


def matching(base: Closure, condition: Closure, right: Closure) -> Closure:
    """Apply to each item that meets a condition: `a[?b].c`."""

    def every_match(value: Any) -> Any:
        items = base(value)
        if items.__class__ is not list:
            return None
        found = []
        for item in items:
            holds = condition(item)
            if holds or (holds == 0 and holds is not False):
                result = right(item)
                if result is not None:
                    found.append(result)
        return found

    return every_match


def matching_boolean(base: Closure, condition: Closure, right: Closure | None) -> Closure:
    """Do the same for a condition that gives only true, false and null; without `right`, give the items themselves."""

    def every_match(value: Any) -> Any:
        items = base(value)
        if items.__class__ is not list:
            return None
        found = []
        for item in items:
            if condition(item):
                result = item if right is None else right(item)
                if result is not None:
                    found.append(result)
        return found

    return every_match


def call(function: Function, arguments: tuple[Closure, ...]) -> Closure:
    """Call a function with the values of its arguments. What Python raises inside it becomes a sentence."""
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
    """Call a function that is lazy or scoped; `scope` is the cell that each search fills."""
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
    # Nothing of Python's own message is told: it may quote a value.
    if isinstance(error, RecursionError):
        return ExpressionFailed(f"{name}() was given a value that is nested too deeply")
    if isinstance(error, MemoryError):
        return ExpressionFailed(f"{name}() was given more than fits into memory")
    return ExpressionFailed(f"{name}() cannot work with the values it was given")
