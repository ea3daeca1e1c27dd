r"""Cut JSON text into parts with their original bytes, which are what is stored of a call, and what is signed.

msgspec cuts a kilobyte in a third of a microsecond. For each thing it refuses (a lone surrogate such as `"\ud83d"`,
very deep nesting) there is one fallback, which gives the same spans.
"""

import json
import re
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import TypeVar

import msgspec

from app.core.json_oddities import Checkpoint, mask, no_checkpoint
from app.core.json_text import WHITESPACE, decode, trim
from app.errors import TooLarge, UnparsableJson

_OPENS_ARRAY = re.compile(rb"\[[ \t\n\r]*")
_BETWEEN = re.compile(rb"[ \t\n\r]*,[ \t\n\r]*")
_CLOSES_ELEMENT = re.compile(rb"[ \t\n\r]*[,\]]")
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_NESTING = re.compile(_STRING + rb"|[\[{]+|[\]}]+", re.DOTALL)
_TOKEN = re.compile(_STRING + rb'|[\[{\]},"]', re.DOTALL)
_MEMBER = re.compile(rb"(" + _STRING + rb")[ \t\n\r]*:[ \t\n\r]*(.+)", re.DOTALL)

_FIRST_WINDOWS = (4 << 10, 64 << 10, 1 << 20)
"""How much of a body is read to find its first element: an ordinary call; Segment's limit; our own limit."""

_DEEP_WINDOW = 64 << 10
"""How far to search for the end of a first element that nests too deep for C; Python takes 100 ns a bracket."""

_MANY_COMMAS = 1_000_000
"""Beyond this an array is cut by hand, which can stop early: msgspec would first allocate 56 bytes per element."""


_TOKENS_BETWEEN_CHECKPOINTS = 4_096
"""They take a millisecond."""

Element = TypeVar("Element")


class _ArrayStart(msgspec.Struct, array_like=True, gc=False):
    """The first element of an array; msgspec checks the others and skips them without building anything."""

    first: msgspec.Raw


_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_decode_start = msgspec.json.Decoder(_ArrayStart).decode
_SPAN_ONLY = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


def split_array(raw: bytes, most: int | None = None, checkpoint: Checkpoint = no_checkpoint) -> list[bytes]:
    """Cut the text of a JSON array into its elements, each with its original bytes, without surrounding white space.

    Elements are not decoded: one that holds NaN, is not UTF-8 or nests too deep does not affect the others, and fails
    when it is decoded. Up to about 900 levels its structure is checked all the same; deeper, only its brackets.

    Raises UnparsableJson when the text is no array, and TooLarge for more than `most` elements.
    """
    text = trim(raw)
    if most is not None and len(text) > 2 * _MANY_COMMAS and text.count(b",") > _MANY_COMMAS:
        return _split_by_hand(text, b"[", most, checkpoint)
    try:
        elements = _decode_elements(text)
    except RecursionError:
        return _split_by_hand(text, b"[", most, checkpoint)
    except msgspec.DecodeError:
        return _check_count(most, _split_masked(text, most, checkpoint))
    checkpoint()
    return [bytes(element) for element in _check_count(most, elements)]


def split_object(raw: bytes, checkpoint: Checkpoint = no_checkpoint) -> dict[str, bytes]:
    """Cut the text of a JSON object into its members: key, and the original bytes of the value, as `split_array` does.

    Of a repeated key the last one counts. Raises UnparsableJson if the text is not an object.
    """
    text = trim(raw)
    try:
        return {key: bytes(value) for key, value in _decode_members(text).items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    members = {}
    for part in _split_by_hand(text, b"{", None, checkpoint):
        member = _MEMBER.fullmatch(part)
        if member is None:
            raise UnparsableJson("The body is not JSON: an object has a member that is not a key, a colon and a value.")
        members[_key_text(member[1])] = member[2]
    return members


def _key_text(token: bytes) -> str:
    """Decode a key; one that is not valid JSON is returned as it is written."""
    try:
        return str(decode(token))
    except UnparsableJson:
        return token[1:-1].decode(errors="backslashreplace")


def replace_member(raw: bytes, key: str, value: bytes) -> bytes:
    """Replace the value of a key of a JSON object wherever the key occurs at its top level; all other bytes stay.

    Raises UnparsableJson when the text is no object.
    """
    text = trim(raw)
    if not text.startswith(b"{"):
        raise UnparsableJson("The JSON is not an object.")
    parts = []
    copied = 0
    for start, end in pairwise([0, *_outer_commas(text, no_checkpoint), len(text) - 1]):
        member = _MEMBER.fullmatch(text[start + 1 : end].strip(WHITESPACE))
        if member is not None and decode(member[1]) == key:
            # The value is the last thing before the comma.
            stop = start + 1 + len(text[start + 1 : end].rstrip(WHITESPACE))
            parts += [text[copied : stop - len(member[2])], value]
            copied = stop
    return b"".join([*parts, text[copied:]])


def first_element(raw: bytes) -> bytes | None:
    """Return the original bytes of an array's first element; None when it has none or its end cannot be found.

    For use before the sender is authenticated, so nothing after that element is trusted, and the work is linear with a
    small factor: 16 MB of anything takes less than 0.2 s. The cost: where the rest of the body is broken or nests too
    deep, a first element above 1 MiB is not found.
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


def _mask_surrogates(text: bytes) -> bytes:
    r"""Return text of the same length and structure in which no escape is a surrogate, so that msgspec accepts it.

    `\ud83d` becomes `\u083d`. If the backslash is itself escaped, only a letter of a string changes.
    """
    return text.replace(b"\\ud", b"\\u0").replace(b"\\uD", b"\\u0")


def _split_masked(text: bytes, most: int | None, checkpoint: Checkpoint) -> list[bytes]:
    """Cut an array that msgspec refuses: the lengths come from the masked text, the bytes from the original."""
    try:
        walked, masked = _decode_masked(text, checkpoint)
    except RecursionError:
        return _split_by_hand(text, b"[", most, checkpoint)
    opening = _OPENS_ARRAY.match(walked)
    if opening is None:
        decode(text)
        raise UnparsableJson("The JSON is not an array.")
    elements = []
    position = opening.end()
    for length in [len(memoryview(element)) for element in masked]:
        elements.append(text[position : position + length])
        between = _BETWEEN.match(walked, position + length)
        position = between.end() if between else len(text)
    return elements


def _decode_masked(text: bytes, checkpoint: Checkpoint) -> tuple[bytes, list[msgspec.Raw]]:
    """Return text of the same length and structure that msgspec accepts, and its elements; both empty if that fails."""
    masked = _mask_surrogates(text)
    try:
        return masked, _decode_elements(masked)
    except msgspec.DecodeError:
        pass
    masked = mask(masked, checkpoint)
    try:
        return masked, _decode_elements(masked)
    except msgspec.DecodeError:
        return b"", []


def is_whole(text: bytes, checkpoint: Checkpoint = no_checkpoint) -> bool:
    """Tell whether a text has the structure of JSON, whether or not its tokens are valid."""
    try:
        _decode_raw(mask(text, checkpoint))
    except msgspec.DecodeError:
        return False
    except RecursionError:
        return True
    return True


def _split_by_hand(text: bytes, opening: bytes, most: int | None, checkpoint: Checkpoint) -> list[bytes]:
    """Return the parts between the commas of the outermost array or object, for a text of any depth."""
    if not text.startswith(opening):
        decode(text)
        raise UnparsableJson(f"The JSON is not an {'array' if opening == b'[' else 'object'}.")
    if not text.endswith((b"]", b"}")):
        raise UnparsableJson("The body is not JSON: it begins with a bracket but does not end with one.")
    commas = [0]
    for position in _outer_commas(text, checkpoint):
        commas.append(position)
        if most is not None and len(commas) > most:
            raise _too_many(most)
    parts = [text[start + 1 : end].strip(WHITESPACE) for start, end in pairwise([*commas, len(text) - 1])]
    if parts == [b""]:
        return []
    if b"" in parts:
        raise UnparsableJson("The body is not JSON: there is nothing before or after a comma.")
    return parts


def _outer_commas(text: bytes, checkpoint: Checkpoint) -> Iterator[int]:
    """Yield the positions of the outermost commas. Raises UnparsableJson unless the last bracket ends the text."""
    closers = bytearray()
    for token in _tokens(text, checkpoint):
        position = token.start()
        first = text[position]
        if first in b"[{":
            closers.append(first + 2)  # in ASCII ] and } come two after [ and {
        elif first in b"]}":
            if closers.pop() != first:
                raise UnparsableJson(f"The body is not JSON: a bracket of the wrong kind at byte {position}.")
            if not closers:
                if position + 1 != len(text):
                    raise UnparsableJson(
                        f"The body is not JSON: there is more text after its end at byte {position + 1}."
                    )
                return
        elif first == ord(","):
            if len(closers) == 1:
                yield position
        elif token.end() == position + 1:
            raise UnparsableJson(f"The body is not JSON: the string at byte {position} does not end.")
    raise UnparsableJson(f"The body is not JSON: it ends with {len(closers)} brackets open.")


def _tokens(text: bytes, checkpoint: Checkpoint) -> Iterator[re.Match[bytes]]:
    tokens = _TOKEN.finditer(text)
    while batch := list(islice(tokens, _TOKENS_BETWEEN_CHECKPOINTS)):
        yield from batch
        checkpoint()


def _check_count(most: int | None, elements: list[Element]) -> list[Element]:
    if most is not None and len(elements) > most:
        raise _too_many(most)
    return elements


def _too_many(most: int) -> TooLarge:
    return TooLarge(f"The body holds more than {most} calls. Send it in several requests.")


def _end_of_value(window: bytes) -> int | None:
    """Return where the JSON value at the start of `window` ends; None if it continues beyond it or is not JSON."""
    text = window.decode("utf-8", "surrogateescape")  # the window may end inside a character
    try:
        end = _SPAN_ONLY.raw_decode(text)[1]
    except json.JSONDecodeError:
        # Perhaps only a token is bad, such as an unknown escape, which does not change where the value ends.
        return _end_of_nesting(window[:_DEEP_WINDOW]) if window.startswith((b"{", b"[")) else None
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
