"""The webhook of Segment's webhook destination."""

from typing import Any

import msgspec

from app.ingest.http_intake import Answer, Endpoint, Intake
from app.ingest.ingest import to_receipt
from app.ingest.sender import WEBHOOK_PATH
from app.web.sessions import authorization

_ENCODE = msgspec.json.Encoder().encode


class Webhook(Endpoint):
    """Accepts what Segment sends."""

    name = "webhook"
    paths = (WEBHOOK_PATH,)
    methods = frozenset({"POST", "PUT", "PATCH"})

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def answer(self, environ: dict[str, Any]) -> Answer:
        """Process one request; the answer counts its calls by outcome."""
        return "200 OK", self.receive(environ)

    def receive(self, environ: dict[str, Any]) -> bytes:
        """Process one request; return the receipt as JSON. Raises what `Intake.take` does."""
        intake = self._intake
        signature, token = environ.get("HTTP_X_SIGNATURE"), authorization(environ)
        ingest = intake.ingest
        return _ENCODE(to_receipt(intake.take(environ, intake.limit, lambda: ingest.from_webhook(signature, token))))
