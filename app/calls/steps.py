"""How a call got its outcome: its steps and their times, where it stopped, and why.

The steps come from running the pipeline again on the stored bytes; only their times are stored. A step that a replay
repeated has the time of the replay.
"""

from typing import NamedTuple

from app.catalog.live import Catalog
from app.core import native, tracking
from app.core.outcome import Outcome, Reason
from app.core.pipeline import PipelineStep, Run, explain, run
from app.core.text import short
from app.core.transform.transform import Transform, TransformSet
from app.store.engine import Connection
from app.store.record import to_detail
from app.store.review import CallRow, WholeCall


class TimedStep(NamedTuple):
    """One step and its time."""

    name: str
    passed: bool
    sentence: str
    at: int | None
    """In microseconds since 1970; None for a call from before such times were stored."""


def list_steps(conn: Connection, catalog: Catalog, whole: WholeCall) -> list[TimedStep]:
    """Return the steps of a call: the pipeline, run again by the version that was used, then the database's result.

    It is the same pipeline that ran when the call was received, on the same bytes.
    """
    return [
        # A sentence may quote what a sender wrote, and half of a surrogate pair cannot be encoded.
        TimedStep(step.name, step.passed, to_detail(step.sentence), _time_of(step.name, whole))
        for step in _pipeline_steps(conn, catalog, whole)
    ]


def _time_of(name: str, whole: WholeCall) -> int | None:
    if name == "parsed":
        return whole.parsed_at
    if whole.changes:
        return whole.changes[-1].changed_at
    return whole.stored_at if name == "stored" else whole.mapped_at


def _pipeline_steps(conn: Connection, catalog: Catalog, whole: WholeCall) -> list[PipelineStep]:
    call = whole.call
    if whole.raw is None:
        gone = PipelineStep(
            "parsed", passed=True, sentence="its bytes were removed by retention, so it cannot be run again"
        )
        return [gone, _last_step(call)]
    transform = _find_transform(conn, catalog, call)
    document = whole.read()
    rerun = run(whole.raw, document, TransformSet([transform] if transform else []), call.received_at)
    steps = explain(rerun)
    added = tracking.describe_completion(call.route, document)
    if added is not None and steps[0].passed:
        steps.insert(1, PipelineStep("completed", passed=True, sentence=added))
    if transform is None and call.transform_digest not in {None, native.DIGEST}:
        version = f"{call.transform} at version {short(call.transform_digest)}"
        unreadable = f"{version}, which this program can no longer read: it cannot be run again"
        steps[-1] = PipelineStep("transform", passed=True, sentence=unreadable)
    elif _explains_outcome(rerun, call):
        return steps
    return [*steps, _last_step(call)]


def _find_transform(conn: Connection, catalog: Catalog, call: CallRow) -> Transform | None:
    digest = call.transform_digest
    return None if digest is None or digest == native.DIGEST else catalog.find_transform(conn, digest)


def _explains_outcome(rerun: Run, call: CallRow) -> bool:
    """Whether the pipeline alone explains how the call ended."""
    return rerun.outcome is not None and (rerun.outcome, rerun.reason) == (call.outcome, call.reason)


def _last_step(call: CallRow) -> PipelineStep:
    if call.outcome is Outcome.STORED:
        if not call.results:
            what = "its event is new" if len(call.idempotency_ids) == 1 else "its events are new"
        else:
            new = sum(result.result is Outcome.STORED for result in call.results)
            duplicates = ", the others are duplicates" if new < len(call.results) else ""
            what = f"{new} of its {len(call.results)} events {'is' if new == 1 else 'are'} new{duplicates}"
        return PipelineStep("stored", passed=True, sentence=what)
    why = call.detail or "no further details"
    if call.outcome in {Outcome.DUPLICATE, Outcome.CONFLICT} or call.reason == Reason.UNSTORABLE:
        return PipelineStep("stored", passed=False, sentence=f"{call.outcome}: {why}")
    return PipelineStep("ended", passed=False, sentence=f"{call.outcome}, {call.reason}: {why}")
