"""Loads a checked file: commit after commit, each one transaction that also stores the progress.

So it can be stopped at any time, by Ctrl-C, by kill -9 or by a power cut: what was committed counts, and the same
command goes on behind it.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import msgspec

from app.backfill.batch import FileSelection, Loaded, add_loaded, find_same, to_request, to_tally
from app.backfill.hooks import BackfillHooks
from app.backfill.mapper import Mapper
from app.backfill.pace import Pace
from app.backfill.repeats import Repeats
from app.backfill.sql_backfill import list_backfills, others_take_calls
from app.catalog.live import Catalog
from app.errors import EditConflict, Unavailable
from app.store.commit import Committer
from app.store.corrections import (
    BACKFILL,
    Correction,
    CorrectionState,
    append_added,
    append_correction,
    get_correction,
    save_step,
)
from app.store.engine import Connection, Database, DuplicateKey, RowRefused
from app.store.events import NewEvent, to_event_values
from app.store.ids import Ids
from app.store.record import unstorable
from app.store.settle import settle
from app.store.tally import CorrectionTally
from app.store.updates import Stale
from app.store.voids import lock_replays

T = TypeVar("T")

_TRIES = 20
_PAUSE_SECONDS = 0.2
_COMMITS_TO_A_WAIT = 4
"""SQLite's log is written back by a thread meanwhile; so often the next commit waits for that."""

_BYTES_MAX = 8 << 20
"""Of the rows of one commit."""


class _Rehearsed(Exception):
    """Raised to roll a transaction back."""


@dataclass(slots=True)
class _Progress:
    """How far a batch is, in the database and in memory."""

    correction: Correction
    tally: CorrectionTally
    pace: Pace = field(default_factory=Pace)
    commits: int = 0


class Loader:
    """Loads the rows of one file into a database."""

    def __init__(
        self,
        *,
        database: Database,
        catalog: Catalog,
        ids: Ids,
        clock: Callable[[], int],
        hooks: BackfillHooks,
        selection: FileSelection,
        mapper: Mapper,
    ) -> None:
        """`clock` gives microseconds since 1970; `catalog` knows the versions that made stored events."""
        self._database = database
        self._catalog = catalog
        self._ids = ids
        self._clock = clock
        self._selection = selection
        self._mapper = mapper
        with database.reading() as conn:
            self._measure = hooks.make_measure(conn)
        self._committer = Committer(database, ids, catalog.map_again, hooks.on_events)

    def find(self, *, running: bool) -> Correction | None:
        """Return the batch that began to load this file and did not end; not `running`: the one that ended."""
        with self._database.reading() as conn:
            return find_same(list_backfills(conn), self._selection, running=running)

    def preview(self, advance: Callable[[int], None]) -> CorrectionTally:
        """Count what loading the file would do, in transactions that are rolled back.

        `advance` gets the number of rows of each. Raises Unavailable, FileInvalid.
        """
        tally, pace = CorrectionTally(), Pace()
        with Repeats() as ids:
            for loaded in self._chunks(0, pace):
                for event in self._with_retries(partial(self._try, tally, pace, loaded)):
                    ids.add(event.lane.events[event.position].idempotency_id, 0)
                advance(len(loaded))
                time.sleep(pace.rest_seconds)
            # Each transaction starts from what is stored, so one does not see what another would store.
            tally.same_ids = sum(1 for _ in ids.find())
        return tally

    def begin(self, author: str, reason: str, name: str | None = None) -> Correction:
        """Begin a batch that loads the file; if one was stopped, return that one. Raises Unavailable."""

        def write() -> Correction:
            with self._database.writing() as conn:
                lock_replays(conn)
                if (running := find_same(list_backfills(conn), self._selection, running=True)) is not None:
                    return running
                now = self._clock()
                correction = Correction(
                    id=self._ids.next(now),
                    kind=BACKFILL,
                    author=author,
                    reason=reason,
                    name=name,
                    selection=msgspec.json.encode(self._selection).decode(),
                    state=CorrectionState.RUNNING.value,
                    cursor_call=0,
                    counts=msgspec.json.encode(CorrectionTally()).decode(),
                    started_at=now,
                )
                append_correction(conn, correction)
                return correction

        return self._with_retries(write)

    def run(self, correction: Correction, advance: Callable[[int], None]) -> Correction:
        """Go on with a batch to its end; return it. `advance` gets the number of rows of each commit.

        Raises:
            Unavailable: the database cannot be used now, or another process goes on with this batch.
            EditConflict: somebody undoes it.
            FileInvalid: the file cannot be read any more, or it changed.

        """
        progress = _Progress(correction, to_tally(correction))
        with ThreadPoolExecutor(1, "checkpoint") as thread:
            checkpoint: Future[None] | None = None
            for loaded in self._chunks(correction.cursor_call, progress.pace):
                self._commit(progress, loaded)
                advance(len(loaded))
                time.sleep(progress.pace.rest_seconds)
                if checkpoint is not None and (progress.commits % _COMMITS_TO_A_WAIT == 0 or checkpoint.done()):
                    # The log begins anew only where nobody has written since.
                    checkpoint.result()
                    checkpoint = None
                if checkpoint is None:
                    checkpoint = thread.submit(self._database.checkpoint)
        # The last commit makes all of them durable.
        self._with_retries(lambda: self._transact(progress, [], finished=True))
        return progress.correction

    def _chunks(self, after: int, pace: Pace) -> Iterator[list[Loaded]]:
        """Yield the rows behind the line `after`, mapped, as many at a time as `pace` says."""
        loaded: list[Loaded] = []
        size = 0
        for row in self._mapper.map_after(after):
            if len(loaded) >= pace.calls or size > _BYTES_MAX:
                yield loaded
                loaded, size = [], 0
            loaded.append(row)
            size += len(row.record.raw)
        if loaded:
            yield loaded

    def _try(self, tally: CorrectionTally, pace: Pace, loaded: Sequence[Loaded]) -> list[NewEvent]:
        began = time.perf_counter()
        beside, new = False, list[NewEvent]()
        with contextlib.suppress(_Rehearsed), self._database.writing(durable=False) as conn:
            self._number(loaded)
            new = settle(conn, [record for _, record in loaded], self._catalog.map_again, self._ids.next)
            add_loaded(tally, loaded, new, self._measure(list(map(to_event_values, new))))
            beside = others_take_calls(conn, self._ids.tag, self._clock())
            raise _Rehearsed
        pace.note(len(loaded), time.perf_counter() - began, beside=beside)
        return new

    def _commit(self, progress: _Progress, loaded: Sequence[Loaded]) -> None:
        """Commit rows; one with a value that the database refuses is found by bisection, and stored as rejected."""
        try:
            self._with_retries(lambda: self._transact(progress, loaded))
        except RowRefused as refused:
            if len(loaded) == 1:
                record = loaded[0].record
                record.run, record.results = unstorable(record.run, refused), ()
                self._with_retries(lambda: self._transact(progress, loaded))
                return
            middle = len(loaded) // 2
            self._commit(progress, loaded[:middle])
            self._commit(progress, loaded[middle:])

    def _transact(self, progress: _Progress, loaded: Sequence[Loaded], *, finished: bool = False) -> None:
        """Store rows, the events of the batch and its progress in one transaction. Raises RowRefused, Stale."""
        before, tally = progress.correction, progress.tally.copy()
        began = time.perf_counter()
        after, beside = before, False
        try:
            with self._database.writing(durable=finished) as conn:
                if loaded:
                    self._store(conn, before, tally, loaded)
                now = self._clock()
                after = msgspec.structs.replace(
                    before,
                    state=(CorrectionState.FINISHED if finished else CorrectionState.RUNNING).value,
                    cursor_call=loaded[-1].line if loaded else before.cursor_call,
                    counts=msgspec.json.encode(tally).decode(),
                    finished_at=now if finished else None,
                )
                save_step(conn, before, after)
                beside = others_take_calls(conn, self._ids.tag, now)
        except Stale:
            self._explain_stale(before, after)
        progress.correction, progress.tally = after, tally
        progress.commits += 1
        if loaded:
            progress.pace.note(len(loaded), time.perf_counter() - began, beside=beside)

    def _store(
        self, conn: Connection, correction: Correction, tally: CorrectionTally, loaded: Sequence[Loaded]
    ) -> None:
        self._number(loaded)
        request = to_request(self._ids.next(loaded[0].record.received_at), correction, loaded)
        new = self._committer.store(conn, [request], request.records)
        append_added(conn, correction.id, new)
        add_loaded(tally, loaded, new, self._measure(list(map(to_event_values, new))))

    def _number(self, loaded: Sequence[Loaded]) -> None:
        """Give calls ids of now, since others expect that a call is there soon after its id was made."""
        now = self._clock()
        for _, record in loaded:
            record.id = self._ids.next(now)

    def _explain_stale(self, before: Correction, after: Correction) -> None:
        """Return if the step was stored after all, although its commit was not confirmed.

        Raises Unavailable if another process goes on with the batch, EditConflict if somebody undoes it.
        """
        with self._database.reading() as conn:
            now = get_correction(conn, before.id)
        if now == after:
            return
        if now.state in {CorrectionState.UNDOING, CorrectionState.UNDONE}:
            raise EditConflict(f"correction {before.id} is {now.state} by {now.undo_author}")
        raise _Busy(f"another process goes on with correction {before.id}")

    def _with_retries(self, work: Callable[[], T]) -> T:
        why = ""
        for _ in range(_TRIES):
            try:
                return work()
            except _Busy:
                raise
            except DuplicateKey:
                # Another process drew the same tag, and made an id in the same microsecond.
                self._ids.renew()
                why = "ids of two processes collide"
            except Unavailable as error:
                why = error.message
            time.sleep(_PAUSE_SECONDS)
        raise Unavailable(f"{why}; what was loaded so far stays: run the same command again to go on")


class _Busy(Unavailable):
    """Another process goes on with this backfill."""
