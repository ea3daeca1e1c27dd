"""The steps of a request: verify, parse, run, write, receipt."""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from app.catalog.live import Catalog
from app.clock import monotonic_micros
from app.core.arrival import describe
from app.core.credentials import Auth, Credentials
from app.core.json_oddities import Checkpoint, no_checkpoint
from app.core.outcome import Outcome
from app.core.pipeline import run
from app.core.segment_body import Body, parse_body
from app.core.transform.transform import TransformSet
from app.errors import BatchNotFullyAuthenticated, Unavailable
from app.ingest.submission import Item, NativeSubmission, Submission, TrackingSubmission, WebhookSubmission
from app.store.ids import Ids
from app.store.record import Record, Request
from app.store.writer import MAX_CALLS_PER_COMMIT, Turn, Writer

# A request larger than Segment's largest batch, 4,000 calls, or about twice its bytes, takes several commits. During a
# commit no other request is answered, so each is small; even smaller ones would take longer in total.
_WHOLE_BYTES = 8 << 20
_PART_CALLS = 1000
_PART_BYTES = 1 << 20

# A body of this size is parsed long before a turn would end.
_SHORT_BYTES = 4096


class Receipt(msgspec.Struct):
    """The answer to the sender: its calls counted by outcome."""

    received: int = 0
    stored: int = 0
    duplicate: int = 0
    conflict: int = 0
    ignored: int = 0
    rejected: int = 0


class Ingest:
    """Processes the requests of one process."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        require_full_auth: bool,
        catalog: Catalog,
        writer: Writer,
        ids: Ids,
        clock: Callable[[], int],
    ) -> None:
        """`clock` gives microseconds since 1970."""
        self._credentials = credentials
        self._require_full_auth = require_full_auth
        self._catalog = catalog
        self._writer = writer
        self._ids = ids
        self._clock = clock

    def from_webhook(self, signature: str | None, authorization: str | None) -> Submission:
        """Return a request to the webhook, given its headers X-Signature and Authorization.

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
        """Process one request; return its calls with their outcomes, after the commit that stores them.

        `note_verified` is called once the request is authenticated.

        Raises:
            RequestRefused: the request is not accepted; the subclass says why.
            Unavailable: it cannot be stored now.

        """
        received_at, began = self._clock(), monotonic_micros()
        auth = submission.verify(body) if submission.auth is None else submission.auth
        verified_after = monotonic_micros() - began
        note_verified()
        transforms = self._catalog.active
        if not transforms.transforms:
            # No call may be ignored because transforms are missing.
            raise Unavailable("no transforms are active yet; send it again")
        parsed = parse_body(body, Turn().checkpoint if len(body) > _SHORT_BYTES else no_checkpoint)
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
        # Many calls take their time however short they are.
        checkpoint = Turn().checkpoint if len(parsed.items) > 1 else no_checkpoint
        if len(parsed.items) > MAX_CALLS_PER_COMMIT or len(body) > _WHOLE_BYTES:
            return self._keep_in_parts(request, submission, parsed, transforms, checkpoint)
        items = submission.items(parsed, received_at, retriable=False)
        self._run(request, enumerate(items), submission.route, transforms, checkpoint)
        if request.records:
            self._writer.append(request)
        return request.records

    def _keep_in_parts(
        self, request: Request, submission: Submission, parsed: Body, transforms: TransformSet, checkpoint: Checkpoint
    ) -> list[Record]:
        """Store a request in several commits, so that no other request waits for all of it."""
        items = submission.items(parsed, request.received_at, retriable=True)
        stored: list[Record] = []
        part = request
        for share in _cut(enumerate(items), checkpoint):
            self._run(part, share, submission.route, transforms, checkpoint)
            try:
                self._writer.append(part)
            except Unavailable as error:
                if not stored:
                    raise
                note = (
                    f"{len(stored)} of its {len(parsed.items)} calls are stored, and recognised when it is sent again"
                )
                raise Unavailable(f"{error.message}; {note}") from error
            stored += part.records
            part = request.next_part()
        return stored

    def _run(
        self,
        request: Request,
        items: Iterable[tuple[int, Item]],
        route: str,
        transforms: TransformSet,
        checkpoint: Checkpoint,
    ) -> None:
        """Run the pipeline on calls of a request, which needs no database, and append them to its records."""
        received_at, began = request.received_at, request.began or 0
        for position, (raw, document, message_id) in items:
            if position:
                checkpoint()
            result = run(raw, document, transforms, received_at)
            read = result.call or describe(document)
            request.records.append(
                Record(
                    self._ids.next(received_at),
                    received_at,
                    result,
                    read.message_id or message_id,
                    read.user_id,
                    request.id,
                    position,
                    route,
                    raw,
                    read.type,
                    read.event,
                    monotonic_micros() - began,
                )
            )


def _cut(items: Iterable[tuple[int, Item]], checkpoint: Checkpoint) -> Iterator[list[tuple[int, Item]]]:
    """Split the calls of a request into the shares of one commit each."""
    share: list[tuple[int, Item]] = []
    size = 0
    for place, item in items:
        checkpoint()
        if len(share) == _PART_CALLS or (share and size + len(item[0]) > _PART_BYTES):
            yield share
            share, size = [], 0
        share.append((place, item))
        size += len(item[0])
    yield share


def to_receipt(records: list[Record]) -> Receipt:
    """Count the records by outcome."""
    if len(records) == 1 and records[0].outcome is Outcome.STORED:
        return Receipt(1, 1)
    counts = dict.fromkeys(Outcome, 0)
    for record in records:
        if record.outcome is not None:
            counts[record.outcome] += 1
    return Receipt(received=len(records), **{outcome.value: count for outcome, count in counts.items()})
