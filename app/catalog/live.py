"""The live transforms of this process, and all earlier versions by digest."""

from dataclasses import dataclass

from app.core.json_oddities import Checkpoint, no_checkpoint
from app.core.pipeline import Lane, map_call
from app.core.segment import Call
from app.core.transform.transform import DEFAULT, Filtered, Transform, TransformSet, parse_transform
from app.errors import CallRejected, EventInvalid, ExpressionFailed, NotFound, TransformInvalid
from app.store.engine import Connection, Database
from app.store.publications import Publication, find_latest_id, list_history, list_live
from app.store.versions import Version, append_versions, get_version, list_versions

KIND = "transform"

# Size of the cache of parsed texts, in transforms: many times what a folder holds.
_PARSED_MAX = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTexts:
    """The documents of one kind that are live, according to the database, as text."""

    latest: int | None
    """Id of the last publication, of any kind."""
    publications: dict[str, Publication]
    """The last one of each name, unpublished names included."""
    texts: dict[str, str]
    """The live text by name."""


def read_live_texts(conn: Connection, kind: str) -> LiveTexts:
    """Read which documents of a kind are live."""
    latest = find_latest_id(conn)
    publications = list_live(conn, kind)
    digests = {name: row.digest for name, row in publications.items() if row.digest is not None}
    versions = list_versions(conn, digests.values())
    texts = {name: versions[digest].text for name, digest in digests.items() if digest in versions}
    return LiveTexts(latest=latest, publications=publications, texts=texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Live(LiveTexts):
    """The live transforms, parsed."""

    transforms: dict[str, Transform]
    """The live texts as this program parses them."""
    unreadable: dict[str, str]
    """By name, why this program cannot read the live text; `transforms` has an older version of it, if there is one."""
    unstored: tuple[Version, ...]
    """Versions not in the database yet: the live texts, parsed by an engine that the publisher did not have."""

    def is_live(self, name: str) -> bool:
        """Tell whether a version of this name is live."""
        return name in self.texts


class Catalog:
    """The transforms this process maps by. Swapped as a whole: a request sees one set from first call to last."""

    def __init__(self, active: TransformSet | None = None, pseudonym_key: bytes | None = None) -> None:
        self.active = active or TransformSet(())
        self._pseudonym_key = pseudonym_key
        self._latest: int | None = None
        self._by_digest: dict[bytes, Transform] = {transform.digest: transform for transform in self.active.transforms}
        self._parsed: dict[tuple[str, str, bytes | None], Transform] = {}

    def parse(self, name: str, text: str, default: Transform | None, *, cache: bool = True) -> Transform:
        """Parse one text, or return it from the cache; `cache`: add it. Raises TransformInvalid."""
        key = (name, text, default.digest if default else None)
        if key in self._parsed:
            return self._parsed[key]
        parsed = parse_transform(name, text, default, self._pseudonym_key)
        if cache:
            if len(self._parsed) >= _PARSED_MAX:
                self._parsed.clear()
            self._parsed[key] = parsed
        return parsed

    def read_live(self, conn: Connection, checkpoint: Checkpoint = no_checkpoint) -> Live:
        """Read the live versions. `checkpoint` is called after each transform."""
        live = read_live_texts(conn, KIND)
        texts = live.texts
        transforms: dict[str, Transform] = {}
        unreadable: dict[str, str] = {}
        for name in sorted(texts, key=lambda name: (name != DEFAULT, name)):
            default = None if name == DEFAULT else transforms.get(DEFAULT)
            if name != DEFAULT and default is None:
                break
            try:
                transforms[name] = self.parse(name, texts[name], default)
            except TransformInvalid as error:
                unreadable[name] = error.message
                if older := self._last_readable(conn, name, default):
                    transforms[name] = older
            checkpoint()
        stored = list_versions(conn, (transform.digest for transform in transforms.values()))
        return Live(
            latest=live.latest,
            publications=live.publications,
            texts=texts,
            transforms=transforms,
            unreadable=unreadable,
            unstored=tuple(
                to_version(transform, live.publications[transform.name].published_at)
                for transform in transforms.values()
                if transform.digest not in stored
            ),
        )

    def _last_readable(self, conn: Connection, name: str, default: Transform | None) -> Transform | None:
        """Find the last version that this program can read; its engine is older than that of the live version."""
        for publication in list_history(conn, KIND, name):
            if publication.digest is not None:
                try:
                    return self.parse(name, get_version(conn, publication.digest).text, default)
                except (TransformInvalid, NotFound):
                    continue
        return None

    def activate(self, live: Live) -> bool:
        """Map by `live` from now on; return whether that is a change. All its versions must be stored."""
        before = {transform.digest for transform in self.active.transforms}
        self._latest = live.latest
        if before == {transform.digest for transform in live.transforms.values()}:
            return False
        self._by_digest.update((transform.digest, transform) for transform in live.transforms.values())
        self.active = TransformSet(live.transforms.values())
        return True

    def refresh(self, database: Database) -> bool:
        """Read the live versions and map by them from now on; return whether that is a change. Raises Unavailable.

        It writes, in a transaction of its own, only versions that a new engine makes of the live texts, once.
        """
        with database.reading() as conn:
            if self._latest is not None and find_latest_id(conn) == self._latest:
                return False
            live = self.read_live(conn)
        if live.unstored:
            with database.writing() as conn:
                append_versions(conn, live.unstored)
        return self.activate(live)

    def find_transform(self, conn: Connection, digest: bytes) -> Transform | None:
        """Return a version by digest; None if it is unknown or this program cannot read it any more."""
        transform = self._by_digest.get(digest)
        if transform is None and (transform := self._load(conn, digest)) is not None:
            self._by_digest[digest] = transform
        return transform

    def _load(self, conn: Connection, digest: bytes) -> Transform | None:
        try:
            version = get_version(conn, digest)
            default = self.find_transform(conn, version.inherits) if version.inherits else None
            if version.inherits and default is None:
                return None
            transform = self.parse(version.name, version.text, default)
        except (NotFound, TransformInvalid):
            return None
        # With another digest, another engine made it: what this one would make of the text may differ.
        return transform if transform.digest == digest else None

    def map_again(self, conn: Connection, call: Call, digest: bytes, received_at: int) -> Lane | None:
        """Map a call by an earlier version; None if that version is unknown or makes no event of it.

        A version that does not accept the call is no evidence: another event with the same idempotency id must stay a
        conflict, even if that version would have mapped it to the same event.
        """
        transform = self.find_transform(conn, digest)
        if transform is None or not transform.accepts(call):
            return None
        try:
            return map_call(call, transform, received_at)
        except (Filtered, CallRejected, EventInvalid, ExpressionFailed):
            return None


def to_version(transform: Transform, seen_at: int) -> Version:
    """Return the row that keeps a transform; `seen_at` in microseconds since 1970."""
    return Version(transform.digest, KIND, transform.name, transform.text, transform.inherits, seen_at)


def build_catalog(pseudonym_key: str) -> Catalog:
    """Return a catalog in which nothing is active yet. With an empty `pseudonym_key` there are no pseudonyms."""
    return Catalog(pseudonym_key=pseudonym_key.encode() or None)
