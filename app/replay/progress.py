"""The state and progress of a replay, for pages and the API."""

from enum import StrEnum
from typing import Any

import msgspec

from app.core.times import format_time
from app.replay.parameters import to_texts
from app.replay.plan import ReplayRequest, Tally
from app.replay.sql_replays import Replay

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
            "left": self.tally.left,
            "samples": self.tally.samples,
            "started_at": format_time(self.started_at),
            "finished_at": None if self.finished_at is None else format_time(self.finished_at),
        }


def to_progress(replay: Replay, now: int) -> ReplayProgress:
    """Return the progress of a replay; `now` in microseconds since 1970."""
    tally = msgspec.json.decode(replay.counts, type=Tally)
    return ReplayProgress(
        id=str(replay.id),
        state=to_state(replay, now),
        words=to_texts(to_replay_request(replay)),
        read=tally.read,
        total=replay.total,
        tally=tally,
        started_at=replay.started_at,
        finished_at=replay.finished_at,
    )


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
