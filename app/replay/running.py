"""A replay: batch after batch in ascending order of ids, each one transaction that also says how far it came.

So it can be stopped at any moment, by Ctrl-C or by a power cut; the same words go on from there. Calls are run
outside the transaction, which is short: calls that come in meanwhile wait for it on SQLite only.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b

import msgspec

from app.catalog.live import Catalog
from app.core.lotus import DIGEST_BYTES
from app.core.transform import Transform, TransformSet
from app.errors import NotFound, TransformInvalid, Unavailable
from app.replay.batch import Writing, unstorable, write
from app.replay.checkpoints import Checkpoints
from app.replay.foreseeing import foresee
from app.replay.judging import Judge, Judged
from app.replay.planning import Asked, Plan, Tally, to_scope
from app.replay.reading import Ahead, Batch, Reader
from app.store.engine import Database, DuplicateKey, RowRefused
from app.store.ids import Ids, first_id_at
from app.store.kept import count_ids
from app.store.replays import (
    Replay,
    Stale,
    append_replay,
    find_unfinished,
    list_voids,
    save_progress,
    take_turn,
)
from app.store.review import newest_call_id

_TRIES = 20
_PAUSE_SECONDS = 0.2
_GO_ON = "run the same command again to go on"


class Replayer:
    """Replays calls of one database."""

    def __init__(
        self, *, database: Database, catalog: Catalog, ids: Ids, clock: Callable[[], int], forwards: bool = False
    ) -> None:
        """`clock` gives microseconds since 1970; `forwards`: each event that is stored is to reach Lotus."""
        self._forwards = forwards
        self._database = database
        self._catalog = catalog
        self._ids = ids
        self._clock = clock

    def plan(self, asked: Asked, bounds: tuple[int | None, int | None], *, again: bool = False) -> Plan:
        """Say what is to be done, by the transforms that are live; `bounds` in microseconds since 1970.

        `again`: from the beginning, even where the same was stopped half-way.

        Raises:
            NotFound: there is no such transform, or none at all.
            TransformInvalid: the transform has no lane of its own.

        """
        what = msgspec.json.encode(asked).decode()
        with self._database.reading() as conn:
            self._catalog.refresh(conn)
            transforms = self._catalog.active
            fill = _find_fill(transforms, asked.transform)
            digest = _digest(transforms)
            unfinished = None if again else find_unfinished(conn, what)
            if unfinished is not None and unfinished.transforms == digest:
                tally = msgspec.json.decode(unfinished.counts, type=Tally)
                return Plan(asked=asked, replay=unfinished, resumed=True, transforms=transforms, fill=fill, tally=tally)
            since, until = bounds
            after = -1 if since is None else first_id_at(since) - 1
            last = newest_call_id(conn)
            if until is not None:
                last = min(last, first_id_at(until) - 1)
            total = count_ids(conn, to_scope(asked), after, last)
        now = self._clock()
        replay = Replay(
            id=self._ids.next(now),
            what=what,
            transforms=digest,
            cursor=after,
            until_id=last,
            total=total if asked.limit is None else min(total, asked.limit),
            counts="{}",
            started_at=now,
        )
        return Plan(asked=asked, replay=replay, resumed=False, transforms=transforms, fill=fill, tally=Tally())

    def run(self, plan: Plan, advance: Callable[[int], None]) -> None:
        """Do what is planned, and count it in `plan.tally`; `advance` is told of the calls of each batch.

        Raises:
            Unavailable: the database cannot be used now, or another process goes on with this very replay.

        """
        if not plan.resumed:
            with self._database.writing() as conn:
                append_replay(conn, plan.replay)
        reader = self._reader(plan)
        with ThreadPoolExecutor(1, "replay") as thread, ThreadPoolExecutor(1, "checkpoint") as checkpoint_thread:
            checkpoints = Checkpoints(checkpoint_thread, self._database)
            batch = self._read_patiently(plan, reader, None)
            while plan.replay.finished_at is None:
                judged, cursor = batch
                # These are other calls, so nothing here waits for the writing.
                following = Ahead(thread, reader, cursor, plan.tally.read + len(judged))
                as_read = self._write_patiently(plan, reader, batch, following)
                checkpoints.after_batch(following)
                batch = self._read_patiently(plan, reader, following if as_read else None)
                advance(len(judged))

    def try_out(self, plan: Plan, advance: Callable[[int], None]) -> None:
        """Count what `run` would do, and write nothing. Raises Unavailable."""
        reader = self._reader(plan)
        cursor = plan.replay.cursor
        while True:
            judged, cursor = reader.read(cursor, plan.tally.read)
            if not judged:
                return
            foresee(self._database, plan.tally, judged)
            plan.tally.read += len(judged)
            advance(len(judged))

    def list_voids(self, plan: Plan) -> list[str]:
        """Return the idempotency ids of the events that it made void."""
        with self._database.reading() as conn:
            return list_voids(conn, plan.replay.id)

    def _reader(self, plan: Plan) -> Reader:
        return Reader(self._database, plan, Judge(plan.transforms, fill=plan.fill, corrects=plan.asked.correct))

    def _write_patiently(self, plan: Plan, reader: Reader, batch: Batch, following: Ahead) -> bool:
        """Write one batch, and again where the database was busy or a call changed meanwhile.

        Return whether it was written as it was read first: then what was read ahead is what follows it.
        """
        as_read, why = True, ""
        for _ in range(_TRIES):
            try:
                if not as_read:
                    batch = reader.read(plan.replay.cursor, plan.tally.read)
                self._write(plan, batch, following)
            except Stale:
                self._check_ours(plan)
                as_read, why = False, "calls change under it"
            except DuplicateKey:
                # Another process drew our tag and met our microsecond.
                self._ids.renew()
                why = "ids of two processes meet"
            except Unavailable as error:
                why = error.message
                time.sleep(_PAUSE_SECONDS)
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
                time.sleep(_PAUSE_SECONDS)
        raise Unavailable(f"{why}; {_GO_ON}")

    def _check_ours(self, plan: Plan) -> None:
        with self._database.reading() as conn:
            there = find_unfinished(conn, plan.replay.what)
        if there is None or (there.id, there.cursor) != (plan.replay.id, plan.replay.cursor):
            raise Unavailable("another process goes on with this replay")

    def _write(self, plan: Plan, batch: Batch, following: Ahead) -> None:
        judged, cursor = batch
        if self._database.file is None:
            following.begin()
        try:
            self._transact(plan, judged, cursor, following, finished=not judged)
        except DuplicateKey:
            raise
        except RowRefused as refused:
            self._halve(plan, judged, refused)
            self._transact(plan, [], cursor)

    def _transact(
        self,
        plan: Plan,
        judged: Sequence[Judged],
        cursor: int,
        following: Ahead | None = None,
        *,
        finished: bool = False,
    ) -> None:
        tally = msgspec.json.decode(msgspec.json.encode(plan.tally), type=Tally)
        tally.read += len(judged)
        now = self._clock()
        # What a power cut takes away is done again: nobody was told of it. The end of a replay makes all of it last.
        with self._database.writing(durable=finished) as conn:
            take_turn(conn)
            writing = Writing(
                conn=conn,
                replay_id=plan.replay.id,
                map_again=self._catalog.map_again,
                next_id=lambda _received_at: self._ids.next(now),
                tag=self._ids.tag,
                now=now,
                forwards=self._forwards,
            )
            tally.add(write(writing, tally.left_to_do(judged)))
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

    def _halve(self, plan: Plan, judged: Sequence[Judged], refused: RowRefused) -> None:
        """Find the call that the database refuses by halving, so that all others are replayed."""
        if len(judged) == 1:
            self._transact(plan, [unstorable(judged[0], str(refused))], plan.replay.cursor)
            return
        middle = len(judged) // 2
        for part in (judged[:middle], judged[middle:]):
            try:
                self._transact(plan, part, plan.replay.cursor)
            except DuplicateKey:
                raise
            except RowRefused as again:
                self._halve(plan, part, again)


def _find_fill(transforms: TransformSet, name: str | None) -> Transform | None:
    if not transforms.transforms:
        raise NotFound("no transform is live; `segment-lotus transforms publish` makes them so")
    if name is None:
        return None
    found = next((one for one in transforms.transforms if one.name == name), None)
    if found is None:
        raise NotFound(f"no transform {name} is live")
    if not found.also:
        raise TransformInvalid(f"{name} has no lane of its own to fill: it does not say `also: true`")
    return found


def _digest(transforms: TransformSet) -> bytes:
    """Digest of the versions of a set."""
    return blake2b(b"".join(one.digest for one in transforms.transforms), digest_size=DIGEST_BYTES).digest()
