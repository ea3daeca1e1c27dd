"""Verify that a body really comes from Segment.

Segment signs `JSON.stringify(data)` with HMAC-SHA1 and sends it as `X-Signature`, lower-case hex. For one call, `data`
is the body; for an array it is only the first element, and for the Extensible Webhook that element's inner `json`
(https://segment.com/docs/connections/destinations/catalog/actions-webhook/ names the algorithm, and the captured
requests in tests/fixtures/requests show all three forms).
"""

import hmac
import re
from collections.abc import Sequence
from enum import StrEnum

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


def verify(raw: bytes, header: str, secrets: Sequence[str]) -> Coverage:
    """Check an `X-Signature` header against the bytes of an inflated body, with any of the secrets.

    Returns WHOLE when the signature covers all calls in the body: the body itself, or the only element of an array;
    FIRST_CALL when an array has more elements than the signed one. Upper-case hex and white space around the header
    are accepted.

    Raises SignatureMismatch when no secret matches or there are none, and for a header that is not 40 hex digits.
    """
    digits = header.strip()
    if _HEX_SHA1.fullmatch(digits) is None:
        raise SignatureMismatch("X-Signature is not a HMAC-SHA1 in hex: 40 digits from 0 to f.")
    expected = bytes.fromhex(digits)
    # A single call has no elements.
    first = None if raw.startswith(b"{") else first_element(raw)
    if first is not None:  # first, since the whole body may be a thousand times as long
        inner = _inner_json(first)
        if _is_signed(first, expected, secrets) or (inner is not None and _is_signed(inner, expected, secrets)):
            return Coverage.WHOLE if _is_only_element(raw, first) else Coverage.FIRST_CALL
    if _is_signed(raw, expected, secrets):
        return Coverage.WHOLE
    raise SignatureMismatch


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


def _is_signed(body: bytes, expected: bytes, secrets: Sequence[str]) -> bool:
    """Try all secrets, even after a match, so that the time taken does not reveal which one matches."""
    matches = False
    for secret in secrets:
        matches |= hmac.compare_digest(_digest(body, secret), expected)
    return matches


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
