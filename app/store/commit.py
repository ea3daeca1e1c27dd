"""One transaction for many requests, and the handling of a row that the database refuses."""

from collections import Counter
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from app.errors import Unavailable
from app.store import ledger
from app.store.calls import append_calls, append_requests
from app.store.engine import Database, DuplicateKey, RowRefused
from app.store.events import NewEvent
from app.store.ids import Ids
from app.store.inserts import pipelined
from app.store.record import Record, Request, unstorable
from app.store.settle import MapAgain, settle

OnEvents = Callable[[sa.Connection, Sequence[NewEvent], Sequence[int], int], Counter[ledger.Entry]]
"""Called in the transaction with the stored events, the ids of voided ones, and the time; returns the ledger's
changes."""

Take = Callable[[], Sequence[Request]]

Share = tuple[Request, Record]
"""A call, and the request that it came in."""

_TRIES = 10
"""Two processes collide by chance, one time in 4,096 when they use the same microsecond."""


class Committer:
    """Stores requests, each with one or more calls, in as few transactions as possible."""

    def __init__(self, database: Database, ids: Ids, map_again: MapAgain, on_events: Sequence[OnEvents] = ()) -> None:
        """`on_events` are called with the events of each commit."""
        self._database = database
        self._on_events = on_events
        self._ids = ids
        self._map_again = map_again

    def commit(self, take: Take) -> None:
        """Store the requests of `take`, called once the database is locked, so that as many as possible have arrived.

        Afterwards each record holds its outcome.

        Raises:
            Unavailable: nothing of the requests is known to be stored.

        """
        requests: Sequence[Request] = ()
        try:
            with self._database.committing() as conn:
                requests = take()
                self.store(conn, requests, [record for request in requests for record in request.records])
        except RowRefused as refused:
            shares = [(request, record) for request in requests for record in request.records]
            if isinstance(refused, DuplicateKey):
                self._renumber(shares)
            self._bisect(shares)

    def _bisect(self, shares: list[Share]) -> None:
        """Find the refused row by bisection, so that all others are stored."""
        try:
            self._transact(shares)
        except RowRefused as refused:
            if len(shares) > 1:
                middle = len(shares) // 2
                self._bisect(shares[:middle])
                self._bisect(shares[middle:])
                return
            self._reject(shares[0], refused)

    def _reject(self, share: Share, refused: RowRefused) -> None:
        _, record = share
        record.run = unstorable(record.run, refused)
        record.results = ()
        try:
            self._transact([share])
        except RowRefused as again:
            raise Unavailable(f"a call cannot be kept even as rejected ({again})") from again

    def _transact(self, shares: list[Share]) -> None:
        """Store calls, and their requests unless these are stored already.

        Raises RowRefused for a value, never for an id that is taken: then the calls get new ids.
        """
        requests = list({id(request): request for request, _ in shares}.values())
        for _ in range(_TRIES):
            try:
                with self._database.committing() as conn:
                    self.store(conn, requests, [record for _, record in shares])
            except DuplicateKey:
                self._renumber(shares)
                continue
            for request in requests:
                request.continued = True
            return
        raise Unavailable("ids of two processes meet again and again")

    def _renumber(self, shares: list[Share]) -> None:
        """Give calls that are not stored, and their unstored requests, ids under another tag.

        Another process has our tag, and made an id in the same microsecond.
        """
        self._ids.renew()
        for request in {id(request): request for request, _ in shares}.values():
            if not request.continued:
                request.id = self._ids.next(request.received_at)
                for record in request.records:
                    record.request_id = request.id
        for _, record in shares:
            record.id = self._ids.next(record.received_at)

    def store(self, conn: sa.Connection, requests: Sequence[Request], records: list[Record]) -> list[NewEvent]:
        """Store calls, of requests, in a transaction of the caller; return their new events.

        Afterwards each record holds its outcome. Raises RowRefused.
        """
        new = settle(conn, records, self._map_again, self._ids.next)
        now = records[0].received_at
        counts = ledger.count_records(records)
        with pipelined(conn):
            # First, before anything is in the pipeline: they may draw ids.
            if new:
                for note in self._on_events:
                    counts.update(note(conn, new, (), now))
            append_requests(conn, requests)
            append_calls(conn, records)
            ledger.append(conn, self._ids.tag, now, counts)
        return new
