r"""Invalid tokens within the structure of JSON: `NaN`, a byte that is not UTF-8, an escape such as `\x41`.

Senders write them: Python's `json` writes NaN and Infinity. Such a token only affects the call that contains it, so a
batch is cut around it. Everything here runs only after a decoder has refused a text, in time that is linear in its
length: about 20 ns a byte, and a microsecond for each such token.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from app.core.fault import any_index

_SPACE = rb"[ \t\n\r]"
_BOM = rb"\xef\xbb\xbf"
_ESCAPE = rb'(?:\\["\\/bfnrt])++|\\u[0-9a-fA-F]{4}'
# The well-formed sequences of UTF-8, Unicode's table 3-7.
_UTF_8 = (
    rb"[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)
_PLAIN = rb"[\x20\x21\x23-\x5b\x5d-\x7f]++|" + _UTF_8 + rb"|" + _ESCAPE
_STRING = rb'"(?:' + _PLAIN + rb')*+"'
_ENDS = rb'(?=[ \t\n\r\[\]{},:"]|\Z)'
_SCALAR = rb"(?:-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]++)?+|true|false|null)" + _ENDS

_ANY_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_ANY_SCALAR = rb'[^ \t\n\r\[\]{},:"]++'

_RUN = re.compile(
    # In pieces, so that the reader of a long text can let others run in between.
    rb"(?:[ \t\n\r\[\]{},:]++|" + _STRING + rb"|" + _SCALAR + rb"){0,4096}+"
    rb"(?:(?P<mark>" + _BOM + rb")(?=" + _SPACE + rb'*+["{\[])|(?P<odd>' + _ANY_STRING + rb"|" + _ANY_SCALAR + rb"))?",
    re.DOTALL,
)
_IN_STRING = re.compile(rb"(?:" + _PLAIN + rb")*+", re.DOTALL)
_STEP = re.compile(_ANY_STRING + rb"|[\[{\]},]", re.DOTALL)
_COLON = re.compile(_SPACE + rb"*+:")
_WORD = re.compile(rb"[-+]?(?:nan|inf|infinity)|none|null|true|false|undefined", re.IGNORECASE)
_NUMBER = re.compile(rb"[-+.0-9][-+.0-9a-fA-FxX_]*+")

_TOKENS_MAX = 200_000
"""A text with more invalid tokens is not treated as JSON."""

_PATH_BYTES = 128 << 10
"""How far into a call a token's path is determined, which takes 20 ms at most; beyond it only the byte is reported."""

_KEY_MAX = 60


class Span(NamedTuple):
    """The position of an invalid token."""

    start: int
    end: int
    is_mark: bool
    """It is a byte order mark in front of a value, and is skipped like white space."""


Checkpoint = Callable[[], None]
"""Called regularly during long work, so that the caller can let other work run."""


def no_checkpoint() -> None:
    """Do nothing: no other work waits for this."""


def mask(text: bytes, checkpoint: Checkpoint = no_checkpoint) -> bytes:
    """Return text of the same length and structure in which all tokens are valid JSON.

    A text whose structure is broken, or with more than 200,000 invalid tokens, remains invalid. `checkpoint` is called
    regularly.
    """
    masked = bytearray(text)
    for span in _find_tokens(text, checkpoint):
        masked[span.start : span.end] = _placeholder(text, span)
    return bytes(masked)


def mend(text: bytes) -> bytes:
    """Return text with null for each value that is not JSON; an invalid key is masked instead."""
    parts = []
    copied = 0
    for span in _find_tokens(text):
        is_value = not span.is_mark and _COLON.match(text, span.end) is None
        parts += [text[copied : span.start], b"null" if is_value else _placeholder(text, span)]
        copied = span.end
    return b"".join([*parts, text[copied:]])


class Oddity(NamedTuple):
    """The first invalid token of a call."""

    sentence: str
    """What it is, and where. Words that mean "no value" are quoted; other values never are."""
    path: str
    """Of the value, in the call; "" for the call itself, and for a token far into it."""
    kind: str
    """The sentence without what differs from call to call."""


def describe(text: bytes) -> Oddity | None:
    """Describe the first invalid token of a call; None if all are valid."""
    span = next(_find_tokens(text), None)
    if span is None:
        return None
    token = text[span.start : span.end]
    what, offset = _describe_token(token) if not span.is_mark else ("a byte order mark", 0)
    place = span.start + offset
    verb = "holds" if token.startswith(b'"') or span.is_mark else "is"
    if span.start > _PATH_BYTES:
        kind = f"The call {verb if verb == 'holds' else 'has'} {what}"
        return Oddity(f"{kind} at byte {place}.", "", kind)
    path = _find_path(text, span.start)
    if verb == "holds" and _COLON.match(text, span.end) is not None:
        subject = "A key of {}" if path else "A key of the call"
    else:
        subject = "{}" if path else "The call"
    everywhere = any_index(path)
    return Oddity(
        f"{subject.format(f'`{path}`')} {verb} {what} (byte {place}).",
        everywhere,
        f"{subject.format(f'`{everywhere}`')} {verb} {what}",
    )


def _find_tokens(text: bytes, checkpoint: Checkpoint = no_checkpoint) -> Iterator[Span]:
    position = count = 0
    while position < len(text) and count < _TOKENS_MAX:
        match = _RUN.match(text, position)
        if match is None or match.end() == position:
            return  # a string that does not end
        position = match.end()
        if match.lastgroup is not None:
            count += 1
            yield Span(match.start(match.lastgroup), position, match.lastgroup == "mark")
        checkpoint()


def _placeholder(text: bytes, span: Span) -> bytes:
    length = span.end - span.start
    if span.is_mark:
        return b" " * length
    # A number is no valid key, and neither was the original token.
    return b'"' + b"x" * (length - 2) + b'"' if text[span.start] == ord('"') else b"1" * length


def _describe_token(token: bytes) -> tuple[str, int]:
    """Return what is wrong with a token, and at which of its bytes."""
    if not token.startswith(b'"'):
        return _describe_scalar(token), 0
    match = _IN_STRING.match(token, 1)
    offset = match.end() if match is not None else 1
    byte = token[offset]
    if byte == ord("\\"):
        following = token[offset + 1 : offset + 2]
        shown = f"\\{following.decode()}" if following.isalnum() else "\\"
        return f"the escape {shown}, which JSON does not have", offset
    if byte < ord(" "):
        return f"the control character U+{byte:04X}, unescaped", offset
    return f"the byte 0x{byte:02x}, which is not UTF-8 there", offset


def _describe_scalar(token: bytes) -> str:
    if token.startswith(b"\xef\xbb\xbf"):
        return "a byte order mark"
    if _WORD.fullmatch(token):
        return f"{token.decode()}, which JSON does not have"
    return f"a {'number in a form' if _NUMBER.fullmatch(token) else 'word'} that JSON does not have"


def _find_path(text: bytes, end: int) -> str:
    """Return the path of the value at a position, as in `properties.items[0].price`; "" for the top."""
    steps: list[str | int | None] = []
    for match in _STEP.finditer(text, 0, end):
        token = match[0]
        if token == b"{":
            steps.append(None)
        elif token == b"[":
            steps.append(0)
        elif token in {b"]", b"}"}:
            del steps[-1:]
        elif token == b",":
            steps[-1:] = [step + 1 if isinstance(step, int) else None for step in steps[-1:]]
        elif steps and steps[-1] is None:
            steps[-1] = _key_text(token)
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps if step is not None)
    return path.removeprefix(".")


def _key_text(token: bytes) -> str:
    try:
        key = str(json.loads(token.decode("utf-8", "replace"), strict=False))
    except ValueError:
        key = token[1:-1].decode("utf-8", "replace")
    return key[:_KEY_MAX]
