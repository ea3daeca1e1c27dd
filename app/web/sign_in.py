"""Signing in with the admin token, and the redirect that follows.

The right token is always accepted at once: nobody can lock the admin out, neither by guessing nor from behind the same
proxy. The answer to a wrong one is delayed, but only to keep the log short: what defeats guessing is the length of the
token.
"""

import time
from urllib.parse import quote_plus, urlsplit

from flask import Response

from app.core.signature import matches_any
from app.errors import TooManyAttempts
from app.web.sessions import begin_session

DELAY_SECONDS = 1.0
"""The delay of the answer to a wrong token."""

DELAYED_MAX = 32
"""The most delayed answers at a time in a process. Each only holds a connection; further ones are sent at once, so that
guesses cannot use up all connections."""

_RETURN_PATH_MAX = 900
"""The most bytes of the path to return to, percent-encoded: the sign-in form is small."""


class SignIn:
    """Checks the admin token. One per application."""

    def __init__(self, admin_token: str) -> None:
        self._token = admin_token
        self._delayed = 0

    def sign_in(self, token: str) -> bool:
        """Begin a session if this is the admin token; otherwise return False, after a delay.

        Raises:
            TooManyAttempts: it is wrong, and too many answers are delayed already.

        """
        if matches_any(token.strip(), (self._token,) if self._token else ()):
            begin_session()
            return True
        if self._delayed >= DELAYED_MAX:
            raise TooManyAttempts
        self._delayed += 1
        try:
            # In a worker this is gevent's sleep: other requests continue.
            time.sleep(DELAY_SECONDS)
        finally:
            self._delayed -= 1
        return False


def to_local_path(text: str) -> str:
    """Return the text if it is a path within this site, else `/`: a sign-in must not redirect to another site."""
    parts = urlsplit(text)
    within = text.startswith("/") and not text.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return text if within and text.isprintable() and "\\" not in text else "/"


def to_return_path(place: str) -> str:
    """Return the path to return to after signing in: `place`, or `/` if that is too long for the form."""
    return place if len(quote_plus(place, errors="replace")) <= _RETURN_PATH_MAX else "/"


def go_to(place: str) -> Response:
    """Redirect the browser after a form, within this site."""
    response = Response(status=303)
    response.headers["Location"] = to_local_path(place)
    return response
