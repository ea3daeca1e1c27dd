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

from flask import Blueprint, Response, request

from app.catalog.backend import Backend
from app.clock import clock
from app.core.outcome import Outcome
from app.core.signature import sign
from app.core.times import format_time
from app.errors import RequestRefused, Unavailable
from app.ingest.http_webhook import Webhook
from app.ingest.sender import WEBHOOK_PATH
from app.service.reception import WHO, acknowledge, read_reception
from app.service.remedies import find_remedy
from app.service.secrets import secret_fingerprints
from app.settings import Settings
from app.web.errors import to_json
from app.web.pages import Pages, Values
from app.web.parameters import read_form
from app.web.sign_in import go_to

TESTER = "segment-lotus-test"
"""The user of test calls."""

_LOCAL = {"localhost", "127.0.0.1", "::1"}


def setup(pages: Pages, settings: Settings, webhook: Webhook) -> Blueprint:
    """Return the routes below `/setup`."""
    blueprint = pages.blueprint("setup")
    fingerprints = secret_fingerprints(settings)

    @blueprint.get("/setup")
    def show() -> Response:
        return _show()

    @blueprint.get("/setup/arrivals")
    def arrivals() -> Response:
        return pages.show("setup_arrivals.html", _read, fragment=True, who=WHO, find_remedy=find_remedy)

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
        return pages.show("setup.html", _read, **{**_describe(settings), **more})

    def _read(backend: Backend) -> Values:
        with backend.database.reading() as conn:
            return {"reception": read_reception(conn, fingerprints, clock())}

    return blueprint


def acknowledgement(pages: Pages) -> Blueprint:
    """Return the route that hides refused requests, of the setup page and the overview."""
    blueprint = pages.blueprint("acknowledgement")

    @blueprint.post("/setup/acknowledge")
    def acknowledge_refused() -> Response:
        texts, now = read_form("until", "back"), clock()

        def work(backend: Backend) -> None:
            with backend.database.writing() as conn:
                acknowledge(conn, texts.get("until", ""), now)

        pages.read(work)
        return go_to(texts.get("back", "/setup"))

    return blueprint


def _describe(settings: Settings) -> Values:
    """Return what the page shows of the settings, for the browser of this request."""
    address = _address(settings)
    host = urlsplit(address).hostname
    return {
        "url": address + WEBHOOK_PATH,
        "address": address,
        "write_keys": len(settings.segment_write_keys),
        "ingest_keys": len(settings.lotus_ingest_keys),
        "local": host in _LOCAL,
        "plain": address.startswith("http://") and host not in _LOCAL,
        "count": len(settings.segment_shared_secrets),
        "bearer": bool(settings.segment_bearer_tokens or settings.segment_basic_auth),
        "trusts_proxies": bool(settings.trusted_proxies),
        # This very request may have come through a proxy, before that is recorded.
        "proxied": "X-Forwarded-For" in request.headers,
        "full_auth": settings.segment_require_full_auth,
        "max_body": settings.max_body_bytes,
        "tester": TESTER,
        "who": WHO,
        "find_remedy": find_remedy,
        "secrets": (),
        "tested": None,
    }


def _address(settings: Settings) -> str:
    return settings.public_url or request.host_url.rstrip("/")


def _send_test(webhook: Webhook, settings: Settings) -> Values:
    """Send a signed call to ourselves; return its outcome, or why it was refused."""
    body = _test_call()
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": WEBHOOK_PATH,
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_USER_AGENT": "Segment-Lotus setup",
        "REMOTE_ADDR": "127.0.0.1",
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
