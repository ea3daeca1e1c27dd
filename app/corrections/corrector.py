"""Carries out corrections: step after step, each one transaction of at most 1,000 events that also stores the progress.

So a correction can be stopped at any time, by Ctrl-C, by kill -9 or by a power cut: what its steps did counts, and it
can be resumed, or undone.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import msgspec

from app.clock import clock
from app.core.outcome import Outcome
from app.corrections.amendment import Amendment
from app.corrections.changes import count_deliveries, decide
from app.corrections.effects import compare_at_end
from app.corrections.hooks import CorrectionHooks, CorrectionHooksFactory
from app.corrections.preview import CorrectionPreview, count_correction
from app.corrections.replacements import replace_events
from app.corrections.selection import Selection
from app.corrections.sql_corrections import find_running, list_selected
from app.corrections.undo import undo_events
from app.errors import EditConflict, Unavailable
from app.store import ledger
from app.store.clock import read_clock
from app.store.corrections import (
    AMEND,
    VOID,
    Attribution,
    CorrectedEvent,
    Correction,
    CorrectionState,
    CorrectionStep,
    LotusChoice,
    append_corrected,
    append_correction,
    get_correction,
    list_corrected,
    save_step,
)
from app.store.engine import Connection, Database, DuplicateKey
from app.store.ids import Ids
from app.store.tally import CorrectionTally
from app.store.updates import Stale
from app.store.voids import lock_replays, void_by_person

T = TypeVar("T")

STEP_EVENTS = 1000

_TRIES = 10
_PAUSE_SECONDS = 0.1
# Lets calls that arrived during a step be stored before the next one.
_BREATH_SECONDS = 0.005


class CorrectionBusy(Unavailable):
    """Another process goes on with this correction."""


class Corrector:
    """Makes the events of one database void or amends them, and undoes any batch."""

    def __init__(self, database: Database, ids: Ids, clock: Callable[[], int], hooks: CorrectionHooks) -> None:
        """`clock` gives microseconds since 1970."""
        self._database = database
        self._ids = ids
        self._clock = clock
        self._hooks = hooks

    def preview(
        self,
        selection: Selection,
        amendment: Amendment | None = None,
        counted_at: int | None = None,
        lotus: LotusChoice = LotusChoice.HOLD,
    ) -> CorrectionPreview:
        """Count what voiding a selection, or amending it, would do; write nothing.

        `counted_at`: when the same selection was counted and shown before. `lotus`: what is done where Lotus has them.

        Raises:
            NotFound: no event fits, or one of its ids is unknown.
            BadQuery: the choice cannot be carried out for one of the events.

        """
        # One snapshot: the numbers fit each other.
        with self._database.reading() as conn:
            return count_correction(conn, self._hooks, selection, amendment, counted_at, lotus, STEP_EVENTS)

    def begin(self, preview: CorrectionPreview, attribution: Attribution) -> Correction:
        """Begin a batch that does what was previewed; if one of the same was stopped, return that one.

        Raises:
            BadQuery: what is chosen for Lotus cannot be carried out for one of the events.

        """
        begun = preview.to_correction(attribution)
        if attribution.lotus is not LotusChoice.HOLD:
            # People take their time to answer, and Lotus takes no event that is too old.
            self.preview(preview.selection, preview.amendment, preview.counted_at, attribution.lotus)

        def write(conn: Connection) -> Correction:
            running = find_running(conn, begun)
            if running is not None:
                return running
            correction = msgspec.structs.replace(begun, id=self._ids.next(self._clock()))
            append_correction(conn, correction)
            return correction

        return self._with_retries(lambda: self._write(write))

    def begin_undo(self, correction_id: int, author: str, reason: str) -> Correction:
        """Begin to undo a batch, finished or not; one that is being undone stays as it is.

        Raises:
            NotFound: there is no such batch.
            EditConflict: it is undone.

        """

        def write(conn: Connection) -> Correction:
            correction = get_correction(conn, correction_id)
            if correction.state == CorrectionState.UNDONE:
                raise EditConflict(f"correction {correction_id} is undone already, by {correction.undo_author}")
            if correction.state == CorrectionState.UNDOING:
                return correction
            undo = msgspec.structs.replace(
                correction,
                state=CorrectionState.UNDOING.value,
                cursor_call=-1,
                cursor_event=-1,
                undo_author=author,
                undo_reason=reason,
                undo_started_at=self._clock(),
            )
            save_step(conn, correction, undo)
            return undo

        return self._with_retries(lambda: self._write(write))

    def run(
        self, correction: Correction, advance: Callable[[int], None] = lambda _count: None, seconds: float | None = None
    ) -> Correction:
        """Go on with a batch, or with its undo, for at most `seconds`; None: to the end. Return how far it is.

        `advance` gets the number of events of each step.

        Raises:
            EditConflict: it is a running batch of another kind, which what began it goes on with.
            Unavailable: the database cannot be used now, or another process goes on with this batch.

        """
        until = None if seconds is None else time.monotonic() + seconds
        while correction.state in {CorrectionState.RUNNING, CorrectionState.UNDOING}:
            if correction.state == CorrectionState.RUNNING and correction.kind not in {VOID, AMEND}:
                # Only its own command knows the file, or the transforms.
                raise EditConflict(
                    f"correction {correction.id} is a {correction.kind}: repeat the command that began it"
                )
            step = self._correct if correction.state == CorrectionState.RUNNING else self._undo
            correction, count = self._step(step, correction)
            advance(count)
            if until is not None and time.monotonic() > until:
                break
            time.sleep(_BREATH_SECONDS)
        return correction

    def _step(
        self, step: Callable[[Correction], tuple[Correction, int]], correction: Correction
    ) -> tuple[Correction, int]:
        def work() -> tuple[Correction, int]:
            try:
                return step(correction)
            except Stale:
                with self._database.reading() as conn:
                    if get_correction(conn, correction.id) != correction:
                        raise CorrectionBusy(f"another process goes on with correction {correction.id}") from None
                raise

        return self._with_retries(work)

    def _correct(self, correction: Correction) -> tuple[Correction, int]:
        selection = msgspec.json.decode(correction.selection, type=Selection)
        words = correction.amendment
        amendment = None if words is None else msgspec.json.decode(words, type=Amendment)
        cursor = correction.cursor_call, correction.cursor_event
        tally = msgspec.json.decode(correction.counts, type=CorrectionTally)
        with self._database.reading() as conn:
            own = None if amendment is None else correction.id
            page = list_selected(conn, selection, cursor, correction.until_call, STEP_EVENTS, own)
            changes = decide(page, amendment, correction.started_at)
            changes.count(tally, conn, self._hooks)
            is_last = len(page) < STEP_EVENTS
            if is_last:
                compare_at_end(conn, self._hooks, correction, tally, changes)

        def write(conn: Connection) -> Correction:
            now = read_clock(conn)
            event_ids = changes.event_ids
            if void_by_person(conn, event_ids, now, correction.reason) != len(event_ids):
                raise Stale
            count_deliveries(tally, conn, self._hooks, event_ids)
            added = replace_events(conn, changes.events, self._ids, now)
            replacements = {event_id: new.id for event_id, new in added.items()}
            rows = (CorrectedEvent(event_id, now, replacement_id=replacements.get(event_id)) for event_id in event_ids)
            append_corrected(conn, correction.id, rows)
            self._note(
                conn,
                CorrectionStep(
                    correction=correction,
                    now=now,
                    voided=event_ids,
                    added=list(added.values()),
                    replacements=replacements,
                ),
            )
            after = msgspec.structs.replace(
                correction,
                state=(CorrectionState.FINISHED if is_last else CorrectionState.RUNNING).value,
                cursor_call=page[-1].call_id if page else correction.cursor_call,
                cursor_event=page[-1].id if page else correction.cursor_event,
                counts=msgspec.json.encode(tally).decode(),
                finished_at=now if is_last else None,
            )
            save_step(conn, correction, after)
            return after

        return self._write(write), len(page)

    def _undo(self, correction: Correction) -> tuple[Correction, int]:
        with self._database.reading() as conn:
            page = list_corrected(conn, correction.id, correction.cursor_event, STEP_EVENTS)
        tally = msgspec.json.decode(correction.counts, type=CorrectionTally)
        is_last = len(page) < STEP_EVENTS

        def write(conn: Connection) -> Correction:
            now = read_clock(conn)
            undone = undo_events(conn, correction.id, page, correction.undo_reason or "", now)
            tally.revived += len(undone.revived)
            tally.removed += len(undone.removed)
            tally.left += undone.left
            self._note(
                conn, CorrectionStep(correction=correction, now=now, voided=undone.removed, revived=undone.revived)
            )
            tally.queued += self._hooks.count_deliveries(conn, undone.revived)[1]
            after = msgspec.structs.replace(
                correction,
                state=(CorrectionState.UNDONE if is_last else CorrectionState.UNDOING).value,
                cursor_event=page[-1].event_id if page else correction.cursor_event,
                counts=msgspec.json.encode(tally).decode(),
                undone_at=now if is_last else None,
            )
            save_step(conn, correction, after)
            return after

        return self._write(write), len(page)

    def _note(self, conn: Connection, step: CorrectionStep) -> None:
        """Call the hooks, and write the ledger."""
        if not (step.voided or step.revived or step.added):
            return
        counts: Counter[ledger.Entry] = Counter(
            {
                (ledger.EVENT, Outcome.STORED, ""): len(step.added),
                (ledger.EVENT, ledger.VOIDED, ""): len(step.voided) - len(step.revived),
            }
        )
        for hook in self._hooks.on_step:
            counts.update(hook(conn, step))
        ledger.append(conn, self._ids.tag, step.now, counts)

    def _write(self, write: Callable[[Connection], Correction]) -> Correction:
        with self._database.writing() as conn:
            lock_replays(conn)
            return write(conn)

    def _with_retries(self, work: Callable[[], T]) -> T:
        why = ""
        for _ in range(_TRIES):
            try:
                return work()
            except Stale:
                why = "its events keep changing"
            except CorrectionBusy:
                raise
            except Unavailable as error:
                why = error.message
            except DuplicateKey:
                # Another process drew the same tag, and made an id in the same microsecond.
                self._ids.renew()
                why = "ids of two processes collide"
            time.sleep(_PAUSE_SECONDS)
        raise Unavailable(f"{why}; what was done so far stays, and can be resumed")


def make_corrector(database: Database, make_hooks: CorrectionHooksFactory) -> Corrector:
    """Return a corrector with ids of its own: it may run on another thread than the service."""
    ids = Ids(secrets.randbelow)
    return Corrector(database, ids, clock, make_hooks(ids))
