"""What a person does with transforms: publish, unpublish, pull the live text, roll back to an earlier version."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.catalog.check import failing_examples
from app.catalog.files import read_folder, to_path, write_file
from app.catalog.live import KIND, Catalog, Live
from app.catalog.publish import TRIES, Clock, NextId, Publisher, overtaken
from app.catalog.status import CatalogStatus, FileState, breaks_inheriting, compare_with_live
from app.core.transform.lint import lint, list_publishing_errors
from app.core.transform.transform import DEFAULT, Transform, TransformSet
from app.errors import EditConflict, NotFound, TransformInvalid
from app.store.engine import Connection, Database
from app.store.publications import Origin, Publication, find_latest_id, list_history
from app.store.versions import Version, append_versions, find_one_version, get_version, list_versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an action changed."""

    before: str | None
    """The text that was live, or that was in the file; None if there was none."""
    after: str | None
    digest: bytes | None
    """The version that is live now."""
    inheriting: tuple[str, ...] = ()
    """Names that were published again because they inherit from it."""


class CatalogActions:
    """The actions on one folder and one database."""

    def __init__(self, database: Database, catalog: Catalog, folder: Path, next_id: NextId, clock: Clock) -> None:
        self._database = database
        self._catalog = catalog
        self._folder = folder
        self._next_id = next_id
        self._clock = clock

    def status(self) -> CatalogStatus:
        """Compare the folder with the live versions."""
        with self._database.reading() as conn:
            return compare_with_live(conn, self._catalog, read_folder(self._folder))

    def publish(self, name: str) -> Change:
        """Make the file of a name live; if there is no file, unpublish the name.

        Raises:
            NotFound: there is no file, and nothing is live.
            TransformInvalid: the file cannot be used, or a transform that inherits from it would break.

        """
        for _ in range(TRIES):
            folder = read_folder(self._folder)
            with self._database.reading() as conn:
                status = compare_with_live(conn, self._catalog, folder)
            file, live = status.find(name), status.live
            if file is None:
                raise NotFound(f"there is no {to_path(self._folder, name)}, and nothing is live under that name")
            if file.state is FileState.NO_FILE:
                _check_not_default(name)
            if blocking := status.blocking(name):
                raise TransformInvalid("\n".join(blocking))
            transform = None
            if file.state is not FileState.NO_FILE:
                transform = self._parse_publishable(live, name, folder.texts[name])
            with self._publishing(live) as publisher:
                if publisher is not None and transform is not None:
                    return _make_live(publisher, live, transform, Origin.FILE)
                if publisher is not None:
                    publisher.unpublish(name, Origin.FILE)
                    return Change(before=live.texts.get(name), after=None, digest=None)
        raise overtaken()

    def publish_text(self, name: str, text: str, expected: bytes | None) -> Change:
        """Make a text from the editor live; `expected` is the digest of the version its author saw as live, if any.

        Raises:
            EditConflict: another version is live.
            TransformInvalid: the text cannot be used, or a transform that inherits from it would break.

        """
        to_path(self._folder, name)
        for _ in range(TRIES):
            with self._database.reading() as conn:
                live = self._catalog.read_live(conn)
            before = live.publications.get(name)
            if (before.digest if before else None) != expected:
                raise EditConflict("another version went live meanwhile; nothing was published")
            transform = self._parse_publishable(live, name, text)
            if blocking := list(_unreachable(live, transform)):
                raise TransformInvalid("\n".join(blocking))
            with self._publishing(live) as publisher:
                if publisher is not None:
                    return _make_live(publisher, live, transform, Origin.EDITOR)
        raise overtaken()

    def pull(self, name: str) -> Change:
        """Write the live text into the file of a name. Raises NotFound, OSError."""
        live = self.status().live
        if not live.is_live(name):
            raise NotFound(f"nothing is live under the name {name!r}")
        path = to_path(self._folder, name)
        before = path.read_bytes().decode(errors="replace") if path.exists() else None
        after = live.texts[name]
        if before != after:
            write_file(path, after)
        return Change(before=before, after=after, digest=live.publications[name].digest)

    def roll_back(self, name: str, digest_prefix: str | None) -> Change:
        """Make an earlier version live: the previous one, or the one whose digest begins with `digest_prefix`.

        Raises:
            NotFound: there is no such version.
            TransformInvalid: this program, or today's `_default`, cannot use it any more.

        """
        for _ in range(TRIES):
            with self._database.reading() as conn:
                live = self._catalog.read_live(conn)
                version = self._find_earlier_version(conn, live, name, digest_prefix)
            transform = self._parse_publishable(live, name, version.text)
            with self._publishing(live) as publisher:
                if publisher is not None:
                    return _make_live(publisher, live, transform, Origin.EDITOR)
        raise overtaken()

    def unpublish(self, name: str, expected: bytes | None = None) -> Change:
        """Take the live version of a name out of use; no file takes its place before a person publishes one.

        `expected`: the digest of the version that the person saw as live; None: whichever it is.

        Raises:
            NotFound: nothing is live under that name.
            EditConflict: another version is live.
            TransformInvalid: it comes from its file, which is there; or it is `_default`.

        """
        path = to_path(self._folder, name)
        for _ in range(TRIES):
            with self._database.reading() as conn:
                live = self._catalog.read_live(conn)
            publication = live.publications.get(name)
            if publication is None or publication.digest is None:
                raise NotFound(f"nothing is live under the name {name!r}")
            _check_not_default(name)
            if expected is not None and publication.digest != expected:
                raise EditConflict("another version went live meanwhile; nothing was unpublished")
            if publication.origin == Origin.FILE and path.exists():
                raise TransformInvalid(f"{name} comes from {path}: delete that file, and then unpublish {name}")
            with self._publishing(live) as publisher:
                if publisher is not None:
                    publisher.unpublish(name, Origin.EDITOR)
                    return Change(before=live.texts.get(name), after=None, digest=None)
        raise overtaken()

    def find_version(self, conn: Connection, name: str, digest_prefix: str | None) -> Version:
        """Return the live version of a name, or the one whose digest begins with `digest_prefix`. Raises NotFound."""
        if digest_prefix is not None:
            return find_one_version(conn, KIND, name, digest_prefix)
        live = next(iter(list_history(conn, KIND, name)), None)
        if live is None or live.digest is None:
            raise NotFound(f"nothing is live under the name {name!r}")
        return get_version(conn, live.digest)

    def history(self, conn: Connection, name: str) -> list[Publication]:
        """Return all publications of a name, newest first. Raises NotFound."""
        publications = list_history(conn, KIND, name)
        if not publications:
            raise NotFound(f"nothing was ever live under the name {name!r}")
        return publications

    @contextmanager
    def _publishing(self, live: Live) -> Iterator[Publisher | None]:
        """Yield a publisher if `live` is still current; None if another publication came in between.

        The database is locked inside the block: do everything that takes time before it.
        """
        with self._database.writing() as conn:
            publisher = Publisher(conn, self._catalog, self._next_id, self._clock())
            if find_latest_id(conn) != live.latest:
                yield None
                return
            append_versions(conn, live.unstored)
            yield publisher

    def _parse_publishable(self, live: Live, name: str, text: str) -> Transform:
        """Parse a text to be published. Raises TransformInvalid with everything that prevents that."""
        default = None if name == DEFAULT else live.transforms.get(DEFAULT)
        if name != DEFAULT and default is None:
            raise TransformInvalid(f"{DEFAULT}, which all transforms inherit from, is not live yet; publish it first")
        transform = self._catalog.parse(name, text, default)
        unfit = [error.message for error in list_publishing_errors(transform)]
        problems = [*unfit, *failing_examples(transform), *self._breaks_inheriting(live, transform)]
        if problems:
            raise TransformInvalid("\n".join(problems))
        return transform

    def _breaks_inheriting(self, live: Live, transform: Transform) -> Iterator[str]:
        if transform.name == DEFAULT:
            yield from breaks_inheriting(self._catalog, live, transform, set())

    def _find_earlier_version(self, conn: Connection, live: Live, name: str, digest_prefix: str | None) -> Version:
        if digest_prefix is not None:
            return find_one_version(conn, KIND, name, digest_prefix)
        digests = [publication.digest for publication in self.history(conn, name) if publication.digest is not None]
        versions = list_versions(conn, digests)
        for digest in digests:
            # A new `_default` publishes the same text again; that does not change this transform.
            if versions[digest].text != live.texts.get(name):
                return versions[digest]
        raise NotFound(f"{name} has no earlier version")


def _check_not_default(name: str) -> None:
    if name == DEFAULT:
        raise TransformInvalid(f"{DEFAULT} cannot be unpublished: all others inherit from it")


def _make_live(publisher: Publisher, live: Live, transform: Transform, origin: Origin) -> Change:
    name, before = transform.name, live.texts.get(transform.name)
    last = live.publications.get(name)
    if last and last.digest == transform.digest and last.origin == origin:
        return Change(before=before, after=transform.text, digest=transform.digest)
    publisher.publish(live, [(transform, origin)])
    inheriting = live.texts.keys() - {name} if name == DEFAULT and before != transform.text else set()
    return Change(before=before, after=transform.text, digest=transform.digest, inheriting=tuple(sorted(inheriting)))


def _unreachable(live: Live, transform: Transform) -> Iterator[str]:
    unchanged = [other for other in live.transforms.values() if other.name != transform.name]
    for finding in lint(TransformSet([*unchanged, transform])):
        if finding.blocking and finding.transform == transform.name:
            yield transform.source.invalid(finding.path, finding.sentence).message
