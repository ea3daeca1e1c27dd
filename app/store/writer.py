"""Group commit: one transaction for all requests that are in flight, answered after the commit that holds them.

The first to get the turn commits for everybody who has queued by then. While a commit waits for the disk others
queue up, so the busier it is, the larger and cheaper (per call) the commits are; nobody waits for a timer. Plain
`threading` locks: under gevent they are greenlet locks, in tests real ones.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from app.core.outcome import Outcome, Reason
from app.core.pipeline import Run
from app.errors import Unavailable
from app.store import ledger
from app.store.calls import append_calls, append_requests
from app.store.engine import Database, DuplicateKey, RowRefused
from app.store.ids import Ids
from app.store.record import Record, Request
from app.store.settle import MapAgain, settle

# (calls in the commit, seconds it took, requests that wait for the next one)
Watch = Callable[[int, float, int], None]

# One commit never holds more calls than this, so that nobody waits for a stranger's backlog.
MAX_CALLS_PER_COMMIT = 4000


@dataclass(slots=True)
class _Entry:
    request: Request
    done: bool = False
    error: Exception | None = field(default=None)


class Writer:
    """Stores requests, each with one call or more. One per process."""

    def __init__(self, database: Database, ids: Ids, map_again: MapAgain, watch: Watch) -> None:
        """`watch` is told of every commit."""
        self._database = database
        self._ids = ids
        self._map_again = map_again
        self._watch = watch
        self._queue: deque[_Entry] = deque()
        self._turn = threading.Lock()

    def append(self, request: Request) -> None:
        """Store a request with its calls; returns after the commit, each record then holds its outcome.

        Raises:
            Unavailable: nothing of the request is known to be stored; the sender should send it again.

        """
        entry = _Entry(request)
        self._queue.append(entry)
        with self._turn:
            if not entry.done:
                self._commit_queued()
        if entry.error is not None:
            raise entry.error

    def _commit_queued(self) -> None:
        entries: list[_Entry] = []
        error: Exception | None = None
        began = time.perf_counter()
        try:
            with self._database.writing() as conn:
                # Not before the database is ours: whoever comes while we wait for it joins this commit.
                entries = self._take()
                began = time.perf_counter()
                requests = [entry.request for entry in entries]
                self._store(conn, requests, [record for request in requests for record in request.records])
        except RowRefused as refused:
            error = self._commit_apart([entry.request for entry in entries], refused)
        except Exception as trouble:  # noqa: BLE001  every sender of the group must hear of it, not only this one
            error = trouble
            entries = entries or self._take()
        for entry in entries:
            entry.error = error
            entry.done = True
        size = sum(len(entry.request.records) for entry in entries)
        self._watch(size, time.perf_counter() - began, len(self._queue))

    def _take(self) -> list[_Entry]:
        """Take what has queued up, after letting everything that has already arrived join.

        Without that a gevent worker, which nothing interrupts, would commit each call alone.
        """
        queued = 0
        while queued < len(self._queue):
            queued = len(self._queue)
            time.sleep(0)
        entries: list[_Entry] = []
        size = 0
        while self._queue and (not entries or size + len(self._queue[0].request.records) <= MAX_CALLS_PER_COMMIT):
            entry = self._queue.popleft()
            entries.append(entry)
            size += len(entry.request.records)
        return entries

    def _commit_apart(self, requests: Sequence[Request], refused: RowRefused) -> Exception | None:
        """Find the row that the database refuses by halving, so that all others are stored."""
        if isinstance(refused, DuplicateKey):
            # Another process drew our tag and met our microsecond.
            self._ids.renew()
            requests = _renumbered(requests, self._ids)
        try:
            self._halve([(request, record) for request in requests for record in request.records], set())
        except Exception as trouble:  # noqa: BLE001  as above
            return trouble
        return None

    def _halve(self, shares: list[tuple[Request, Record]], known: set[int]) -> None:
        if not shares:
            return
        parents = list({request.id: request for request, _ in shares if request.id not in known}.values())
        try:
            self._transact(parents, [record for _, record in shares])
        except RowRefused as refused:
            if len(shares) == 1:
                self._reject(parents, shares[0][1], refused)
            else:
                middle = len(shares) // 2
                self._halve(shares[:middle], known)
                self._halve(shares[middle:], known)
                return
        known.update(parent.id for parent in parents)

    def _reject(self, parents: Sequence[Request], record: Record, refused: RowRefused) -> None:
        sentence = f"the database does not take a value of this call ({refused})"
        record.run = Run(
            Outcome.REJECTED, Reason.UNSTORABLE, sentence, None, record.run.transform, record.run.digest, ()
        )
        record.results = ()
        try:
            self._transact(parents, [record])
        except RowRefused as again:
            raise Unavailable(f"a call cannot be kept even as rejected ({again})") from again

    def _transact(self, requests: Sequence[Request], records: list[Record]) -> None:
        with self._database.writing() as conn:
            self._store(conn, requests, records)

    def _store(self, conn: sa.Connection, requests: Sequence[Request], records: list[Record]) -> None:
        append_requests(conn, requests)
        settle(conn, records, self._map_again, self._ids.next)
        append_calls(conn, records)
        ledger.append(conn, self._ids.tag, records[0].received_at, ledger.count_records(records))


def _renumbered(requests: Sequence[Request], ids: Ids) -> list[Request]:
    """Give requests and records new ids. The records stay the same objects: their senders hold them."""
    renumbered = []
    for request in requests:
        request_id = ids.next(request.received_at)
        for record in request.records:
            record.id, record.request_id = ids.next(record.received_at), request_id
        renumbered.append(
            Request(request_id, request.received_at, request.auth, request.shape, request.envelope, request.records)
        )
    return renumbered
