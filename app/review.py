"""What is told of a stored call, event or refusal: one form for the JSON API and for the command line.

Ids are text: they are larger than what JavaScript can hold as a number. Times are RFC 3339, digests hex.
"""

import base64
from collections import Counter
from typing import Any

import msgspec

from app.catalog.live import Catalog
from app.core.outcome import Outcome, Reason
from app.core.pipeline import Run, Step, explain, run
from app.core.segment import read
from app.core.times import format_time
from app.core.transform import TransformSet
from app.store.calls import to_detail
from app.store.deliveries import State
from app.store.delivery_list import count_events, count_states
from app.store.engine import Connection, Database
from app.store.history import OutcomeChange
from app.store.ledger import CALL, DELIVERY, EVENT, MINUTE, VOIDED, sum_counts
from app.store.refusals import Refusal
from app.store.review import CallRow, StoredResult, WholeCall
from app.store.review_events import EventRow
from app.store.review_ledger import audit_ledger


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
    idempotency_ids: tuple[str, ...]


class EventDocument(msgspec.Struct, kw_only=True):
    """One event: what Lotus gets, and where it comes from."""

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


class ResultDocument(msgspec.Struct, kw_only=True):
    """What became of one event of a call."""

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


class WholeCallDocument(CallDocument, kw_only=True):
    """One call with everything that is known of it."""

    raw: str | None
    """Its bytes as text; None where they are not UTF-8 (then `raw_base64`) or gone (then both are None)."""
    raw_base64: str | None
    steps: list[Step]
    events: list[EventDocument]
    results: list[ResultDocument]
    auth: str | None
    shape: str | None
    envelope: msgspec.Raw | None
    same_message: list[OtherCall]
    history: list[ChangeDocument]


class RefusalDocument(msgspec.Struct, kw_only=True):
    """One request that was turned away as a whole."""

    id: str
    received_at: str
    code: str
    message: str
    method: str
    path: str
    headers: msgspec.Raw
    body_start: str
    """Its first 2 kB; bytes that are no UTF-8 are written as \\xff."""


class LedgerDocument(msgspec.Struct, kw_only=True):
    """The ledger: received = stored + duplicate + conflict + ignored + rejected."""

    calls: dict[str, Any]
    events: dict[str, int]
    deliveries: dict[str, int]
    """stored events = delivered + waiting + failed + unforwardable + voided (before they were sent) + not_requested."""
    since: str | None
    until: str | None
    balances: bool | None
    """Whether there are as many calls, events and deliveries as it counts.

    None for a part of time: it has the minute of a call's commit.
    """


def to_call_document(row: CallRow) -> CallDocument:
    """Return what a list shows of a call."""
    return CallDocument(**_call_members(row))


def to_whole_document(whole: WholeCall, steps: list[Step]) -> WholeCallDocument:
    """Return everything about a call; `steps` as `tell_steps` gives them."""
    raw, raw_base64 = _to_text(whole.raw)
    return WholeCallDocument(
        **_call_members(whole.call),
        raw=raw,
        raw_base64=raw_base64,
        steps=steps,
        events=[to_event_document(event) for event in whole.events],
        results=[_to_result_document(result) for result in whole.call.results],
        auth=whole.auth,
        shape=whole.shape,
        envelope=msgspec.Raw(whole.envelope) if whole.envelope else None,
        same_message=[
            OtherCall(id=str(one.id), received_at=format_time(one.received_at), outcome=one.outcome, reason=one.reason)
            for one in whole.same_message
        ],
        history=[_to_change_document(change) for change in whole.changes],
    )


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


def to_event_document(row: EventRow) -> EventDocument:
    """Return one event."""
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
        voided_at=None if row.voided_at is None else format_time(row.voided_at),
        voided_by=row.voided_by.hex() if row.voided_by else None,
        void_reason=row.void_reason,
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
    )


def read_ledger(database: Database, since: int | None = None, until: int | None = None) -> LedgerDocument:
    """Read the ledger of [since, until), cut to the minute; of all time, also hold it against the calls."""
    received: int | None = None
    with database.reading() as conn:
        if since is None and until is None:
            counts, received = audit_ledger(conn)
            in_tables = (count_events(conn), count_states(conn))
        else:
            counts = sum_counts(conn, since, until)
            in_tables = None
    by_outcome = dict.fromkeys(Outcome, 0)
    by_reason: dict[str, int] = {}
    events: dict[str, int] = {"stored": 0, "duplicate": 0, "conflict": 0, VOIDED: 0}
    for (subject, outcome, reason), count in sorted(counts.items()):
        if subject == EVENT:
            events[outcome] += count
        elif subject == CALL:
            by_outcome[Outcome(outcome)] += count
            if reason and count:
                by_reason[reason] = count
    states = {state.value: counts[DELIVERY, state.value, ""] for state in State}
    deliveries = {**states, "not_requested": events["stored"] - sum(states.values())}
    counted = sum(by_outcome.values())
    balances = None
    if received is not None and in_tables is not None:
        balances = (received, *in_tables) == (counted, events["stored"], +Counter(states))
    calls: dict[str, Any] = {outcome.value: count for outcome, count in by_outcome.items()}
    return LedgerDocument(
        calls={"received": counted if received is None else received, **calls, "by_reason": by_reason},
        events=events,
        deliveries=deliveries,
        since=None if since is None else format_time(since // MINUTE * MINUTE),
        until=None if until is None else format_time(until // MINUTE * MINUTE),
        balances=balances,
    )


def tell_steps(conn: Connection, catalog: Catalog, whole: WholeCall) -> list[Step]:
    """Tell how a call came to its outcome: the pipeline again, by the version that was used, then the database's word.

    The pipeline is the one that ran when the call came, on the same bytes; its steps are derived, never stored.
    """
    call = whole.call
    if whole.raw is None:
        gone = Step("parsed", passed=True, sentence="its bytes were removed by retention, so it cannot be run again")
        return [gone, _last_step(call)]
    transform = catalog.find_transform(conn, call.transform_digest) if call.transform_digest else None
    done = run(whole.raw, read(whole.raw), TransformSet([transform] if transform else []), call.received_at)
    steps = explain(done)
    if transform is None and call.transform_digest is not None:
        version = f"{call.transform} at version {call.transform_digest.hex()[:12]}"
        unreadable = f"{version}, which this program cannot read any more: it cannot be run again"
        steps[-1] = Step("transform", passed=True, sentence=unreadable)
    elif _said_it_all(done, call):
        return _clean(steps)
    return _clean([*steps, _last_step(call)])


def _said_it_all(done: Run, call: CallRow) -> bool:
    """Whether the pipeline alone explains how the call ended."""
    return done.outcome is not None and (done.outcome, done.reason) == (call.outcome, call.reason)


def _last_step(call: CallRow) -> Step:
    if call.outcome is Outcome.STORED:
        if not call.results:
            what = "its event is new" if len(call.idempotency_ids) == 1 else "its events are new"
        else:
            new = sum(one.result is Outcome.STORED for one in call.results)
            others = ", the others are duplicates" if new < len(call.results) else ""
            what = f"{new} of its {len(call.results)} events are new{others}"
        return Step("stored", passed=True, sentence=what)
    why = call.detail or "no more is known"
    if call.outcome in {Outcome.DUPLICATE, Outcome.CONFLICT} or call.reason == Reason.UNSTORABLE:
        return Step("stored", passed=False, sentence=f"{call.outcome}: {why}")
    return Step("ended", passed=False, sentence=f"{call.outcome}, {call.reason}: {why}")


def _clean(steps: list[Step]) -> list[Step]:
    """A sentence may quote what a sender wrote, and half of a surrogate pair cannot be sent on."""
    return [Step(one.name, passed=one.passed, sentence=to_detail(one.sentence) or "") for one in steps]


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
    """Bytes as (text, None), or where they are not UTF-8 as (None, base64)."""
    if raw is None:
        return None, None
    try:
        return raw.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(raw).decode()
