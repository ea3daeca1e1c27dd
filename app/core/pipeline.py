"""From one call to its outcome: choose a transform, apply it, check the event. Pure, and the only way to do it.

Webhook, `show`, `preview` and `replay` all call `run`, so what a preview says is what production does. Whether a
mapped call is new, a duplicate or a conflict only the database can say: that part is in `app/store/settle.py`.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import msgspec

from app.core import native
from app.core.fault import Fault
from app.core.lotus import DIGEST_BYTES, LotusEvent, former_content
from app.core.native import NativeEvent, check_event
from app.core.outcome import Outcome, Reason
from app.core.segment import Call, parse_call
from app.core.text import short
from app.core.transform.transform import MAIN_LANE, Filtered, Transform, TransformSet
from app.errors import CallFailed, CallRejected, EventInvalid

__all__ = ["MAIN_LANE", "Lane", "PipelineStep", "Run", "equals_content", "explain", "map_call", "run"]

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
    """The result for a call without the database. `outcome` None: it was mapped, and its lanes are to be stored."""

    outcome: Outcome | None
    reason: Reason | None
    detail: str | None
    """One sentence on why, for people. Names fields, never values."""
    call: Call | None
    """None where the call could not be read."""
    transform: str | None
    digest: bytes | None
    lanes: tuple[Lane, ...]
    left_out: tuple[str, ...] = ()
    """Why some transforms that take this call made no events of it, where others did."""
    fault: Fault | None = None
    """What calls that end like this one have in common; None where there is no outcome."""

    @classmethod
    def ended(
        cls,
        outcome: Outcome,
        reason: Reason,
        detail: str,
        *,
        fault: Fault | None = None,
        call: Call | None = None,
        transform: str | None = None,
        digest: bytes | None = None,
    ) -> "Run":
        """Return the run of a call that makes no events; `fault` None: its sentence is `detail`, and it has no path."""
        return cls(outcome, reason, detail, call, transform, digest, (), (), fault or Fault("", detail))

    @classmethod
    def rejected(
        cls, error: CallFailed, *, call: Call | None = None, transform: str | None = None, digest: bytes | None = None
    ) -> "Run":
        """Return the run of a call that `error` rejects."""
        fault = Fault(error.path, error.kind)
        return cls(Outcome.REJECTED, Reason(error.reason), error.message, call, transform, digest, (), (), fault)


class PipelineStep(msgspec.Struct, frozen=True):
    """One step of a run, for people."""

    name: str
    passed: bool
    sentence: str


def run(raw: bytes, document: Any, transforms: TransformSet, received_at: int) -> Run:
    """Process one call as far as that is possible without a database. Never raises.

    `document` is `raw` decoded by `core.arrival` or by ingest; `received_at` is in microseconds since 1970.
    """
    if type(document) is NativeEvent:
        return _run_native(document)
    try:
        call = parse_call(raw, document)
    except CallRejected as error:
        return Run.rejected(error)
    lanes: list[Lane] = []
    stops: list[Run] = []
    for transform in transforms.choose(call).all:
        result = _attempt(call, transform, received_at)
        if type(result) is Lane:
            lanes.append(result)
        elif type(result) is Run:
            stops.append(result)
    stop = _choose_stop(call, stops, lanes)
    if stop is not None:
        return stop
    if lanes:
        left_out = tuple(stop.detail or "" for stop in stops) if stops else ()
        return Run(None, None, None, call, lanes[0].transform, lanes[0].digest, tuple(lanes), left_out)
    return Run.ended(Outcome.IGNORED, *_explain_unmatched(call), call=call)


def _run_native(document: NativeEvent) -> Run:
    try:
        event = check_event(document)
    except CallFailed as error:
        return Run.rejected(error, transform=native.NAME, digest=native.DIGEST)
    lane = Lane(MAIN_LANE, native.NAME, native.DIGEST, (event,), event.content)
    return Run(None, None, None, None, native.NAME, native.DIGEST, (lane,))


def _attempt(call: Call, transform: Transform, received_at: int) -> Lane | Run:
    """Return the events that a transform makes of a call, or the run that ends without any."""
    name, digest = transform.name, transform.digest
    if not transform.enabled:
        return Run.ended(
            Outcome.IGNORED, Reason.DISABLED, f"{name} is disabled", call=call, transform=name, digest=digest
        )
    try:
        return map_call(call, transform, received_at)
    except Filtered as error:
        return Run.ended(Outcome.IGNORED, Reason.FILTERED, str(error), call=call, transform=name, digest=digest)
    except CallFailed as error:
        return Run.rejected(error, call=call, transform=name, digest=digest)


def _choose_stop(call: Call, stops: list[Run], lanes: list[Lane]) -> Run | None:
    """Return why the call ends without events: one bad event rejects it, whatever other transforms made."""
    if stops:
        rejected = next((stop for stop in stops if stop.outcome is Outcome.REJECTED), None)
        if rejected is not None:
            return rejected
    if len(lanes) > 1:
        return _find_twins(call, lanes)
    if stops and not lanes:
        # The reason is that of the first transform; the sentence names all of them.
        detail = "; ".join(stop.detail or "" for stop in stops)
        return msgspec.structs.replace(stops[0], detail=detail, fault=Fault("", detail))
    return None


def _find_twins(call: Call, lanes: list[Lane]) -> Run | None:
    """Reject two lanes that make events of one idempotency id: the second would count as a copy of the first."""
    first: dict[str, Lane] = {}
    for lane in lanes:
        for event in lane.events:
            if (other := first.setdefault(event.idempotency_id, lane)) is not lane:
                sentence = f"idempotency_id is the same for an event of {other.transform} and one of {lane.transform}"
                error = EventInvalid("idempotency_id", sentence)
                return Run.rejected(error, call=call, transform=lane.transform, digest=lane.digest)
    return None


def map_call(call: Call, transform: Transform, received_at: int) -> Lane:
    """Make the events of `call` by one transform.

    Raises:
        Filtered, CallRejected, ExpressionFailed, EventInvalid: why there is no event.

    """
    events = transform.apply(call, received_at)
    content = events[0].content if len(events) == 1 else _lane_content(event.content for event in events)
    name = transform.name if transform.also else MAIN_LANE
    return Lane(name, transform.name, transform.digest, events, content)


def _lane_content(contents: Iterable[bytes]) -> bytes:
    return blake2b(b"".join(contents), digest_size=DIGEST_BYTES).digest()


def equals_content(lane: Lane, content: bytes, position: int | None = None) -> bool:
    """Tell whether a stored digest is that of a lane, or of its event at index `position`.

    Digests stored before equal numbers were treated as equal stay as they are, so where the current digest differs,
    the former one is computed and compared as well.
    """
    if position is not None:
        event = lane.events[position]
        return event.content == content or former_content(event) == content
    if lane.content == content:
        return True
    former = [former_content(event) for event in lane.events]
    return content == (former[0] if len(former) == 1 else _lane_content(former))


def _explain_unmatched(call: Call) -> tuple[Reason, str]:
    if call.type not in _SEGMENT_TYPES:
        return Reason.UNSUPPORTED_TYPE, f"calls of type {call.type[:40]!r} are not part of Segment's spec"
    named = f" {call.event!r}" if call.event else ""
    return Reason.NO_TRANSFORM, f"no transform takes the {call.type} call{named}"


def explain(result: Run) -> list[PipelineStep]:
    """Describe a run as the steps it took; the last one is where it stopped."""
    if result.transform == native.NAME:
        return _explain_native(result)
    if result.call is None:
        return [PipelineStep("parsed", passed=False, sentence=result.detail or "")]
    call = result.call
    named = f", event {call.event!r}" if call.event else ""
    steps = [PipelineStep("parsed", passed=True, sentence=f"a {call.type} call{named}")]
    if result.transform is None:
        return [*steps, PipelineStep("transform", passed=False, sentence=result.detail or "")]
    versions = [(lane.transform, lane.digest) for lane in result.lanes] or [(result.transform, result.digest or b"")]
    chosen = " and ".join(f"{name} at version {short(digest)}" for name, digest in versions)
    steps.append(PipelineStep("transform", passed=True, sentence="; ".join([chosen, *result.left_out])))
    if result.reason in {Reason.DISABLED, Reason.FILTERED, Reason.INPUT_SCHEMA, Reason.TRANSFORM_ERROR}:
        return [*steps, PipelineStep("mapped", passed=False, sentence=result.detail or "")]
    steps.append(PipelineStep("mapped", passed=True, sentence=_mapped_text(result)))
    if result.reason is Reason.EVENT_INVALID:
        return [*steps, PipelineStep("checked", passed=False, sentence=result.detail or "")]
    return [*steps, PipelineStep("checked", passed=True, sentence="it satisfies Lotus's rules")]


def _explain_native(result: Run) -> list[PipelineStep]:
    if result.outcome is not None and result.reason is not Reason.EVENT_INVALID:
        return [PipelineStep("parsed", passed=False, sentence=result.detail or "")]
    steps = [
        PipelineStep("parsed", passed=True, sentence="an event in Lotus's own form"),
        PipelineStep("transform", passed=True, sentence="none: the event is stored as it is"),
    ]
    if result.reason is Reason.EVENT_INVALID:
        return [*steps, PipelineStep("checked", passed=False, sentence=result.detail or "")]
    return [*steps, PipelineStep("checked", passed=True, sentence="it satisfies Lotus's rules")]


def _mapped_text(result: Run) -> str:
    events = sum(len(lane.events) for lane in result.lanes)
    if result.reason is Reason.EVENT_INVALID or events == 1:
        return "every expression was evaluated"
    lanes = f" in {len(result.lanes)} lanes" if len(result.lanes) > 1 else ""
    return f"{events} events were made{lanes}"
