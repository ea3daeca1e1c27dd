"""Group failed calls into problems: leave out what differs from call to call, so a thousand failures are one problem.

A problem is the transform, its version, the reason, and the sentence without its values: quoted values and numbers are
removed, paths stay.
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
# Not a limit or the position of an argument: those are the same for all calls, and say what is wrong.
_NUMBER = re.compile(r"(?<![\w,.])(?<!argument )(?<!at most )(?<!than )(?<!from )(?<!to )-?\d[\d,]*(?:\.\d+)?\b")
_STEP = re.compile(r"(?<=\.)\d+(?=\.|$)")
_SCHEMA_SENTENCE = re.compile(r"(.+?) breaks input_schema: (.*)", re.DOTALL)
_REQUIRED = re.compile(r"`(.+)` is required")
_TRANSFORM_PLACE = re.compile(r"((?:event|when|each)\b.*?): ")
_EVENT_PLACE = re.compile(rf"(?:a key of )?((?:{'|'.join(FIELDS)})\b.*?)(?=: | is | has | holds | nest)")
_THE_CALL = "the call"


class ProblemKind(NamedTuple):
    """What the calls of one problem have in common."""

    path: str
    """The place in the call, the event or the transform; "" where the sentence names none."""
    sentence: str


def problem_key(
    outcome: str, reason: str | None, transform: str | None, digest: bytes | None, detail: str | None
) -> str:
    """Return the key of a call's problem: the same 16 hexadecimal digits for all calls that fail in the same way.

    `detail` is the call's error sentence, `digest` the version of the transform that rejected it.
    """
    parts = (
        outcome,
        reason or "",
        transform or "",
        digest.hex() if digest is not None else "",
        *parse_problem(reason, detail),
    )
    # No part holds a NUL: it is no text for a database.
    return blake2b("\0".join(parts).encode(errors="surrogatepass"), digest_size=KEY_DIGITS // 2).hexdigest()


@lru_cache(maxsize=4096)
def parse_problem(reason: str | None, detail: str | None) -> ProblemKind:
    """Derive the kind of problem from a call's reason and error sentence.

    What differs from call to call is replaced by an ellipsis, or by `*` where it is an array index; paths stay.
    """
    if reason == Reason.CONFLICT:
        return ProblemKind("idempotency_id", "an event with this id is already there, with other content")
    if not detail:
        return ProblemKind("", "")
    if reason == Reason.INPUT_SCHEMA and (match := _SCHEMA_SENTENCE.fullmatch(detail)):
        # The rule is quoted from the schema: its numbers are the same for all calls.
        path = _STEP.sub("*", match[1])
        required = _REQUIRED.fullmatch(match[2])
        here = "" if path == _THE_CALL else path
        whole = f"{here}.{required[1]}".lstrip(".") if required else here
        return ProblemKind(whole, f"{path} breaks input_schema: {match[2]}")
    sentence = _without_values(detail)
    place = None
    if reason == Reason.TRANSFORM_ERROR:
        place = _TRANSFORM_PLACE.match(sentence)
    elif reason == Reason.EVENT_INVALID:
        place = _EVENT_PLACE.match(sentence)
    if place is not None:
        return ProblemKind(place[1], sentence)
    quoted = _IN_BACKQUOTES.search(sentence)
    return ProblemKind(quoted[1].strip("`") if quoted else "", sentence)


def _without_values(text: str) -> str:
    parts = _IN_BACKQUOTES.split(text)
    for at, part in enumerate(parts):
        plain = part if at % 2 else _QUOTED.sub(_ELLIPSIS, part)
        plain = _INDEX.sub("[*]", plain)
        parts[at] = plain if at % 2 else _NUMBER.sub(_ELLIPSIS, plain)
    return "".join(parts)
