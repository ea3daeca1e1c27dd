"""A replay: batch after batch in ascending order of ids, each one transaction that also says how far it came.

So it can be stopped at any moment, by Ctrl-C or by a power cut; the same words go on from there. Calls are run
outside the transaction, which is short: calls that come in meanwhile wait for it on SQLite only.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from app.catalog.live import Catalog
from app.errors import Unavailable
from app.replay.batch import BatchContext, Hooks, unstorable, write
from app.replay.checkpoints import Checkpoints
from app.replay.decide import Decider, Decision
from app.replay.plan import Plan, ReplayRequest, Tally, make_plan, to_scope
from app.replay.reader import Ahead, Batch, Reader
from app.replay.sql_replays import (
    Stale,
    append_replay,
    find_unfinished,
    list_voids,
    lock_replays,
    save_progress,
)
from app.store.engine import Database, DuplicateKey, RowRefused
from app.store.ids import Ids, first_id_at
from app.store.kept import count_ids
from app.store.review import newest_call_id

_TRIES = 20
_PAUSE_SECONDS = 0.2
_GO_ON = "run the same command again to go on"

_SPREAD_SECONDS = 15
"""After so long no call becomes visible any more that was mapped by what was live before: all nodes map by a new
version within 2 s, a commit waits 3 s for the database, and a transaction lasts 10 s at most."""

_OVERLAP_SECONDS = 60
"""Clocks of nodes differ, and ids are made by them."""


class _Undone(Exception):
    """Ends a transaction of which nothing is to stay."""


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

    def plan(self, asked: ReplayRequest, bounds: tuple[int | None, int | None], *, again: bool = False) -> Plan:
        """Say what is to be done, by the transforms that are live; `bounds` in microseconds since 1970.

        `again`: from the beginning, even where the same was stopped half-way.

        Raises:
            NotFound: there is no such transform, or none at all.
            TransformInvalid: the transform has no lane of its own.

        """
        self._catalog.refresh(self._database)
        now = self._clock()
        with self._database.reading() as conn:
            return make_plan(conn, self._catalog.active, asked, bounds, self._ids.next(now), now, again=again)

    def run(self, plan: Plan, advance: Callable[[int], None]) -> None:
        """Do what is planned, and count it in `plan.tally`; `advance` is told of the calls of each batch.

        A correction that begins just after a publication ends by waiting until all nodes map by it, and then reads the
        calls of that time once more: some were mapped by the version before, or became visible late.

        Raises:
            Unavailable: the database cannot be used now, or another process goes on with this very replay.

        """
        if not plan.resumed:
            with self._database.writing() as conn:
                append_replay(conn, plan.replay)
        reader = self._reader(plan)
        catches_up = self._catches_up(plan)
        tail = first_id_at(min(plan.published_at, plan.replay.started_at) - _OVERLAP_SECONDS * 1_000_000)
        with ThreadPoolExecutor(1, "replay") as thread, ThreadPoolExecutor(1, "checkpoint") as checkpoint_thread:
            checkpoints = Checkpoints(checkpoint_thread, self._database)
            batch = self._read_patiently(plan, reader, None)
            while plan.replay.finished_at is None:
                judged, cursor = batch
                if not judged and catches_up:
                    catches_up = False
                    self._wait_until_spread(plan, advance)
                    self._rewind(plan, tail, len(reader.seen))
                    batch = self._read_patiently(plan, reader, None)
                    continue
                # These are other calls, so nothing here waits for the writing.
                following = Ahead(thread, reader, cursor, plan.tally.read + len(judged))
                as_read = self._write_patiently(plan, reader, batch, following)
                if catches_up:
                    reader.seen.update(one.row.id for one in judged if one.row.id >= tail)
                checkpoints.after_batch(following)
                batch = self._read_patiently(plan, reader, following if as_read else None)
                advance(len(judged))

    def try_out(self, plan: Plan, advance: Callable[[int], None]) -> None:
        """Count what `run` would do, by doing it in transactions that are undone. Raises Unavailable.

        Each begins from what is stored, so of the calls of one message, or of one idempotency id, that lie more than a
        batch apart each counts as if it were the first.
        """
        reader = self._reader(plan)
        while True:
            batch = reader.read(plan.replay.cursor, plan.tally.read)
            if not batch[0]:
                return
            self._write_patiently(plan, reader, batch, None)
            plan.replay = msgspec.structs.replace(plan.replay, cursor=batch[1])
            advance(len(batch[0]))

    def list_voids(self, plan: Plan) -> list[str]:
        """Return the idempotency ids of the events that it made void."""
        with self._database.reading() as conn:
            return list_voids(conn, plan.replay.id)

    def _catches_up(self, plan: Plan) -> bool:
        bounded = plan.asked.limit is not None or plan.asked.until is not None or plan.asked.call_id is not None
        return plan.asked.correct and not bounded and plan.replay.started_at < _spread_at(plan)

    def _wait_until_spread(self, plan: Plan, advance: Callable[[int], None]) -> None:
        while (left := _spread_at(plan) - self._clock()) > 0:
            self._sleep(min(left / 1_000_000, _PAUSE_SECONDS))
            advance(0)

    def _rewind(self, plan: Plan, tail: int, seen: int) -> None:
        """Go back to the id `tail`, to read on to the newest call that there is now, `seen` ones left out.

        Raises Unavailable.
        """
        with self._database.writing() as conn:
            until_id = newest_call_id(conn)
            cursor = min(plan.replay.cursor, tail - 1)
            total = plan.tally.read + count_ids(conn, to_scope(plan), cursor, until_id) - seen
            replay = msgspec.structs.replace(
                plan.replay, cursor=cursor, until_id=until_id, total=total, progress_at=self._clock()
            )
            save_progress(conn, replay, plan.replay.cursor)
        plan.replay = replay

    def _reader(self, plan: Plan) -> Reader:
        return Reader(self._database, plan, Decider(plan.transforms, fill=plan.fill, corrects=plan.asked.correct))

    def _write_patiently(self, plan: Plan, reader: Reader, batch: Batch, following: Ahead | None) -> bool:
        """Write one batch, and again where the database was busy or a call changed meanwhile.

        Return whether it was written as it was read first: then what was read ahead is what follows it. Nothing is read
        ahead (`following` None): it is only tried, and undone.
        """
        as_read, why = True, ""
        for _ in range(_TRIES):
            try:
                if not as_read:
                    batch = reader.read(plan.replay.cursor, plan.tally.read)
                self._write(plan, batch, following)
            except Stale:
                if following is not None:
                    self._check_ours(plan)
                as_read, why = False, "calls change under it"
            except DuplicateKey:
                # Another process drew our tag and met our microsecond.
                self._ids.renew()
                why = "ids of two processes meet"
            except Unavailable as error:
                why = error.message
                self._sleep(_PAUSE_SECONDS)
            else:
                return as_read
        raise Unavailable(f"{why}; {_GO_ON}")

    def _read_patiently(self, plan: Plan, reader: Reader, following: Ahead | None) -> Batch:
        """Return what was read ahead, where it is that; else read, and again where the database was busy."""
        why = ""
        for _ in range(_TRIES):
            try:
                return following.result() if following else reader.read(plan.replay.cursor, plan.tally.read)
            except Unavailable as error:
                following, why = None, error.message
                self._sleep(_PAUSE_SECONDS)
        raise Unavailable(f"{why}; {_GO_ON}")

    def _check_ours(self, plan: Plan) -> None:
        with self._database.reading() as conn:
            there = find_unfinished(conn, plan.replay.what)
        if there is None or (there.id, there.cursor) != (plan.replay.id, plan.replay.cursor):
            raise Unavailable("another process goes on with this replay")

    def _write(self, plan: Plan, batch: Batch, following: Ahead | None) -> None:
        judged, cursor = batch
        if following is not None and self._database.file is None:
            following.begin()
        tried = following is None
        try:
            self._transact(plan, judged, cursor, following, finished=not judged, tried=tried)
        except DuplicateKey:
            raise
        except RowRefused as refused:
            self._halve(plan, judged, refused, tried=tried)
            self._transact(plan, [], cursor, tried=tried)

    def _transact(
        self,
        plan: Plan,
        judged: Sequence[Decision],
        cursor: int,
        following: Ahead | None = None,
        *,
        finished: bool = False,
        tried: bool,
    ) -> None:
        """Write calls in one transaction, or count what writing them does and undo it (`tried`)."""
        tally = msgspec.json.decode(msgspec.json.encode(plan.tally), type=Tally)
        tally.read += len(judged)
        now = self._clock()
        replay = plan.replay
        # What a power cut takes away is done again: nobody was told of it. The end of a replay makes all of it last.
        with contextlib.suppress(_Undone), self._database.writing(durable=finished) as conn:
            lock_replays(conn)
            writing = BatchContext(
                conn=conn,
                replay_id=plan.replay.id,
                map_again=self._catalog.map_again,
                next_id=lambda _received_at: self._ids.next(now),
                tag=self._ids.tag,
                now=now,
                hooks=self._hooks,
            )
            tally.add(write(writing, tally.left_to_do(judged)))
            if tried:
                raise _Undone
            replay = msgspec.structs.replace(
                plan.replay,
                cursor=cursor,
                counts=msgspec.json.encode(tally).decode(),
                finished_at=now if finished else None,
                progress_at=now,
            )
            save_progress(conn, replay, plan.replay.cursor)
            if following is not None:
                following.begin()
        plan.tally, plan.replay = tally, replay

    def _halve(self, plan: Plan, judged: Sequence[Decision], refused: RowRefused, *, tried: bool) -> None:
        """Find the call that the database refuses by halving, so that all others are replayed."""
        if len(judged) == 1:
            self._transact(plan, [unstorable(judged[0], str(refused))], plan.replay.cursor, tried=tried)
            return
        middle = len(judged) // 2
        for part in (judged[:middle], judged[middle:]):
            try:
                self._transact(plan, part, plan.replay.cursor, tried=tried)
            except DuplicateKey:
                raise
            except RowRefused as again:
                self._halve(plan, part, again, tried=tried)


def _spread_at(plan: Plan) -> int:
    """Return when all nodes map by what is live, and all that they mapped by something else is visible."""
    return plan.published_at + _SPREAD_SECONDS * 1_000_000
