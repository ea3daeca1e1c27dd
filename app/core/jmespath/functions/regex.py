r"""Regular expressions that no input can hang: RE2 (google-re2), whose searches take linear time.

Python's own `re` backtracks: `(a+)+$` takes minutes on thirty characters. The cost: RE2 has no lookaround and no
backreferences. Linear still means the pattern's size times the text's, and replacing searches again after each match,
perhaps to the end of the text, so the sum of these products is limited too.
"""

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import re2  # type: ignore[import-untyped]

from app.core.jmespath.call import Function, wrong_type
from app.core.jmespath.functions.arguments import MAX_CHARS, function, string, template, too_many_chars
from app.errors import ExpressionFailed

MAX_PATTERN_CHARS = 1_000

# Limit on the RE2 instructions of a pattern; a mail address takes 31, `\pL` 1,201.
MAX_PROGRAM = 4_000

# Limit on instructions times characters, for one call of a function. RE2 takes 0.01 to 0.3 ns for each on ordinary
# patterns, so this is some milliseconds; on the worst patterns it takes 30 ns. A pattern for mail addresses gets
# through three million characters, one of 1,200 instructions through 80,000.
MAX_WORK = 100_000_000

# Steps charged for each step of the text: searching 16 characters takes a microsecond.
_EFFORT = 16

# The work of one part of the replacement, for each match.
_PART_WORK = 300

_CACHED = 128
_MEMORY = 1 << 20

_REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|(?P<number>[0-9]{1,2})|\{(?P<name>\w{1,64})\})")


class _Pattern(NamedTuple):
    search: Any
    size: int
    groups: int
    names: dict[str, int]

    def group(self, reference: Any) -> int | None:
        """Return the number of a group, given by number or name; None if it does not exist."""
        if reference.__class__ is int:
            return reference if 0 <= reference <= self.groups else None
        return self.names.get(reference)


class _PatternRefused(Exception):
    """RE2 refuses a pattern; the message says why, without quoting it."""


def _regex_match(text: Any, pattern: Any) -> bool:
    source, compiled = _encode("regex_match", text), _compile_argument("regex_match", pattern)
    _check_work("regex_match", compiled.size * len(source))
    return compiled.search(source) is not None


def _regex_extract(text: Any, pattern: Any, group: Any = ...) -> str | None:
    source, compiled = _encode("regex_extract", text), _compile_argument("regex_extract", pattern)
    _check_work("regex_extract", compiled.size * len(source))
    if group is ...:
        group = min(compiled.groups, 1)
    elif group.__class__ not in (int, str):
        raise wrong_type("regex_extract", 3, "the number or name of a group", group)
    number = compiled.group(group)
    if number is None:
        raise ExpressionFailed("regex_extract() takes the number or name of a group as argument 3 that the pattern has")
    match = compiled.search(source)
    part = match[number] if match else None
    return None if part is None else _decode("regex_extract", part)


def _regex_replace(text: Any, pattern: Any, to: Any) -> str:
    source, compiled = _encode("regex_replace", text), _compile_argument("regex_replace", pattern)
    parts = _replacement(compiled, template("regex_replace", 3, to))
    pieces: list[bytes] = []
    work = size = taken = start = 0
    while start <= len(source):
        work += compiled.size * (len(source) - start + 1) + _PART_WORK * len(parts)
        _check_work("regex_replace", work)
        match = compiled.search(source, start)
        if match is None:
            break
        begin, end = match.span()
        groups = [group or b"" for group in (match[0], *match.groups())]
        by = [part if part.__class__ is bytes else groups[part] for part in parts]
        size += begin - taken + sum(map(len, by))
        if size > MAX_CHARS:
            raise too_many_chars("regex_replace")
        pieces += (source[taken:begin], *by)
        taken = end
        start = end if end > begin else _next_character(source, end)
    pieces.append(source[taken:])
    return _decode("regex_replace", b"".join(pieces))


def _next_character(source: bytes, position: int) -> int:
    position += 1
    while position < len(source) and source[position] & 0xC0 == 0x80:  # noqa: PLR2004 - the rest of a UTF-8 character
        position += 1
    return position


def _replacement(pattern: _Pattern, to: str) -> list[Any]:
    """Split a replacement into bytes and group numbers: `$1`, `${name}`, and `$$` for a dollar."""
    parts: list[Any] = []
    end = 0
    for match in _REFERENCE.finditer(to):
        parts.append(to[end : match.start()].encode("utf-8", "surrogatepass"))
        end = match.end()
        if match["dollar"]:
            parts.append(b"$")
            continue
        group = pattern.group(int(match["number"]) if match["number"] else match["name"])
        if group is None:
            raise ExpressionFailed(
                "regex_replace() names a group in argument 3 that the pattern does not have; a dollar sign is `$$`"
            )
        parts.append(group)
    parts.append(to[end:].encode("utf-8", "surrogatepass"))
    return [part for part in parts if part != b""]


def _encode(name: str, text: Any) -> bytes:
    return string(name, 1, text).encode("utf-8", "surrogatepass")


def _decode(name: str, part: bytes) -> str:
    try:
        return part.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise ExpressionFailed(rf"{name}() has a pattern that cuts characters into bytes (`\C`)") from None


def _check_work(name: str, work: int) -> None:
    if work > MAX_WORK:
        raise ExpressionFailed(f"{name}() has a pattern that is too large for a text of this length")


def _compile_argument(name: str, pattern: Any) -> _Pattern:
    text = string(name, 2, pattern)
    if len(text) > MAX_PATTERN_CHARS:
        raise ExpressionFailed(f"{name}() takes a pattern of at most {MAX_PATTERN_CHARS:,} characters as argument 2")
    try:
        return _compile(text)
    except _PatternRefused as error:
        why = f"{name}() takes a regular expression (RE2) as argument 2, and was given a string that is not one"
        raise ExpressionFailed(f"{why}: {error}", kind=why) from None


@lru_cache(maxsize=_CACHED)
def _compile(pattern: str) -> _Pattern:
    options = re2.Options()
    options.max_mem = _MEMORY
    # It would write them to stderr, pattern and all.
    options.log_errors = False
    try:
        compiled = re2.compile(pattern.encode("utf-8", "surrogatepass"), options)
    except re2.error as error:
        # "missing ): (ab": the reason, and the part of the pattern, which may come from the call.
        reason = error.args[0].decode("utf-8", "replace") if error.args else ""
        raise _PatternRefused(reason.partition(": ")[0]) from None
    if compiled.programsize > MAX_PROGRAM:
        raise _PatternRefused("it is too large")
    names = {name.decode(): index for name, index in compiled.groupindex.items()}
    return _Pattern(compiled.search, compiled.programsize, compiled.groups, names)


REGEX: tuple[Function, ...] = (
    replace(function(_regex_match, 2, growth=1), effort=_EFFORT),
    replace(function(_regex_extract, 2, 3, growth=1), effort=_EFFORT),
    replace(function(_regex_replace, 3, growth=None), effort=_EFFORT),
)
