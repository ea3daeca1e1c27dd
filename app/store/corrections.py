"""Corrections as rows: batches, and what became of each of their events. `conn` first.

A batch makes events void, puts others in their place, or adds events. Whoever makes one writes its rows in the
transaction of each of its steps, so that it can be undone as a whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec
import sqlalchemy as sa

from app.errors import NotFound
from app.store.events import NewEvent
from app.store.inserts import Insert
from app.store.schema import corrected_events, corrections
from app.store.updates import Stale, Update

VOID, AMEND, REPLAY, BACKFILL = "void", "amend", "replay", "backfill"
"""The kinds of a batch."""


class LotusChoice(StrEnum):
    """What is done where Lotus has an event that counts no more."""

    HOLD = "hold"
    """What replaces it is not sent."""
    SEND = "send"
    """What replaces it is sent all the same: Lotus counts both."""
    DIFFERENCE = "difference"
    """The difference is sent, where the metric is a sum."""


def is_replacing(kind: str) -> bool:
    """Tell whether a batch of this kind puts other events in the place of those that it makes void."""
    return kind in {AMEND, REPLAY}


class CorrectionState(StrEnum):
    """How far a batch is."""

    RUNNING = "running"
    """Some of its events may not be void yet: it can be resumed, or undone."""
    FINISHED = "finished"
    UNDOING = "undoing"
    UNDONE = "undone"


class EventState(StrEnum):
    """What became of an event of a batch."""

    VOIDED = "voided"
    ADDED = "added"
    """The batch brought it."""
    REVIVED = "revived"
    REMOVED = "removed"
    """An undo made void what the batch had added."""
    LEFT = "left"
    """An undo left it: something else corrected it in between."""


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """Who makes a batch, why, and what Lotus gets of it."""

    author: str
    reason: str
    name: str | None = None
    lotus: LotusChoice = LotusChoice.HOLD


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """One batch and its progress."""

    id: int
    kind: str
    author: str
    reason: str
    selection: str
    """JSON."""
    state: str
    until_call: int = 0
    cursor_call: int = -1
    cursor_event: int = -1
    counts: str = "{}"
    """JSON of its tally."""
    started_at: int
    finished_at: int | None = None
    undo_author: str | None = None
    undo_reason: str | None = None
    undo_started_at: int | None = None
    undone_at: int | None = None
    name: str | None = None
    amendment: str | None = None
    """JSON of the values that it sets."""
    lotus: str | None = None
    """What is done where Lotus has an event: hold, send or difference; None: hold."""


class CorrectedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of a batch."""

    event_id: int
    voided_at: int | None
    """None: the batch added it."""
    state: str = EventState.VOIDED.value
    replacement_id: int | None = None
    """The event that stands for it now."""


class CorrectionStep(msgspec.Struct, frozen=True, kw_only=True):
    """What one step of a batch, or of its undo, does: told to metrics and the outbox in its transaction."""

    correction: Correction
    now: int
    """In microseconds since 1970: `voided_at` of the events."""
    voided: Sequence[int] = ()
    """Ids of events that count no more."""
    revived: Sequence[int] = ()
    """Ids of events that count again."""
    added: Sequence[NewEvent] = ()
    """Events that it stored."""
    replacements: Mapping[int, int] = {}
    """By the id of a voided event, the id of the added one that stands for it."""


_CORRECTIONS = Insert(corrections, Correction.__struct_fields__)
_EVENTS = Insert(corrected_events, ("correction_id", *CorrectedEvent.__struct_fields__))
_STATES = Update(
    corrected_events, new=("state", "voided_at", "revived_at"), known=("correction_id", "event_id", "state")
)
_STEP = ("state", "cursor_call", "cursor_event")


def append_correction(conn: sa.Connection, correction: Correction) -> None:
    """Insert a batch."""
    _CORRECTIONS.run(conn, [msgspec.structs.astuple(correction)])


def save_step(conn: sa.Connection, before: Correction, after: Correction) -> None:
    """Store the progress of a batch. Raises Stale if another process moved it."""
    same = [corrections.c[name] == getattr(before, name) for name in _STEP]
    values = {name: value for name, value in msgspec.structs.asdict(after).items() if name != "id"}
    changed = conn.execute(sa.update(corrections).where(corrections.c.id == before.id, *same).values(**values))
    if changed.rowcount != 1:
        raise Stale


def get_correction(conn: sa.Connection, correction_id: int) -> Correction:
    """Return one batch. Raises NotFound."""
    row = conn.execute(sa.select(corrections).where(corrections.c.id == correction_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no correction {correction_id}")
    return Correction(**row._mapping)  # noqa: SLF001  SQLAlchemy's own name


def list_corrections(conn: sa.Connection, limit: int, before: int | None = None) -> list[Correction]:
    """Return the last `limit` batches below the id `before`, newest first."""
    query = sa.select(corrections).order_by(corrections.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(corrections.c.id < before)
    return [Correction(**row._mapping) for row in conn.execute(query)]  # noqa: SLF001


def append_corrected(conn: sa.Connection, correction_id: int, corrected: Iterable[CorrectedEvent]) -> None:
    """Add events to a batch."""
    rows = [(correction_id, *msgspec.structs.astuple(event)) for event in corrected]
    _EVENTS.run(conn, sorted(rows, key=lambda row: row[1]))


def append_added(conn: sa.Connection, correction_id: int, new: Iterable[NewEvent]) -> None:
    """Add to a batch the events that it stored."""
    _EVENTS.run(conn, sorted((correction_id, event.id, None, EventState.ADDED.value, None) for event in new))


def list_corrected(conn: sa.Connection, correction_id: int, after: int, limit: int) -> list[CorrectedEvent]:
    """Return the next events of a batch that no undo has come to yet, by id."""
    open_states = (EventState.VOIDED.value, EventState.ADDED.value)
    query = (
        sa.select(*(corrected_events.c[name] for name in CorrectedEvent.__struct_fields__))
        .where(
            corrected_events.c.correction_id == correction_id,
            corrected_events.c.event_id > after,
            corrected_events.c.state.in_(open_states),
        )
        .order_by(corrected_events.c.event_id)
        .limit(limit)
    )
    return [CorrectedEvent(*row) for row in conn.execute(query)]


def set_event_states(
    conn: sa.Connection, correction_id: int, states: Iterable[tuple[CorrectedEvent, EventState]], now: int
) -> None:
    """Store what an undo did `now` with events of a batch. Raises Stale."""
    rows = [
        (
            state.value,
            now if state is EventState.REMOVED else event.voided_at,
            now if state is EventState.REVIVED else None,
            correction_id,
            event.event_id,
            event.state,
        )
        for event, state in states
    ]
    if _STATES.run(conn, sorted(rows, key=lambda row: row[4])) != len(rows):
        raise Stale
