"""Making versions live: within one transaction, under the lock of `publications`."""

from collections.abc import Callable, Iterable

from app.catalog.check import no_checkpoint
from app.catalog.files import Folder
from app.catalog.live import KIND, Catalog, Live
from app.catalog.status import CatalogStatus, FileState, survey
from app.core.transform.transform import DEFAULT, Transform
from app.errors import Unavailable
from app.store.engine import Connection, Database
from app.store.publications import Origin, Publication, append_publications, find_latest_id, lock_publications
from app.store.versions import Version, append_versions

NextId = Callable[[int], int]
Clock = Callable[[], int]

# Somebody else published in between; it takes a crowd of publishers to be overtaken so often.
_TRIES = 10


class Publisher:
    """Publishes within one transaction."""

    def __init__(self, conn: Connection, catalog: Catalog, next_id: NextId, now: int) -> None:
        """`now` in microseconds since 1970. Nobody else publishes until the transaction ends."""
        lock_publications(conn)
        self.conn = conn
        self._catalog = catalog
        self._next_id = next_id
        self._now = now

    def publish(self, live: Live, transforms: Iterable[tuple[Transform, Origin]]) -> None:
        """Make versions live; `live` is what is until then.

        With a new `_default` all that inherit from it are made live anew, by their own text and with their own origin.
        """
        chosen = {one.name: (one, origin) for one, origin in transforms}
        default = chosen[DEFAULT][0] if DEFAULT in chosen else live.transforms.get(DEFAULT)
        for name, text in live.texts.items():
            if DEFAULT in chosen and name not in chosen:
                heir = self._catalog.parse(name, text, default)
                if heir.digest != live.publications[name].digest:
                    chosen[name] = (heir, Origin(live.publications[name].origin))
        # What is read in the order of ids has `_default` before its heirs.
        pairs = sorted(chosen.values(), key=lambda pair: (pair[0].name != DEFAULT, pair[0].name))
        self.keep(one for one, _ in pairs)
        self._append([(one.name, one.digest, origin) for one, origin in pairs])

    def keep(self, transforms: Iterable[Transform]) -> None:
        """Keep versions without making them live."""
        append_versions(
            self.conn,
            [Version(one.digest, KIND, one.name, one.text, one.inherits, self._now) for one in transforms],
        )

    def take_out(self, name: str, origin: Origin) -> None:
        """Make nothing live under a name."""
        self._append([(name, None, origin)])

    def _append(self, rows: list[tuple[str, bytes | None, Origin]]) -> None:
        append_publications(
            self.conn,
            [
                Publication(self._next_id(self._now), KIND, name, digest, origin, self._now)
                for name, digest, origin in rows
            ],
        )


def publish_new(
    database: Database,
    catalog: Catalog,
    folder: Folder,
    next_id: NextId,
    clock: Clock,
    breathe: Callable[[], None] = no_checkpoint,
) -> tuple[CatalogStatus, list[str]]:
    """Publish the files that may publish themselves; return how all stand then, and the names that were published.

    Reading, parsing and running examples happens before the database is locked. Raises Unavailable.
    """
    published: list[str] = []
    for _ in range(_TRIES):
        with database.reading() as conn:
            found = survey(conn, catalog, folder, breathe)
        new = [one for one in found.among(FileState.NEW) if one.file is not None]
        # A file that waits for a person must not publish itself later, once a person has chosen otherwise.
        waiting = [one.file for one in found.among(FileState.DRIFT) if one.file is not None and one.unseen]
        if not (new or waiting or found.live.unkept):
            break
        with database.writing() as conn:
            publisher = Publisher(conn, catalog, next_id, clock())
            if find_latest_id(conn) != found.live.latest:
                continue
            append_versions(conn, found.live.unkept)
            publisher.keep(waiting)
            if new:
                publisher.publish(found.live, [(one.file, Origin.FILE) for one in new if one.file is not None])
                published += [one.name for one in new]
    else:
        raise Unavailable("others publish transforms all the time")
    return found, published
