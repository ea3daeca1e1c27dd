"""Sessions: a signed cookie that is given for the admin token, and valid for seven days or until sign-out.

The cookie is signed with a key derived from the admin token, so that all nodes accept it, a new session writes nothing,
and a new token ends all sessions at once. Only the end of a session is stored, so that no node accepts a copy of its
cookie. Requests that change something also need the CSRF token of the session, which no other site can know.
"""

import hmac
import secrets
import time
from collections.abc import Callable
from datetime import timedelta
from hashlib import blake2b
from typing import Any

from flask import Blueprint, Flask, Request, current_app, request, session
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
# Longer than any node accepts the cookie of an ended session, although their clocks differ.
_RETENTION = LIFETIME + timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)

_REFRESH_SECONDS = 1.0
"""The most age of this process's list of ended sessions: a sign-out on another node takes effect after that, and pages
cost at most one small query a second."""

_EXTENSION = "segment_lotus_ended_sessions"
_ID = "id"
_SAFE = {"GET", "HEAD", "OPTIONS"}


class EndedSessions:
    """The sessions that were ended by signing out: a cache of the list in the database."""

    def __init__(self, offload: Offload) -> None:
        self._offload = offload
        self._ids: frozenset[str] = frozenset()
        self._refreshed_at = float("-inf")

    def __contains__(self, session_id: str) -> bool:
        """Whether a session has ended on any node. Raises Unavailable if the database cannot be read."""
        if time.monotonic() - self._refreshed_at >= _REFRESH_SECONDS:
            self._refresh()
        return session_id in self._ids

    def add(self, session_id: str) -> None:
        """End a session on all nodes. Raises Unavailable; the session then continues."""
        now = clock()

        def work(backend: Backend) -> None:
            with backend.database.writing() as conn:
                append_ended_session(conn, session_id, now + _RETENTION // _MICROSECOND, now)

        self._offload(work)
        self._refresh()

    def _refresh(self) -> None:
        began, now = time.monotonic(), clock()

        def work(backend: Backend) -> list[str]:
            with backend.database.reading() as conn:
                return list_ended_sessions(conn, now)

        self._ids, self._refreshed_at = frozenset(self._offload(work)), began


class _Sessions(SecureCookieSessionInterface):
    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002
        return request.is_secure


def set_up_sessions(app: Flask, admin_token: str, offload: Offload) -> None:
    """Set up the session cookies of an application, and the list of ended sessions."""
    # Without a token nobody can sign in, and the key is random.
    app.secret_key = blake2b(admin_token.encode() or secrets.token_bytes(), person=b"session").digest()
    app.session_interface = _Sessions()
    app.extensions[_EXTENSION] = EndedSessions(offload)
    app.config.update(
        SESSION_COOKIE_NAME=COOKIE,
        SESSION_COOKIE_HTTPONLY=True,
        # Lax: links from other sites, such as a chat, still work.
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=LIFETIME,
        # Otherwise Flask renews the cookie with every answer, even of /healthz: a copy could be kept valid for longer
        # than the end of its session is stored.
        SESSION_REFRESH_EACH_REQUEST=False,
    )


def begin_session() -> None:
    """Begin a session for the browser that sent this request."""
    session.clear()
    session.permanent = True
    session[_ID] = secrets.token_urlsafe(16)
    session[CSRF_FIELD] = secrets.token_urlsafe(24)


def end_session() -> None:
    """End the session of this request on all nodes. Raises Unavailable; the session then continues."""
    _ended().add(session[_ID])
    session.clear()


def is_signed_in() -> bool:
    """Whether the request has a session cookie, perhaps of an ended session: not enough to show stored data."""
    return _ID in session


def require_session() -> None:
    """Raise Unauthorized unless the request has a session that has not ended.

    Raises Unavailable if the database cannot be read: access is then denied.
    """
    if not is_signed_in():
        raise Unauthorized
    if session[_ID] in _ended():
        session.clear()
        raise Unauthorized


def csrf_token() -> str:
    """Return the CSRF token for the forms of this session; empty if nobody is signed in."""
    return str(session.get(CSRF_FIELD, ""))


def check_csrf(incoming: Request) -> None:
    """Raise Forbidden for a request that changes something without the CSRF token of its session."""
    if incoming.method in _SAFE:
        return
    token = incoming.headers.get(CSRF_HEADER) or incoming.form.get(CSRF_FIELD, "")
    if not hmac.compare_digest(token.encode(errors="replace"), csrf_token().encode()):
        raise Forbidden("this form is too old: load the page again, and send it once more")


def require_admin_or_session(admin_token: str) -> Callable[[], None]:
    """Return a guard that accepts the admin token as a Bearer token, or a session with its CSRF token."""
    by_token = require_admin(admin_token)

    def guard() -> None:
        if authorization(request.environ) is None and is_signed_in():
            require_session()
            check_csrf(request)
        else:
            by_token()

    return guard


def api_blueprint(name: str, admin_token: str, prefix: str = "/api/v1") -> Blueprint:
    """Return a blueprint of the JSON API: its routes need the admin token or a session."""
    blueprint = Blueprint(name, __name__, url_prefix=prefix)
    blueprint.before_request(require_admin_or_session(admin_token))
    return blueprint


def _ended() -> EndedSessions:
    ended: EndedSessions = current_app.extensions[_EXTENSION]
    return ended


def authorization(environ: dict[str, Any]) -> str | None:
    """Return the Authorization header as text: WSGI decodes headers as Latin-1, and a token may be UTF-8."""
    header: str | None = environ.get("HTTP_AUTHORIZATION")
    return header.encode("latin-1", "replace").decode(errors="replace") if header else header


def require_admin(token: str) -> Callable[[], None]:
    """Return a guard that raises Unauthorized unless the request has `Authorization: Bearer <ADMIN_TOKEN>`."""

    def guard() -> None:
        scheme, _, token_sent = (authorization(request.environ) or "").partition(" ")
        if scheme.lower() != "bearer" or not matches_any(token_sent.strip(), (token,) if token else ()):
            raise Unauthorized("this needs the header Authorization: Bearer <ADMIN_TOKEN>")

    return guard
