"""What happens to a request: verify, parse, run, write, receipt."""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from app.catalog.live import Catalog
from app.core.arrival import describe
from app.core.credentials import Auth, Credentials
from app.core.outcome import Outcome
from app.core.pipeline import run
from app.core.segment_body import Body, parse_body
from app.core.transform.transform import TransformSet
from app.errors import BatchNotFullyAuthenticated, Unavailable
from app.ingest.submission import Item, NativeSubmission, Submission, TrackingSubmission, WebhookSubmission
from app.store.ids import Ids
from app.store.record import Record, Request, monotonic_micros
from app.store.writer import MAX_CALLS_PER_COMMIT, Turn, Writer

# Beyond Segment's largest batch, 4,000 calls, or about twice the bytes that those have, a request takes several
# commits. While one of them is made nobody else is answered, so each is small; smaller ones would take longer in all.
_WHOLE_BYTES = 8 << 20
_PART_CALLS = 1000
_PART_BYTES = 1 << 20


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

    def from_webhook(self, signature: str | None, authorization: str | None) -> Submission:
        """Return a request to the webhook, of which the headers X-Signature and Authorization are known.

        Raises:
            RequestRefused: no body could make it authentic.

        """
        return WebhookSubmission(self._credentials, signature, authorization)

    def from_tracking(self, authorization: str | None, route: str) -> Submission:
        """Return a request to Segment's tracking API, as `from_webhook` does; `route` is one of `tracking.TYPE_OF`."""
        return TrackingSubmission(self._credentials, authorization, route)

    def from_native(self, key: str | None) -> Submission:
        """Return a request to Lotus's track API, as `from_webhook` does; `key` is its X-API-KEY."""
        return NativeSubmission(self._credentials, key)

    def take(
        self, submission: Submission, body: bytes, note_verified: Callable[[], None] = lambda: None
    ) -> list[Record]:
        """Take one request; return its calls with their outcomes, after the commit that holds them.

        `note_verified` is called once it is known to be authentic.

        Raises:
            RequestRefused: one of its classes says why the request holds no calls for us.
            Unavailable: it cannot be stored now.

        """
        arrived = _Arrived(self._clock())
        auth = submission.auth or submission.verify(body)
        arrived.verified()
        note_verified()
        self._prepare()
        turn = Turn()
        parsed = parse_body(body, turn.checkpoint)
        if auth is Auth.FIRST_CALL and self._require_full_auth:
            raise BatchNotFullyAuthenticated
        request = Request(
            self._ids.next(arrived.at),
            arrived.at,
            auth,
            parsed.shape,
            parsed.envelope,
            [],
            arrived.began,
            arrived.verified_after,
            monotonic_micros() - arrived.began,
        )
        if len(parsed.items) > MAX_CALLS_PER_COMMIT or len(body) > _WHOLE_BYTES:
            return self._keep_in_parts(request, submission, parsed, turn)
        items = submission.items(parsed, arrived.at, retriable=False)
        self._run(request, enumerate(items), submission.route, self._catalog.active, turn)
        if request.records:
            self._writer.append(request)
        return request.records

    def _keep_in_parts(self, request: Request, submission: Submission, parsed: Body, turn: Turn) -> list[Record]:
        """Keep a request in several commits, so that nobody waits for the whole of it."""
        transforms = self._catalog.active
        items = submission.items(parsed, request.received_at, retriable=True)
        kept: list[Record] = []
        part = request
        for share in _cut(enumerate(items), turn):
            self._run(part, share, submission.route, transforms, turn)
            try:
                self._writer.append(part)
            except Unavailable as error:
                if not kept:
                    raise
                told = f"{len(kept)} of its {len(parsed.items)} calls are stored, and known when it is sent again"
                raise Unavailable(f"{error.message}; {told}") from error
            kept += part.records
            part = request.next_part()
        return kept

    def _run(
        self,
        request: Request,
        items: Iterable[tuple[int, Item]],
        route: str,
        transforms: TransformSet,
        turn: Turn,
    ) -> None:
        """Take calls of a request as far as they go without the database, and put them into its records."""
        received_at, began = request.received_at, request.began or 0
        for position, (raw, document, message_id) in items:
            if position:
                turn.checkpoint()
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
                    read.message_id or message_id,
                    read.event,
                    read.user_id,
                    mapped_after=monotonic_micros() - began,
                )
            )


def _cut(items: Iterable[tuple[int, Item]], turn: Turn) -> Iterator[list[tuple[int, Item]]]:
    """Cut the calls of a request into what one commit takes of them."""
    share: list[tuple[int, Item]] = []
    size = 0
    for place, item in items:
        turn.checkpoint()
        if len(share) == _PART_CALLS or (share and size + len(item[0]) > _PART_BYTES):
            yield share
            share, size = [], 0
        share.append((place, item))
        size += len(item[0])
    yield share


def to_receipt(records: list[Record]) -> Receipt:
    """Count outcomes."""
    if len(records) == 1 and records[0].outcome is Outcome.STORED:
        return Receipt(1, 1)
    counts = dict.fromkeys(Outcome, 0)
    for record in records:
        if record.outcome is not None:
            counts[record.outcome] += 1
    return Receipt(received=len(records), **{outcome.value: count for outcome, count in counts.items()})
