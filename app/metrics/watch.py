"""Publishes the metric files of a folder: at the start of a process, and when they change.

Every query reads the live metrics from the database, so there is no cache to keep up to date.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from app.catalog.files import fingerprint, read_folder
from app.catalog.status import FileState
from app.errors import Unavailable
from app.metrics.catalog import publish_new_metrics, read_metric_statuses
from app.store.engine import Database
from app.store.ids import Ids

_STEP_SECONDS = 0.5

_LOG = structlog.get_logger("metrics")


class MetricWatcher:
    """Watches one folder and publishes its files to one database."""

    def __init__(self, database: Database, folder: Path, ids: Ids, clock: Callable[[], int]) -> None:
        self._database = database
        self._folder = folder
        self._ids = ids
        self._clock = clock
        self._last_seen: object = None
        self._read: object = None
        self._logged: frozenset[tuple[str, str]] = frozenset()

    def begin(self) -> None:
        """Publish new files once. An unreachable database or an invalid file is only logged."""
        self._try(self._update, fingerprint(self._folder))

    def watch(self) -> None:
        """Start the daemon thread that checks the folder for the life of the process."""
        threading.Thread(target=self._watch, name="metrics", daemon=True).start()

    def look(self) -> None:
        """Check the folder once and publish what changed. Raises Unavailable."""
        state = fingerprint(self._folder)
        # Read files only if two checks in a row agree, since an editor may still be writing.
        settled, self._last_seen = state == self._last_seen, state
        if settled and state != self._read:
            self._update(state)

    def _watch(self) -> None:
        while True:
            time.sleep(_STEP_SECONDS)
            self._try(self.look)

    def _try(self, step: Callable[..., None], *args: object) -> None:
        try:
            step(*args)
        except Unavailable as error:
            # Live metrics stay live; the next check tries the database again.
            self._log({("metric files not read; live metrics stay live", error.message)})
        except Exception as error:  # noqa: BLE001  no error of metrics may prevent a call from being stored
            self._log({("metric files not read; live metrics stay live", repr(error))})

    def _update(self, state: object) -> None:
        files = read_folder(self._folder)
        published = publish_new_metrics(self._database, files, self._ids.next, self._clock)
        if published:
            _LOG.info("metrics published", names=published)
        with self._database.reading() as conn:
            statuses = read_metric_statuses(conn, files).statuses
        lines = {
            ("metric not used; the last good version stays live", status.problem)
            for status in statuses
            if status.problem
        }
        lines |= {
            ("metric drifted", f"{status.name}.yaml is not what is live: segment-lotus metrics publish {status.name}")
            for status in statuses
            if status.state is FileState.DRIFT
        }
        self._log({(event, message) for event, message in lines if message})
        self._read = state

    def _log(self, lines: set[tuple[str, str]]) -> None:
        for event, message in sorted(lines - self._logged):
            _LOG.warning(event, message=message)
        self._logged = frozenset(lines)
