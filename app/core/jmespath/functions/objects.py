"""Functions of objects, arrays and JSON text. None changes its arguments; results share their parts."""

import json
from typing import Any

from app.core.jmespath.call import Function
from app.core.jmespath.functions.arguments import (
    MAX_CHARS,
    function,
    invalid_value,
    mapping,
    string,
    strings,
    too_many_chars,
)
from app.core.json_numbers import with_numbers_by_value
from app.core.json_text import decode, encode_canonical
from app.errors import ExpressionFailed, UnparsableJson


def _merge_deep(*values: Any) -> dict[str, Any] | None:
    merged: dict[str, Any] | None = None
    for position, value in enumerate(values, 1):
        if value is not None:
            members = mapping("merge_deep", position, value)
            merged = members if merged is None else _merge_members(merged, members)
    return merged


def _merge_members(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    merged = first | second
    for key, value in second.items():
        before = first.get(key)
        if value.__class__ is dict and before.__class__ is dict:
            merged[key] = _merge_members(before, value)
    return merged


def _omit(value: Any, keys: Any) -> dict[str, Any]:
    members, names = mapping("omit", 1, value), frozenset(strings("omit", 2, keys))
    return {key: member for key, member in members.items() if key not in names}


def _pick(value: Any, keys: Any) -> dict[str, Any]:
    members, names = mapping("pick", 1, value), frozenset(strings("pick", 2, keys))
    return {key: member for key, member in members.items() if key in names}


def _omit_null(value: Any) -> Any:
    if value.__class__ is dict:
        return {key: _omit_null(member) for key, member in value.items() if member is not None}
    if value.__class__ is list:
        return [_omit_null(item) for item in value if item is not None]
    return value


def _flatten_object(value: Any, separator: Any = ".") -> dict[str, Any]:
    members, between = mapping("flatten_object", 1, value), string("flatten_object", 2, separator)
    flat: dict[str, Any] = {}
    chars = 0
    # Pairs of the key so far and the value there. A stack keeps the order, and needs no recursion.
    pending: list[tuple[str, Any]] = [(key, member) for key, member in reversed(members.items())]
    while pending:
        path, inner = pending.pop()
        chars += len(path)
        if chars > MAX_CHARS:
            raise too_many_chars("flatten_object")
        if inner and inner.__class__ in (dict, list):
            # Counted before it is made: a long key would be copied for each member.
            chars += (len(path) + len(between)) * len(inner)
            if chars > MAX_CHARS:
                raise too_many_chars("flatten_object")
            steps = inner.items() if inner.__class__ is dict else enumerate(inner)
            pending += reversed([(f"{path}{between}{step}", member) for step, member in steps])
        elif path in flat:
            raise ExpressionFailed("flatten_object() would give two values the same key; another separator may not")
        else:
            flat[path] = inner
    return flat


def _entries(value: Any) -> list[dict[str, Any]]:
    return [{"key": key, "value": member} for key, member in mapping("entries", 1, value).items()]


def _from_json(text: Any) -> Any:
    source = string("from_json", 1, text).encode("utf-8", "surrogatepass")
    try:
        return decode(source)
    except UnparsableJson:
        # Its message is about a request body.
        raise invalid_value("from_json", 1, "JSON text", text) from None


def _to_json(value: Any) -> str:
    try:
        try:
            return encode_canonical(with_numbers_by_value(value)).decode()
        except TypeError:
            # A decimal beside half of a surrogate pair.
            return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)
    except ValueError:
        raise ExpressionFailed("to_json() was given a number that is not finite, which JSON cannot hold") from None


OBJECT: tuple[Function, ...] = (
    function(_merge_deep, 1, None, growth=1, takes_null=True),
    function(_omit, 2, growth=1),
    function(_pick, 2, growth=1),
    function(_omit_null, 1, growth=1),
    # A key is repeated for everything below it.
    function(_flatten_object, 1, 2, growth=None),
    # Each member becomes an object of its own, with two keys more.
    function(_entries, 1, growth=3),
    # A step is 16 characters, and two are enough for a value; a number is one step, and up to 400 characters.
    function(_from_json, 1, growth=9),
    function(_to_json, 1, growth=26),
)
