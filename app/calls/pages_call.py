"""The page of one call: how it got its outcome, and where the fields of its events come from."""

from collections.abc import Sequence
from typing import Any

import msgspec

from app.calls.choice import Candidate, TransformRole, list_candidates
from app.calls.conflict import list_conflicts
from app.calls.fields import FieldOrigin, list_field_origins
from app.calls.pretty import Pretty, to_pretty, to_value_text
from app.calls.review import EventDocument, WholeCallDocument, to_whole_document
from app.calls.steps import TimedStep, list_steps
from app.calls.text import change_text
from app.catalog.backend import Backend
from app.catalog.live import Catalog
from app.core.json_text import encode
from app.core.segment import parse_call
from app.core.text import short
from app.core.times import format_time
from app.core.transform.transform import Transform, TransformSet
from app.errors import CallRejected
from app.store.corrections import AMEND
from app.store.engine import Connection
from app.store.review import WholeCall, get_call
from app.web.pages import Values, Work
from app.web.stages import EVENTS_MAX, Panel, Stage

_UNRELATED_MAX = 100
_VALUE_CHARS = 200

_VERIFIED = {
    "signature": "its signature covers the whole request",
    "first_call": "the signature of its request covers only the first call of the batch, as Segment signs batches",
    "bearer": "its request came with a bearer token",
    "basic": "its request came with a user and a password",
    "write_key": "its request came with one of SEGMENT_WRITE_KEYS",
    "api_key": "its request came with one of LOTUS_INGEST_KEYS",
    "backfill": "a person loaded it from a file",
}


class FieldLine(msgspec.Struct, frozen=True, kw_only=True):
    """One field of an event, its value and its origin."""

    path: str
    value: str | None
    origin: FieldOrigin


class VersionFields(msgspec.Struct, frozen=True, kw_only=True):
    """The event fields that one version of a transform made of the call."""

    transform: str
    version: str
    is_live: bool
    lines: list[FieldLine]


def read_call(number: int, now: int, panels: Sequence[Panel]) -> Work:
    """Return the function that reads everything about a call; it raises NotFound."""

    def work(backend: Backend) -> Values:
        with backend.database.reading() as conn:
            whole = get_call(conn, number)
            steps = list_steps(conn, backend.catalog, whole)
            document = to_whole_document(whole, steps)
            live = backend.catalog.read_live(conn).transforms
            panel_values: Values = {}
            for panel in panels:
                panel_values.update(panel(conn, whole, now))
            return {
                **panel_values,
                "call": document,
                "stages": _stages(document, whole, steps),
                "raw": None if whole.raw is None else to_pretty(whole.raw),
                "envelope": None if whole.envelope is None else to_pretty(whole.envelope),
                "events": [(event, _event_text(event)) for event in document.events[:EVENTS_MAX]],
                "change_text": change_text,
                "counting": sum(event.voided_at is None for event in document.events),
                "would_be": [to_pretty(event) for event in _would_be(whole)[:1]],
                "conflicts": list_conflicts(conn, whole.call),
                "versions": _versions(conn, backend.catalog, whole, live),
                **_choice(whole, live),
            }

    return work


def _stages(call: WholeCallDocument, whole: WholeCall, steps: list[TimedStep]) -> list[Stage]:
    """Return the stages of a call in order of time: a replay repeats those after the parsing."""
    batch = {"single": "", "batch": ", in a batch", "ndjson": ", from a file", "csv": ", from a file"}.get(
        call.shape or "single", ", in an array"
    )
    stages = [Stage(name="received", passed=True, sentence=f"by {call.route}{batch}", at=call.received_at)]
    if call.auth is not None:
        sentence = _VERIFIED.get(call.auth, call.auth)
        stages.append(_stage(TimedStep(name="verified", passed=True, sentence=sentence, at=whole.verified_at), whole))
    stages.append(_stage(steps[0], whole))
    for change in call.history:
        before = f"{change.before} ({change.before_reason})" if change.before_reason else change.before
        now = f"{change.now} ({change.now_reason})" if change.now_reason else change.now
        by = f", by version {short(change.now_digest)}" if change.now_digest else ""
        stages.append(Stage(name="replayed", passed=True, sentence=f"from {before} to {now}{by}", at=change.at))
    return stages + [_stage(step, whole) for step in steps[1:]]


def _stage(step: TimedStep, whole: WholeCall) -> Stage:
    at = None if step.at is None else format_time(step.at)
    after = None
    if step.at is not None and not (whole.changes and step.at == whole.changes[-1].changed_at):
        # The clock may have been set back meanwhile: a duration is never negative.
        after = max(0, step.at - whole.call.received_at) / 1_000_000
    return Stage(name=step.name, passed=step.passed, sentence=step.sentence, at=at, after=after)


def _event_text(event: EventDocument) -> Pretty:
    fields = ("event_name", "idempotency_id", "customer_id", "time_created", "properties")
    return to_pretty(encode({name: getattr(event, name) for name in fields}))


def _would_be(whole: WholeCall) -> list[bytes]:
    """Return the events that conflicted, as JSON."""
    return [bytes(result.event) for result in whole.call.results if result.event is not msgspec.UNSET]


def _versions(conn: Connection, catalog: Catalog, whole: WholeCall, live: dict[str, Transform]) -> list[VersionFields]:
    """Return the origin of each field for every version that made an event, or tried to."""
    firsts: dict[bytes, dict[str, Any] | None] = {}
    if whole.call.transform_digest is not None:
        would_be = next((values for result in whole.call.results if (values := result.read_event())), None)
        firsts[whole.call.transform_digest] = None if whole.events else would_be
    for event in whole.events[:EVENTS_MAX]:
        if event.id in whole.origins and whole.origins[event.id].kind == AMEND:
            # A person set its values: no expression did.
            continue
        if event.voided_at is None and firsts.get(event.transform_digest) is None:
            firsts[event.transform_digest] = event.to_values()
    versions = []
    for digest, values in firsts.items():
        transform = catalog.find_transform(conn, digest)
        if transform is None:
            continue
        default = catalog.find_transform(conn, transform.inherits) if transform.inherits else None
        lines = [_line(origin, values) for origin in list_field_origins(transform, default)]
        is_live = transform.name in live and live[transform.name].digest == digest
        versions.append(VersionFields(transform=transform.name, version=digest.hex(), is_live=is_live, lines=lines))
    return versions


def _line(origin: FieldOrigin, values: dict[str, Any] | None) -> FieldLine:
    value: Any = values
    for key in origin.path:
        value = value.get(key) if isinstance(value, dict) else None
    text = None if value is None else to_value_text(value, _VALUE_CHARS)
    return FieldLine(path=".".join(origin.path), value=text, origin=origin)


def _choice(whole: WholeCall, live: dict[str, Transform]) -> Values:
    """Match the call against the transforms that are live now, as a replay would."""
    matching: list[Candidate] = []
    unrelated: list[Candidate] = []
    if whole.raw is not None:
        try:
            candidates = list_candidates(TransformSet(live.values()), parse_call(whole.raw, whole.read()))
        except CallRejected:
            candidates = []
        for candidate in candidates:
            (unrelated if candidate.role is TransformRole.OTHER_CALLS else matching).append(candidate)
    return {"matching": matching, "unrelated": unrelated[:_UNRELATED_MAX], "unrelated_count": len(unrelated)}
