"""What happens to a request: verify, parse, run, write, receipt."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from app.catalog.live import Catalog
from app.core import native, tracking
from app.core.arrival import describe
from app.core.credentials import Auth, Credentials
from app.core.native import NativeEvent
from app.core.outcome import Outcome
from app.core.pipeline import run
from app.core.segment import Body, parse_body
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


class _Arrived:
    """When a request came, and when the first of its steps was done."""

    __slots__ = ("at", "began", "verified_after")

    def __init__(self, at: int) -> None:
        self.at = at
        self.began = monotonic_micros()
        self.verified_after = 0

    def verified(self) -> None:
        self.verified_after = monotonic_micros() - self.began


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
        arrived = _Arrived(self._clock())
        auth = self._credentials.authenticate(body, signature, authorization)
        arrived.verified()
        self._prepare()
        parsed = parse_body(body)
        if auth is Auth.FIRST_CALL and self._require_full_auth:
            raise BatchNotFullyAuthenticated
        return self._keep(arrived, parsed, parsed, auth, route)

    def track(self, body: bytes, authorization: str | None, route: str) -> list[Record]:
        """Take one request to Segment's tracking API, as `receive` does; `route` is one of `tracking.TYPE_OF`."""
        arrived = _Arrived(self._clock())
        if not self._credentials.knows_write_key(authorization):
            self._credentials.check_write_key(tracking.find_write_key(body), authorization)
        arrived.verified()
        self._prepare()
        parsed = parse_body(body)
        return self._keep(arrived, parsed, _complete(parsed, route, arrived.at), Auth.WRITE_KEY, route)

    def forget(self) -> list[Record]:
        """Take nothing of what analytics.js tells about itself; only where the tracking API is open."""
        self._credentials.require_write_keys()
        return []

    def take_events(self, body: bytes, key: str | None) -> list[Record]:
        """Take one request to Lotus's track API, as `receive` does; `key` is its X-API-KEY."""
        arrived = _Arrived(self._clock())
        self._credentials.check_ingest_key(key)
        arrived.verified()
        self._prepare()
        parsed = parse_body(body)
        calls = ((raw, NativeEvent(document)) for raw, document in parsed)
        return self._keep(arrived, parsed, calls, Auth.API_KEY, native.ROUTE)

    def _keep(
        self, arrived: _Arrived, parsed: Body, calls: Iterable[tuple[bytes, Any]], auth: Auth, route: str
    ) -> list[Record]:
        received_at, began = arrived.at, arrived.began
        request = Request(
            self._ids.next(received_at),
            received_at,
            auth,
            parsed.shape,
            parsed.envelope,
            [],
            began,
            arrived.verified_after,
            monotonic_micros() - began,
        )
        transforms = self._catalog.active
        for position, (raw, document) in enumerate(calls):
            if position % _CALLS_IN_ONE_GO == _CALLS_IN_ONE_GO - 1:
                give_way()
            done = run(raw, document, transforms, received_at)
            read = done.call or describe(document)
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


def _complete(parsed: Body, route: str, received_at: int) -> Iterator[tuple[bytes, Any]]:
    """Give each call of the tracking API with the bytes that are kept of it, and with what Segment would have added."""
    beside = tracking.read_beside(parsed.envelope)
    for given, document in parsed:
        raw = tracking.hide_write_key(given, document)
        # Kept as the call's message id. By chance, and not by the call's id: of that, two processes may draw the same.
        message_id = None if tracking.has_message_id(document) else f"segment-lotus-{uuid.uuid4()}"
        yield (
            raw,
            tracking.complete(
                raw, document, route=route, beside=beside, received_at=received_at, message_id=message_id
            ),
        )


def to_receipt(records: list[Record]) -> Receipt:
    """Count outcomes."""
    if len(records) == 1 and records[0].outcome is Outcome.STORED:
        return Receipt(1, 1)
    counts = dict.fromkeys(Outcome, 0)
    for record in records:
        if record.outcome is not None:
            counts[record.outcome] += 1
    return Receipt(received=len(records), **{outcome.value: count for outcome, count in counts.items()})
