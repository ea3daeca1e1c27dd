"""The curl command that sends a stored call again, byte for byte, to its own route."""

import shlex
from urllib.parse import urlsplit

from app.core import native, tracking
from app.core.arrival import NATIVE_ROUTES
from app.core.arrival import WEBHOOK as WEBHOOK_ROUTE
from app.core.signature import sign

WEBHOOK = "/webhooks/segment"

INLINE_BYTES = 100_000
"""A longer call does not fit into a command line; the command then reads a file that is downloaded first."""


def to_curl(
    call_id: str,
    raw: bytes,
    url: str,
    secret: str | None,
    *,
    route: str = WEBHOOK_ROUTE,
    envelope: bytes | None = None,
) -> str:
    """Return a shell command that sends these bytes to the service at `url`, for the webhook signed as Segment does.

    The signature covers exactly these bytes, which the reader already has: it is valid for nothing else, and the secret
    cannot be derived from it. Sent again, the call is a duplicate. With `secret` None, the command has a placeholder
    for a token; for the tracking and native APIs it has one for the key. A call of a batch is sent in a batch of
    one, with the members of its `envelope`.
    """
    parts = urlsplit(url)
    if route in tracking.TYPE_OF:
        path, header = route, "Authorization: Bearer <one of SEGMENT_WRITE_KEYS>"
        if tracking.TYPE_OF[route] is None:
            beside = (envelope or b"{}").removeprefix(b"{").removesuffix(b"}")
            raw = b'{"batch":[' + raw + b"]" + (b"," + beside if beside else b"") + b"}"
    elif route in NATIVE_ROUTES:
        path, header = native.ROUTE, "X-API-KEY: <one of LOTUS_INGEST_KEYS>"
    else:
        path = WEBHOOK
        header = (
            f"X-Signature: {sign(raw, secret)}" if secret else "Authorization: Bearer <one of SEGMENT_BEARER_TOKENS>"
        )
    target = shlex.quote(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}{path}")
    send = f"curl -X POST {target} -H 'Content-Type: application/json' -H {shlex.quote(header)} --data-binary"
    if len(raw) > INLINE_BYTES:
        return f"{send} @call-{call_id}.json"
    text = _to_text(raw)
    if text is None:
        # Bytes that are not text cannot be in a command line; any shell's printf restores them from octal.
        octal = "".join(f"\\0{byte:03o}" for byte in raw)
        return f"printf %b '{octal}' | {send} @-"
    return f"printf %s {shlex.quote(text)} | {send} @-"


def _to_text(raw: bytes) -> str | None:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return text if all(char.isprintable() or char in " \t\n" for char in text) else None
