"""The closures of single constructs: each takes the closures of its parts, and returns one function of the value.

Where a construct has several closures, the first is general, and the others do the same faster for a common shape:
without a call for each part, and with the look-up that is fastest when the keys exist.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from app.core.jmespath.semantics import ORDERINGS, equals, in_order

Closure: TypeAlias = Callable[[Any], Any]
Path: TypeAlias = tuple[str, ...]


def constant(value: Any) -> Closure:
    """Return `value` for every input."""
    return lambda _: value


def chain(path: Path) -> Closure:
    """Follow keys: `a.b.c`."""
    if not path:
        return lambda value: value
    if len(path) == 1:
        return _one_key(*path)
    if len(path) == 2:  # noqa: PLR2004 - two keys, not a magic number
        return _two_keys(*path)
    if len(path) == 3:  # noqa: PLR2004
        return _three_keys(*path)

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


def _three_keys(first: str, second: str, third: str) -> Closure:
    def three_keys(value: Any) -> Any:
        try:
            value = value.get(first)
            if value is not None:
                value = value.get(second)
            return None if value is None else value.get(third)
        except AttributeError:
            return None

    return three_keys


def steps(closures: list[Closure]) -> Closure:
    """Pass the result of each closure to the next."""
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


def first_true_or_literal(alternatives: tuple[Closure, ...], literal: Any) -> Closure:
    """Choose by `||`, with a literal as the default."""
    if len(alternatives) == 1:
        (only,) = alternatives

        def value_or_literal(value: Any) -> Any:
            result = only(value)
            return result if result or (result == 0 and result is not False) else literal

        return value_or_literal

    def first_that_is_true(value: Any) -> Any:
        for alternative in alternatives:
            result = alternative(value)
            if result or (result == 0 and result is not False):
                return result
        return literal

    return first_that_is_true


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
    """Compare by size with a literal number."""
    compare = ORDERINGS[kind][1]

    def with_number(value: Any) -> Any:
        result = left(value)
        if result.__class__ is int or result.__class__ is float:
            return compare(result, number)
        return in_order(result, number, kind)

    return with_number


def field_order_with_number(name: str, number: float, kind: str) -> Closure:
    """Compare a field by size with a literal number, as most filters do."""
    compare = ORDERINGS[kind][1]

    def with_number(value: Any) -> Any:
        if value.__class__ is not dict:
            return None
        result = value.get(name)
        if result.__class__ is int or result.__class__ is float:
            return compare(result, number)
        return in_order(result, number, kind)

    return with_number


def equality_with_text(left: Closure, text: str, kind: str) -> Closure:
    """Compare with a literal string: only the same string equals it."""
    if kind == "ne":
        return lambda value: left(value) != text
    return lambda value: left(value) == text


def identity_with(left: Closure, literal: object, kind: str) -> Closure:
    """Compare with null, true or false by identity."""
    if kind == "ne":
        return lambda value: left(value) is not literal
    return lambda value: left(value) is literal


def array(closures: tuple[Closure, ...]) -> Closure:
    """Make an array: `[a, b]`."""

    def make_array(value: Any) -> Any:
        if value is None:
            return None
        result = []
        for closure in closures:
            result.append(closure(value))  # noqa: PERF401 - in Python 3.11 a comprehension costs an extra call
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


@dataclass(slots=True)
class Level:
    """The members of an object that are looked up in one place: under a key of the value, or in itself (None)."""

    parent: str | None
    # Pairs of the key in the object and the key in the place; `defaults` are those of `a || literal`.
    fields: list[tuple[str, str]] = field(default_factory=list)
    defaults: list[tuple[str, str]] = field(default_factory=list)


def object_of_parts(blank: dict[str, Any], levels: list[Level], computed: list[tuple[str, Closure]]) -> Closure:
    """Make an object from `blank`, which has all keys in order, with literals and defaults filled in.

    Then the fields of each level are filled in, and `computed`: all that is neither a literal nor a field.
    """
    copy_blank = blank.copy
    places = tuple((level.parent, tuple(level.fields), tuple(level.defaults)) for level in levels)
    closures = tuple(computed)

    def make_object(value: Any) -> Any:
        if value is None:
            return None
        result = copy_blank()
        if value.__class__ is dict:
            for parent, fields, defaults in places:
                place = value if parent is None else value.get(parent)
                if place.__class__ is dict:
                    for key, name in fields:
                        result[key] = place.get(name)
                    for key, name in defaults:
                        field_value = place.get(name)
                        if field_value or (field_value == 0 and field_value is not False):
                            result[key] = field_value
        for key, closure in closures:
            result[key] = closure(value)
        return result

    return make_object
