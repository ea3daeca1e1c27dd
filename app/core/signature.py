"""Verify that a body really comes from Segment.

Segment signs `JSON.stringify(data)` with HMAC-SHA1 and sends it as `X-Signature`, lower-case hex. For one call, `data`
is the body; for an array it is only the first element, and for the Extensible Webhook that element's inner `json`
(https://segment.com/docs/connections/destinations/catalog/actions-webhook/ names the algorithm, and the captured
requests in tests/fixtures/requests show all three forms).
"""

import hmac
import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from app.core.json_spans import first_element
from app.core.json_text import WHITESPACE, trim
from app.errors import SignatureMismatch

_HEX_SHA1 = re.compile(r"[0-9a-fA-F]{40}")
_INNER_JSON = re.compile(rb'\{[ \t\n\r]*"json"[ \t\n\r]*:[ \t\n\r]*')


class Coverage(StrEnum):
    """How much of a body its signature covers."""

    WHOLE = "whole"
    FIRST_CALL = "first_call"


def sign(body: bytes, secret: str) -> str:
    """Return the `X-Signature` of a body: lower-case hex HMAC-SHA1, no prefix, keyed with the secret as UTF-8."""
    return _digest(body, secret).hex()


class Proof(NamedTuple):
    """What a valid signature proves."""

    coverage: Coverage
    secret: int
    """The place of the secret that signed, from 0."""


def verify(raw: bytes, header: str, secrets: Sequence[str]) -> Coverage:
    """Return how much of a body its signature covers; as `prove` does."""
    return prove(raw, header, secrets).coverage


def prove(raw: bytes, header: str, secrets: Sequence[str]) -> Proof:
    """Check an `X-Signature` header against the bytes of an inflated body, with any of the secrets.

    It covers the WHOLE body if it was made over the body itself, or over the only element of an array; the FIRST_CALL
    if an array has more elements than the signed one. Upper-case hex and white space around the header are accepted.

    Raises SignatureMismatch when no secret matches or there are none, and for a header that is not 40 hex digits.
    """
    expected = parse_digits(header)
    if expected is None:
        raise SignatureMismatch("X-Signature is not a HMAC-SHA1 in hex: 40 digits from 0 to f.")
    # A single call has no elements.
    first = None if raw.startswith(b"{") else first_element(raw)
    if first is not None:  # first, since the whole body may be a thousand times as long
        secret = _find_signer(first, expected, secrets)
        if secret is None and (inner := _inner_json(first)) is not None:
            secret = _find_signer(inner, expected, secrets)
        if secret is not None:
            return Proof(Coverage.WHOLE if _is_only_element(raw, first) else Coverage.FIRST_CALL, secret)
    secret = _find_signer(raw, expected, secrets)
    if secret is None:
        raise SignatureMismatch
    return Proof(Coverage.WHOLE, secret)


def parse_digits(header: str) -> bytes | None:
    """Return the signature in an `X-Signature` header; None if it is not 40 hex digits."""
    digits = header.strip()
    return bytes.fromhex(digits) if _HEX_SHA1.fullmatch(digits) else None


def signed_texts(raw: bytes) -> Iterator[bytes]:
    """Yield every text of a body that a signature may be made over."""
    first = None if raw.startswith(b"{") else first_element(raw)
    if first is not None:
        yield first
        if (inner := _inner_json(first)) is not None:
            yield inner
    yield raw


def is_signed(body: bytes, expected: bytes, secrets: Sequence[str]) -> bool:
    """Tell whether one of the secrets made this signature over these bytes."""
    return _find_signer(body, expected, secrets) is not None


def matches_any(candidate: str, secrets: Sequence[str]) -> bool:
    """Tell whether `candidate` is one of `secrets`. The time taken reveals only their lengths, not which one matches.

    Lone surrogates are compared as well.
    """
    encoded = candidate.encode("utf-8", "surrogatepass")
    matches = False
    for secret in secrets:
        matches |= hmac.compare_digest(encoded, secret.encode("utf-8", "surrogatepass"))
    return matches


def _digest(body: bytes, secret: str) -> bytes:
    return hmac.digest(secret.encode("utf-8", "surrogatepass"), body, "sha1")


def _find_signer(body: bytes, expected: bytes, secrets: Sequence[str]) -> int | None:
    """Try all secrets, even after a match, so that the time taken does not reveal which one matches."""
    signer = None
    for number, secret in enumerate(secrets):
        if hmac.compare_digest(_digest(body, secret), expected):
            signer = number
    return signer


def _inner_json(element: bytes) -> bytes | None:
    """Return the text between `{"json":` and the last bracket; None if the element is not wrapped like that.

    Whether it is one JSON value is not checked: Segment signs nothing else, so other text never matches.
    """
    opening = _INNER_JSON.match(element)
    if opening is None or not element.endswith(b"}"):
        return None
    return element[opening.end() : -1].strip(WHITESPACE)


def _is_only_element(raw: bytes, first: bytes) -> bool:
    text = trim(raw)
    return text.endswith(b"]") and text[1:-1].strip(WHITESPACE) == first
