"""The closures of projections: `[]`, `[*]`, `*` and `[?...]`.

They are loops that append, since in Python 3.11 a comprehension costs an extra call, and most arrays are short.
"""

from typing import Any

from app.core.jmespath.shapes import Closure


def flat(base: Closure) -> Closure:
    """Flatten one level of arrays: `a[]`."""

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
    """Apply `right` to each item, leaving out nulls: `a[*].b`."""

    def every_item(value: Any) -> Any:
        items = base(value)
        if items.__class__ is not list:
            return None
        results = []
        for item in items:
            result = right(item)
            if result is not None:
                results.append(result)
        return results

    return every_item


def field_of_each(base: Closure, name: str) -> Closure:
    """Take one field of each item."""

    def every_field(value: Any) -> Any:
        items = base(value)
        if items.__class__ is not list:
            return None
        results = []
        for item in items:
            if item.__class__ is dict:
                result = item.get(name)
                if result is not None:
                    results.append(result)
        return results

    return every_field


def field_of_each_flat(base: Closure, name: str) -> Closure:
    """Take one field of each item of a flattened array: `a[].b`, without making that array."""

    def every_flat_field(value: Any) -> Any:
        items = base(value)
        if items.__class__ is not list:
            return None
        results = []
        for item in items:
            if item.__class__ is dict:
                result = item.get(name)
                if result is not None:
                    results.append(result)
            elif item.__class__ is list:
                for inner in item:
                    if inner.__class__ is dict:
                        result = inner.get(name)
                        if result is not None:
                            results.append(result)
        return results

    return every_flat_field


def each_value(base: Closure, right: Closure) -> Closure:
    """Apply `right` to each value of an object, leaving out nulls: `a.*.b`."""

    def every_value(value: Any) -> Any:
        members = base(value)
        if members.__class__ is not dict:
            return None
        return [result for item in members.values() if (result := right(item)) is not None]

    return every_value


def matching(base: Closure, condition: Closure, right: Closure) -> Closure:
    """Apply `right` to each item that meets a condition: `a[?b].c`."""

    def every_match(value: Any) -> Any:
        items = base(value)
        if items.__class__ is not list:
            return None
        results = []
        for item in items:
            holds = condition(item)
            if holds or (holds == 0 and holds is not False):
                result = right(item)
                if result is not None:
                    results.append(result)
        return results

    return every_match


def matching_boolean(base: Closure, condition: Closure, right: Closure | None) -> Closure:
    """Like `matching`, for a condition that gives only true, false or null; without `right`, the items themselves."""

    def every_match(value: Any) -> Any:
        items = base(value)
        if items.__class__ is not list:
            return None
        results = []
        for item in items:
            if condition(item):
                result = item if right is None else right(item)
                if result is not None:
                    results.append(result)
        return results

    return every_match
