"""Publishes the metric files of a folder: at the start of a process, and when they change.

What is live is read from the database with each question, so there is nothing else to keep up to date.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from app.catalog.files import fingerprint, read_folder
from app.catalog.status import FileState
from app.errors import Unavailable
from app.metrics.catalog import publish_new_metrics, survey_metrics
from app.store.engine import Database
from app.store.ids import Ids

_STEP_SECONDS = 0.5

_LOG = structlog.get_logger("metrics")


class MetricWatcher:
    """Watches one folder for one database."""

    def __init__(self, database: Database, folder: Path, ids: Ids, clock: Callable[[], int]) -> None:
        self._database = database
        self._folder = folder
        self._ids = ids
        self._clock = clock
        self._noticed: object = None
        self._read: object = None
        self._told: frozenset[tuple[str, str]] = frozenset()

    def begin(self) -> None:
        """Publish what may publish itself. A database that is away, or a file that is no metric, stops nothing."""
        self._try(self._look, fingerprint(self._folder))

    def watch(self) -> None:
        """Keep looking, on a thread of its own, for as long as the process lives."""
        threading.Thread(target=self._watch, name="metrics", daemon=True).start()

    def look(self) -> None:
        """Look once. Raises Unavailable."""
        seen = fingerprint(self._folder)
        # A file is read once it was the same for two looks, since its editor may still be writing.
        settled, self._noticed = seen == self._noticed, seen
        if settled and seen != self._read:
            self._look(seen)

    def _watch(self) -> None:
        while True:
            time.sleep(_STEP_SECONDS)
            self._try(self.look)

    def _try(self, step: Callable[..., None], *given: object) -> None:
        try:
            step(*given)
        except Unavailable as error:
            # What is live stays live; the next look may find the database again.
            self._tell({("metrics not looked up; what is live stays live", error.message)})
        except Exception as error:  # noqa: BLE001  whatever it is, metrics keep no call from being stored
            self._tell({("metrics not looked up; what is live stays live", repr(error))})

    def _look(self, seen: object) -> None:
        files = read_folder(self._folder)
        published = publish_new_metrics(self._database, files, self._ids.next, self._clock)
        if published:
            _LOG.info("metrics published", names=published)
        with self._database.reading() as conn:
            standings = survey_metrics(conn, files).standings
        lines = {("metric not used; the last good version stays live", one.problem) for one in standings if one.problem}
        lines |= {
            ("metric drifted", f"{one.name}.yaml is not what is live: segment-lotus metrics publish {one.name}")
            for one in standings
            if one.state is FileState.DRIFT
        }
        self._tell({(event, message) for event, message in lines if message})
        self._read = seen

    def _tell(self, lines: set[tuple[str, str]]) -> None:
        for event, message in sorted(lines - self._told):
            _LOG.warning(event, message=message)
        self._told = frozenset(lines)
