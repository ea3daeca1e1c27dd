"""What a replay would do, without doing it: the dry run."""

from collections.abc import Sequence

from app.core.outcome import Outcome
from app.replay.judging import Judged
from app.replay.planning import Tally
from app.store.calls import to_detail
from app.store.engine import Database
from app.store.events import find_claims, find_stored


def foresee(database: Database, tally: Tally, judged: Sequence[Judged]) -> None:
    """Count in `tally` what writing these calls would do.

    Of calls that would make the same event only the first will be stored: here each counts as stored, unless the event
    is there already. Raises Unavailable.
    """
    todo = tally.left_to_do(judged)
    lanes = [(one, lane) for one in todo if one.run is not None for lane in one.run.lanes]
    with database.reading() as conn:
        claims = find_claims(conn, (one.row.message_id for one, _ in lanes if one.row.message_id is not None))
        there = find_stored(conn, (event.idempotency_id for _, lane in lanes for event in lane.events))
    known: set[int] = set()
    for one, lane in lanes:
        rivals = [claims.get((one.row.message_id or "", lane.name))]
        found = [there.get(event.idempotency_id) for event in lane.events]
        if any(rival is not None and rival.call_id != one.row.id for rival in (*rivals, *found)):
            known.add(one.row.id)
    for one in todo:
        row, done = one.row, one.run
        if one.correction is not None:
            tally.corrected += 1
            tally.voided += sum(event.old is not None for event in one.correction.replacements)
        elif done is None or done.outcome is not None:
            same = done is None or (done.outcome, done.reason, to_detail(done.detail)) == (
                row.outcome,
                row.reason,
                row.detail,
            )
            if same or done is None or done.outcome is None:
                tally.same += 1
            else:
                tally.change(row.outcome, done.outcome)
        elif row.id in known and row.outcome in {Outcome.CONFLICT, Outcome.DUPLICATE}:
            tally.same += 1
        else:
            tally.change(row.outcome, "duplicate or conflict" if row.id in known else Outcome.STORED)
