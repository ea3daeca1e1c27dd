"""Runs a replay: batch after batch in ascending order of ids, each one transaction that also stores the progress.

So it can be stopped at any time, by Ctrl-C or by a power cut; the same request resumes it. Calls are run outside the
transaction, which is short: incoming calls wait for it on SQLite only.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from app.catalog.live import Catalog
from app.errors import Unavailable
from app.replay.batch import decide_unstorable, write
from app.replay.checkpoints import Checkpoints
from app.replay.context import BatchContext, Hooks
from app.replay.correction_batch import REASON, advance, check_running, new_correction
from app.replay.decide import Decider, Decision
from app.replay.parameters import to_texts
from app.replay.plan import Plan, ReplayRequest, Tally, append_plan, make_plan, to_scope
from app.replay.reader import Batch, ReadAhead, Reader
from app.replay.sql_rehearsal import Rehearsal
from app.replay.sql_replays import (
    find_unfinished,
    list_voids,
    save_progress,
)
from app.store.corrections import Attribution, save_step
from app.store.engine import Database, DuplicateKey, RowRefused
from app.store.ids import Ids, first_id_at
from app.store.kept import count_ids
from app.store.review import newest_call_id
from app.store.updates import Stale
from app.store.voids import lock_replays

_TRIES = 20
_PAUSE_SECONDS = 0.2
_RESUME_HINT = "run the same command again to resume"

_OVERLAP_SECONDS = 60
"""Ids are made from the clocks of nodes, which differ."""


class _RolledBack(Exception):
    """Raised to roll a transaction back."""


class Replayer:
    """Replays calls of one database."""

    def __init__(
        self,
        *,
        database: Database,
        catalog: Catalog,
        ids: Ids,
        clock: Callable[[], int],
        hooks: Hooks,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`clock` gives microseconds since 1970; `sleep` takes seconds."""
        self._hooks = hooks
        self._sleep = sleep
        self._database = database
        self._catalog = catalog
        self._ids = ids
        self._clock = clock

    def plan(
        self,
        request: ReplayRequest,
        bounds: tuple[int | None, int | None],
        attribution: Attribution | None = None,
        *,
        again: bool = False,
    ) -> Plan:
        """Plan a replay by the transforms that are live; `bounds` in microseconds since 1970.

        `attribution`: of a new correction; one that is resumed keeps its own. `again`: start over, even if the same
        replay was stopped half-way.

        Raises:
            NotFound: there is no such transform, or none at all.
            TransformInvalid: the transform has no lane of its own.

        """
        self._catalog.refresh(self._database)
        now = self._clock()
        with self._database.reading() as conn:
            plan = make_plan(conn, self._catalog.active, request, bounds, self._ids.next(now), now, again=again)
        if request.correct and plan.correction is None:
            attribution = attribution or Attribution(author="unknown", reason=REASON)
            plan.correction = new_correction(plan.replay.id, to_texts(request), attribution, now)
        return plan

    def run(self, plan: Plan, advance: Callable[[int], None]) -> None:
        """Carry out the plan, and count in `plan.tally`; `advance` gets the number of calls of each batch.

        A correction that begins just after a publication waits at its end until all nodes map by it, and then reads the
        calls of that time once more: some were mapped by the previous version, or became visible late.

        Raises:
            Unavailable: the database cannot be used now, or another process runs this replay.

        """
        if not plan.resumed:
            with self._database.writing() as conn:
                append_plan(conn, plan)
        reader = self._reader(plan)
        catches_up = plan.catches_up
        tail = first_id_at(min(plan.published_at, plan.replay.started_at) - _OVERLAP_SECONDS * 1_000_000)
        with ThreadPoolExecutor(1, "replay") as thread, ThreadPoolExecutor(1, "checkpoint") as checkpoint_thread:
            checkpoints = Checkpoints(checkpoint_thread, self._database)
            batch = self._read_with_retries(plan, reader, None)
            while plan.replay.finished_at is None:
                decisions, cursor = batch
                if not decisions and catches_up:
                    catches_up = False
                    self._wait_until_spread(plan, advance)
                    self._rewind(plan, tail, len(reader.read_ids))
                    batch = self._read_with_retries(plan, reader, None)
                    continue
                # The next batch has other calls, so reading it need not wait for the writing.
                following = ReadAhead(thread, reader, cursor, plan.tally.read + len(decisions))
                as_read = self._write_with_retries(plan, reader, batch, following)
                if catches_up:
                    reader.read_ids.update(decision.row.id for decision in decisions if decision.row.id >= tail)
                checkpoints.after_batch(following)
                batch = self._read_with_retries(plan, reader, following if as_read else None)
                advance(len(decisions))

    def dry_run(self, plan: Plan, advance: Callable[[int], None]) -> None:
        """Count what `run` would do, by doing it in transactions that are rolled back. Raises Unavailable.

        Each begins with what the earlier ones wrote under its keys, so the numbers are those of the run, as long as
        nobody else writes meanwhile.
        """
        reader = self._reader(plan, is_dry=True)
        with contextlib.closing(Rehearsal()) as rehearsal:
            while (batch := reader.read(plan.replay.cursor, plan.tally.read))[0]:
                before = plan.tally.read
                self._write_with_retries(plan, reader, batch, rehearsal)
                advance(plan.tally.read - before)

    def count_mapped(self, plan: Plan, seconds: float) -> tuple[int, int]:
        """Map the calls of a plan for some seconds; return how many its `mapped_by` map, and of how many calls."""
        return self._reader(plan, is_dry=True).count_mapped(plan.replay.cursor, seconds)

    def list_voids(self, plan: Plan) -> list[str]:
        """Return the idempotency ids of the events that a replay voided."""
        with self._database.reading() as conn:
            return list_voids(conn, plan.replay.id)

    def _wait_until_spread(self, plan: Plan, advance: Callable[[int], None]) -> None:
        while (left := plan.spread_at - self._clock()) > 0:
            self._sleep(min(left / 1_000_000, _PAUSE_SECONDS))
            advance(0)

    def _rewind(self, plan: Plan, tail: int, reread: int) -> None:
        """Move the cursor back to the id `tail` and the end to the newest call; `reread` calls there are skipped.

        Raises Unavailable.
        """
        with self._database.writing() as conn:
            until_id = newest_call_id(conn)
            cursor = min(plan.replay.cursor, tail - 1)
            total = plan.tally.read + count_ids(conn, to_scope(plan), cursor, until_id) - reread
            replay = msgspec.structs.replace(
                plan.replay, cursor=cursor, until_id=until_id, total=total, progress_at=self._clock()
            )
            save_progress(conn, replay, plan.replay.cursor)
        plan.replay = replay

    def _reader(self, plan: Plan, *, is_dry: bool = False) -> Reader:
        request = plan.request
        decider = Decider(plan.transforms, fill=plan.fill, corrects=request.correct, mapped_by=request.mapped_by)
        return Reader(self._database, plan, decider, is_dry)

    def _write_with_retries(self, plan: Plan, reader: Reader, batch: Batch, following: ReadAhead | Rehearsal) -> bool:
        """Write one batch, retrying if the database is busy or a call changed meanwhile.

        Return whether it was written as first read: only then is the batch that was read ahead the one that follows.
        With a rehearsal in place of read-ahead it is a dry run.
        """
        as_read, why = True, ""
        for _ in range(_TRIES):
            try:
                if not as_read:
                    batch = reader.read(plan.replay.cursor, plan.tally.read)
                self._write(plan, batch, following)
            except Stale:
                if isinstance(following, ReadAhead):
                    self._check_ours(plan)
                as_read, why = False, "its calls keep changing"
            except DuplicateKey:
                # Another process drew the same tag, and made an id in the same microsecond.
                self._ids.renew()
                why = "ids of two processes collide"
            except Unavailable as error:
                why = error.message
                self._sleep(_PAUSE_SECONDS)
            else:
                return as_read
        raise Unavailable(f"{why}; {_RESUME_HINT}")

    def _read_with_retries(self, plan: Plan, reader: Reader, following: ReadAhead | None) -> Batch:
        """Return the batch that was read ahead, if any; else read it, retrying if the database is busy."""
        why = ""
        for _ in range(_TRIES):
            try:
                return following.result() if following else reader.read(plan.replay.cursor, plan.tally.read)
            except Unavailable as error:
                following, why = None, error.message
                self._sleep(_PAUSE_SECONDS)
        raise Unavailable(f"{why}; {_RESUME_HINT}")

    def _check_ours(self, plan: Plan) -> None:
        with self._database.reading() as conn:
            unfinished = find_unfinished(conn, plan.replay.what)
            if plan.correction is not None:
                check_running(conn, plan.correction)
        if unfinished is None or (unfinished.id, unfinished.cursor) != (plan.replay.id, plan.replay.cursor):
            raise Unavailable("another process runs this replay")

    def _write(self, plan: Plan, batch: Batch, following: ReadAhead | Rehearsal) -> None:
        decisions, cursor = batch
        if isinstance(following, ReadAhead) and self._database.file is None:
            following.begin()
        try:
            self._transact(plan, decisions, cursor, following, finished=not decisions)
        except DuplicateKey:
            raise
        except RowRefused as refused:
            rehearsal = following if isinstance(following, Rehearsal) else None
            self._bisect(plan, decisions, refused, rehearsal)
            self._transact(plan, [], cursor, rehearsal)

    def _transact(
        self,
        plan: Plan,
        decisions: Sequence[Decision],
        cursor: int,
        following: ReadAhead | Rehearsal | None = None,
        *,
        finished: bool = False,
    ) -> None:
        """Write decisions in one transaction; with a rehearsal, count what that does and roll back."""
        tally = msgspec.json.decode(msgspec.json.encode(plan.tally), type=Tally)
        tally.read += len(decisions)
        now = self._clock()
        replay = msgspec.structs.replace(plan.replay, cursor=cursor, progress_at=now)
        correction = plan.correction
        # What a power cut undoes is replayed again: nobody was told of it. The last commit makes all of it durable.
        with contextlib.suppress(_RolledBack), self._database.writing(durable=finished) as conn:
            lock_replays(conn)
            context = BatchContext(
                conn=conn,
                replay_id=plan.replay.id,
                correction=correction,
                map_again=self._catalog.map_again,
                next_id=lambda _received_at: self._ids.next(now),
                tag=self._ids.tag,
                now=now,
                hooks=self._hooks,
                is_rehearsal=isinstance(following, Rehearsal),
            )
            written = tally.without_skipped(decisions)
            if isinstance(following, Rehearsal):
                following.restore(conn, written)
            result = write(context, written)
            tally.add(result)
            if correction is not None:
                correction = advance(correction, result, cursor, now if finished else None)
            if isinstance(following, Rehearsal):
                following.note(conn, written, {call_id for call_id, _ in result.notes})
                raise _RolledBack
            replay.counts = msgspec.json.encode(tally).decode()
            replay.finished_at = now if finished else None
            save_progress(conn, replay, plan.replay.cursor)
            if plan.correction is not None and correction is not None:
                save_step(conn, plan.correction, correction)
            if following is not None:
                following.begin()
        plan.tally, plan.replay, plan.correction = tally, replay, correction

    def _bisect(
        self, plan: Plan, decisions: Sequence[Decision], refusal: RowRefused, rehearsal: Rehearsal | None
    ) -> None:
        """Find the call that the database refuses by bisection, so that all others are replayed."""
        if len(decisions) == 1:
            self._transact(plan, [decide_unstorable(decisions[0], refusal)], plan.replay.cursor, rehearsal)
            return
        middle = len(decisions) // 2
        for part in (decisions[:middle], decisions[middle:]):
            try:
                self._transact(plan, part, plan.replay.cursor, rehearsal)
            except DuplicateKey:
                raise
            except RowRefused as again:
                self._bisect(plan, part, again, rehearsal)
