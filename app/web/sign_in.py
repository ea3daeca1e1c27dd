"""Signing in to the pages: whoever gives the admin token gets a signed cookie, and nobody else sees anything.

The cookie is signed with a key made from the admin token: every node agrees on it, nothing has to be stored, and a new
token ends every session at once. What changes something also needs a token of the session, which a foreign page that
makes a browser send requests (CSRF) cannot know.
"""

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from hashlib import blake2b
from urllib.parse import quote_plus, urlsplit

from flask import Flask, Request, Response, request, session
from flask.sessions import SecureCookieSessionInterface

from app.core.signature import same
from app.errors import Forbidden, TooManyAttempts
from app.web.auth import authorization, require_admin

COOKIE = "segment_lotus"
CSRF_FIELD = "csrf"
CSRF_HEADER = "X-CSRF-Token"

_DAYS = 7
_SAFE = {"GET", "HEAD", "OPTIONS"}

_WAY_BACK_MAX = 900

_ATTEMPTS = 10
_ATTEMPTS_SECONDS = 300
# Addresses to remember; a stranger with more of them than this has other ways to be a nuisance.
_ADDRESSES = 10_000


class _Sessions(SecureCookieSessionInterface):
    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002
        return request.is_secure


def set_up_sessions(app: Flask, admin_token: str) -> None:
    """Let an application sign its session cookies."""
    # Without a token nobody can sign in, and the key is one that nobody knows.
    app.secret_key = blake2b(admin_token.encode() or secrets.token_bytes(), person=b"session").digest()
    app.session_interface = _Sessions()
    app.config.update(
        SESSION_COOKIE_NAME=COOKIE,
        SESSION_COOKIE_HTTPONLY=True,
        # Lax: a link in a chat still opens the view that somebody shared.
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=timedelta(days=_DAYS),
    )


class SignIn:
    """Signs in, within limits."""

    def __init__(self, admin_token: str, now: Callable[[], float] = time.monotonic) -> None:
        """`now` in seconds."""
        self._token = admin_token
        self._now = now
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def sign_in(self, token: str, address: str) -> bool:
        """Begin a session if this is the admin token. Raises TooManyAttempts for an address that guesses."""
        since = self._now() - _ATTEMPTS_SECONDS
        failures = [at for at in self._failures.get(address, ()) if at > since]
        if len(failures) >= _ATTEMPTS:
            raise TooManyAttempts
        if not same(token.strip(), (self._token,) if self._token else ()):
            self._failures[address] = [*failures, self._now()]
            self._failures.move_to_end(address)
            while len(self._failures) > _ADDRESSES:
                self._failures.popitem(last=False)
            return False
        self._failures.pop(address, None)
        session.clear()
        session.permanent = True
        session[CSRF_FIELD] = secrets.token_urlsafe(24)
        return True


def sign_out() -> None:
    """End the session of this browser."""
    session.clear()


def is_signed_in() -> bool:
    """Whether the request carries a session."""
    return CSRF_FIELD in session


def csrf_token() -> str:
    """Return the token that a form of this session carries; empty where nobody is signed in."""
    return str(session.get(CSRF_FIELD, ""))


def check_csrf(asked: Request) -> None:
    """Raise Forbidden for a request that changes something and does not carry the token of its session."""
    if asked.method in _SAFE:
        return
    given = asked.headers.get(CSRF_HEADER) or asked.form.get(CSRF_FIELD, "")
    if not hmac.compare_digest(given.encode(), csrf_token().encode()):
        raise Forbidden("this form is too old: load the page again, and send it once more")


def require_admin_or_session(admin_token: str) -> Callable[[], None]:
    """Return a guard that takes the admin token as a bearer, or a session with its CSRF token."""
    by_token = require_admin(admin_token)

    def guard() -> None:
        if authorization(request.environ) is None and is_signed_in():
            check_csrf(request)
        else:
            by_token()

    return guard


def to_place(text: str) -> str:
    """Return a path within this site; `/` for anything else, so that no link leads a person who signs in elsewhere."""
    parts = urlsplit(text)
    within = text.startswith("/") and not text.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return text if within and text.isprintable() and "\\" not in text else "/"


def to_way_back(place: str) -> str:
    """Return where to go on after signing in: `place`, or `/` where the form could not carry it."""
    return place if len(quote_plus(place, errors="replace")) <= _WAY_BACK_MAX else "/"


def go_to(place: str) -> Response:
    """Send the browser on after a form."""
    response = Response(status=303)
    response.headers["Location"] = to_place(place)
    return response
