"""The command that sends a stored call again, byte for byte."""

import shlex
from urllib.parse import urlsplit

from app.core.signature import sign

WEBHOOK = "/webhooks/segment"

INLINE_BYTES = 100_000
"""A longer call does not go into a command line; the command then reads a file that is downloaded first."""


def to_curl(call_id: str, raw: bytes, url: str, secret: str | None) -> str:
    """Return a shell command that sends these bytes to the webhook at `url`, signed as Segment signs them.

    The signature is that of these very bytes, which whoever reads this has before them: it vouches for nothing else,
    and the secret cannot be found from it. Sent again, they are a duplicate. `secret` None: a token is to be filled in.
    """
    parts = urlsplit(url)
    target = shlex.quote(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}{WEBHOOK}")
    header = f"X-Signature: {sign(raw, secret)}" if secret else "Authorization: Bearer <one of SEGMENT_BEARER_TOKENS>"
    send = f"curl -X POST {target} -H 'Content-Type: application/json' -H {shlex.quote(header)} --data-binary"
    if len(raw) > INLINE_BYTES:
        return f"{send} @call-{call_id}.json"
    text = _to_text(raw)
    if text is None:
        # What is no text cannot stand in a command line; in octal, any shell's printf makes it again.
        octal = "".join(f"\\0{byte:03o}" for byte in raw)
        return f"printf %b '{octal}' | {send} @-"
    return f"printf %s {shlex.quote(text)} | {send} @-"


def _to_text(raw: bytes) -> str | None:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return text if all(char.isprintable() or char in " \t\n" for char in text) else None
