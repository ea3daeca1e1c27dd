"""Damages bytes as networks, proxies and programmers do: bits turn, ends are missing, parts change places."""

import random
import re
from collections.abc import Sequence

from tools.fuzz.grammar import NO_NUMBERS, NO_TEXTS, ODD_NUMBERS, ODD_TEXTS

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null|[\[\]{},:]', re.DOTALL)
_VALUES = (*ODD_NUMBERS, *NO_NUMBERS, *ODD_TEXTS, *NO_TEXTS, b"null", b"[]", b"{}", b"[null]")
_BYTES = (b"\0", b"\xff", b"\xef\xbb\xbf", b"\\", b'"', b"\r\n", b"\xed\xa0\xbd", b"\xc2", b"\x85", b"\xe2\x80\xa8")
_REPEATED_MAX = 4096


def mutate(rng: random.Random, text: bytes, others: Sequence[bytes]) -> bytes:
    """Return `text` with one to four faults. `others`: texts of which parts may be put in."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        text = rng.choice(_KINDS)(rng, text, others)
    return text


def _flip(rng: random.Random, text: bytes, _others: Sequence[bytes]) -> bytes:
    if not text:
        return b"\0"
    place = rng.randrange(len(text))
    return text[:place] + bytes([text[place] ^ (1 << rng.randrange(8))]) + text[place + 1 :]


def _cut(rng: random.Random, text: bytes, _others: Sequence[bytes]) -> bytes:
    first, last = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
    return rng.choice((text[:first], text[last:], text[:first] + text[last:]))


def _insert(rng: random.Random, text: bytes, _others: Sequence[bytes]) -> bytes:
    place = rng.randrange(len(text) + 1)
    return text[:place] + rng.choice(_BYTES) + text[place:]


def _splice(rng: random.Random, text: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    return text[: rng.randrange(len(text) + 1)] + other[rng.randrange(len(other) + 1) :]


def _repeat(rng: random.Random, text: bytes, _others: Sequence[bytes]) -> bytes:
    first, last = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
    part = text[first : min(last, first + _REPEATED_MAX)]
    return text[:first] + part * rng.choice((2, 3, 20)) + text[last:]


def _replace_token(rng: random.Random, text: bytes, others: Sequence[bytes]) -> bytes:
    tokens = list(_TOKEN.finditer(text))
    if not tokens:
        return _splice(rng, text, others)
    token = rng.choice(tokens)
    return text[: token.start()] + rng.choice(_VALUES) + text[token.end() :]


def _swap_tokens(rng: random.Random, text: bytes, others: Sequence[bytes]) -> bytes:
    tokens = list(_TOKEN.finditer(text))
    if not tokens:
        return _cut(rng, text, others)
    first, second = sorted((rng.choice(tokens), rng.choice(tokens)), key=lambda token: token.start())
    if first.end() > second.start():
        return text
    return text[: first.start()] + second[0] + text[first.end() : second.start()] + first[0] + text[second.end() :]


# Those that mostly leave JSON behind come more often: what is no JSON is refused at the door.
_KINDS = (_flip, _cut, _insert, _splice, _repeat, *[_replace_token] * 6, *[_swap_tokens] * 3)
