"""A replay: batch after batch in ascending order of ids, each one transaction that also says how far it came.

So it can be stopped at any moment, by Ctrl-C or by a power cut; the same words go on from there. Calls are run
outside the transaction, which is short: calls that come in meanwhile wait for some 50 ms at most, on SQLite only.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from app.catalog.live import Catalog
from app.core.lotus import DIGEST_BYTES
from app.core.outcome import Outcome, Reason
from app.core.transform import Transform, TransformSet
from app.errors import NotFound, TransformInvalid, Unavailable
from app.replay.batch import Writing, Written, unstorable, write
from app.replay.judging import REMOVED, Judge, Judged
from app.store.calls import to_detail
from app.store.engine import Database, DuplicateKey, RowRefused
from app.store.events import find_claims, find_stored
from app.store.ids import Ids, first_id_at
from app.store.kept import Scope, count_ids, find_ids, list_own_events, read_kept
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

BATCH = 1000
"""Calls in one transaction."""

_TRIES = 20
_PAUSE_SECONDS = 0.2


_Batch = tuple[list[Judged], int]
"""Calls, and the id of the last one."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be replayed, in the words it was asked in: the same words go on with what was stopped."""

    outcomes: tuple[Outcome, ...]
    event: str | None = None
    reason: Reason | None = None
    by: str | None = None
    """Name of the transform that decided then."""
    version: str | None = None
    """The version of it, in hexadecimal digits."""
    since: str | None = None
    until: str | None = None
    transform: str | None = None
    call_id: int | None = None
    limit: int | None = None
    correct: bool = False


class Tally(msgspec.Struct, kw_only=True):
    """What became of the calls of a replay."""

    read: int = 0
    same: int = 0
    """They end today as they did."""
    changed: dict[str, int] = {}
    """By `before > now`."""
    corrected: int = 0
    """Calls of which an event was replaced or added."""
    voided: int = 0
    """Events."""
    left: dict[str, int] = {}
    """Calls that are left as they are, by the reason why."""
    samples: dict[str, str] = {}
    """The first call of each such reason, and of each change."""

    @property
    def removed(self) -> int:
        """Return how many calls had lost their bytes to retention."""
        return self.left.get(REMOVED, 0)

    def note(self, call_id: int, why: str) -> None:
        """Count a call that is left as it is."""
        self.left[why] = self.left.get(why, 0) + 1
        self.samples.setdefault(why, str(call_id))

    def add(self, written: Written) -> None:
        """Count what a batch did."""
        self.same += written.same
        self.corrected += written.corrected
        self.voided += written.voided
        for (before, now), count in written.changed.items():
            self.change(before, now, count)
        for call_id, why in written.notes:
            self.note(call_id, why)

    def change(self, before: str, now: str, count: int = 1) -> None:
        """Count calls whose outcome is another one."""
        key = f"{before} > {now}"
        self.changed[key] = self.changed.get(key, 0) + count


@dataclass(slots=True, kw_only=True)
class Plan:
    """What a replay would do, before it does it."""

    asked: Asked
    replay: Replay
    resumed: bool
    """It goes on with one that was stopped."""
    transforms: TransformSet
    fill: Transform | None
    tally: Tally

    @property
    def left(self) -> int:
        """Return how many calls there are still to read, about."""
        return max(0, self.replay.total - self.tally.read)


class Replayer:
    """Replays calls of one database."""

    def __init__(self, *, database: Database, catalog: Catalog, ids: Ids, clock: Callable[[], int]) -> None:
        """`clock` gives microseconds since 1970."""
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
            total = count_ids(conn, _scope(asked), after, last)
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
        judge = Judge(plan.transforms, fill=plan.fill, corrects=plan.asked.correct)
        with ThreadPoolExecutor(1, "replay") as ahead:
            # While the database works, the next calls are run. They are others, so nothing here waits for the writing.
            batch = self._read(plan, judge, plan.replay.cursor, plan.tally.read)
            while plan.replay.finished_at is None:
                judged, cursor = batch
                following = ahead.submit(self._read, plan, judge, cursor, plan.tally.read + len(judged))
                batch = self._patiently(plan, judge, batch, following)
                advance(len(judged))

    def try_out(self, plan: Plan, advance: Callable[[int], None]) -> None:
        """Count what `run` would do, and write nothing.

        Of calls that would make the same event only the first will be stored: here each counts as stored, unless the
        event is there already.
        """
        judge = Judge(plan.transforms, fill=plan.fill, corrects=plan.asked.correct)
        cursor = plan.replay.cursor
        while True:
            judged, cursor = self._read(plan, judge, cursor, plan.tally.read)
            if not judged:
                return
            self._foresee(plan.tally, judged)
            plan.tally.read += len(judged)
            advance(len(judged))

    def list_voids(self, plan: Plan) -> list[str]:
        """Return the idempotency ids of the events that it made void."""
        with self._database.reading() as conn:
            return list_voids(conn, plan.replay.id)

    def _patiently(self, plan: Plan, judge: Judge, batch: _Batch, following: Future[_Batch]) -> _Batch:
        """Write one batch, and again where the database was busy or a call changed meanwhile; return the next one."""
        written, read_again, why = False, False, ""
        for _ in range(_TRIES):
            try:
                if read_again:
                    batch = self._read(plan, judge, plan.replay.cursor, plan.tally.read)
                if not written:
                    self._write(plan, batch)
                    written = True
                    if not read_again:
                        return following.result()
                    continue
            except Stale:
                self._check_ours(plan)
                read_again, why = True, "calls change under it"
            except DuplicateKey:
                # Another process drew our tag and met our microsecond.
                self._ids.renew()
                why = "ids of two processes meet"
            except Unavailable as error:
                read_again, why = written, error.message
                time.sleep(_PAUSE_SECONDS)
            else:
                return batch
        raise Unavailable(f"{why}; run the same command again to go on")

    def _check_ours(self, plan: Plan) -> None:
        with self._database.reading() as conn:
            there = find_unfinished(conn, plan.replay.what)
        if there is None or (there.id, there.cursor) != (plan.replay.id, plan.replay.cursor):
            raise Unavailable("another process goes on with this replay")

    def _write(self, plan: Plan, batch: _Batch) -> None:
        judged, cursor = batch
        try:
            self._transact(plan, judged, cursor, finished=not judged)
        except DuplicateKey:
            raise
        except RowRefused as refused:
            self._halve(plan, judged, refused)
            self._transact(plan, [], cursor)

    def _read(self, plan: Plan, judge: Judge, cursor: int, done: int) -> _Batch:
        """Read and run the calls after `cursor`; `done` were read before."""
        most = BATCH if plan.asked.limit is None else min(BATCH, plan.asked.limit - done)
        if most <= 0:
            return [], cursor
        with self._database.reading() as conn:
            ids = find_ids(conn, _scope(plan.asked), cursor, plan.replay.until_id, most)
            rows = read_kept(conn, ids)
            made = list_own_events(conn, [row.id for row in rows if row.outcome in _WITH_EVENTS])
        return [judge.judge(row, made.get(row.id, ())) for row in rows], rows[-1].id if rows else cursor

    def _transact(self, plan: Plan, judged: Sequence[Judged], cursor: int, *, finished: bool = False) -> None:
        tally = msgspec.json.decode(msgspec.json.encode(plan.tally), type=Tally)
        tally.read += len(judged)
        now = self._clock()
        with self._database.writing() as conn:
            take_turn(conn)
            writing = Writing(
                conn=conn,
                replay_id=plan.replay.id,
                map_again=self._catalog.map_again,
                next_id=lambda _received_at: self._ids.next(now),
                tag=self._ids.tag,
                now=now,
            )
            tally.add(write(writing, _todo(tally, judged)))
            replay = msgspec.structs.replace(
                plan.replay,
                cursor=cursor,
                counts=msgspec.json.encode(tally).decode(),
                finished_at=now if finished else None,
            )
            save_progress(conn, replay, plan.replay.cursor)
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

    def _foresee(self, tally: Tally, judged: Sequence[Judged]) -> None:
        todo = _todo(tally, judged)
        lanes = [(one, lane) for one in todo if one.run is not None for lane in one.run.lanes]
        with self._database.reading() as conn:
            claims = find_claims(conn, (one.row.message_id for one, _ in lanes if one.row.message_id is not None))
            there = find_stored(conn, (event.idempotency_id for _, lane in lanes for event in lane.events))
        known: set[int] = set()
        for one, lane in lanes:
            rivals = [claims.get((one.row.message_id or "", lane.name))]
            found = [there.get(event.idempotency_id) for event in lane.events]
            if any(rival is not None and rival.call_id != one.row.id for rival in (*rivals, *found)):
                known.add(one.row.id)
        for one in todo:
            row, done = one.row, one.run
            if one.correction is not None:
                tally.corrected += 1
                tally.voided += sum(event.old is not None for event in one.correction.replacements)
            elif done is None or done.outcome is not None:
                same = done is None or (done.outcome, done.reason, to_detail(done.detail)) == (
                    row.outcome,
                    row.reason,
                    row.detail,
                )
                if same or done is None or done.outcome is None:
                    tally.same += 1
                else:
                    tally.change(row.outcome, done.outcome)
            elif row.id in known and row.outcome in {Outcome.CONFLICT, Outcome.DUPLICATE}:
                tally.same += 1
            else:
                tally.change(row.outcome, "duplicate or conflict" if row.id in known else Outcome.STORED)


_WITH_EVENTS = {Outcome.STORED, Outcome.CONFLICT}


def _todo(tally: Tally, judged: Sequence[Judged]) -> list[Judged]:
    """Return the calls of which something is to be done; count the others."""
    for one in judged:
        if one.note is not None:
            tally.note(one.row.id, one.note)
    return [one for one in judged if one.note is None]


def _scope(asked: Asked) -> Scope:
    return Scope(
        outcomes=asked.outcomes,
        event=asked.event,
        reason=asked.reason,
        by=asked.by,
        version=bytes.fromhex(asked.version) if asked.version else None,
        call_id=asked.call_id,
    )


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
