"""What to do with a stored call, as far as can be decided without writing."""

from collections.abc import Collection, Sequence

import msgspec

from app.core.arrival import describe
from app.core.outcome import Outcome
from app.core.pipeline import MAIN_LANE, Lane, Run, run
from app.core.transform.transform import Transform, TransformSet
from app.errors import UnparsableJson
from app.replay.correction import CallCorrection, CannotCorrect, correct
from app.store.kept import KeptCall, OwnEvent
from app.store.record import EventResult
from app.store.results import to_event_results


class Decision(msgspec.Struct, kw_only=True, gc=False):
    """One call, and what to do with it."""

    row: KeptCall
    run: Run | None = None
    """Its run by the live transforms, with only the lanes to settle; None: there is nothing to settle."""
    user_id: str | None = None
    unchanged_results: tuple[EventResult, ...] = ()
    """Results that do not change."""
    made_lanes: frozenset[str] = frozenset()
    """Lanes in which the call already made its events."""
    correction: CallCorrection | None = None
    note: str | None = None
    """Why the call is skipped; None if it is not."""


REMOVED = "its bytes were removed by retention"
MADE = "it already made its events"
FILLED = "the lane is filled"
NOT_MAPPED = "the transform does not map it today"
VOIDED = "a person made an event of it void"


class Decider:
    """Decides about calls by one set of transforms."""

    def __init__(
        self,
        transforms: TransformSet,
        *,
        fill: Transform | None = None,
        corrects: bool = False,
        mapped_by: Collection[str] = (),
    ) -> None:
        """`fill`: fill only the lane of this transform. `corrects`: replace events that differ.

        `mapped_by`: leave calls that none of these transforms maps; empty: leave none.
        """
        self._transforms = transforms
        self._fill = fill
        self._only = TransformSet([fill] if fill else [])
        self._corrects = corrects
        self._mapped_by = frozenset(mapped_by)

    def decide(self, row: KeptCall, own: Sequence[OwnEvent]) -> Decision:
        """Run one call again and decide. `own` are the events that it made."""
        if row.raw is None:
            return Decision(row=row, note=REMOVED)
        try:
            to_event_results(row.results)
        except UnparsableJson as error:
            return Decision(row=row, note=error.message)
        if any(event.by_person for event in own):
            return Decision(row=row, note=VOIDED)
        if self._fill is not None:
            return self._decide_lane(row, row.raw, own, self._fill)
        if not own and row.outcome == Outcome.STORED:
            return Decision(row=row, note=MADE)
        return self._decide_whole(row, row.raw, own)

    def _decide_whole(self, row: KeptCall, raw: bytes, own: Sequence[OwnEvent]) -> Decision:
        document = row.read()
        today = run(raw, document, self._transforms, row.received_at)
        if self._mapped_by and not any(lane.transform in self._mapped_by for lane in today.lanes):
            return Decision(row=row, note=NOT_MAPPED)
        if own:
            return self._decide_made(row, own, today)
        if row.outcome == Outcome.DUPLICATE and not today.lanes:
            # The call that it duplicates is stored all the same.
            return Decision(row=row, note=f"stays duplicate: today it would be {today.outcome} ({today.reason})")
        user_id = None if today.lanes else (today.call or describe(document)).user_id
        return Decision(row=row, run=today, user_id=user_id)

    def _decide_made(self, row: KeptCall, own: Sequence[OwnEvent], today: Run) -> Decision:
        """Decide about a call that made all or some of its events."""
        made_lanes = frozenset(event.lane for event in own)
        correction = None
        if self._corrects:
            try:
                correction = correct(own, today)
            except CannotCorrect as why:
                return Decision(row=row, note=f"cannot be corrected: {why}")
        # A call stored in part is completed; a fully stored call gets no further lanes.
        more = (
            tuple(lane for lane in today.lanes if lane.name not in made_lanes) if row.outcome != Outcome.STORED else ()
        )
        lanes = (*(correction.lanes.values() if correction else ()), *more)
        if not lanes:
            return Decision(row=row, note=MADE)
        unchanged = tuple(
            result
            for result in _results(row, own)
            if (correction is None if result.lane in made_lanes else row.outcome == Outcome.STORED)
        )
        return Decision(
            row=row,
            run=_with_lanes(today, lanes),
            unchanged_results=unchanged,
            made_lanes=made_lanes,
            correction=correction,
        )

    def _decide_lane(self, row: KeptCall, raw: bytes, own: Sequence[OwnEvent], fill: Transform) -> Decision:
        if any(event.lane == fill.name for event in own):
            return Decision(row=row, note=FILLED)
        made_none = row.outcome in {Outcome.REJECTED, Outcome.IGNORED}
        # A call is all or nothing: if it made no events yet, all transforms run, not only this one.
        today = run(raw, row.read(), self._transforms if made_none else self._only, row.received_at)
        if today.outcome is not None:
            return Decision(row=row, note=f"stays {row.outcome}: today it would be {today.outcome} ({today.reason})")
        if made_none and any(lane.name == MAIN_LANE for lane in today.lanes):
            # Once stored by this lane alone, a replay for the main lane would no longer read it.
            return Decision(row=row, note=f"stays {row.outcome}: replay it without --transform, for its main event too")
        lanes = tuple(lane for lane in today.lanes if lane.name == fill.name)
        if not lanes:
            return Decision(row=row, note=f"stays {row.outcome}: {fill.name} does not take it")
        unchanged = tuple(result for result in _results(row, own) if result.lane != fill.name)
        made_lanes = frozenset(result.lane for result in unchanged)
        return Decision(row=row, run=_with_lanes(today, lanes), unchanged_results=unchanged, made_lanes=made_lanes)


def _with_lanes(today: Run, lanes: tuple[Lane, ...]) -> Run:
    return msgspec.structs.replace(today, lanes=lanes)


def _results(row: KeptCall, own: Sequence[OwnEvent]) -> tuple[EventResult, ...]:
    """Return the result of each event; without stored results, every event that is not void counts as stored."""
    if row.results is not None:
        return to_event_results(row.results)
    return tuple(
        EventResult(event.lane, event.position, event.idempotency_id, Outcome.STORED)
        for event in own
        if not event.voided
    )
