"""Notices a proxy in front of the service that no setting tells of."""

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import structlog

from app.bootstrap import clock
from app.errors import Unavailable
from app.store.engine import Database, RowRefused
from app.store.nodes import UNTRUSTED_PROXY, save_sighting

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

_PAUSE_SECONDS = 3600.0
_PAUSE_IN_TROUBLE_SECONDS = 60.0

_LOG = structlog.get_logger("web")


class ProxyWatch:
    """Stands in front of an application where TRUSTED_PROXIES is 0, and notes that X-Forwarded-For came.

    Every request passes here: one look into a dict, and a row in the database once an hour at most.
    """

    def __init__(self, application: "WSGIApplication", database: Database) -> None:
        self._application = application
        self._database = database
        self._due_at = float("-inf")

    def __call__(self, environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request as the application does."""
        if "HTTP_X_FORWARDED_FOR" in environ and time.monotonic() >= self._due_at:
            self._due_at = time.monotonic() + _PAUSE_SECONDS
            threading.Thread(target=self._save, name="proxy watch", daemon=True).start()
        return self._application(environ, start_response)

    def _save(self) -> None:
        try:
            # Not durable: whatever a power cut takes away is seen again.
            with self._database.writing(durable=False) as conn:
                save_sighting(conn, UNTRUSTED_PROXY, clock())
        except (Unavailable, RowRefused) as error:
            self._due_at = time.monotonic() + _PAUSE_IN_TROUBLE_SECONDS
            _LOG.info("X-Forwarded-For came; it could not be noted", error=str(error))
