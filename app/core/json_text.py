r"""Read JSON as senders write it, and write it in one canonical form.

The fast path is msgspec. It refuses some of what Segment's senders send (a lone surrogate such as `"\ud83d"`, a BOM,
`1e400`), so each reader here has one fallback. Both paths give the same answer for the same bytes, at any depth
of the Python stack that occurs: a replayed call must read as it did the first time.
"""

import json
import re
from typing import Any, NoReturn

import msgspec

from app.core.json_numbers import by_value, holds_other_form, is_finite, refuse_not_finite
from app.errors import UnparsableJson

MAX_DEPTH = 200
"""How deep a document may nest. Real calls stay below 20; later recursion over a document (json, deepcopy, a template)
must fit into Python's 1,000 frames, and some need three per level."""

MAX_INTEGER_DIGITS = 400
"""Longer integers are read as an infinite float, which the event rules refuse. A float ends at 309 digits."""

_RAW_KEY = f"raw JSON of {MAX_DEPTH}"
"""The key of a dict that stands for raw JSON. Compared by identity: made at run time, so decoding never gives it."""

_BOM = b"\xef\xbb\xbf"
WHITESPACE = b" \t\n\r"
_NO_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*+"|(NaN|-?Infinity)', re.DOTALL)
_REAL_NUL = re.compile(rb"(?<!\\)(?:\\\\)*+\\u0000")

_DIGITS_AS_ONES = bytes(ord("1") if ord("0") <= byte <= ord("9") else ord(" ") for byte in range(256))
_LONG_INTEGER = b"1" * (MAX_INTEGER_DIGITS + 1)
_STRIDE = MAX_INTEGER_DIGITS // 4

_BRACKET, _BACKSLASH = b"[\\"

_TOO_SHORT_TO_DOUBT = min(2 * MAX_DEPTH, MAX_INTEGER_DIGITS)
"""A text up to this length can neither nest too deep nor contain too long an integer."""


class TooDeep(UnparsableJson):
    """The JSON nests deeper than can be read."""


_decode_any = msgspec.json.Decoder().decode
_encode_any = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="deterministic").encode


class _NoNumber(Exception):
    """A value is NaN or Infinity."""


def _refuse_constant(_literal: str) -> NoReturn:
    raise _NoNumber


def _read_integer(digits: str) -> int | float:
    return int(digits) if len(digits.lstrip("-")) <= MAX_INTEGER_DIGITS else float(digits)


_TOLERANT = json.JSONDecoder(parse_constant=_refuse_constant)
_TOLERANT_OF_INTEGERS = json.JSONDecoder(parse_int=_read_integer, parse_constant=_refuse_constant)
"""Calls Python for each integer: 70 ms for a megabyte of them in place of 20."""


def trim(raw: bytes) -> bytes:
    """Return `raw` without a UTF-8 byte order mark and surrounding white space; the same object if it has neither."""
    return raw.removeprefix(_BOM).strip(WHITESPACE)


def decode(raw: bytes) -> Any:
    """Read one JSON text in UTF-8 into dict, list, str, int, float, bool or None.

    More is accepted than the standard allows: a byte order mark; lone surrogates, which stay in the str; integers of
    up to MAX_INTEGER_DIGITS, exactly. Longer integers and numbers like `1e400` become an infinite float, so that only
    the call which uses them fails. Of a repeated key the last one counts.

    Raises UnparsableJson, with the position and the fault, for everything else, NaN and Infinity included; its subclass
    TooDeep for more than MAX_DEPTH levels.
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
    if nests_too_deep(document, raw):
        raise TooDeep(f"The JSON nests deeper than {MAX_DEPTH} levels.")
    return document


def nests_too_deep(document: Any, encoded: bytes) -> bool:
    """Tell whether a document nests deeper than MAX_DEPTH, so that `decode` would refuse it. `encoded` is its JSON."""
    # Finding a byte is ten times faster than counting it, and eight times faster as an int than as bytes.
    brackets = encoded.count(b"{") + (encoded.count(b"[") if _BRACKET in encoded else 0)
    return brackets > MAX_DEPTH and _nests_too_deep(document)


def encode(value: Any) -> bytes:
    """Write a value, which may contain structs and raw JSON, for output: to a program, a person, a log.

    UTF-8, except that a value with half of a surrogate pair anywhere, which UTF-8 cannot hold, is written with ASCII
    escapes. An infinite float or NaN becomes null. Never fails on what `decode` gives.
    """
    try:
        return _encode_any(value)
    except UnicodeEncodeError:
        return _write(msgspec.to_builtins(value, enc_hook=_mark_raw)).encode()


def encode_canonical(value: Any) -> bytes:
    """Write a decoded value as JSON: compact, keys sorted at every level, so equal values give equal bytes.

    UTF-8, except that a value with a lone surrogate anywhere, which UTF-8 cannot hold, is written in ASCII escapes.
    Raises NotFinite for an infinite number or NaN, which msgspec would silently turn into null.
    """
    try:
        encoded = _encode_sorted(value)
    except UnicodeEncodeError:
        refuse_not_finite(value)
        # default: a Decimal becomes text, as it does above.
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str).encode("ascii")
    if b"null" in encoded and not is_finite(value):
        refuse_not_finite(value)
    return encoded


def encode_both(value: Any) -> tuple[bytes, bytes]:
    """Write a decoded value as `encode_canonical` does, twice: as received, and with its numbers by value.

    Both are the same object if nothing differs. Raises NotFinite as `encode_canonical` does, RecursionError for a
    value that nests too deep to be encoded.
    """
    try:
        encoded = _encode_sorted(value)
    except UnicodeEncodeError:
        encoded = encode_canonical(value)
    # One walk finds both other forms and numbers that are not finite: it runs for every event.
    if not holds_other_form(value):
        return encoded, encoded
    refuse_not_finite(value)
    return encoded, encode_canonical(by_value(value))


def contains_nul(encoded: bytes) -> bool:
    r"""Tell whether JSON text has a NUL character (`\u0000`) in a string or key; an escaped backslash is not one."""
    # Few texts contain a backslash, and one byte is found much faster than six.
    return _BACKSLASH in encoded and b"\\u0000" in encoded and _REAL_NUL.search(encoded) is not None


def _has_long_integer(raw: bytes) -> bool:
    """Tell whether the text may hold an integer of more than MAX_INTEGER_DIGITS: cheap, and never misses one.

    Such an integer covers four sample positions in a row, as those lie a quarter of its length apart.
    """
    # `find` takes half the time of `in`.
    samples = raw[::_STRIDE].translate(_DIGITS_AS_ONES)
    return samples.find(b"1111") >= 0 and _LONG_INTEGER in raw.translate(_DIGITS_AS_ONES)


def _nests_too_deep(document: Any) -> bool:
    level = [document]
    for _ in range(MAX_DEPTH):
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
        return (_TOLERANT_OF_INTEGERS if _has_long_integer(raw) else _TOLERANT).decode(text)
    except json.JSONDecodeError as error:
        what, position = error.msg[:1].lower() + error.msg[1:].removesuffix(" at"), error.pos
    except _NoNumber:
        what = "NaN or Infinity"
        position = next((match.start() for match in _NO_NUMBER.finditer(text) if match[1]), 0)
    except RecursionError:
        raise TooDeep(f"The JSON nests deeper than {MAX_DEPTH} levels.") from None
    line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
    place = _place(line, column, len(text[:position].encode("utf-8")))
    raise UnparsableJson(f"The body is not JSON: {what} at {place}.")


def _mark_raw(raw: Any) -> dict[str, str]:
    if not isinstance(raw, msgspec.Raw):
        raise TypeError(f"there is no JSON for {type(raw).__name__}")
    # In JSON, non-ASCII characters only occur in strings, where an escape means the same.
    return {_RAW_KEY: "".join(map(_to_ascii, bytes(raw).decode(errors="surrogatepass")))}


def _to_ascii(character: str) -> str:
    return character if character.isascii() else json.dumps(character)[1:-1]


def _write(value: Any) -> str:
    if isinstance(value, dict):
        if len(value) == 1 and next(iter(value)) is _RAW_KEY:
            return str(value[_RAW_KEY])
        return "{" + ",".join(f"{json.dumps(key)}:{_write(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_write, value)) + "]"
    return json.dumps(value) if isinstance(value, str) else _encode_any(value).decode()


def _place(line: int, column: int, byte: int) -> str:
    return f"line {line}, column {column} (byte {byte})"
