"""Sessions: a signed cookie for whoever gave the admin token, until they sign out or seven days have passed.

The cookie is signed with a key made from the admin token: every node agrees on it, a session that begins writes
nothing, and a new token ends every session at once. Only the end of one is stored, so that a copy of its cookie opens
nothing on any node. What changes something also needs a token of the session, which a foreign page that makes a browser
send requests (CSRF) cannot know.
"""

import hmac
import secrets
import time
from collections.abc import Callable
from datetime import timedelta
from hashlib import blake2b
from typing import Any

from flask import Flask, Request, current_app, request, session
from flask.sessions import SecureCookieSessionInterface

from app.catalog.backend import Backend
from app.clock import clock
from app.core.signature import matches_any
from app.errors import Forbidden, Unauthorized
from app.store.nodes import append_ended_session, list_ended_sessions
from app.web.offload import Offload

COOKIE = "segment_lotus"
CSRF_FIELD = "csrf"
CSRF_HEADER = "X-CSRF-Token"

LIFETIME = timedelta(days=7)
# Clocks of nodes differ: an ended session is remembered for longer than any node takes its cookie.
_REMEMBERED = LIFETIME + timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)

_LOOK_SECONDS = 1.0
"""How old this process's list of ended sessions may be: a sign-out on another node is seen after that, and pages cost
one small query a second at most."""

_EXTENSION = "segment_lotus_ended_sessions"
_ID = "id"
_SAFE = {"GET", "HEAD", "OPTIONS"}


class EndedSessions:
    """The sessions that somebody signed out of, as this process knows them."""

    def __init__(self, offload: Offload) -> None:
        self._offload = offload
        self._ids: frozenset[str] = frozenset()
        self._looked_at = float("-inf")

    def __contains__(self, session_id: str) -> bool:
        """Whether a session has ended, on whichever node. Raises Unavailable where the database cannot tell."""
        if time.monotonic() - self._looked_at >= _LOOK_SECONDS:
            self._look()
        return session_id in self._ids

    def add(self, session_id: str) -> None:
        """End a session, for all nodes. Raises Unavailable; it goes on then."""
        now = clock()

        def work(backend: Backend) -> None:
            with backend.database.writing() as conn:
                append_ended_session(conn, session_id, now + _REMEMBERED // _MICROSECOND, now)

        self._offload(work)
        self._look()

    def _look(self) -> None:
        began, now = time.monotonic(), clock()

        def work(backend: Backend) -> list[str]:
            with backend.database.reading() as conn:
                return list_ended_sessions(conn, now)

        self._ids, self._looked_at = frozenset(self._offload(work)), began


class _Sessions(SecureCookieSessionInterface):
    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002
        return request.is_secure


def set_up_sessions(app: Flask, admin_token: str, offload: Offload) -> None:
    """Let an application sign its session cookies, and look up in the database which sessions have ended."""
    # Without a token nobody can sign in, and the key is one that nobody knows.
    app.secret_key = blake2b(admin_token.encode() or secrets.token_bytes(), person=b"session").digest()
    app.session_interface = _Sessions()
    app.extensions[_EXTENSION] = EndedSessions(offload)
    app.config.update(
        SESSION_COOKIE_NAME=COOKIE,
        SESSION_COOKIE_HTTPONLY=True,
        # Lax: a link in a chat still opens the view that somebody shared.
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=LIFETIME,
        # Flask would sign the cookie anew with every answer, of /healthz too: a copy could be kept alive for longer
        # than the end of its session is remembered.
        SESSION_REFRESH_EACH_REQUEST=False,
    )


def begin_session() -> None:
    """Begin a session with the browser that sent this request."""
    session.clear()
    session.permanent = True
    session[_ID] = secrets.token_urlsafe(16)
    session[CSRF_FIELD] = secrets.token_urlsafe(24)


def end_session() -> None:
    """End the session of this request on all nodes. Raises Unavailable; it goes on then."""
    _ended().add(session[_ID])
    session.clear()


def is_signed_in() -> bool:
    """Whether the request carries the cookie of a session: enough for the frame of a page, not for what it shows."""
    return _ID in session


def require_session() -> None:
    """Raise Unauthorized unless the request carries a session that has not ended.

    Raises Unavailable where the database cannot tell: nobody is let in then.
    """
    if not is_signed_in():
        raise Unauthorized
    if session[_ID] in _ended():
        session.clear()
        raise Unauthorized


def csrf_token() -> str:
    """Return the token that a form of this session carries; empty where nobody is signed in."""
    return str(session.get(CSRF_FIELD, ""))


def check_csrf(incoming: Request) -> None:
    """Raise Forbidden for a request that changes something and does not carry the token of its session."""
    if incoming.method in _SAFE:
        return
    token = incoming.headers.get(CSRF_HEADER) or incoming.form.get(CSRF_FIELD, "")
    if not hmac.compare_digest(token.encode(errors="replace"), csrf_token().encode()):
        raise Forbidden("this form is too old: load the page again, and send it once more")


def require_admin_or_session(admin_token: str) -> Callable[[], None]:
    """Return a guard that takes the admin token as a bearer, or a session with its CSRF token."""
    by_token = require_admin(admin_token)

    def guard() -> None:
        if authorization(request.environ) is None and is_signed_in():
            require_session()
            check_csrf(request)
        else:
            by_token()

    return guard


def _ended() -> EndedSessions:
    ended: EndedSessions = current_app.extensions[_EXTENSION]
    return ended


def authorization(environ: dict[str, Any]) -> str | None:
    """Return the Authorization header as text: WSGI decodes headers as Latin-1, and a token may be UTF-8."""
    header: str | None = environ.get("HTTP_AUTHORIZATION")
    return header.encode("latin-1", "replace").decode(errors="replace") if header else header


def require_admin(token: str) -> Callable[[], None]:
    """Return a guard that raises Unauthorized unless the request carries `Authorization: Bearer <ADMIN_TOKEN>`."""

    def guard() -> None:
        scheme, _, token_sent = (authorization(request.environ) or "").partition(" ")
        if scheme.lower() != "bearer" or not matches_any(token_sent.strip(), (token,) if token else ()):
            raise Unauthorized("this needs the header Authorization: Bearer <ADMIN_TOKEN>")

    return guard
