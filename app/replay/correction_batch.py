"""The correction batch that a replay makes which corrects: who, why, what it changed; it can be undone as a whole."""

import msgspec

from app.errors import NotFound, Unavailable
from app.replay.context import BatchResult
from app.store.corrections import REPLAY, Attribution, Correction, CorrectionState, LotusChoice, get_correction
from app.store.engine import Connection
from app.store.tally import CorrectionTally

REASON = "the live transforms make these events differently"
"""The reason where none is given."""


def new_correction(replay_id: int, words: dict[str, str], attribution: Attribution, now: int) -> Correction:
    """Return the batch of a replay that begins: it has the id of the replay. `words` are the replay's parameters."""
    return Correction(
        id=replay_id,
        kind=REPLAY,
        author=attribution.author,
        reason=attribution.reason,
        name=attribution.name,
        lotus=attribution.lotus.value,
        selection=msgspec.json.encode({"replay": words}).decode(),
        state=CorrectionState.RUNNING.value,
        counts=msgspec.json.encode(CorrectionTally()).decode(),
        started_at=now,
    )


def to_attribution(correction: Correction) -> Attribution:
    """Return who makes a batch, why and how."""
    return Attribution(
        author=correction.author,
        reason=correction.reason,
        name=correction.name,
        lotus=LotusChoice(correction.lotus or LotusChoice.HOLD),
    )


def find_running(conn: Connection, replay_id: int) -> Correction | None:
    """Return the batch of a replay; None if it is not running: it is being undone, or the replay is an older one."""
    try:
        correction = get_correction(conn, replay_id)
    except NotFound:
        return None
    return correction if correction.state == CorrectionState.RUNNING else None


def check_running(conn: Connection, correction: Correction) -> None:
    """Raise Unavailable if somebody undoes this batch."""
    if find_running(conn, correction.id) is None:
        raise Unavailable(f"this replay ends here: its correction {correction.id} is being undone")


def to_effect(correction: Correction) -> CorrectionTally:
    """Return what a batch did so far."""
    return msgspec.json.decode(correction.counts, type=CorrectionTally)


def without_counts(correction: Correction | None) -> Correction | None:
    """Return a batch as it began: for a dry run of what is left of it."""
    if correction is None:
        return None
    return msgspec.structs.replace(correction, counts=msgspec.json.encode(CorrectionTally()).decode())


def advance(correction: Correction, result: BatchResult, cursor: int, finished_at: int | None) -> Correction:
    """Return the batch after one more transaction of its replay, up to the call `cursor`."""
    tally = to_effect(correction)
    tally.add_events(result.owners, result.lost)
    tally.add_replacements(result.moved, result.gained)
    tally.added += result.added
    tally.delivered += result.delivered
    tally.withdrawn += result.withdrawn
    return msgspec.structs.replace(
        correction,
        state=(CorrectionState.RUNNING if finished_at is None else CorrectionState.FINISHED).value,
        cursor_call=cursor,
        counts=msgspec.json.encode(tally).decode(),
        finished_at=finished_at,
    )
