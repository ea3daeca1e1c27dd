"""Signing in with the admin token, and where the browser goes from there.

The right token opens whatever came before it: nobody can shut the admin out, neither by guessing nor from behind the
same proxy. A wrong one is answered late, which spares the log and no more than that: what keeps guesses out is the
length of the token.
"""

import time
from urllib.parse import quote_plus, urlsplit

from flask import Response

from app.core.signature import matches_any
from app.errors import TooManyAttempts
from app.web.sessions import begin_session

DELAY_SECONDS = 1.0
"""After which a wrong token is answered."""

DELAYED_MAX = 32
"""Wrong tokens that wait for their answer at one time in one process. Each holds a connection and nothing else; beyond
them the answer comes at once, so that no number of guesses takes up the connections of others."""

_WAY_BACK_MAX = 900
"""Of a place to go on to, percent-encoded: the form that carries it is small."""


class SignIn:
    """Signs in. One per application."""

    def __init__(self, admin_token: str) -> None:
        self._token = admin_token
        self._delayed = 0

    def sign_in(self, token: str) -> bool:
        """Begin a session if this is the admin token, at once; False after a while if it is not.

        Raises:
            TooManyAttempts: it is not, and too many wrong ones wait for their answer.

        """
        if matches_any(token.strip(), (self._token,) if self._token else ()):
            begin_session()
            return True
        if self._delayed >= DELAYED_MAX:
            raise TooManyAttempts
        self._delayed += 1
        try:
            # gevent's in a worker: other requests go on.
            time.sleep(DELAY_SECONDS)
        finally:
            self._delayed -= 1
        return False


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
