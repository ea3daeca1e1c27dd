"""One-time sign-in links: signed with the admin token when a service starts, spent in the database when used.

The signature needs no row, so that a start writes none and any number of nodes accept the link; the row of a spent
link makes it one-time on all of them. A link opens a page with a button, and only the button spends it: programs that
look at links do not.
"""

import hmac
import secrets
from hashlib import blake2b
from typing import NamedTuple

PATH = "/sign-in/link"
LIFETIME_MINUTES = 10

_MINUTE = 60_000_000


class SignInLink(NamedTuple):
    """A link whose signature is valid."""

    id: str
    expires_at: int
    """Microseconds since 1970."""


def make_link_key(admin_token: str, now: int) -> str:
    """Return the key of a new link. `now` is microseconds since 1970."""
    text = f"{now + LIFETIME_MINUTES * _MINUTE}.{secrets.token_urlsafe(16)}"
    return f"{text}.{_sign(admin_token, text)}"


def find_link(admin_token: str, key: str) -> SignInLink | None:
    """Return the link of a key, expired or not; None if the admin token did not sign it."""
    text, _, signature = key.rpartition(".")
    is_signed = hmac.compare_digest(_sign(admin_token, text).encode(), signature.encode(errors="replace"))
    if not (admin_token and is_signed):
        return None
    expires_at, id_ = text.split(".", 1)
    return SignInLink(id_, int(expires_at))


def _sign(admin_token: str, text: str) -> str:
    # A key of its own: a signature of a session is no signature of a link.
    key = blake2b(admin_token.encode(errors="surrogatepass"), person=b"sign-in link").digest()
    return hmac.new(key, text.encode(errors="replace"), "sha256").hexdigest()
