"""What is to become of a kept call, as far as it can be said without writing."""

from collections.abc import Sequence

import msgspec

from app.core.arrival import describe
from app.core.outcome import Outcome
from app.core.pipeline import MAIN_LANE, Lane, Run, run
from app.core.transform.transform import Transform, TransformSet
from app.errors import UnparsableJson
from app.replay.correction import CannotCorrect, Correction, correct
from app.store.kept import KeptCall, OwnEvent
from app.store.record import EventResult
from app.store.results import to_event_results


class Decision(msgspec.Struct, kw_only=True, gc=False):
    """One call, and what is to be done about it."""

    row: KeptCall
    run: Run | None = None
    """By today's transforms, with the lanes that are to be settled; None: nothing is to be settled."""
    user_id: str | None = None
    kept: tuple[EventResult, ...] = ()
    """Results that stay as they are."""
    made_lanes: frozenset[str] = frozenset()
    """Lanes in which it made its events before."""
    correction: Correction | None = None
    note: str | None = None
    """Why nothing is to be done about it; None where something is."""


REMOVED = "its bytes were removed by retention"
MADE = "it already made its events"
FILLED = "the lane is filled"


class Decider:
    """Runs calls by one set of transforms."""

    def __init__(self, transforms: TransformSet, *, fill: Transform | None, corrects: bool) -> None:
        """`fill`: only the lane of this transform is filled. `corrects`: events that differ are replaced."""
        self._transforms = transforms
        self._fill = fill
        self._only = TransformSet([fill] if fill else [])
        self._corrects = corrects

    def judge(self, row: KeptCall, own: Sequence[OwnEvent]) -> Decision:
        """Run one call again. `own` are the events that it made."""
        if row.raw is None:
            return Decision(row=row, note=REMOVED)
        try:
            to_event_results(row.results)
        except UnparsableJson as error:
            return Decision(row=row, note=error.message)
        if self._fill is not None:
            return self._judge_lane(row, row.raw, own, self._fill)
        if not own and row.outcome == Outcome.STORED:
            return Decision(row=row, note=MADE)
        return self._judge_whole(row, row.raw, own)

    def _judge_whole(self, row: KeptCall, raw: bytes, own: Sequence[OwnEvent]) -> Decision:
        document = row.read()
        today = run(raw, document, self._transforms, row.received_at)
        if own:
            return self._judge_made(row, own, today)
        if row.outcome == Outcome.DUPLICATE and not today.lanes:
            # What it is a copy of is there all the same.
            return Decision(row=row, note=f"stays duplicate: today it would be {today.outcome} ({today.reason})")
        user_id = None if today.lanes else (today.call or describe(document)).user_id
        return Decision(row=row, run=today, user_id=user_id)

    def _judge_made(self, row: KeptCall, own: Sequence[OwnEvent], today: Run) -> Decision:
        """A call that made events, all that it could or a part."""
        made = frozenset(event.lane for event in own)
        correction = None
        if self._corrects:
            try:
                correction = correct(own, today)
            except CannotCorrect as why:
                return Decision(row=row, note=f"cannot be corrected: {why}")
        # What was stored in part is completed; a call that was stored gets no more lanes than it has.
        more = tuple(lane for lane in today.lanes if lane.name not in made) if row.outcome != Outcome.STORED else ()
        lanes = (*(correction.lanes.values() if correction else ()), *more)
        if not lanes:
            return Decision(row=row, note=MADE)
        kept = tuple(
            result
            for result in _results(row, own)
            if (correction is None if result.lane in made else row.outcome == Outcome.STORED)
        )
        return Decision(row=row, run=_with_lanes(today, lanes), kept=kept, made_lanes=made, correction=correction)

    def _judge_lane(self, row: KeptCall, raw: bytes, own: Sequence[OwnEvent], fill: Transform) -> Decision:
        if any(one.lane == fill.name for one in own):
            return Decision(row=row, note=FILLED)
        made_none = row.outcome in {Outcome.REJECTED, Outcome.IGNORED}
        # A call is all or nothing: where the others have not made theirs yet, they have their say.
        done = run(raw, row.read(), self._transforms if made_none else self._only, row.received_at)
        if done.outcome is not None:
            return Decision(row=row, note=f"stays {row.outcome}: today it would be {done.outcome} ({done.reason})")
        if made_none and any(lane.name == MAIN_LANE for lane in done.lanes):
            # Once stored by this lane alone, it would be no more among the calls that a replay reads for the main one.
            return Decision(row=row, note=f"stays {row.outcome}: replay it without --transform, for its main event too")
        lanes = tuple(lane for lane in done.lanes if lane.name == fill.name)
        if not lanes:
            return Decision(row=row, note=f"stays {row.outcome}: {fill.name} does not take it")
        kept = tuple(result for result in _results(row, own) if result.lane != fill.name)
        made = frozenset(result.lane for result in kept)
        return Decision(row=row, run=_with_lanes(done, lanes), kept=kept, made_lanes=made)


def _with_lanes(done: Run, lanes: tuple[Lane, ...]) -> Run:
    return msgspec.structs.replace(done, lanes=lanes)


def _results(row: KeptCall, own: Sequence[OwnEvent]) -> tuple[EventResult, ...]:
    """Return what became of each event; where all were simply stored, the events themselves say so."""
    if row.results is not None:
        return to_event_results(row.results)
    return tuple(
        EventResult(one.lane, one.position, one.idempotency_id, Outcome.STORED) for one in own if not one.voided
    )
