"""The live transforms of this process, and every earlier version by digest."""

from collections.abc import Callable
from dataclasses import dataclass

from app.catalog.check import no_checkpoint
from app.core.pipeline import Lane, map_call
from app.core.segment import Call
from app.core.transform.transform import DEFAULT, Filtered, Transform, TransformSet, parse_transform
from app.errors import CallRejected, EventInvalid, ExpressionFailed, NotFound, TransformInvalid
from app.store.engine import Connection, Database
from app.store.publications import Publication, find_latest_id, list_history, list_live
from app.store.versions import Version, append_versions, get_version, list_versions

KIND = "transform"

# Texts that were parsed and are kept so; many times what a folder holds.
_PARSED_MAX = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What is live, as it stands in the database."""

    latest: int | None
    """Id of the last publication."""
    publications: dict[str, Publication]
    """By name; those taken out included."""
    texts: dict[str, str]
    """The live text by name."""
    transforms: dict[str, Transform]
    """As this program reads them."""
    unreadable: dict[str, str]
    """Names of which this program cannot read the live text, and why; an older version of them is in `transforms`."""
    unkept: tuple[Version, ...]
    """Versions that nobody has kept yet: the same texts, read by an engine that the publisher did not have."""

    def is_live(self, name: str) -> bool:
        """Tell whether a version of this name is live."""
        return name in self.texts


class Catalog:
    """What this process maps by. Swapped as a whole, so that a request sees one set from its first call to its last."""

    def __init__(self, active: TransformSet | None = None, pseudonym_key: bytes | None = None) -> None:
        self.active = active or TransformSet(())
        self._pseudonym_key = pseudonym_key
        self._latest: int | None = None
        self._by_digest: dict[bytes, Transform] = {one.digest: one for one in self.active.transforms}
        self._parsed: dict[tuple[str, str, bytes | None], Transform] = {}

    def parse(self, name: str, text: str, default: Transform | None, *, keep: bool = True) -> Transform:
        """Read one text; the same is read once, where it is to be kept. Raises TransformInvalid."""
        key = (name, text, default.digest if default else None)
        if key in self._parsed:
            return self._parsed[key]
        parsed = parse_transform(name, text, default, self._pseudonym_key)
        if keep:
            if len(self._parsed) >= _PARSED_MAX:
                self._parsed.clear()
            self._parsed[key] = parsed
        return parsed

    def read_live(self, conn: Connection, breathe: Callable[[], None] = no_checkpoint) -> Live:
        """Read what is live. `breathe` is called between two transforms."""
        latest = find_latest_id(conn)
        publications = list_live(conn, KIND)
        digests = {name: one.digest for name, one in publications.items() if one.digest is not None}
        versions = list_versions(conn, digests.values())
        texts = {name: versions[digest].text for name, digest in digests.items() if digest in versions}
        transforms: dict[str, Transform] = {}
        unreadable: dict[str, str] = {}
        for name in sorted(texts, key=lambda one: (one != DEFAULT, one)):
            default = None if name == DEFAULT else transforms.get(DEFAULT)
            if name != DEFAULT and default is None:
                break
            try:
                transforms[name] = self.parse(name, texts[name], default)
            except TransformInvalid as error:
                unreadable[name] = error.message
                if older := self._last_readable(conn, name, default):
                    transforms[name] = older
            breathe()
        known = list_versions(conn, (one.digest for one in transforms.values()))
        return Live(
            latest=latest,
            publications=publications,
            texts=texts,
            transforms=transforms,
            unreadable=unreadable,
            unkept=tuple(
                Version(one.digest, KIND, one.name, one.text, one.inherits, publications[one.name].published_at)
                for one in transforms.values()
                if one.digest not in known
            ),
        )

    def _last_readable(self, conn: Connection, name: str, default: Transform | None) -> Transform | None:
        """Find the last version that this program, older than the live version, can still read."""
        for publication in list_history(conn, KIND, name):
            if publication.digest is not None:
                try:
                    return self.parse(name, get_version(conn, publication.digest).text, default)
                except (TransformInvalid, NotFound):
                    continue
        return None

    def activate(self, live: Live) -> bool:
        """Map by what is live from now on; return whether that changes anything. All its versions must be kept."""
        before = {one.digest for one in self.active.transforms}
        self._latest = live.latest
        if before == {one.digest for one in live.transforms.values()}:
            return False
        self._by_digest.update((one.digest, one) for one in live.transforms.values())
        self.active = TransformSet(live.transforms.values())
        return True

    def refresh(self, database: Database) -> bool:
        """Read what is live and map by it; return whether that changes anything. Raises Unavailable.

        Writes, in a transaction of its own, only what a new engine makes of the live texts, once.
        """
        with database.reading() as conn:
            if self._latest is not None and find_latest_id(conn) == self._latest:
                return False
            live = self.read_live(conn)
        if live.unkept:
            with database.writing() as conn:
                append_versions(conn, live.unkept)
        return self.activate(live)

    def find_transform(self, conn: Connection, digest: bytes) -> Transform | None:
        """Return a version by digest, None where it is unknown or cannot be read by this program any more."""
        found = self._by_digest.get(digest)
        if found is None and (found := self._load(conn, digest)) is not None:
            self._by_digest[digest] = found
        return found

    def _load(self, conn: Connection, digest: bytes) -> Transform | None:
        try:
            version = get_version(conn, digest)
            default = self.find_transform(conn, version.inherits) if version.inherits else None
            if version.inherits and default is None:
                return None
            transform = self.parse(version.name, version.text, default)
        except (NotFound, TransformInvalid):
            return None
        # Another engine made it: what this one would make of the text may differ.
        return transform if transform.digest == digest else None

    def map_again(self, conn: Connection, call: Call, digest: bytes, received_at: int) -> Lane | None:
        """Map a call by an earlier version; None where that version is unknown or makes no event of it.

        A version that would not have taken the call says nothing about it: another event under the same idempotency
        id must stay a conflict, even where that version would have mapped it alike.
        """
        transform = self.find_transform(conn, digest)
        if transform is None or not transform.accepts(call):
            return None
        try:
            return map_call(call, transform, received_at)
        except (Filtered, CallRejected, EventInvalid, ExpressionFailed):
            return None


def build_catalog(pseudonym_key: str) -> Catalog:
    """Return a catalog in which nothing is active yet. `pseudonym_key` may be empty: then there are no pseudonyms."""
    return Catalog(pseudonym_key=pseudonym_key.encode() or None)
