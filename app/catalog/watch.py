"""Keeps the live transforms of a process up to date: with its files, and with what other nodes publish."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from app.catalog.files import Folder, fingerprint, read_folder
from app.catalog.live import Catalog
from app.catalog.publish import publish_new
from app.catalog.status import CatalogStatus, FileState
from app.errors import TransformInvalid, Unavailable
from app.store.engine import Database
from app.store.ids import Ids
from app.store.publications import find_latest_id
from app.store.writer import give_way

# A publish is to be seen everywhere within two seconds: a file is read once it was the same for two looks, since its
# editor may still be writing, and the other processes see the publication with their next look.
_STEP_SECONDS = 0.5

# A start waits so long for files that are being written.
_SETTLE_SECONDS = 10

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
        self._noticed: object = None
        self._latest: int | None = None
        self._told: frozenset[str] = frozenset()
        self._trouble: str | None = None
        self.survey: CatalogStatus | None = None
        """How the files stand to what is live; None before the first look."""
        self.published: list[str] = []
        """Names that were published and not told yet."""
        self._changed = False

    def begin(self) -> None:
        """Publish what may publish itself, and make active what is live. Says nothing: `tell` does.

        Raises:
            TransformInvalid: nothing is live, and the files cannot be used.
            Unavailable: the database cannot be reached.

        """
        until = time.monotonic() + _SETTLE_SECONDS
        while not self._look(fingerprint(self._folder)) and time.monotonic() < until:
            time.sleep(_STEP_SECONDS)
        if not self._catalog.active.transforms:
            why = "\n".join(self.problems())
            raise TransformInvalid(why or f"{self._folder} has no transforms")

    def require_active(self) -> None:
        """Raise Unavailable while nothing is active: nothing may be mapped, or ignored, for want of transforms."""
        if not self._catalog.active.transforms:
            raise Unavailable("no transforms are active yet; send it again")

    def watch(self) -> None:
        """Keep looking, on a thread of its own, for as long as the process lives."""
        threading.Thread(target=self._watch, name="transforms", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(_STEP_SECONDS)
            try:
                self.look()
            except Unavailable as error:
                # What is active stays active; a later look may find the database again.
                self._say_trouble(error.message)
            except Exception as error:  # noqa: BLE001  whatever it is, what is active stays active
                self._say_trouble(repr(error), exc_info=True)
            else:
                self._trouble = None

    def look(self) -> None:
        """Look once. Raises Unavailable."""
        seen = fingerprint(self._folder)
        settled, self._noticed = seen == self._noticed, seen
        if settled and seen != self._read:
            self._look(seen)
        else:
            with self._database.reading() as conn:
                latest = find_latest_id(conn)
            if latest != self._latest:
                self._look(self._read)
        self.tell()

    def problems(self) -> list[str]:
        """Return what keeps files from being used, and live texts from being read."""
        if self.survey is None:
            return []
        live = self.survey.live
        unreadable = [
            f"{name}: the live version cannot be read by this program" + ("; an older one is used" * older)
            for name, older in ((name, name in live.transforms) for name in live.unreadable)
        ]
        return [one.sentence for one in self.survey.checked.problems if one.grave] + unreadable

    def tell(self) -> None:
        """Log what was not logged before: what became live, and which files are not used or differ from it."""
        if self.survey is None:
            return
        if self.published:
            _LOG.info("transforms published", names=self.published)
        if self._changed:
            names = [f"{one.name}@{one.digest.hex()[:12]}" for one in self._catalog.active.transforms]
            _LOG.info("transforms active", transforms=names)
        self.published, self._changed = [], False
        lines = dict.fromkeys(self.problems(), "transform not used; the last good version stays active")
        for one in self.survey.among(FileState.DRIFT):
            way_out = f"segment-lotus transforms publish {one.name}, or pull {one.name}"
            lines[f"{one.name}.yaml is not what is live; a person decides: {way_out}"] = "transform drifted"
        for sentence in sorted(lines.keys() - self._told):
            level = _LOG.warning if lines[sentence] == "transform drifted" else _LOG.error
            level(lines[sentence], message=sentence)
        self._told = frozenset(lines)

    def _look(self, seen: object) -> bool:
        """Publish and activate; first read the folder, where it is not what was read last.

        False: a file changed while the folder was read, and nothing was done.
        """
        files = self._files if seen == self._read else read_folder(self._folder)
        if seen != self._read and fingerprint(self._folder) != seen:
            return False
        found, published = publish_new(
            self._database, self._catalog, files, self._ids.next, self._clock, breathe=give_way
        )
        changed = self._catalog.activate(found.live)
        self.survey, self._latest, self._files, self._read = found, found.live.latest, files, seen
        self.published += published
        self._changed = self._changed or changed
        return True

    def _say_trouble(self, what: str, *, exc_info: bool = False) -> None:
        """Log once what keeps us from looking."""
        if what != self._trouble:
            _LOG.warning("transforms not looked up; what is active stays active", message=what, exc_info=exc_info)
        self._trouble = what
