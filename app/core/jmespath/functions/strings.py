"""Functions of text. A function that can multiply its text checks the size of the result first (MAX_CHARS)."""

import re
from functools import lru_cache
from itertools import pairwise
from typing import Any

from app.core.jmespath.call import Function
from app.core.jmespath.functions.arguments import (
    MAX_CHARS,
    function,
    invalid_value,
    string,
    template,
    to_text,
    too_many_chars,
    whole_number,
)
from app.errors import ExpressionFailed

_ASCII_WORD_BREAK = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_CASED_WORD_BREAK = re.compile(r"(?<=[ld])(?=u)|(?<=u)(?=ul)")
_NO_WORD = re.compile(r"[\W_]+")

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(?P<name>[^{}]*)\}|[{}]")


def _lower(text: Any) -> str:
    return string("lower", 1, text).lower()


def _upper(text: Any) -> str:
    return string("upper", 1, text).upper()


def _trim(text: Any) -> str:
    return string("trim", 1, text).strip()


def _replace(text: Any, old: Any, new: Any) -> str:
    source, target = string("replace", 1, text), _nonempty_string("replace", 2, old)
    replacement = string("replace", 3, new)
    added = len(replacement) - len(target)
    if added > 0 and len(source) + source.count(target) * added > MAX_CHARS:
        raise too_many_chars("replace")
    return source.replace(target, replacement)


def _split(text: Any, separator: Any, limit: Any = ...) -> list[str]:
    source, between = string("split", 1, text), _nonempty_string("split", 2, separator)
    if limit is ...:
        return source.split(between)
    most = whole_number("split", 3, limit)
    if most < 1:
        raise invalid_value("split", 3, "a whole number above 0", most)
    return source.split(between, min(most - 1, len(source)))


def _nonempty_string(name: str, position: int, value: Any) -> str:
    text = string(name, position, value)
    if not text:
        raise ExpressionFailed(f"{name}() takes a string as argument {position} that is not empty")
    return text


def _snake_case(text: Any) -> str:
    source = string("snake_case", 1, text)
    if source.isascii():
        parted = _ASCII_WORD_BREAK.sub("_", source)
    else:
        # The same rule applied to the case of each character, since `re` has no class for capitals of all scripts.
        cases = "".join(
            "u" if char.isupper() else "l" if char.islower() else "d" if char.isdigit() else " " for char in source
        )
        breaks = [0, *(match.start() for match in _CASED_WORD_BREAK.finditer(cases)), len(source)]
        parted = "_".join(source[start:end] for start, end in pairwise(breaks))
    return _NO_WORD.sub("_", parted).strip("_").lower()


def _substring(text: Any, start: Any, end: Any = ...) -> str:
    source, first = string("substring", 1, text), whole_number("substring", 2, start)
    return source[first:] if end is ... else source[first : whole_number("substring", 3, end)]


def _concat(*values: Any) -> str:
    return "".join([to_text("concat", position, value) for position, value in enumerate(values, 1)])


def _format(pattern: Any, *values: Any) -> str | None:
    literals, names = _parse_template(template("format", 1, pattern))
    by_name = next((index for index, value in enumerate(values) if value.__class__ is dict), None)
    in_turn = iter([index for index in range(len(values)) if index != by_name])
    pieces = [literals[0]]
    size = len(literals[0])
    for name, literal in zip(names, literals[1:], strict=True):
        value: Any
        if name:
            if by_name is None:
                raise ExpressionFailed("format() has a placeholder with a name, and was given no object to find it in")
            index, value = by_name, values[by_name].get(name)
        else:
            index = next(in_turn, -1)
            if index < 0:
                raise ExpressionFailed("format() has more placeholders than arguments")
            value = values[index]
        if value is None:
            return None
        piece = to_text("format", index + 2, value)
        size += len(piece) + len(literal)
        if size > MAX_CHARS:
            raise too_many_chars("format")
        pieces += (piece, literal)
    if next(in_turn, None) is not None or (by_name is not None and not any(names)):
        raise ExpressionFailed("format() has more arguments than placeholders")
    return "".join(pieces)


@lru_cache(maxsize=128)
def _parse_template(pattern: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split a template: the text before, between and after its placeholders, and their names ("" for `{}`)."""
    literals: list[str] = []
    names: list[str] = []
    literal = ""
    end = 0
    for match in _PLACEHOLDER.finditer(pattern):
        literal += pattern[end : match.start()]
        end = match.end()
        name = match["name"]
        if match[0] in ("{{", "}}"):
            literal += match[0][0]
        elif name is None:
            raise ExpressionFailed("format() takes a template as argument 1 in which a brace that is text is doubled")
        else:
            literals.append(literal)
            names.append(name)
            literal = ""
    return (*literals, literal + pattern[end:]), tuple(names)


# In the other case a letter becomes at most three letters.
TEXT: tuple[Function, ...] = (
    function(_lower, 1, growth=3),
    function(_upper, 1, growth=3),
    function(_trim, 1, growth=1),
    function(_replace, 3, growth=None),
    # One step is 16 characters, and each may become a part.
    function(_split, 2, 3, growth=17),
    function(_snake_case, 1, growth=4),
    function(_substring, 2, 3, growth=1),
    # A number is one step, and up to 69 characters.
    function(_concat, 1, None, growth=6),
    # A placeholder with a name can stand there many times.
    function(_format, 1, None, growth=None),
)
