"""The state and progress of a replay, for pages and the API."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from app.core.times import format_time
from app.replay.parameters import to_texts
from app.replay.plan import ReplayRequest, Tally
from app.replay.sql_replay_list import find_corrections, get_replay, list_replays
from app.replay.sql_replays import Replay
from app.store.corrections import Correction
from app.store.engine import Connection

SILENT_MICROS = 30_000_000
"""A process that writes no batch for this long is taken to have died."""


class ReplayState(StrEnum):
    """The state of a replay."""

    RUNNING = "running"
    STOPPING = "stopping"
    """It was asked to stop, and still finishes a batch."""
    STOPPED = "stopped"
    """No process runs it; the same request resumes it."""
    FINISHED = "finished"


class ReplayProgress(msgspec.Struct, kw_only=True):
    """One replay, as pages and the API show it."""

    id: str
    state: ReplayState
    words: dict[str, str]
    """The request, as parameters."""
    read: int
    total: int
    tally: Tally
    correction: Correction | None
    """Its batch, which has its id; None if it corrects nothing."""
    started_at: int
    finished_at: int | None

    def to_document(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return {
            "id": self.id,
            "state": self.state,
            "asked": self.words,
            "calls": self.read,
            "total": self.total,
            "same": self.tally.same,
            "changed": self.tally.changed,
            "corrected": self.tally.corrected,
            "voided": self.tally.voided,
            "delivered": self.tally.delivered,
            "correction": None if self.correction is None else self.id,
            "correction_state": None if self.correction is None else self.correction.state,
            "left": self.tally.left,
            "samples": self.tally.samples,
            "started_at": format_time(self.started_at),
            "finished_at": None if self.finished_at is None else format_time(self.finished_at),
        }


def to_progress(replay: Replay, now: int, correction: Correction | None) -> ReplayProgress:
    """Return the progress of a replay; `now` in microseconds since 1970."""
    tally = msgspec.json.decode(replay.counts, type=Tally)
    return ReplayProgress(
        id=str(replay.id),
        state=to_state(replay, now),
        words=to_texts(to_replay_request(replay)),
        read=tally.read,
        total=replay.total,
        tally=tally,
        correction=correction,
        started_at=replay.started_at,
        finished_at=replay.finished_at,
    )


def list_progress(conn: Connection, now: int, limit: int, before: int | None = None) -> list[ReplayProgress]:
    """Return the last `limit` replays below the id `before`, newest first."""
    rows = list_replays(conn, limit, before)
    corrections = _find_corrections(conn, rows)
    return [to_progress(row, now, corrections.get(row.id)) for row in rows]


def get_progress(conn: Connection, replay_id: int, now: int) -> ReplayProgress:
    """Return one replay. Raises NotFound."""
    replay = get_replay(conn, replay_id)
    return to_progress(replay, now, _find_corrections(conn, [replay]).get(replay_id))


def _find_corrections(conn: Connection, rows: Sequence[Replay]) -> dict[int, Correction]:
    correcting = [row.id for row in rows if to_replay_request(row).correct]
    return find_corrections(conn, correcting) if correcting else {}


def to_replay_request(replay: Replay) -> ReplayRequest:
    """Return the request of a replay."""
    return msgspec.json.decode(replay.what, type=ReplayRequest)


def to_state(replay: Replay, now: int) -> ReplayState:
    """Return the state of a replay; `now` in microseconds since 1970."""
    if replay.finished_at is not None:
        return ReplayState.FINISHED
    # Both ways: it may have died on a node whose clock is ahead.
    if replay.progress_at is None or abs(now - replay.progress_at) > SILENT_MICROS:
        return ReplayState.STOPPED
    return ReplayState.RUNNING if replay.stop_asked_at is None else ReplayState.STOPPING
