"""Why a signature does not match: for whoever set up Segment, never for the sender.

Tries what people do by mistake: another of the service's secrets, a secret with something around it, a body that was
changed on the way. The answer names settings and never shows a secret.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from app.core.json_oddities import Checkpoint, no_checkpoint
from app.core.json_text import decode, trim
from app.core.signature import is_signed, parse_digits, signed_texts
from app.errors import UnparsableJson

MAX_BYTES = 64 * 1024
"""Larger bodies are not examined: each guess hashes the body."""

_HEX_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_STRING_OR_SPACE = re.compile(rb'("(?:[^"\\]|\\.)*+")|[ \t\n\r]++', re.DOTALL)

_AROUND = {
    "a line break after it": "{}\n",
    "a line break of Windows after it": "{}\r\n",
    "a space after it": "{} ",
    "a space before it": " {}",
    "double quotes around it": '"{}"',
    "single quotes around it": "'{}'",
    "backquotes around it": "`{}`",
    "a comma after it": "{},",
    "the name of the setting before it": "SEGMENT_SHARED_SECRETS={}",
    "a byte order mark before it": "\ufeff{}",
}


class Guess(NamedTuple):
    """A secret that may have signed, and what it means if it did."""

    secret: str
    sentence: str


def explain_mismatch(
    body: bytes,
    header: str,
    accepted: Sequence[str],
    others: Sequence[tuple[str, str]],
    checkpoint: Checkpoint = no_checkpoint,
) -> str | None:
    """Return why a body's X-Signature matches none of the `accepted` secrets; None if nobody knows.

    `others` are the other secrets of the service, each with the name of its setting. `checkpoint` is called between
    two guesses. The body may be of any size: a large one is not examined.
    """
    expected = parse_digits(header)
    if expected is None:
        if _HEX_SHA256.fullmatch(header.strip()):
            return "X-Signature is a SHA-256: something else than Segment signed it, since Segment signs with SHA-1."
        return None
    if not accepted:
        return "SEGMENT_SHARED_SECRETS is not set here, so no signature can match."
    return None if len(body) > MAX_BYTES else _examine(body, expected, accepted, others, checkpoint)


def _examine(
    body: bytes,
    expected: bytes,
    accepted: Sequence[str],
    others: Sequence[tuple[str, str]],
    checkpoint: Checkpoint,
) -> str | None:
    texts = list(signed_texts(body))
    for guess in _list_guesses(accepted, others):
        checkpoint()
        if any(is_signed(text, expected, (guess.secret,)) for text in texts):
            return guess.sentence
    for changed, how in _restore(body):
        checkpoint()
        if any(is_signed(text, expected, accepted) for text in signed_texts(changed)):
            return (
                f"The secret is right, and the body was changed on the way: {how}. Let whatever is between Segment and"
                " this service pass bodies on byte for byte."
            )
    return None


def _list_guesses(accepted: Sequence[str], others: Sequence[tuple[str, str]]) -> Iterator[Guess]:
    again = "Paste the secret of step 2 into Segment again, alone."
    for number, secret in enumerate(accepted, 1):
        for what, form in _AROUND.items():
            sentence = f"It was signed with shared secret {number} and {what}. {again}"
            yield Guess(form.format(secret), sentence)
        if (bare := secret.strip("\"'` ,")) != secret:
            yield Guess(
                bare,
                f"It was signed with shared secret {number} without the quotes that are around it here: remove them in"
                " SEGMENT_SHARED_SECRETS, and restart.",
            )
    if len(accepted) > 1:
        for separator in (",", ", "):
            what = "all of SEGMENT_SHARED_SECRETS as one secret. Paste a single one of them into Segment."
            yield Guess(separator.join(accepted), f"It was signed with {what}")
    for name, secret in others:
        sentence = f"It was signed with a value of {name}. Paste the shared secret of step 2 into Segment instead."
        if name == "ADMIN_TOKEN":
            sentence += " The admin token has left this service with that: set another one."
        yield Guess(secret, sentence)
        yield from (Guess(form.format(secret), sentence) for form in _AROUND.values())


def _restore(body: bytes) -> Iterator[tuple[bytes, str]]:
    """Yield what the body may have been before a program on the way read it and wrote it anew."""
    text = trim(body)
    try:
        document = decode(text)
    except UnparsableJson:
        return
    spaces = "white space was added or removed"
    yield text, spaces
    # Valid JSON: each string ends, so that this is linear.
    yield _STRING_OR_SPACE.sub(lambda match: match[1] or b"", text), spaces
    written = "it was read as JSON and written in another way"
    try:
        for ascii_only in (False, True):
            for separators in ((",", ":"), (", ", ": ")):
                for value in (_as_in_javascript(document), document):
                    yield json.dumps(value, ensure_ascii=ascii_only, separators=separators).encode(), written
    except (UnicodeEncodeError, ValueError):
        # Half of a surrogate pair, or an infinite number: it was written otherwise.
        pass
    try:
        yield text.decode().encode("latin-1"), "it was read as Latin-1 and written as UTF-8"
    except UnicodeError:
        return


def _as_in_javascript(value: Any) -> Any:
    """Return a document whose whole numbers are integers, as JSON.stringify writes them."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _as_in_javascript(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_as_in_javascript(inner) for inner in value]
    return value
