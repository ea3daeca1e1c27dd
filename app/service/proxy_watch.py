"""Detects a proxy in front of the service that TRUSTED_PROXIES does not count."""

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import structlog

from app.clock import clock
from app.errors import Unavailable
from app.store.engine import Database, RowRefused
from app.store.nodes import UNTRUSTED_PROXY, save_sighting

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

_PAUSE_SECONDS = 3600.0
_PAUSE_IN_TROUBLE_SECONDS = 60.0

_LOG = structlog.get_logger("web")


def proxy_watch(application: "WSGIApplication", database: Database) -> "WSGIApplication":
    """Return `application` wrapped so that the arrival of X-Forwarded-For is noted in the database.

    Every request passes here: it costs one dict look-up, and a row once an hour at most.
    """
    sighting = _Sighting(database)

    # A function: calling an object costs three times as much.
    def answer(environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
        if "HTTP_X_FORWARDED_FOR" in environ:
            sighting.note()
        return application(environ, start_response)

    return answer


class _Sighting:
    """When the header was last noted by this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._due_at = float("-inf")

    def note(self) -> None:
        """Save it in the background, unless that was done within the hour."""
        now = time.monotonic()
        if now >= self._due_at:
            self._due_at = now + _PAUSE_SECONDS
            threading.Thread(target=self._save, name="proxy watch", daemon=True).start()

    def _save(self) -> None:
        try:
            # Not durable: a sighting that a power cut loses will be made again.
            with self._database.writing(durable=False) as conn:
                save_sighting(conn, UNTRUSTED_PROXY, clock())
        except (Unavailable, RowRefused) as error:
            self._due_at = time.monotonic() + _PAUSE_IN_TROUBLE_SECONDS
            _LOG.info("X-Forwarded-For came; it could not be noted", error=str(error))
