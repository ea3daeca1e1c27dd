"""A request whose head has been checked and whose body has not been read yet.

Each kind of sender has a class that authenticates its requests and reads the calls in their bodies.
"""

import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from app.core import native, tracking
from app.core.arrival import WEBHOOK
from app.core.credentials import Auth, Credentials
from app.core.native import NativeEvent
from app.core.segment_body import Body

_DIGEST_BYTES = 16


Item = tuple[bytes, Any, str | None]
"""One call of a request: the bytes to store; the decoded document, as `pipeline.run` takes it; and the message id
derived for it, if it has none and needs one."""


class _Sender(ABC):
    """The base of all kinds of requests."""

    route: str
    secret: int | None = None
    """Which of the shared secrets signed it, from 0; None if none did."""

    @abstractmethod
    def items(self, body: Body, received_at: int, *, retriable: bool) -> Iterator[Item]:
        """Yield the calls of a body, interpreted for this kind of sender.

        `retriable`: the request may be stored in part and sent again. A call without a message id then gets the same
        derived one each time, so that it is recognised.
        """


class HeadSubmission(_Sender):
    """A request that is authenticated by its head alone."""

    auth: Auth
    """What authenticated it."""


class BodySubmission(_Sender):
    """A request that may have to be authenticated by its body."""

    auth: Auth | None
    """What has authenticated it; None if only the body can."""

    @abstractmethod
    def verify(self, body: bytes) -> Auth:
        """Return what authenticates the request, given its body. Only called where `auth` is None.

        Raises RequestRefused.
        """


Submission = HeadSubmission | BodySubmission


class WebhookSubmission(BodySubmission):
    """A request of Segment's webhook destination."""

    route = WEBHOOK

    def __init__(self, credentials: Credentials, signature: str | None, authorization: str | None) -> None:
        """Check the headers X-Signature and Authorization. Raises RequestRefused if no body could be authentic."""
        self.auth = credentials.check_head(signature, authorization)
        self._credentials = credentials
        self._signature = signature or ""

    def verify(self, body: bytes) -> Auth:
        """Check the signature. Raises SignatureMismatch."""
        auth, self.secret = self._credentials.check_signature(body, self._signature)
        return auth

    def items(self, body: Body, received_at: int, *, retriable: bool) -> Iterator[Item]:  # noqa: ARG002
        """Yield the calls unchanged."""
        for position, (raw, document) in enumerate(body):
            missing = retriable and not tracking.has_message_id(document)
            yield raw, document, derive_message_id(raw, position) if missing else None


class TrackingSubmission(BodySubmission):
    """A request to Segment's tracking API."""

    def __init__(self, credentials: Credentials, authorization: str | None, route: str) -> None:
        """Check the header Authorization; `route` is one of `tracking.TYPE_OF`.

        A key that is missing or wrong in the header may still be in the body. Raises Unauthorized if none is set.
        """
        self.auth = Auth.WRITE_KEY if credentials.accepts_write_key(authorization) else None
        self.route = route
        self._credentials = credentials
        self._authorization = authorization

    def verify(self, body: bytes) -> Auth:
        """Look for the write key in the body. Raises Unauthorized."""
        self._credentials.check_write_key(body, self._authorization)
        return Auth.WRITE_KEY

    def items(self, body: Body, received_at: int, *, retriable: bool) -> Iterator[Item]:
        """Yield each call with the bytes to store, completed as Segment would have done."""
        envelope = tracking.read_envelope(body.envelope)
        for position, (sent, decoded) in enumerate(body):
            raw, document = tracking.hide_write_key(sent, decoded)
            message_id = None
            if not tracking.has_message_id(document):
                # Random, and not the call's id: two processes may draw the same id.
                message_id = derive_message_id(raw, position) if retriable else f"segment-lotus-{uuid.uuid4()}"
            completed = tracking.complete(
                raw, document, route=self.route, envelope=envelope, received_at=received_at, message_id=message_id
            )
            yield raw, completed, message_id


class NativeSubmission(HeadSubmission):
    """A request to Lotus's track API."""

    route = native.ROUTE

    def __init__(self, credentials: Credentials, key: str | None) -> None:
        """Check the header X-API-KEY. Raises Unauthorized."""
        credentials.check_ingest_key(key)
        self.auth = Auth.API_KEY

    def items(self, body: Body, received_at: int, *, retriable: bool) -> Iterator[Item]:  # noqa: ARG002
        """Yield the events. Each has an idempotency id, by which it is recognised if it is sent again."""
        return ((raw, NativeEvent(document), None) for raw, document in body)


def derive_message_id(raw: bytes, position: int) -> str:
    """Return a message id for a call without one: the same each time the call is sent at the same position."""
    return f"segment-lotus-{blake2b(raw, digest_size=_DIGEST_BYTES).hexdigest()}-{position}"
