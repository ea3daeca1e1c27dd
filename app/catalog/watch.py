"""Keeps the live transforms of a process up to date with its files, and with what other nodes publish."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from app.catalog.files import Folder, fingerprint, read_folder
from app.catalog.live import Catalog
from app.catalog.publish import publish_new
from app.catalog.status import CatalogStatus, FileState
from app.core.text import short
from app.errors import TransformInvalid, Unavailable
from app.store.engine import Database
from app.store.ids import Ids
from app.store.publications import find_latest_id
from app.store.writer import yield_now

# A publication must be seen everywhere within two seconds: a file is read after two checks in a row find it unchanged,
# since an editor may still be writing it, and other processes see the publication at their next check.
_STEP_SECONDS = 0.5

# A start waits at most this long for files that are being written.
_SETTLE_SECONDS = 10

_DRIFTED = "transform drifted"
_LOG = structlog.get_logger("transforms")


class Watcher:
    """Watches one folder and one database for a catalog."""

    def __init__(self, catalog: Catalog, database: Database, folder: Path, ids: Ids, clock: Callable[[], int]) -> None:
        self._catalog = catalog
        self._database = database
        self._folder = folder
        self._ids = ids
        self._clock = clock
        self._files: Folder = Folder(texts={}, problems={})
        self._read: object = None
        self._last_seen: object = None
        self._latest: int | None = None
        self._logged: frozenset[str] = frozenset()
        self._trouble: str | None = None
        self.status: CatalogStatus | None = None
        """How the files compare with the live versions; None before the first check."""
        self.published: list[str] = []
        """Names that were published and not logged yet."""
        self._changed = False

    def begin(self) -> None:
        """Publish the new files, and activate the live versions. Logs nothing: `log_changes` does.

        Raises:
            TransformInvalid: nothing is live, and the files cannot be used.
            Unavailable: the database cannot be reached.

        """
        until = time.monotonic() + _SETTLE_SECONDS
        while not self._update(fingerprint(self._folder)) and time.monotonic() < until:
            time.sleep(_STEP_SECONDS)
        if not self._catalog.active.transforms:
            why = "\n".join(self.problems())
            raise TransformInvalid(why or f"{self._folder} has no transforms")

    def watch(self) -> None:
        """Start the daemon thread that checks for changes for the life of the process."""
        threading.Thread(target=self._watch, name="transforms", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(_STEP_SECONDS)
            try:
                self.look()
            except Unavailable as error:
                # The active versions stay active; the next check tries the database again.
                self._log_trouble(error.message)
            except Exception as error:  # noqa: BLE001  whatever happens, the active versions stay active
                self._log_trouble(repr(error), exc_info=True)
            else:
                self._trouble = None

    def look(self) -> None:
        """Check the files and the database once, and update what changed. Raises Unavailable."""
        state = fingerprint(self._folder)
        settled, self._last_seen = state == self._last_seen, state
        if settled and state != self._read:
            self._update(state)
        else:
            with self._database.reading() as conn:
                latest = find_latest_id(conn)
            if latest != self._latest:
                self._update(self._read)
        self.log_changes()

    def problems(self) -> list[str]:
        """Return the problems that keep files from being used, and live texts from being read."""
        if self.status is None:
            return []
        live = self.status.live
        unreadable = [
            f"{name}: the live version cannot be read by this program" + ("; an older one is used" * older)
            for name, older in ((name, name in live.transforms) for name in live.unreadable)
        ]
        return [problem.sentence for problem in self.status.checked.problems if problem.blocking] + unreadable

    def log_changes(self) -> None:
        """Log what was not logged before: what became live, and which files are not used or have drifted."""
        if self.status is None:
            return
        if self.published:
            _LOG.info("transforms published", names=self.published)
        if self._changed:
            active = self._catalog.active.transforms
            names = [f"{transform.name}@{short(transform.digest)}" for transform in active]
            _LOG.info("transforms active", transforms=names)
        self.published, self._changed = [], False
        lines = dict.fromkeys(self.problems(), "transform not used; the last good version stays active")
        for file in self.status.in_state(FileState.DRIFT):
            remedy = f"segment-lotus transforms publish {file.name}, or pull {file.name}"
            lines[f"{file.name}.yaml differs from the live version; decide which is right: {remedy}"] = _DRIFTED
        for sentence in sorted(lines.keys() - self._logged):
            log = _LOG.warning if lines[sentence] == _DRIFTED else _LOG.error
            log(lines[sentence], message=sentence)
        self._logged = frozenset(lines)

    def _update(self, state: object) -> bool:
        """Publish and activate; `state` is the fingerprint of the folder, which is only read if that has changed.

        Returns False, and does nothing, if a file changes while the folder is read.
        """
        files = self._files if state == self._read else read_folder(self._folder)
        if state != self._read and fingerprint(self._folder) != state:
            return False
        status, published = publish_new(
            self._database, self._catalog, files, self._ids.next, self._clock, checkpoint=yield_now
        )
        changed = self._catalog.activate(status.live)
        self.status, self._latest, self._files, self._read = status, status.live.latest, files, state
        self.published += published
        self._changed = self._changed or changed
        return True

    def _log_trouble(self, trouble: str, *, exc_info: bool = False) -> None:
        """Log why a check failed, unless that was the last thing logged."""
        if trouble != self._trouble:
            _LOG.warning("transforms not looked up; what is active stays active", message=trouble, exc_info=exc_info)
        self._trouble = trouble
