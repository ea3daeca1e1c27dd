"""How a call went wrong, without what differs from call to call: what makes a thousand failures one problem.

What tells the ways apart is the transform, its version, the reason, and the sentence without its values: quoted values
and numbers go, paths stay.
"""

import re
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from app.core.outcome import Reason
from app.core.transform.schema import FIELDS

KEY_DIGITS = 16

_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"

_IN_BACKQUOTES = re.compile(r"(`[^`]*`)")
# As Python writes text: 'it' or "it's". An apostrophe inside a word begins nothing.
_QUOTED = re.compile(r"""(?<!\w)'(?:[^'\\]|\\.)*'(?!\w)|"(?:[^"\\]|\\.)*\"""")
_INDEX = re.compile(r"\[\d+\]")
# A limit, or the place of an argument, is the same for all calls, and says what is wrong.
_NUMBER = re.compile(r"(?<![\w,.])(?<!argument )(?<!at most )(?<!than )(?<!from )(?<!to )-?\d[\d,]*(?:\.\d+)?\b")
_STEP = re.compile(r"(?<=\.)\d+(?=\.|$)")
_OF_SCHEMA = re.compile(r"(.+?) breaks input_schema: (.*)", re.DOTALL)
_REQUIRED = re.compile(r"`(.+)` is required")
_OF_TRANSFORM = re.compile(r"((?:event|when|each)\b.*?): ")
_OF_EVENT = re.compile(rf"(?:a key of )?((?:{'|'.join(FIELDS)})\b.*?)(?=: | is | has | holds | nest)")
_THE_CALL = "the call"


class Way(NamedTuple):
    """How calls go wrong, without what differs from call to call."""

    path: str
    """Where: in the call, in the event or in the transform; "" where the sentence names no place."""
    sentence: str


def problem_key(
    outcome: str, reason: str | None, transform: str | None, digest: bytes | None, detail: str | None
) -> str:
    """Return what names the problem of a call: the same 16 hexadecimal digits for all that go wrong in one way.

    `detail` is the sentence that the call was told, `digest` the version of the transform that decided.
    """
    parts = (
        outcome,
        reason or "",
        transform or "",
        digest.hex() if digest is not None else "",
        *parse_way(reason, detail),
    )
    # No part holds a NUL: it is no text for a database.
    return blake2b("\0".join(parts).encode(errors="surrogatepass"), digest_size=KEY_DIGITS // 2).hexdigest()


@lru_cache(maxsize=4096)
def parse_way(reason: str | None, detail: str | None) -> Way:
    """Read how a call went wrong from the reason and the sentence that it was told.

    What differs from call to call gives way to `...` or, as an index of an array, to `*`; paths stay.
    """
    if reason == Reason.CONFLICT:
        return Way("idempotency_id", "an event with this id is already there, with other content")
    if not detail:
        return Way("", "")
    if reason == Reason.INPUT_SCHEMA and (match := _OF_SCHEMA.fullmatch(detail)):
        # The rule is quoted from the schema: its numbers are the same for all calls.
        path = _STEP.sub("*", match[1])
        required = _REQUIRED.fullmatch(match[2])
        here = "" if path == _THE_CALL else path
        whole = f"{here}.{required[1]}".lstrip(".") if required else here
        return Way(whole, f"{path} breaks input_schema: {match[2]}")
    sentence = _without_values(detail)
    place = None
    if reason == Reason.TRANSFORM_ERROR:
        place = _OF_TRANSFORM.match(sentence)
    elif reason == Reason.EVENT_INVALID:
        place = _OF_EVENT.match(sentence)
    if place is not None:
        return Way(place[1], sentence)
    quoted = _IN_BACKQUOTES.search(sentence)
    return Way(quoted[1].strip("`") if quoted else "", sentence)


def _without_values(text: str) -> str:
    parts = _IN_BACKQUOTES.split(text)
    for at, part in enumerate(parts):
        plain = part if at % 2 else _QUOTED.sub(_ELLIPSIS, part)
        plain = _INDEX.sub("[*]", plain)
        parts[at] = plain if at % 2 else _NUMBER.sub(_ELLIPSIS, plain)
    return "".join(parts)
