"""Calls and refused requests as text for a terminal."""

import msgspec

from app.calls.pretty import to_value_text
from app.calls.review import ChangeDocument, EventDocument, RefusalDocument, ResultDocument, WholeCallDocument
from app.core.json_text import encode
from app.core.outcome import Outcome
from app.core.text import counted, json_lines, printable, short
from app.store.amendments import FieldChange

_VALUE_CHARS = 200
_LOTUS_FIELDS = ("event_name", "idempotency_id", "customer_id", "time_created", "properties")


def call_text(call: WholeCallDocument) -> str:
    """Return everything about a call as lines of text."""
    live = sum(event.voided_at is None for event in call.events)
    counts = f"{live} of {counted(len(call.events), 'event')} {'counts' if 1 in (live, len(call.events)) else 'count'}"
    version = f"{call.transform} at version {short(call.transform_digest)}" if call.transform else None
    why = f"{call.outcome} ({call.reason})" if call.reason and call.reason != call.outcome else call.outcome
    facts = {
        "outcome": why,
        "because": call.detail,
        "counts": counts if live < len(call.events) else None,
        "received": f"{call.received_at} by {call.route}: {call.shape}, {call.auth}",
        "type": call.type,
        "event": call.event,
        "message": call.message_id,
        "customer": call.customer_id,
        "transform": version,
        "problem": call.problem,
    }
    lines = [f"call {call.id}", *(f"  {name:<10} {printable(text)}" for name, text in facts.items() if text)]
    lines += ["", "steps"]
    lines += [
        f"  {'ok' if step.passed else 'no':<3} {step.name:<10} {(step.at or '')[11:26]:<16}{printable(step.sentence)}"
        for step in call.steps
    ]
    for event in call.events:
        lines += ["", *_event_lines(event)]
    for result in call.results:
        if result.result != Outcome.STORED:
            lines += ["", *_result_lines(result)]
    if call.history:
        lines += ["", "history", *(printable(_change_line(change)) for change in call.history)]
    if call.same_message:
        lines += ["", "other calls with this message id"]
        lines += [f"  {call.id}  {call.received_at}  {call.outcome}" for call in call.same_message]
    if call.envelope is not None:
        lines += ["", "envelope of the batch", *json_lines(bytes(call.envelope))]
    return "\n".join([*lines, "", "raw", *_raw_lines(call)])


def refusal_text(refusal: RefusalDocument) -> str:
    """Return a refused request as one line."""
    time = f"{refusal.received_at[:10]} {refusal.received_at[11:23]}"
    headers = msgspec.json.decode(refusal.headers, type=dict[str, str])
    agent = f"  ({headers['user-agent']})" if "user-agent" in headers else ""
    client = f"  from {refusal.client}" if refusal.client else ""
    what = f"{refusal.message} {refusal.diagnosis}" if refusal.diagnosis else refusal.message
    return printable(f"{time}  {refusal.code:<22}  {refusal.method} {refusal.path}  {what}{agent}{client}")


def _change_line(change: ChangeDocument) -> str:
    before, now = (
        f"{outcome} ({reason})" if reason and reason != outcome else outcome
        for outcome, reason in ((change.before, change.before_reason), (change.now, change.now_reason))
    )
    version = f", by version {short(change.now_digest)}" if change.now_digest else ""
    earlier = f" (version {short(change.before_digest)})" if change.before_digest else ""
    return f"  {change.at}  {before}{earlier} became {now}{version}, in replay {change.replay}"


def _event_lines(event: EventDocument) -> list[str]:
    by = f" by {event.void_author} (correction {event.correction_id})" if event.void_author else ""
    void = f", void since {event.voided_at}{by}: {event.void_reason}" if event.voided_at else ""
    fields = {name: getattr(event, name) for name in _LOTUS_FIELDS}
    return [printable(f"event {event.id}{void}"), *_origin_lines(event), *json_lines(encode(fields))]


def _origin_lines(event: EventDocument) -> list[str]:
    origin = event.replaces
    if origin is None:
        return []
    who = f"by {origin.author}, {origin.at} ({origin.kind}, correction {origin.correction_id}): {origin.reason}"
    return [
        printable(f"  stands for {origin.idempotency_id}, {who}"),
        *(printable(f"  {change_text(change)}") for change in origin.changes),
    ]


def change_text(change: FieldChange) -> str:
    """Return what a correction changed about a field: `properties.tokens: 10 became 12`."""
    before, after = (
        "nothing" if value is msgspec.UNSET else to_value_text(value, _VALUE_CHARS)
        for value in (change.before, change.after)
    )
    return f"{change.path}: {before} became {after}"


def _result_lines(result: ResultDocument) -> list[str]:
    rival = f", call {result.rival_call_id} was first" if result.rival_call_id else ""
    heading = printable(f"event {result.idempotency_id!r}: {result.result}{rival}")
    return [heading, *(json_lines(bytes(result.event)) if result.event is not None else [])]


def _raw_lines(call: WholeCallDocument) -> list[str]:
    if call.raw is not None:
        return json_lines(call.raw.encode())
    if call.raw_base64 is not None:
        return [f"  not UTF-8; base64: {call.raw_base64}"]
    return ["  removed by retention"]
