"""From one call to its outcome: choose a transform, apply it, check the event. Pure, and the only way to do it.

Webhook, `show`, `preview` and `replay` all call `run`, so what a preview says is what production does. Whether a
mapped call is new, a duplicate or a conflict only the database can say: that part is in `app/store/settle.py`.
"""

from hashlib import blake2b
from typing import Any

import msgspec

from app.core.lotus import DIGEST_BYTES, LotusEvent
from app.core.outcome import Outcome, Reason
from app.core.segment import Call, parse_call
from app.core.transform import Transform, TransformSet
from app.errors import CallRejected, EventInvalid, ExpressionFailed

MAIN_LANE = "main"

# https://segment.com/docs/connections/spec/ and `delete`, which Segment's own destinations also get.
_SEGMENT_TYPES = frozenset({"track", "identify", "page", "screen", "group", "alias", "delete"})


class Lane(msgspec.Struct, frozen=True, gc=False):
    """The events that one transform made of one call; a call makes the events of a lane once, for ever."""

    name: str
    transform: str
    digest: bytes
    events: tuple[LotusEvent, ...]
    content: bytes
    """Digest over the contents of its events, in order."""


class Run(msgspec.Struct, frozen=True, gc=False):
    """What became of a call before the database was asked. `outcome` None: mapped, its lanes want to be stored."""

    outcome: Outcome | None
    reason: Reason | None
    detail: str | None
    """One sentence on why, for people. Names fields, never values."""
    call: Call | None
    """None where the call could not be read."""
    transform: str | None
    digest: bytes | None
    lanes: tuple[Lane, ...]


class Step(msgspec.Struct, frozen=True):
    """One step of a run, for people."""

    name: str
    passed: bool
    sentence: str


def run(raw: bytes, document: Any, transforms: TransformSet) -> Run:
    """Take one call as far as it goes without a database. `document` is the decoded `raw`. Never raises."""
    try:
        call = parse_call(raw, document)
    except CallRejected as error:
        return Run(Outcome.REJECTED, Reason(error.reason), error.message, None, None, None, ())
    transform = transforms.choose(call)
    if transform is None:
        if call.type not in _SEGMENT_TYPES:
            sentence = f"calls of type {call.type!r} are not part of Segment's spec"
            return Run(Outcome.IGNORED, Reason.UNSUPPORTED_TYPE, sentence, call, None, None, ())
        named = f" {call.event!r}" if call.event else ""
        sentence = f"no transform takes the {call.type} call{named}"
        return Run(Outcome.IGNORED, Reason.NO_TRANSFORM, sentence, call, None, None, ())
    try:
        lane = map_call(call, transform)
    except ExpressionFailed as error:
        return _rejected(Reason.TRANSFORM_ERROR, error.message, call, transform)
    except EventInvalid as error:
        return _rejected(Reason.EVENT_INVALID, error.message, call, transform)
    return Run(None, None, None, call, transform.name, transform.digest, (lane,))


def map_call(call: Call, transform: Transform) -> Lane:
    """Make the events of `call` by one transform.

    Raises:
        ExpressionFailed, EventInvalid: why there is no event.

    """
    events = transform.apply(call)
    if len(events) == 1:
        content = events[0].content
    else:
        content = blake2b(b"".join(event.content for event in events), digest_size=DIGEST_BYTES).digest()
    return Lane(MAIN_LANE, transform.name, transform.digest, events, content)


def explain(done: Run) -> list[Step]:
    """Tell a run as the steps it took, the last one being where it stopped."""
    if done.call is None:
        return [Step("parsed", passed=False, sentence=done.detail or "")]
    call = done.call
    named = f", event {call.event!r}" if call.event else ""
    steps = [Step("parsed", passed=True, sentence=f"a {call.type} call{named}")]
    if done.transform is None:
        return [*steps, Step("transform", passed=False, sentence=done.detail or "")]
    version = done.digest.hex()[:12] if done.digest else ""
    steps.append(Step("transform", passed=True, sentence=f"{done.transform} at version {version}"))
    if done.reason is Reason.TRANSFORM_ERROR:
        return [*steps, Step("mapped", passed=False, sentence=done.detail or "")]
    steps.append(Step("mapped", passed=True, sentence="every expression gave a value"))
    if done.reason is Reason.EVENT_INVALID:
        return [*steps, Step("checked", passed=False, sentence=done.detail or "")]
    return [*steps, Step("checked", passed=True, sentence="the event keeps Lotus's rules")]


def _rejected(reason: Reason, detail: str, call: Call, transform: Transform) -> Run:
    return Run(Outcome.REJECTED, reason, detail, call, transform.name, transform.digest, ())
