"""The setup page: what to enter in Segment, and whether its calls arrive.

The test call goes through the function that answers the webhook, with a body and a signature as Segment sends them, but
not over a socket: only Segment can show whether it reaches this machine, and a service that calls its own public
address fails behind many routers that let Segment through.
"""

import json
import uuid
from base64 import b64encode
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import msgspec
from flask import Blueprint, Response, request

from app.catalog.backend import Backend
from app.clock import clock
from app.core.native import ROUTE
from app.core.outcome import Outcome
from app.core.signature import sign
from app.core.times import format_time
from app.core.tracking import PREFIX
from app.errors import RequestRefused, Unavailable
from app.ingest.http_webhook import PATH, Webhook
from app.settings import Settings
from app.store.ids import micros_of
from app.store.nodes import UNTRUSTED_PROXY, find_sighting
from app.store.refusals import Refusal, list_refusals
from app.store.review import CallRow, newest_call_id, read_calls
from app.web.errors import to_json
from app.web.pages import Pages, Values

TESTER = "segment-lotus-test"
"""The user of test calls."""

_LOCAL = {"localhost", "127.0.0.1", "::1"}

REMEDIES = {
    "signature_mismatch": (
        "The shared secret in Segment differs from SEGMENT_SHARED_SECRETS here. Copy it again from step 2 into the"
        " destination's Shared Secret, without spaces around it. A proxy that changes the body causes the same error."
    ),
    "signature_missing": (
        "The destination in Segment has no shared secret, so it does not sign. Copy it from step 2; a test from a"
        " browser or with curl needs the header X-Signature as well."
    ),
    "unauthorized": (
        "The mapping in Segment sends an Authorization header that is not accepted here. Remove it there, or add its"
        " token to SEGMENT_BEARER_TOKENS (or SEGMENT_BASIC_AUTH) here."
    ),
    "batch_not_fully_authenticated": (
        "Segment signs only the first call of a batch, and SEGMENT_REQUIRE_FULL_AUTH is set here. Add an Authorization"
        " header with one of SEGMENT_BEARER_TOKENS to the mapping, or turn its batching off."
    ),
    "too_large": (
        "One request was larger than MAX_BODY_BYTES. Set a smaller batch size in Segment's mapping, or a larger limit"
        " here."
    ),
    "unparsable_json": (
        "The body was not JSON. In Segment's mapping leave Data at the whole event ($event), and let nothing on the way"
        " change it."
    ),
    "unavailable": (
        "It could not be stored at that moment. Segment retries for four hours; if the error persists, see /readyz and"
        " the service log."
    ),
}
"""What to do about each code of a refused request."""

TRACKING_REMEDIES = {
    "unauthorized": (
        "The SDK's write key is not in SEGMENT_WRITE_KEYS here. You choose its text: put the same one into the setting"
        " and into the SDK, and restart."
    ),
    "too_large": (
        "As at Segment, a call may have 32 KB and a batch 500 KB (or MAX_BODY_BYTES, if that is less). Let the SDK"
        " send smaller batches: its option is called flushAt, or upload_size."
    ),
    "unparsable_json": "The body was not JSON. Let nothing on the way between the SDK and this service change it.",
}
"""The same for requests to Segment's tracking API."""

NATIVE_REMEDIES = {
    "unauthorized": (
        "The client's API key is not in LOTUS_INGEST_KEYS here. You choose its text: put the same one into the setting"
        " and into the client, and restart."
    ),
    "unparsable_json": "The body was not JSON. Let nothing on the way between the client and this service change it.",
}
"""The same for requests to Lotus's track API."""

_NATIVE_PATHS = {ROUTE, ROUTE.rstrip("/")}
_OTHERWISE = "The message says what is wrong; the service log has more."


class Arrivals(msgspec.Struct, kw_only=True):
    """The last arrivals."""

    call: CallRow | None
    """The newest call."""
    refusal: Refusal | None
    """The newest refusal, if no call came after it."""

    @property
    def remedy(self) -> str:
        """Return what to do about the refusal."""
        if self.refusal is None:
            return ""
        code, path = self.refusal.code, self.refusal.path
        own = TRACKING_REMEDIES if path.startswith(PREFIX) else NATIVE_REMEDIES if path in _NATIVE_PATHS else {}
        return own.get(code) or REMEDIES.get(code, _OTHERWISE)


def setup(pages: Pages, settings: Settings, webhook: Webhook) -> Blueprint:
    """Return the routes below `/setup`."""
    blueprint = pages.blueprint("setup")

    @blueprint.get("/setup")
    def show() -> Response:
        return _show()

    @blueprint.get("/setup/arrivals")
    def arrivals() -> Response:
        return pages.show("setup_arrivals.html", _arrivals, fragment=True)

    # A POST, so that it needs the CSRF token, and is in no history, log or cache.
    @blueprint.post("/setup/secret")
    def secret() -> Response:
        if request.accept_mimetypes.best == "application/json":
            return to_json({"secrets": settings.segment_shared_secrets})
        return _show(secrets=settings.segment_shared_secrets)

    @blueprint.post("/setup/test")
    def test() -> Response:
        return _show(tested=_send_test(webhook, settings))

    def _show(**more: Any) -> Response:
        address = _address(settings)
        host = urlsplit(address).hostname
        values: Values = {
            "url": address + PATH,
            "address": address,
            "write_keys": len(settings.segment_write_keys),
            "ingest_keys": len(settings.lotus_ingest_keys),
            "local": host in _LOCAL,
            "plain": address.startswith("http://") and host not in _LOCAL,
            "count": len(settings.segment_shared_secrets),
            "bearer": bool(settings.segment_bearer_tokens or settings.segment_basic_auth),
            # This very request may have come through a proxy, before that is recorded.
            "proxied": not settings.trusted_proxies and "X-Forwarded-For" in request.headers,
            "full_auth": settings.segment_require_full_auth,
            "tester": TESTER,
            "secrets": (),
            "tested": None,
            **more,
        }
        return pages.show("setup.html", _read_arrivals, **values)

    def _read_arrivals(backend: Backend) -> Values:
        values = _arrivals(backend)
        if not settings.trusted_proxies:
            with backend.database.reading() as conn:
                if find_sighting(conn, UNTRUSTED_PROXY, clock()) is not None:
                    values["proxied"] = True
        return values

    return blueprint


def _address(settings: Settings) -> str:
    return settings.public_url or request.host_url.rstrip("/")


def _arrivals(backend: Backend) -> Values:
    with backend.database.reading() as conn:
        newest = newest_call_id(conn)
        rows = read_calls(conn, [newest]) if newest else []
        refused = list_refusals(conn, 1)
    call = rows[0] if rows else None
    refusal = refused[0] if refused and refused[0].received_at > (micros_of(newest) if newest else 0) else None
    return {"arrivals": Arrivals(call=call, refusal=refusal)}


def _send_test(webhook: Webhook, settings: Settings) -> Values:
    """Send a signed call to ourselves; return its outcome, or why it was refused."""
    body = _test_call()
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": PATH,
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_USER_AGENT": "Segment-Lotus setup",
        "wsgi.input": BytesIO(body),
    }
    if settings.segment_shared_secrets:
        environ["HTTP_X_SIGNATURE"] = sign(body, settings.segment_shared_secrets[0])
    elif settings.segment_bearer_tokens:
        environ["HTTP_AUTHORIZATION"] = f"Bearer {settings.segment_bearer_tokens[0]}"
    elif settings.segment_basic_auth:
        environ["HTTP_AUTHORIZATION"] = f"Basic {b64encode(settings.segment_basic_auth[0].encode()).decode()}"
    try:
        receipt: dict[str, int] = json.loads(webhook.receive(environ))
    except (RequestRefused, Unavailable) as error:
        return {"outcome": None, "code": error.code, "message": error.message}
    return {"outcome": next(name for name in Outcome if receipt[name]), "code": None, "message": None}


def _test_call() -> bytes:
    """Return a call that is stored like any other, but billed to nobody: transforms take `track` calls."""
    now = format_time(clock())
    document = {
        "type": "identify",
        "messageId": f"{TESTER}-{uuid.uuid4()}",
        "userId": TESTER,
        "timestamp": now,
        "sentAt": now,
        "traits": {"from": "the setup page"},
    }
    return json.dumps(document, separators=(",", ":")).encode()
