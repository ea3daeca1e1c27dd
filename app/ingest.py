"""What happens to a request: verify, parse, run, write, receipt."""

from collections.abc import Callable

import msgspec

from app.catalog.live import Catalog
from app.core.credentials import Auth, Credentials
from app.core.outcome import Outcome
from app.core.pipeline import run
from app.core.segment import parse_body, sketch
from app.errors import BatchNotFullyAuthenticated
from app.store.ids import Ids
from app.store.record import Record, Request, monotonic_micros
from app.store.writer import Writer, give_way

# A batch of thousands gives way to other requests this often.
_CALLS_IN_ONE_GO = 100


class Receipt(msgspec.Struct):
    """What the sender is told: how many calls ended how."""

    received: int = 0
    stored: int = 0
    duplicate: int = 0
    conflict: int = 0
    ignored: int = 0
    rejected: int = 0


class Ingest:
    """Takes the requests of one process."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        require_full_auth: bool,
        catalog: Catalog,
        writer: Writer,
        ids: Ids,
        clock: Callable[[], int],
        prepare: Callable[[], None],
    ) -> None:
        """`clock` gives microseconds since 1970; `prepare` raises Unavailable while the service is not ready."""
        self._credentials = credentials
        self._require_full_auth = require_full_auth
        self._catalog = catalog
        self._writer = writer
        self._ids = ids
        self._clock = clock
        self._prepare = prepare

    def receive(self, body: bytes, signature: str | None, authorization: str | None, route: str) -> list[Record]:
        """Take one request; return its calls with their outcomes, after the commit that holds them.

        Raises:
            RequestRefused: one of its classes says why the request holds no calls for us.
            Unavailable: it cannot be stored now.

        """
        received_at = self._clock()
        began = monotonic_micros()
        auth = self._credentials.authenticate(body, signature, authorization)
        verified_after = monotonic_micros() - began
        self._prepare()
        parsed = parse_body(body)
        if auth is Auth.FIRST_CALL and self._require_full_auth:
            raise BatchNotFullyAuthenticated
        request = Request(
            self._ids.next(received_at),
            received_at,
            auth,
            parsed.shape,
            parsed.envelope,
            [],
            began,
            verified_after,
            monotonic_micros() - began,
        )
        transforms = self._catalog.active
        for position, (raw, document) in enumerate(parsed):
            if position % _CALLS_IN_ONE_GO == _CALLS_IN_ONE_GO - 1:
                give_way()
            done = run(raw, document, transforms, received_at)
            read = done.call or sketch(document)
            request.records.append(
                Record(
                    self._ids.next(received_at),
                    request.id,
                    position,
                    received_at,
                    route,
                    raw,
                    done,
                    read.type,
                    read.message_id,
                    read.event,
                    read.user_id,
                    mapped_after=monotonic_micros() - began,
                )
            )
        if request.records:
            self._writer.append(request)
        return request.records


def to_receipt(records: list[Record]) -> Receipt:
    """Count outcomes."""
    if len(records) == 1 and records[0].outcome is Outcome.STORED:
        return Receipt(1, 1)
    counts = dict.fromkeys(Outcome, 0)
    for record in records:
        if record.outcome is not None:
            counts[record.outcome] += 1
    return Receipt(received=len(records), **{outcome.value: count for outcome, count in counts.items()})
