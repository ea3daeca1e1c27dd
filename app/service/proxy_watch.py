"""Detects a proxy in front of the service that TRUSTED_PROXIES does not count."""

import threading
import time

import structlog

from app.clock import clock
from app.errors import Unavailable
from app.store.engine import Database, RowRefused
from app.store.nodes import UNTRUSTED_PROXY, save_sighting

_PAUSE_SECONDS = 3600.0
_PAUSE_IN_TROUBLE_SECONDS = 60.0

_LOG = structlog.get_logger("web")


class ProxyWatch:
    """Records that requests have X-Forwarded-For: one row in the database, written at most once an hour."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._due_at = float("-inf")

    def note(self) -> None:
        """Record a request with that header; the row is written in the background. Never raises."""
        now = time.monotonic()
        if now >= self._due_at:
            self._due_at = now + _PAUSE_SECONDS
            threading.Thread(target=self._save, name="proxy watch", daemon=True).start()

    def _save(self) -> None:
        try:
            # Not durable: if a power cut loses it, a later request repeats it.
            with self._database.writing(durable=False) as conn:
                save_sighting(conn, UNTRUSTED_PROXY, clock())
        except (Unavailable, RowRefused) as error:
            self._due_at = time.monotonic() + _PAUSE_IN_TROUBLE_SECONDS
            _LOG.info("X-Forwarded-For came; it could not be noted", error=str(error))
