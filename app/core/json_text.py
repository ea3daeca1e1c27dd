r"""JSON as it really arrives: read it, cut it into its own bytes, write it in one fixed form.

The fast path is msgspec. It refuses what Segment's senders do send (a lone surrogate such as `"\ud83d"`, a BOM,
`1e400`), and so each reader here has one fallback. Both paths give the same answer for the same bytes, however deep
the Python stack is at that moment: a replayed call must read as it did the first time.
"""

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NoReturn

import msgspec

from app.errors import TooLarge, UnparsableJson

MAX_DEPTH = 200
"""How deep a document may nest. Real calls stay below 20; what recurses over a document later (json, deepcopy, a
template) must fit into Python's 1,000 frames, and some need three for each level."""

MAX_INTEGER_DIGITS = 400
"""Longer integers are read as an infinite float, which the event rules refuse. A float ends at 309 digits."""

_BOM = b"\xef\xbb\xbf"
_WHITESPACE = b" \t\n\r"
_OPENS_ARRAY = re.compile(rb"\[[ \t\n\r]*")
_BETWEEN = re.compile(rb"[ \t\n\r]*,[ \t\n\r]*")
_CLOSES_ELEMENT = re.compile(rb"[ \t\n\r]*[,\]]")
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_NESTING = re.compile(_STRING + rb"|[\[{]+|[\]}]+", re.DOTALL)
_TOKEN = re.compile(_STRING + rb'|[\[{\]},"]', re.DOTALL)
_MEMBER = re.compile(rb"(" + _STRING + rb")[ \t\n\r]*:[ \t\n\r]*(.+)", re.DOTALL)
_NO_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*+"|(NaN|-?Infinity)', re.DOTALL)
_REAL_NUL = re.compile(rb"(?<!\\)(?:\\\\)*+\\u0000")

_DIGITS_AS_ONES = bytes(ord("1") if ord("0") <= byte <= ord("9") else ord(" ") for byte in range(256))
_LONG_INTEGER = b"1" * (MAX_INTEGER_DIGITS + 1)
_STRIDE = MAX_INTEGER_DIGITS // 4

_TOO_SHORT_TO_DOUBT = min(2 * MAX_DEPTH, MAX_INTEGER_DIGITS)
"""Up to this length a text can neither nest too deep nor hold too long an integer."""

_FIRST_WINDOWS = (4 << 10, 64 << 10, 1 << 20)
"""How much of a body is read for its first element: an ordinary call; Segment's largest, 32 KB; the largest we take."""

_DEEP_WINDOW = 64 << 10
"""A first element too deep for C is looked for in no more than this; it takes Python 100 ns a bracket."""

_MANY_COMMAS = 1_000_000
"""Beyond this an array is cut by hand, which can stop early: msgspec would first make 56 bytes for each element."""


class TooDeep(UnparsableJson):
    """The JSON nests deeper than can be read."""


class NotFinite(ValueError):
    """A number is infinite or not a number, and JSON cannot hold it. `path` is where it stands, "" for the top."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path or 'the value'} is not a finite number")


class _ArrayStart(msgspec.Struct, array_like=True, gc=False):
    """The first element of an array; msgspec checks the others and skips them without building anything."""

    first: msgspec.Raw


_decode_any = msgspec.json.Decoder().decode
_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_start = msgspec.json.Decoder(_ArrayStart).decode
_encode_sorted = msgspec.json.Encoder(order="deterministic").encode


class _NoNumber(Exception):
    """NaN or Infinity stands where a value should."""


def _refuse_constant(_literal: str) -> NoReturn:
    raise _NoNumber


def _read_integer(digits: str) -> int | float:
    return int(digits) if len(digits.lstrip("-")) <= MAX_INTEGER_DIGITS else float(digits)


_TOLERANT = json.JSONDecoder(parse_int=_read_integer, parse_constant=_refuse_constant)
_SPAN_ONLY = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


def trim(raw: bytes) -> bytes:
    """`raw` without a UTF-8 byte order mark and without white space around it; the same object if there is none."""
    return raw.removeprefix(_BOM).strip(_WHITESPACE)


def decode(raw: bytes) -> Any:
    """Read one JSON text in UTF-8 into dict, list, str, int, float, bool or None.

    More is taken than the standard says: a byte order mark; lone surrogates, which stay in the str; integers of any
    size up to MAX_INTEGER_DIGITS, exactly. Longer integers and numbers like `1e400` become an infinite float, so that
    only the call which uses them fails. Of a repeated key the last one counts.

    Raises UnparsableJson, with the place and what is wrong, for everything else, NaN and Infinity included; TooDeep,
    which is one, for more than MAX_DEPTH levels.
    """
    if len(raw) <= _TOO_SHORT_TO_DOUBT:
        try:
            return _decode_any(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _decode_tolerantly(raw)
    if _has_long_integer(raw):
        document = _decode_tolerantly(raw)
    else:
        try:
            document = _decode_any(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            document = _decode_tolerantly(raw)
    brackets = raw.count(b"{") + (raw.count(b"[") if b"[" in raw else 0)  # `in` is ten times faster than count
    if brackets > MAX_DEPTH and _nests_too_deep(document):
        raise TooDeep(f"The JSON nests deeper than {MAX_DEPTH} levels.")
    return document


def split_array(raw: bytes, most: int | None = None) -> list[bytes]:
    """Cut the text of a JSON array into its elements, each with the very bytes it came with, white space around it off.

    An element is not read: one that is not UTF-8 or nests too deep does not spoil the others, and fails when it is
    decoded. Below about 900 levels its syntax is checked all the same; deeper, only that its brackets match.

    Raises UnparsableJson when this is no array, and TooLarge for more than `most` elements.
    """
    text = trim(raw)
    if most is not None and len(text) > 2 * _MANY_COMMAS and text.count(b",") > _MANY_COMMAS:
        return _split_by_hand(text, b"[", most)
    try:
        elements = [bytes(element) for element in _decode_elements(text)]
    except RecursionError:
        return _split_by_hand(text, b"[", most)
    except msgspec.DecodeError:
        elements = _split_masked(text, most)
    return _at_most(most, elements)


def split_object(raw: bytes) -> dict[str, bytes]:
    """Cut the text of a JSON object into its members: key, and the very bytes of its value. As `split_array` does.

    Of a repeated key the last one counts. Raises UnparsableJson when this is no object.
    """
    text = trim(raw)
    try:
        return {key: bytes(value) for key, value in _decode_members(text).items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    members = {}
    for part in _split_by_hand(text, b"{", None):
        member = _MEMBER.fullmatch(part)
        if member is None:
            raise UnparsableJson("The body is not JSON: an object has a member that is not a key, a colon and a value.")
        members[decode(member[1])] = member[2]
    return members


def first_element(raw: bytes) -> bytes | None:
    """The very bytes of an array's first element, or None when there is none or its end cannot be found.

    For use before the sender is known, so nothing after that element is trusted, and the work is linear with a small
    factor: 16 MB of anything takes less than 0.2 s. The price: of a body whose rest is broken, or nests too deep, a
    first element above 1 MiB is not found.
    """
    text = trim(raw)
    opening = _OPENS_ARRAY.match(text)
    if opening is None:
        return None
    start = opening.end()
    for size in _FIRST_WINDOWS:
        window = text[start : start + size]
        end = _end_of_value(window)
        if end is not None and _CLOSES_ELEMENT.match(text, start + end):
            return window[:end]
        if start + size >= len(text):
            return None
    try:
        length = len(memoryview(_decode_start(_mask_surrogates(text)).first))
    except (msgspec.DecodeError, RecursionError):
        return None
    return text[start : start + length]


def encode_canonical(value: Any) -> bytes:
    """Write what `decode` gave as JSON: compact, keys sorted at every level, equal values to equal bytes.

    UTF-8, except that a value with a lone surrogate anywhere, which UTF-8 cannot hold, is written in ASCII escapes.
    Raises NotFinite for an infinite number or a NaN, which msgspec would turn into null without a word.
    """
    try:
        encoded = _encode_sorted(value)
    except UnicodeEncodeError:
        try:
            return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
        except ValueError:
            _refuse_not_finite(value)
            raise
    if b"null" in encoded and not _is_finite(value):
        _refuse_not_finite(value)
    return encoded


def contains_nul(encoded: bytes) -> bool:
    r"""Tell whether JSON text has a NUL character (`\u0000`) in a string or key; an escaped backslash is not one."""
    return b"\\u0000" in encoded and _REAL_NUL.search(encoded) is not None


def _has_long_integer(raw: bytes) -> bool:
    """Whether the text may hold an integer of more than MAX_INTEGER_DIGITS: cheap, and never misses one.

    Such an integer covers four places in a row of those that lie a quarter of its length apart.
    """
    return b"1111" in raw[::_STRIDE].translate(_DIGITS_AS_ONES) and _LONG_INTEGER in raw.translate(_DIGITS_AS_ONES)


def _nests_too_deep(document: Any) -> bool:
    level = [document]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return False
    return True


def _decode_tolerantly(raw: bytes) -> Any:
    raw = raw.removeprefix(_BOM)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        place = _place(before.count(b"\n") + 1, error.start - before.rfind(b"\n"), error.start)
        raise UnparsableJson(f"The body is not JSON: it is not UTF-8 at {place}.") from None
    try:
        return _TOLERANT.decode(text)
    except json.JSONDecodeError as error:
        what, position = error.msg[:1].lower() + error.msg[1:].removesuffix(" at"), error.pos
    except _NoNumber:
        what = "a number that is none (NaN, Infinity)"
        position = next((found.start() for found in _NO_NUMBER.finditer(text) if found[1]), 0)
    except RecursionError:
        raise TooDeep(f"The JSON nests deeper than {MAX_DEPTH} levels.") from None
    line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
    place = _place(line, column, len(text[:position].encode("utf-8")))
    raise UnparsableJson(f"The body is not JSON: {what} at {place}.")


def _place(line: int, column: int, byte: int) -> str:
    return f"line {line}, column {column} (byte {byte})"


def _mask_surrogates(text: bytes) -> bytes:
    r"""Text of the same length and structure in which no escape is a surrogate, so that msgspec can walk it.

    `\ud83d` becomes `\u083d`. Where the backslash is itself escaped, a letter of a string changes, no more.
    """
    return text.replace(b"\\ud", b"\\u0").replace(b"\\uD", b"\\u0")


def _split_masked(text: bytes, most: int | None) -> list[bytes]:
    """The elements of an array that msgspec refuses: their lengths from the masked text, their bytes from this one."""
    opening = _OPENS_ARRAY.match(text)
    try:
        masked = _decode_elements(_mask_surrogates(text))
    except RecursionError:
        return _split_by_hand(text, b"[", most)
    except msgspec.DecodeError:
        opening = None
    if opening is None:
        decode(text)
        raise UnparsableJson("The JSON is not an array.")
    elements = []
    position = opening.end()
    for length in [len(memoryview(element)) for element in masked]:
        elements.append(text[position : position + length])
        between = _BETWEEN.match(text, position + length)
        position = between.end() if between else len(text)
    return elements


def _split_by_hand(text: bytes, opening: bytes, most: int | None) -> list[bytes]:
    """The parts between the commas of the outermost array or object, for a text of any depth."""
    if not text.startswith(opening):
        decode(text)
        raise UnparsableJson(f"The JSON is not an {'array' if opening == b'[' else 'object'}.")
    if not text.endswith((b"]", b"}")):
        raise UnparsableJson("The body is not JSON: it does not end with a bracket as it began with one.")
    commas = [0]
    for position in _outer_commas(text):
        commas.append(position)
        if most is not None and len(commas) > most:
            raise _too_many(most)
    parts = [text[start + 1 : end].strip(_WHITESPACE) for start, end in pairwise([*commas, len(text) - 1])]
    if parts == [b""]:
        return []
    if b"" in parts:
        raise UnparsableJson("The body is not JSON: there is nothing before or after a comma.")
    return parts


def _outer_commas(text: bytes) -> Iterator[int]:
    """Where the outermost container's commas are. Raises UnparsableJson unless its last bracket ends the text."""
    closers = bytearray()
    for token in _TOKEN.finditer(text):
        position = token.start()
        first = text[position]
        if first in b"[{":
            closers.append(first + 2)  # in ASCII ] and } come two after [ and {
        elif first in b"]}":
            if closers.pop() != first:
                raise UnparsableJson(f"The body is not JSON: a bracket of the wrong kind at byte {position}.")
            if not closers:
                if position + 1 != len(text):
                    raise UnparsableJson(f"The body is not JSON: it goes on after its end at byte {position + 1}.")
                return
        elif first == ord(","):
            if len(closers) == 1:
                yield position
        elif token.end() == position + 1:
            raise UnparsableJson(f"The body is not JSON: the string at byte {position} does not end.")
    raise UnparsableJson(f"The body is not JSON: it ends with {len(closers)} brackets open.")


def _at_most(most: int | None, elements: list[bytes]) -> list[bytes]:
    if most is not None and len(elements) > most:
        raise _too_many(most)
    return elements


def _too_many(most: int) -> TooLarge:
    return TooLarge(f"The body holds more than {most} calls. Send it in several requests.")


def _end_of_value(window: bytes) -> int | None:
    """Where the JSON value at the start of `window` ends. None when it goes on after the window or is not JSON."""
    text = window.decode("utf-8", "surrogateescape")  # the window may end inside a character
    try:
        end = _SPAN_ONLY.raw_decode(text)[1]
    except json.JSONDecodeError:
        return None
    except RecursionError:
        return _end_of_nesting(window[:_DEEP_WINDOW])
    return end if text.isascii() else len(text[:end].encode("utf-8", "surrogateescape"))


def _end_of_nesting(window: bytes) -> int | None:
    depth = 0
    for token in _NESTING.finditer(window):
        first = window[token.start()]
        if first in b"[{":
            depth += token.end() - token.start()
        elif first in b"]}":
            depth -= token.end() - token.start()
            if depth <= 0:
                return token.end() + depth
    return None


def _is_finite(value: Any) -> bool:
    seen = [value]
    for item in seen:  # it grows while it is walked
        kind = type(item)
        if kind is dict:
            seen.extend(item.values())
        elif kind is list:
            seen.extend(item)
        elif kind is float and item - item != 0:
            return False
    return True


def _refuse_not_finite(value: Any) -> None:
    """Raise NotFinite for the first number in `value` that is infinite or NaN. Not recursive."""
    left: list[tuple[str, Any]] = [("", value)]
    while left:
        path, item = left.pop()
        if isinstance(item, float):
            if item - item != 0:  # infinite or NaN: only there is the difference not 0
                raise NotFinite(path)
        elif isinstance(item, dict):
            left.extend((f"{path}.{key}" if path else key, inner) for key, inner in reversed(item.items()))
        elif isinstance(item, list):
            left.extend((f"{path}[{index}]", inner) for index, inner in reversed([*enumerate(item)]))
