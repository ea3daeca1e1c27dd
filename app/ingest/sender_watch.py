"""Records who sends, and which shared secret signs: rows that say when that was last seen.

The setup page and `doctor` show them: calls arrive from Segment, and an old secret that nobody uses can go.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from app.errors import Unavailable
from app.ingest.sender import find_sender
from app.store.engine import Database, RowRefused
from app.store.nodes import ARRIVED, SECRET_USED, save_sighting

PAUSE_SECONDS = 60.0

_LOG = structlog.get_logger("arrivals")


class SenderWatch:
    """Notes accepted requests of a process. It writes at most once a minute, and once for each new name."""

    def __init__(self, database: Database, clock: Callable[[], int], fingerprints: Sequence[str]) -> None:
        """`fingerprints` of the shared secrets, in their order."""
        self._database = database
        self._clock = clock
        self._fingerprints = fingerprints
        self._seen: set[str] = set()
        self._waiting: dict[str, int] = {}
        self._due_at = float("-inf")

    def note(self, environ: dict[str, Any], secret: int | None) -> None:
        """Record a request, and which secret signed it; the rows are written in the background. Never raises."""
        now = self._clock()
        names = {ARRIVED + find_sender(environ, authentic=True)}
        if secret is not None:
            names.add(SECRET_USED + self._fingerprints[secret])
        self._waiting.update(dict.fromkeys(names, now))
        if names <= self._seen and time.monotonic() < self._due_at:
            return
        self._seen |= names
        self._due_at = time.monotonic() + PAUSE_SECONDS
        threading.Thread(target=self._save, name="arrivals", daemon=True).start()

    def _save(self) -> None:
        rows, self._waiting = self._waiting, {}
        try:
            # Not durable: if a power cut loses it, a later request repeats it.
            with self._database.writing(durable=False) as conn:
                for name, seen_at in sorted(rows.items()):
                    save_sighting(conn, name, seen_at)
        except (Unavailable, RowRefused) as error:
            self._seen -= rows.keys()
            _LOG.info("who sent requests could not be noted", error=str(error))
