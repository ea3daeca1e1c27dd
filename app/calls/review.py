"""Stored calls, events and refusals as documents, for the JSON API and the command line.

Ids are text: they are larger than the integers JavaScript can hold. Times are RFC 3339, digests hex.
"""

import base64
from typing import Any

import msgspec

from app.calls.steps import TimedStep
from app.core.json_text import decode
from app.core.times import format_time
from app.errors import UnparsableJson
from app.store.amendments import EventOrigin, FieldChange
from app.store.history import OutcomeChange
from app.store.refusals import Refusal
from app.store.review import CallRow, StoredResult, WholeCall
from app.store.review_events import EventRow
from app.store.voids import VoidAuthor


class CallDocument(msgspec.Struct, kw_only=True):
    """One call, as a list shows it."""

    id: str
    received_at: str
    route: str
    outcome: str
    reason: str | None
    detail: str | None
    type: str | None
    event: str | None
    message_id: str | None
    customer_id: str | None
    transform: str | None
    transform_digest: str | None
    problem: str | None
    """Identifies the way it fails, for `replay --problem`; None if it made its events, or another call did."""
    idempotency_ids: tuple[str, ...]


class OriginDocument(msgspec.Struct, kw_only=True):
    """The event that an event stands for since a correction: who put it there, when, why, and what differs."""

    idempotency_id: str
    correction_id: str
    kind: str
    author: str
    reason: str
    at: str
    changes: list[FieldChange]


class EventDocument(msgspec.Struct, kw_only=True):
    """One event: its fields for Lotus, and its origin."""

    id: str
    event_name: str
    idempotency_id: str
    customer_id: str
    time_created: str
    properties: msgspec.Raw
    call_id: str
    lane: str
    position: int
    content: str
    transform: str
    transform_digest: str
    voided_at: str | None
    voided_by: str | None
    void_reason: str | None
    void_author: str | None
    """Who made it void, if a person did."""
    correction_id: str | None
    """The correction that did."""
    replaces: OriginDocument | None
    """The event that it stands for, if a correction put it there."""


class ResultDocument(msgspec.Struct, kw_only=True):
    """The result of one event of a call."""

    lane: str
    position: int
    idempotency_id: str
    result: str
    rival_call_id: str | None
    event: msgspec.Raw | None


class OtherCall(msgspec.Struct, kw_only=True):
    """Another call with the same message id."""

    id: str
    received_at: str
    outcome: str
    reason: str | None


class ChangeDocument(msgspec.Struct, kw_only=True):
    """What a replay changed about a call: when, and by which version."""

    at: str
    replay: str
    before: str
    before_reason: str | None
    before_digest: str | None
    now: str
    now_reason: str | None
    now_digest: str | None


class StepDocument(msgspec.Struct, kw_only=True):
    """One step of a call to its outcome."""

    name: str
    passed: bool
    sentence: str
    at: str | None
    """When it ended; None if that was not stored."""


class WholeCallDocument(CallDocument, kw_only=True):
    """One call with everything stored about it."""

    raw: str | None
    """Its bytes as text; None if they are not UTF-8 (then `raw_base64` is set) or removed (then both are None)."""
    raw_base64: str | None
    verified_at: str | None
    steps: list[StepDocument]
    events: list[EventDocument]
    results: list[ResultDocument]
    auth: str | None
    shape: str | None
    envelope: msgspec.Raw | None
    same_message: list[OtherCall]
    history: list[ChangeDocument]


class RefusalDocument(msgspec.Struct, kw_only=True):
    """One request that was refused as a whole."""

    id: str
    received_at: str
    code: str
    message: str
    method: str
    path: str
    headers: msgspec.Raw
    body_start: str
    """Its first 2 kB; bytes that are not UTF-8 are written as \\xff."""
    client: str | None
    """The address that it came from."""
    sender: str | None
    """Who sent it, as far as can be told: segment, sdk, machine, authentic or stranger."""
    diagnosis: str | None
    """Why its signature does not match, where that is known."""


def to_call_document(row: CallRow) -> CallDocument:
    """Return a call as a list shows it."""
    return CallDocument(**_call_members(row))


def to_whole_document(whole: WholeCall, steps: list[TimedStep]) -> WholeCallDocument:
    """Return everything about a call; `steps` are those of `list_steps`."""
    raw, raw_base64 = _to_text(whole.raw)
    return WholeCallDocument(
        **_call_members(whole.call),
        raw=raw,
        raw_base64=raw_base64,
        verified_at=_to_time(whole.verified_at),
        steps=[
            StepDocument(name=step.name, passed=step.passed, sentence=step.sentence, at=_to_time(step.at))
            for step in steps
        ],
        events=[
            to_event_document(event, whole.void_authors.get(event.id), whole.origins.get(event.id))
            for event in whole.events
        ],
        results=[_to_result_document(result) for result in whole.call.results],
        auth=whole.auth,
        shape=whole.shape,
        envelope=_to_json(whole.envelope) if whole.envelope else None,
        same_message=[
            OtherCall(
                id=str(call.id), received_at=format_time(call.received_at), outcome=call.outcome, reason=call.reason
            )
            for call in whole.same_message
        ],
        history=[_to_change_document(change) for change in whole.changes],
    )


def _to_json(envelope: bytes) -> msgspec.Raw:
    """Return the envelope of a batch as received, or as one JSON string if it is not valid JSON."""
    try:
        decode(envelope)
    except UnparsableJson:
        return msgspec.Raw(msgspec.json.encode(envelope.decode(errors="backslashreplace")))
    return msgspec.Raw(envelope)


def _to_time(micros: int | None) -> str | None:
    return None if micros is None else format_time(micros)


def _to_change_document(change: OutcomeChange) -> ChangeDocument:
    return ChangeDocument(
        at=format_time(change.changed_at),
        replay=str(change.replay_id),
        before=change.from_outcome,
        before_reason=change.from_reason,
        before_digest=change.from_digest.hex() if change.from_digest else None,
        now=change.to_outcome,
        now_reason=change.to_reason,
        now_digest=change.to_digest.hex() if change.to_digest else None,
    )


def to_event_document(
    row: EventRow, author: VoidAuthor | None = None, origin: EventOrigin | None = None
) -> EventDocument:
    """Return one event; `author` made it void, and `origin` says which event it stands for."""
    return EventDocument(
        id=str(row.id),
        event_name=row.event_name,
        idempotency_id=row.idempotency_id,
        customer_id=row.customer_id,
        time_created=format_time(row.time_created),
        properties=msgspec.Raw(row.properties.encode()),
        call_id=str(row.call_id),
        lane=row.lane,
        position=row.position,
        content=row.content.hex(),
        transform=row.transform,
        transform_digest=row.transform_digest.hex(),
        voided_at=_to_time(row.voided_at),
        voided_by=row.voided_by.hex() if row.voided_by else None,
        void_reason=row.void_reason,
        void_author=author.author if author else None,
        correction_id=str(author.correction_id) if author else None,
        replaces=_to_origin_document(origin, row) if origin else None,
    )


def _to_origin_document(origin: EventOrigin, row: EventRow) -> OriginDocument:
    return OriginDocument(
        idempotency_id=origin.replaced.idempotency_id,
        correction_id=str(origin.correction_id),
        kind=origin.kind,
        author=origin.author,
        reason=origin.reason,
        at=format_time(origin.at),
        changes=origin.list_changes(row),
    )


def to_refusal_document(refusal: Refusal) -> RefusalDocument:
    """Return one refused request."""
    return RefusalDocument(
        id=str(refusal.id),
        received_at=format_time(refusal.received_at),
        code=refusal.code,
        message=refusal.message,
        method=refusal.method,
        path=refusal.path,
        headers=msgspec.Raw(refusal.headers.encode()),
        body_start=refusal.body_start.decode(errors="backslashreplace"),
        client=refusal.client,
        sender=refusal.sender,
        diagnosis=refusal.diagnosis,
    )


def _call_members(row: CallRow) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "received_at": format_time(row.received_at),
        "route": row.route,
        "outcome": row.outcome.value,
        "reason": row.reason,
        "detail": row.detail,
        "type": row.type,
        "event": row.event,
        "message_id": row.message_id,
        "customer_id": row.customer_id,
        "transform": row.transform,
        "transform_digest": row.transform_digest.hex() if row.transform_digest else None,
        "problem": row.fault.hex() if row.fault is not None else None,
        "idempotency_ids": row.idempotency_ids,
    }


def _to_result_document(result: StoredResult) -> ResultDocument:
    return ResultDocument(
        lane=result.lane,
        position=result.position,
        idempotency_id=result.idempotency_id,
        result=result.result.value,
        rival_call_id=None if result.rival is None else str(result.rival),
        event=None if result.event is msgspec.UNSET else result.event,
    )


def _to_text(raw: bytes | None) -> tuple[str | None, str | None]:
    """Return bytes as (text, None), or as (None, base64) if they are not UTF-8."""
    if raw is None:
        return None, None
    try:
        return raw.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(raw).decode()
