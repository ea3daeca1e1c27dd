"""Carries out corrections: step after step, each one transaction of at most 1,000 events that also stores the progress.

So a correction can be stopped at any time, by Ctrl-C, by kill -9 or by a power cut: what its steps did counts, and it
can be resumed, or undone.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from app.clock import clock
from app.corrections.hooks import CorrectionHooks, CorrectionHooksFactory
from app.corrections.selection import Selection
from app.corrections.sql_corrections import find_missing_ids, find_running, list_selected, list_still_void
from app.errors import EditConflict, NotFound, Unavailable
from app.store import ledger
from app.store.clock import read_clock
from app.store.corrections import (
    VOID,
    CorrectedEvent,
    Correction,
    CorrectionState,
    CorrectionStep,
    EventState,
    append_corrected,
    append_correction,
    get_correction,
    list_corrected,
    save_step,
    set_event_states,
)
from app.store.differences import LotusChoice
from app.store.engine import Connection, Database, DuplicateKey
from app.store.ids import Ids
from app.store.review import newest_call_id
from app.store.tally import CorrectionTally
from app.store.updates import Stale
from app.store.voids import lock_replays, revive, void_by_person

T = TypeVar("T")

STEP_EVENTS = 1000

_TRIES = 10
_PAUSE_SECONDS = 0.1
# Lets calls that arrived during a step be stored before the next one.
_BREATH_SECONDS = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidPreview:
    """What a correction would do."""

    selection: Selection
    until_call: int
    """The last call whose events it is about."""
    tally: CorrectionTally
    lotus: str = LotusChoice.HOLD


class CorrectionBusy(Unavailable):
    """Another process goes on with this correction."""


class Corrector:
    """Makes the events of one database void, and undoes that."""

    def __init__(self, database: Database, ids: Ids, clock: Callable[[], int], hooks: CorrectionHooks) -> None:
        """`clock` gives microseconds since 1970."""
        self._database = database
        self._ids = ids
        self._clock = clock
        self._hooks = hooks

    def preview(self, selection: Selection, lotus: str = LotusChoice.HOLD) -> VoidPreview:
        """Count what voiding a selection would do; write nothing. `lotus`: a LotusChoice.

        Raises:
            NotFound: no event fits, or one of its ids is unknown.
            BadQuery: the choice cannot be carried out for one of the events.

        """
        tally, cursor = CorrectionTally(), (-1, -1)
        # One snapshot: the numbers fit each other.
        with self._database.reading() as conn:
            if missing := find_missing_ids(conn, selection):
                raise NotFound(f"there is no event with the id {missing[0][:100]!r}")
            until_call = newest_call_id(conn)
            while True:
                page = list_selected(conn, selection, cursor, until_call, STEP_EVENTS)
                event_ids = [event.id for event in page if event.voided_at is None]
                self._hooks.check_lotus(conn, event_ids, lotus, self._clock())
                tally.already_void += len(page) - len(event_ids)
                tally.add_events(
                    [(event.customer_id, event.event_name) for event in page if event.voided_at is None],
                    self._hooks.measure(conn, event_ids),
                )
                self._count_deliveries(conn, tally, event_ids)
                if len(page) < STEP_EVENTS:
                    break
                cursor = page[-1].call_id, page[-1].id
        if not (tally.events or tally.already_void):
            raise NotFound("no event fits this selection")
        return VoidPreview(selection=selection, until_call=until_call, tally=tally, lotus=lotus)

    def begin(self, preview: VoidPreview, author: str, reason: str) -> Correction:
        """Begin a batch that voids what was previewed; if one of this selection was stopped, return that one.

        Raises:
            BadQuery: what is chosen for Lotus can no longer be carried out for one of the events.

        """
        words = msgspec.json.encode(preview.selection).decode()
        if preview.lotus != LotusChoice.HOLD:
            # People take their time to answer, and Lotus takes no event that is too old.
            self.preview(preview.selection, preview.lotus)

        def write(conn: Connection) -> Correction:
            running = find_running(conn, words)
            if running is not None:
                return running
            now = self._clock()
            correction = Correction(
                id=self._ids.next(now),
                kind=VOID,
                author=author,
                reason=reason,
                selection=words,
                state=CorrectionState.RUNNING.value,
                until_call=preview.until_call,
                counts=msgspec.json.encode(CorrectionTally()).decode(),
                started_at=now,
                lotus=str(preview.lotus),
            )
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
            Unavailable: the database cannot be used now, or another process goes on with this batch.

        """
        until = None if seconds is None else time.monotonic() + seconds
        while correction.state in {CorrectionState.RUNNING, CorrectionState.UNDOING}:
            step = self._void if correction.state == CorrectionState.RUNNING else self._revive
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

    def _void(self, correction: Correction) -> tuple[Correction, int]:
        selection = msgspec.json.decode(correction.selection, type=Selection)
        cursor = correction.cursor_call, correction.cursor_event
        with self._database.reading() as conn:
            page = list_selected(conn, selection, cursor, correction.until_call, STEP_EVENTS)
            live = [event for event in page if event.voided_at is None]
            event_ids = [event.id for event in live]
            measure = self._hooks.measure(conn, event_ids)
        tally = msgspec.json.decode(correction.counts, type=CorrectionTally)
        tally.already_void += len(page) - len(live)
        tally.add_events([(event.customer_id, event.event_name) for event in live], measure)
        is_last = len(page) < STEP_EVENTS

        def write(conn: Connection) -> Correction:
            now = read_clock(conn)
            if void_by_person(conn, event_ids, now, correction.reason) != len(event_ids):
                raise Stale
            self._count_deliveries(conn, tally, event_ids)
            append_corrected(conn, correction.id, (CorrectedEvent(event_id, now) for event_id in event_ids))
            self._note(conn, CorrectionStep(correction=correction, now=now, voided=event_ids))
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

    def _revive(self, correction: Correction) -> tuple[Correction, int]:
        with self._database.reading() as conn:
            page = list_corrected(conn, correction.id, correction.cursor_event, STEP_EVENTS)
        tally = msgspec.json.decode(correction.counts, type=CorrectionTally)
        is_last = len(page) < STEP_EVENTS

        def write(conn: Connection) -> Correction:
            now = read_clock(conn)
            still_void = list_still_void(conn, page)
            voids = [
                (event.event_id, event.voided_at)
                for event in page
                if event.event_id in still_void and event.voided_at is not None
            ]
            if revive(conn, voids) != len(voids):
                raise Stale
            states = {
                event.event_id: (
                    event.state,
                    EventState.REVIVED if event.event_id in still_void else EventState.LEFT,
                )
                for event in page
            }
            set_event_states(conn, correction.id, states, now)
            tally.revived += len(voids)
            tally.left += len(page) - len(voids)
            tally.queued += self._note(conn, CorrectionStep(correction=correction, now=now, revived=sorted(still_void)))
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

    def _note(self, conn: Connection, step: CorrectionStep) -> int:
        """Call the hooks, and write the ledger; return how many deliveries were queued."""
        counts: Counter[ledger.Entry] = Counter(
            {(ledger.EVENT, ledger.VOIDED, ""): len(step.voided) - len(step.revived)}
        )
        if not (step.voided or step.revived):
            return 0
        for hook in self._hooks.on_step:
            counts.update(hook(conn, step))
        ledger.append(conn, self._ids.tag, step.now, counts)
        return max(0, counts[ledger.DELIVERY, ledger.WAITING, ""])

    def _count_deliveries(self, conn: Connection, tally: CorrectionTally, event_ids: Sequence[int]) -> None:
        delivered, undelivered = self._hooks.count_deliveries(conn, event_ids)
        tally.delivered += delivered
        tally.withdrawn += undelivered

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
