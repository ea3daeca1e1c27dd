"""A request on its way in: its head has been looked at, its body has not.

One class for each kind of sender. It knows what vouches for the request, and how its body's calls are read.
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
"""One call of a request: what is kept of it; its decoded bytes, as `pipeline.run` takes them; and the message id that
was made for it, where it brings none and has to have one."""


class Submission(ABC):
    """A request on its way in."""

    auth: Auth | None
    """What vouches for it already; None where only the body can."""
    route: str

    def verify(self, body: bytes) -> Auth:
        """Say what vouches for the request, now that its body is there. Raises RequestRefused."""
        raise NotImplementedError

    @abstractmethod
    def items(self, body: Body, received_at: int, *, retriable: bool) -> Iterator[Item]:
        """Give the calls of a body, read as this kind of sender means them.

        `retriable`: the request may be kept in part, and come again. A call without a message id then gets one that
        it will have again, so that it is known.
        """


class WebhookSubmission(Submission):
    """Of Segment's webhook destination."""

    route = WEBHOOK

    def __init__(self, credentials: Credentials, signature: str | None, authorization: str | None) -> None:
        """Look at the headers X-Signature and Authorization. Raises RequestRefused where no body could be right."""
        self.auth = credentials.check_head(signature, authorization)
        self._credentials = credentials
        self._signature = signature or ""

    def verify(self, body: bytes) -> Auth:
        """Check the signature. Raises SignatureMismatch."""
        return self._credentials.check_signature(body, self._signature)

    def items(self, body: Body, received_at: int, *, retriable: bool) -> Iterator[Item]:  # noqa: ARG002
        """Give the calls as they came."""
        for position, (raw, document) in enumerate(body):
            missing = retriable and not tracking.has_message_id(document)
            yield raw, document, made_message_id(raw, position) if missing else None


class TrackingSubmission(Submission):
    """Of Segment's tracking API."""

    def __init__(self, credentials: Credentials, authorization: str | None, route: str) -> None:
        """Look at the header; `route` is one of `tracking.TYPE_OF`. Raises Unauthorized where no key could be right.

        A key that is missing or wrong in the header may still be in the body.
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
        """Give each call with the bytes that are kept of it, and with what Segment would have added."""
        envelope = tracking.read_envelope(body.envelope)
        for position, (sent, decoded) in enumerate(body):
            raw, document = tracking.hide_write_key(sent, decoded)
            message_id = None
            if not tracking.has_message_id(document):
                # By chance, and not by the call's id: of that, two processes may draw the same.
                message_id = made_message_id(raw, position) if retriable else f"segment-lotus-{uuid.uuid4()}"
            completed = tracking.complete(
                raw, document, route=self.route, envelope=envelope, received_at=received_at, message_id=message_id
            )
            yield raw, completed, message_id


class NativeSubmission(Submission):
    """Of Lotus's track API."""

    route = native.ROUTE

    def __init__(self, credentials: Credentials, key: str | None) -> None:
        """Look at the header X-API-KEY. Raises Unauthorized."""
        credentials.check_ingest_key(key)
        self.auth = Auth.API_KEY

    def items(self, body: Body, received_at: int, *, retriable: bool) -> Iterator[Item]:  # noqa: ARG002
        """Give the events. Each brings an idempotency id, by which it is known when it comes again."""
        return ((raw, NativeEvent(document), None) for raw, document in body)


def made_message_id(raw: bytes, position: int) -> str:
    """Return a message id for a call that brings none: the same one whenever it comes again in the same place."""
    return f"segment-lotus-{blake2b(raw, digest_size=_DIGEST_BYTES).hexdigest()}-{position}"
