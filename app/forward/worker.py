"""The worker: claims, sends, records results, in a loop. If it is killed, at worst its last batch is sent again."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from app.errors import Unavailable
from app.forward.lotus import MAX_EVENTS, TOO_LARGE, Lotus, encode_batch, encode_event, fits
from app.forward.sql_claims import Attempt, DeliveryResult, DueDelivery, claim, record_results, release, to_storable
from app.forward.sql_deliveries import DeliveryState, find_next_due
from app.forward.sql_destination import Destination, pause, probe_now, read_destination, resume, take_probe
from app.forward.timing import SECOND, TOO_OLD, back_off, is_too_old, pause_for, takes_from
from app.forward.verdict import ANSWER, BROKER, SERVER, AnswerVerdict, LotusAnswer, Trouble, read_verdict
from app.store import ledger
from app.store.engine import Connection, Database, RowRefused
from app.store.ids import Ids

LEASE_SECONDS = 60.0
IDLE_SECONDS = 0.5
GATHER_SECONDS = 0.25
"""The pause after a claim that took everything due: ingest waits for each batch's commits, so fewer are better."""

_CLAIMED = 1000
_ANSWER_BYTES = 20_000
# After this many consecutive refusals of whole requests, of no known kind, a single event is not the cause.
_STRANGE = 8
_RECORD_TRIES = 20

# Trouble that a single event may cause: that event is postponed, so that the others are tried.
_MAY_BE_THE_EVENT = {SERVER, BROKER, ANSWER}

_LOG = structlog.get_logger("forward")


@dataclass(frozen=True, slots=True)
class _Ready:
    """A claimed delivery with its encoded event."""

    waiting: DueDelivery
    encoded: bytes


_Batch = list[_Ready]


class ForwardWorker:
    """Forwards the events of one database to one Lotus. Not thread-safe."""

    def __init__(
        self,
        *,
        database: Database,
        ids: Ids,
        lotus: Lotus,
        clock: Callable[[], int],
        draw: Callable[[], float],
        lease_seconds: float = LEASE_SECONDS,
        timeout_seconds: float = 15.0,
        stopping: threading.Event | None = None,
    ) -> None:
        """`clock` gives microseconds since 1970, `draw` a random number from 0 to 1."""
        self._database = database
        self._ids = ids
        self._lotus = lotus
        self._clock = clock
        self._draw = draw
        self._lease = int(lease_seconds * SECOND)
        # A request on a reused connection may be sent a second time, see app.forward.lotus.
        self._spare = int(min(2 * timeout_seconds + 5, lease_seconds / 2) * SECOND)
        self._size = MAX_EVENTS
        self._strange = 0
        self.stopping = stopping or threading.Event()
        """When set, the worker ends after the request in flight."""

    def run(self) -> None:
        """Forward until `stopping` is set."""
        begun = False
        while not self.stopping.is_set():
            try:
                if not begun:
                    self.begin()
                    begun = True
                wait = self.step()
            except (Unavailable, RowRefused) as error:
                _LOG.warning("the database cannot be used now", why=str(error))
                wait = 1.0
            except Exception as error:  # noqa: BLE001  a bug must not end forwarding; it is logged and retried
                _LOG.error("unexpected error", exc_info=error)
                wait = 5.0
            if wait:
                self.stopping.wait(wait)

    def begin(self) -> None:
        """Probe a paused destination now: a restart may bring a new key."""
        with self._database.writing() as conn:
            probe_now(conn)

    def step(self) -> float:
        """Send one claim of due events; return the seconds to wait before the next step. Raises Unavailable."""
        with self._database.reading() as conn:
            destination, due = read_destination(conn), find_next_due(conn)
        now = self._clock()
        if destination.trouble is not None:
            self._size = 1
            if now < destination.probe_at:
                return min(IDLE_SECONDS, (destination.probe_at - now) / SECOND)
            return self._probe(destination)
        if due is None or due > now:
            return IDLE_SECONDS
        token, held = self._claim(_CLAIMED)
        if not held:
            return IDLE_SECONDS
        self._send_all(token, held, destination)
        return 0.0 if len(held) == _CLAIMED else GATHER_SECONDS

    def _probe(self, destination: Destination) -> float:
        """Probe with one event, or with a ping if none is due."""
        with self._database.writing() as conn:
            if not take_probe(conn, destination, self._clock() + self._lease):
                return IDLE_SECONDS
        while not self.stopping.is_set():
            token, held = self._claim(1)
            if not held:
                self._ping(destination)
                break
            if self._send_all(token, held, destination):
                break
        return 0.0

    def _ping(self, destination: Destination) -> None:
        answer = self._lotus.ping()
        with self._database.writing() as conn:
            if answer.status == 200:  # noqa: PLR2004
                resume(conn)
                return
            verdict = read_verdict(answer, (), self._clock())
            trouble = verdict.trouble or Trouble(word=ANSWER, sentence=f"/api/ping/ answers {answer.status}")
            self._pause(conn, destination, trouble)

    def _claim(self, limit: int) -> tuple[int, list[DueDelivery]]:
        now = self._clock()
        token = self._ids.next(now)
        # Rows whose claim a power cut loses are claimed again.
        with self._database.writing(durable=False) as conn:
            return token, claim(conn, token, now, now + self._lease, limit)

    def _send_all(self, token: int, held: list[DueDelivery], destination: Destination) -> bool:
        """Send claimed deliveries, and release those that are not sent. Returns whether any request was made."""
        until = self._clock() + self._lease - self._spare
        ready = self._screen(token, held)
        halves: deque[_Batch] = deque()
        sent = False
        while ready or halves:
            if self.stopping.is_set() or self._clock() > until:
                break
            batch = halves.popleft() if halves else _cut(ready, self._size)
            sent = True
            answer, attempt = self._send(batch)
            verdict = self._read_answer(answer, batch)
            if verdict.split is not None:
                halves.extendleft((batch[len(batch) // 2 :], batch[: len(batch) // 2]))
                self._record(token, destination, attempt, [], undecided=batch)
                continue
            if verdict.trouble is not None:
                self._size = 1
                self._record(token, destination, attempt, self._results(verdict, batch, attempt), verdict.trouble)
                break
            self._size = min(self._size * 2, MAX_EVENTS)
            self._record(token, destination, attempt, self._results(verdict, batch, attempt))
            # As far as this worker knows, the destination is open again.
            destination = Destination()
        unsent = [item.waiting for batch in (*halves, ready) for item in batch]
        if unsent:
            with self._database.writing() as conn:
                release(conn, token, unsent)
        return sent

    def _screen(self, token: int, held: list[DueDelivery]) -> deque[_Ready]:
        """Record the deliveries that cannot be sent, or not yet; return the others, in order."""
        now = self._clock()
        ready: deque[_Ready] = deque()
        ended: list[DeliveryResult] = []
        for row in held:
            if row.voided_at is not None:
                # Voiding an event voids its delivery; this is for one that was queued all the same.
                ended.append(DeliveryResult(row.event_id, DeliveryState.VOIDED, row.due_at, row.tries))
            elif is_too_old(row.time_created, now):
                ended.append(
                    DeliveryResult(row.event_id, DeliveryState.UNFORWARDABLE, row.due_at, row.tries, None, TOO_OLD)
                )
            elif takes_from(row.time_created) > now:
                reason = "its time is more than a day ahead: Lotus accepts it later"
                due_at = takes_from(row.time_created)
                ended.append(DeliveryResult(row.event_id, DeliveryState.WAITING, due_at, row.tries, None, reason))
            elif not fits(1, len(encoded := encode_event(row))):
                ended.append(DeliveryResult(row.event_id, DeliveryState.FAILED, row.due_at, row.tries, None, TOO_LARGE))
            else:
                ready.append(_Ready(row, encoded))
        if ended:
            self._record(token, None, None, ended)
        return ready

    def _send(self, batch: _Batch) -> tuple[LotusAnswer, Attempt]:
        started_at = self._clock()
        began = time.perf_counter()
        answer = self._lotus.track(encode_batch([item.encoded for item in batch]))
        milliseconds = int((time.perf_counter() - began) * 1000)
        text = to_storable(answer.text()).encode()[:_ANSWER_BYTES].decode(errors="ignore")
        return answer, Attempt(self._ids.next(started_at), started_at, milliseconds, len(batch), answer.status, text)

    def _read_answer(self, answer: LotusAnswer, batch: _Batch) -> AnswerVerdict:
        """Interpret an answer; a request refused as a whole becomes a split, its one event's result, or a trouble."""
        ids = [item.waiting.idempotency_id for item in batch]
        verdict = read_verdict(answer, ids, self._clock())
        if verdict.split is None:
            self._strange = 0
            return verdict
        if not verdict.split_is_final:
            self._strange += 1
            if self._strange >= _STRANGE:
                self._strange = 0
                trouble = Trouble(word=ANSWER, sentence=f"Lotus refuses every batch: {verdict.split}")
                return AnswerVerdict(later=dict.fromkeys(ids, trouble.sentence), trouble=trouble)
        if len(batch) > 1:
            return verdict
        reasons = {ids[0]: verdict.split}
        return AnswerVerdict(failed=reasons) if verdict.split_is_final else AnswerVerdict(later=reasons)

    def _results(self, verdict: AnswerVerdict, batch: _Batch, attempt: Attempt) -> list[DeliveryResult]:
        now = self._clock()
        trouble = verdict.trouble
        own = trouble is None or (len(batch) == 1 and trouble.word in _MAY_BE_THE_EVENT)
        results = []
        for row in (ready.waiting for ready in batch):
            id_ = row.idempotency_id
            if id_ in verdict.delivered:
                results.append(DeliveryResult(row.event_id, DeliveryState.DELIVERED, row.due_at, row.tries, attempt.id))
            elif id_ in verdict.failed:
                reason = verdict.failed[id_]
                results.append(
                    DeliveryResult(row.event_id, DeliveryState.FAILED, row.due_at, row.tries + 1, attempt.id, reason)
                )
            else:
                reason = verdict.later.get(id_, "")
                due_at = now + back_off(row.tries + 1, self._draw()) if own else row.due_at
                results.append(
                    DeliveryResult(row.event_id, DeliveryState.WAITING, due_at, row.tries + own, attempt.id, reason)
                )
        return results

    def _record(
        self,
        token: int,
        destination: Destination | None,
        attempt: Attempt | None,
        results: list[DeliveryResult],
        trouble: Trouble | None = None,
        *,
        undecided: _Batch | None = None,
    ) -> None:
        """Record results, with retries: Lotus has the events, and a lost result would send them again."""
        for left in reversed(range(_RECORD_TRIES)):
            try:
                with self._database.writing() as conn:
                    now = self._clock()
                    undecided_ids = [item.waiting.event_id for item in undecided or ()]
                    counts = record_results(conn, token, now, attempt, results, undecided_ids)
                    ledger.append(conn, self._ids.tag, now, counts)
                    if destination is not None and trouble is not None:
                        self._pause(conn, destination, trouble)
                    elif destination is not None and destination.trouble is not None and results:
                        resume(conn)
                        _LOG.info("forwarding has resumed")
            except Unavailable:
                if not left:
                    raise
                self.stopping.wait(0.5)
            else:
                return

    def _pause(self, conn: Connection, destination: Destination, trouble: Trouble) -> None:
        now = self._clock()
        probe_at = now + pause_for(destination.failures + 1, trouble.wait_seconds, self._draw())
        sentence = to_storable(trouble.sentence)
        if pause(conn, destination, trouble.word, sentence, now=now, probe_at=probe_at):
            _LOG.warning("forwarding is paused", why=sentence, seconds=round((probe_at - now) / SECOND, 1))


def _cut(ready: deque[_Ready], most: int) -> _Batch:
    """Remove and return the next batch: as many from the front as fit into one request."""
    batch: _Batch = []
    size = 0
    while ready and len(batch) < most and fits(len(batch) + 1, size + len(ready[0].encoded)):
        item = ready.popleft()
        batch.append(item)
        size += len(item.encoded)
    return batch
