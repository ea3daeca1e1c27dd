"""Making versions live: within one transaction, under the lock of `publications`."""

from collections.abc import Callable, Iterable

from app.catalog.files import Folder
from app.catalog.live import KIND, Catalog, Live, to_version
from app.catalog.status import CatalogStatus, FileState, compare_with_live
from app.core.json_oddities import Checkpoint, no_checkpoint
from app.core.transform.transform import DEFAULT, Transform
from app.errors import Unavailable
from app.store.engine import Connection, Database
from app.store.publications import Origin, Publication, append_publications, find_latest_id, lock_publications
from app.store.versions import append_versions

NextId = Callable[[int], int]
Clock = Callable[[], int]

TRIES = 10
"""A publication is tried again if another one came in between; ten in a row would take a crowd of publishers."""


class Publisher:
    """Publishes within one transaction."""

    def __init__(self, conn: Connection, catalog: Catalog, next_id: NextId, now: int) -> None:
        """`now` in microseconds since 1970. Nobody else can publish until the transaction ends."""
        lock_publications(conn)
        self.conn = conn
        self._catalog = catalog
        self._next_id = next_id
        self._now = now

    def publish(self, live: Live, transforms: Iterable[tuple[Transform, Origin]]) -> None:
        """Make versions live in place of `live`.

        With a new `_default`, all that inherit from it are published again, with their own text and origin.
        """
        chosen = {transform.name: (transform, origin) for transform, origin in transforms}
        default = chosen[DEFAULT][0] if DEFAULT in chosen else live.transforms.get(DEFAULT)
        for name, text in live.texts.items():
            if DEFAULT in chosen and name not in chosen:
                inheriting = self._catalog.parse(name, text, default)
                if inheriting.digest != live.publications[name].digest:
                    chosen[name] = (inheriting, Origin(live.publications[name].origin))
        # Sorted so that a reader in the order of ids meets `_default` before what inherits from it.
        pairs = sorted(chosen.values(), key=lambda pair: (pair[0].name != DEFAULT, pair[0].name))
        self.store_versions(transform for transform, _ in pairs)
        self._append([(transform.name, transform.digest, origin) for transform, origin in pairs])

    def store_versions(self, transforms: Iterable[Transform]) -> None:
        """Store versions without making them live."""
        append_versions(self.conn, [to_version(transform, self._now) for transform in transforms])

    def unpublish(self, name: str, origin: Origin) -> None:
        """End the live version of a name; the name stays in the history."""
        self._append([(name, None, origin)])

    def _append(self, rows: list[tuple[str, bytes | None, Origin]]) -> None:
        append_publications(
            self.conn,
            [
                Publication(self._next_id(self._now), KIND, name, digest, origin, self._now)
                for name, digest, origin in rows
            ],
        )


def overtaken() -> Unavailable:
    """Return the error after the last of the TRIES."""
    return Unavailable("other publications kept getting in first; try again")


def publish_new(
    database: Database,
    catalog: Catalog,
    folder: Folder,
    next_id: NextId,
    clock: Clock,
    checkpoint: Checkpoint = no_checkpoint,
) -> tuple[CatalogStatus, list[str]]:
    """Publish the new files; return the status of the catalog after that, and the names that were published.

    Reading, parsing and running examples happens before the database is locked. Raises Unavailable.
    """
    published: list[str] = []
    for _ in range(TRIES):
        with database.reading() as conn:
            status = compare_with_live(conn, catalog, folder, checkpoint)
        new = [file.transform for file in status.in_state(FileState.NEW) if file.transform is not None]
        # Store it, which marks it as seen: a file that waits for a decision must not be published after a person chose
        # otherwise.
        drifted = status.in_state(FileState.DRIFT)
        waiting = [file.transform for file in drifted if file.transform is not None and file.unseen]
        if not (new or waiting or status.live.unstored):
            break
        with database.writing() as conn:
            publisher = Publisher(conn, catalog, next_id, clock())
            if find_latest_id(conn) != status.live.latest:
                continue
            append_versions(conn, status.live.unstored)
            publisher.store_versions(waiting)
            if new:
                publisher.publish(status.live, [(transform, Origin.FILE) for transform in new])
                published += [transform.name for transform in new]
    else:
        raise overtaken()
    return status, published
