"""What a person does with transforms: publish the file, pull what is live, go back to an earlier version."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.catalog.check import failing_examples
from app.catalog.files import read_folder, to_path, write_file
from app.catalog.live import KIND, Catalog, Live
from app.catalog.publish import Clock, NextId, Publisher
from app.catalog.status import CatalogStatus, FileState, breaks_inheriting, survey
from app.catalog.versions import find_one_version
from app.core.transform.lint import lint, list_publishing_errors
from app.core.transform.transform import DEFAULT, Transform, TransformSet
from app.errors import EditConflict, NotFound, TransformInvalid, Unavailable
from app.store.engine import Connection, Database
from app.store.publications import Origin, Publication, find_latest_id, list_history
from app.store.versions import Version, append_versions, get_version, list_versions

# Somebody else published in between; it takes a crowd of publishers to be overtaken so often.
_TRIES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an act changed."""

    before: str | None
    """The text that was live, or that the file had; None: nothing."""
    after: str | None
    digest: bytes | None
    """The version that is live now."""
    heirs: tuple[str, ...] = ()
    """Names that were published anew because they inherit from it."""


class CatalogActions:
    """Acts on one folder and one database."""

    def __init__(self, database: Database, catalog: Catalog, folder: Path, next_id: NextId, clock: Clock) -> None:
        self._database = database
        self._catalog = catalog
        self._folder = folder
        self._next_id = next_id
        self._clock = clock

    def survey(self) -> CatalogStatus:
        """Hold the folder against what is live."""
        with self._database.reading() as conn:
            return survey(conn, self._catalog, read_folder(self._folder))

    def publish(self, name: str) -> Change:
        """Make the file of a name live; where there is no file, take out what is live.

        Raises:
            NotFound: there is neither.
            TransformInvalid: the file cannot be used, or what inherits from it would be broken.

        """
        for _ in range(_TRIES):
            folder = read_folder(self._folder)
            with self._database.reading() as conn:
                found = survey(conn, self._catalog, folder)
            standing = found.find(name)
            if standing is None:
                raise NotFound(f"there is no {to_path(self._folder, name)}, and nothing is live under that name")
            if standing.state is FileState.NO_FILE and name == DEFAULT:
                raise TransformInvalid(f"{DEFAULT} cannot be taken out: all others inherit from it")
            if grave := found.grave(name):
                raise TransformInvalid("\n".join(grave))
            transform = None if standing.state is FileState.NO_FILE else self._fit(found.live, name, folder.texts[name])
            with self._publishing(found.live) as publisher:
                if publisher is not None and transform is not None:
                    return _make_live(publisher, found.live, transform, Origin.FILE)
                if publisher is not None:
                    publisher.take_out(name, Origin.FILE)
                    return Change(before=found.live.texts.get(name), after=None, digest=None)
        raise _overtaken()

    def publish_text(self, name: str, text: str, seen: bytes | None) -> Change:
        """Make a text live that somebody wrote in the editor; `seen` is the version that they took for the live one.

        Raises:
            EditConflict: another version is live.
            TransformInvalid: the text cannot be used, or what inherits from it would be broken.

        """
        to_path(self._folder, name)
        for _ in range(_TRIES):
            with self._database.reading() as conn:
                live = self._catalog.read_live(conn)
            before = live.publications.get(name)
            if (before.digest if before else None) != seen:
                raise EditConflict("another version went live meanwhile; nothing was published")
            transform = self._fit(live, name, text)
            if grave := list(_unreachable(live, transform)):
                raise TransformInvalid("\n".join(grave))
            with self._publishing(live) as publisher:
                if publisher is not None:
                    return _make_live(publisher, live, transform, Origin.EDITOR)
        raise _overtaken()

    def pull(self, name: str) -> Change:
        """Write what is live into the file of a name. Raises NotFound, OSError."""
        found = self.survey()
        if not found.live.is_live(name):
            raise NotFound(f"nothing is live under the name {name!r}")
        path = to_path(self._folder, name)
        before = path.read_bytes().decode(errors="replace") if path.exists() else None
        after = found.live.texts[name]
        if before != after:
            write_file(path, after)
        return Change(before=before, after=after, digest=found.live.publications[name].digest)

    def roll_back(self, name: str, digest_prefix: str | None) -> Change:
        """Make an earlier version live: the one that was live before, or the one that is named.

        Raises:
            NotFound: there is no such version.
            TransformInvalid: it cannot be used today.

        """
        for _ in range(_TRIES):
            with self._database.reading() as conn:
                live = self._catalog.read_live(conn)
                version = self._earlier(conn, live, name, digest_prefix)
            transform = self._fit(live, name, version.text)
            with self._publishing(live) as publisher:
                if publisher is not None:
                    return _make_live(publisher, live, transform, Origin.EDITOR)
        raise _overtaken()

    def find_version(self, conn: Connection, name: str, digest_prefix: str | None) -> Version:
        """Return the live version of a name, or the one of which the digest begins like this. Raises NotFound."""
        if digest_prefix is not None:
            return find_one_version(conn, KIND, name, digest_prefix)
        live = next(iter(list_history(conn, KIND, name)), None)
        if live is None or live.digest is None:
            raise NotFound(f"nothing is live under the name {name!r}")
        return get_version(conn, live.digest)

    def history(self, conn: Connection, name: str) -> list[Publication]:
        """Return all publications of a name, newest first. Raises NotFound."""
        found = list_history(conn, KIND, name)
        if not found:
            raise NotFound(f"nothing was ever live under the name {name!r}")
        return found

    @contextmanager
    def _publishing(self, live: Live) -> Iterator[Publisher | None]:
        """Give what publishes, where `live` is still what is live; None where somebody else published meanwhile.

        The database is locked within: all that takes time has been done before.
        """
        with self._database.writing() as conn:
            publisher = Publisher(conn, self._catalog, self._next_id, self._clock())
            if find_latest_id(conn) != live.latest:
                yield None
                return
            append_versions(conn, live.unkept)
            yield publisher

    def _fit(self, live: Live, name: str, text: str) -> Transform:
        """Read a text that is to be live. Raises TransformInvalid with all that keeps it from that."""
        default = None if name == DEFAULT else live.transforms.get(DEFAULT)
        if name != DEFAULT and default is None:
            raise TransformInvalid(f"no {DEFAULT} is live yet, which all inherit from; publish that first")
        transform = self._catalog.parse(name, text, default)
        unfit = [error.message for error in list_publishing_errors(transform)]
        problems = [*unfit, *failing_examples(transform), *self._harm(live, transform)]
        if problems:
            raise TransformInvalid("\n".join(problems))
        return transform

    def _harm(self, live: Live, transform: Transform) -> Iterator[str]:
        if transform.name == DEFAULT:
            yield from breaks_inheriting(self._catalog, live, transform, set())

    def _earlier(self, conn: Connection, live: Live, name: str, digest_prefix: str | None) -> Version:
        if digest_prefix is not None:
            return find_one_version(conn, KIND, name, digest_prefix)
        digests = [one.digest for one in self.history(conn, name) if one.digest is not None]
        versions = list_versions(conn, digests)
        for digest in digests:
            # A new `_default` publishes the same text anew; that is no change of this one.
            if versions[digest].text != live.texts.get(name):
                return versions[digest]
        raise NotFound(f"{name} has no earlier version")


def _make_live(publisher: Publisher, live: Live, transform: Transform, origin: Origin) -> Change:
    name, before = transform.name, live.texts.get(transform.name)
    last = live.publications.get(name)
    if last and last.digest == transform.digest and last.origin == origin:
        return Change(before=before, after=transform.text, digest=transform.digest)
    publisher.publish(live, [(transform, origin)])
    heirs = live.texts.keys() - {name} if name == DEFAULT and before != transform.text else set()
    return Change(before=before, after=transform.text, digest=transform.digest, heirs=tuple(sorted(heirs)))


def _overtaken() -> Unavailable:
    return Unavailable("others publish transforms all the time; try again")


def _unreachable(live: Live, transform: Transform) -> Iterator[str]:
    others = [one for one in live.transforms.values() if one.name != transform.name]
    for finding in lint(TransformSet([*others, transform])):
        if finding.grave and finding.transform == transform.name:
            yield transform.source.invalid(finding.path, finding.sentence).message
