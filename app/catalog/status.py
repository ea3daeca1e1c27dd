"""How files stand to what is live: which may publish themselves, and which wait for a person."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from app.catalog.check import CheckReport, Problem, check, failing_examples, no_checkpoint
from app.catalog.files import Folder
from app.catalog.live import KIND, Catalog, Live
from app.core.transform.transform import DEFAULT, Transform
from app.errors import TransformInvalid
from app.store.engine import Connection
from app.store.publications import Origin, Publication
from app.store.versions import find_seen_texts


class FileState(StrEnum):
    """How a file stands to what is live under its name."""

    SAME = "same"
    NEW = "new"
    """It publishes itself as soon as a running service sees it."""
    DRIFT = "drift"
    """A person must decide: publish the file, or pull what is live."""
    NO_FILE = "no_file"
    """Live, and there is no file of that name."""
    BROKEN = "broken"
    """The file cannot be used; what is live stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStatus:
    """One name: its file, and what is live."""

    name: str
    state: FileState
    file: Transform | None
    """None where there is none, or where it cannot be read."""
    live: Publication | None
    """The last publication of the name; its digest is None where it was taken out."""
    unseen: bool
    """The text of the file was never kept under this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogStatus:
    """A folder held against what is live, at one moment."""

    live: Live
    checked: CheckReport
    standings: tuple[FileStatus, ...]

    def among(self, *states: FileState) -> list[FileStatus]:
        """Return those that stand like this."""
        return [one for one in self.standings if one.state in states]

    def find(self, name: str) -> FileStatus | None:
        """Return how one name stands."""
        return next((one for one in self.standings if one.name == name), None)

    def grave(self, name: str) -> list[str]:
        """Return what keeps the file of a name from being published."""
        return [one.sentence for one in self.checked.problems if one.grave and one.name == name]


def survey(
    conn: Connection, catalog: Catalog, folder: Folder, breathe: Callable[[], None] = no_checkpoint
) -> CatalogStatus:
    """Hold a folder against what is live. `breathe` is called between two files."""
    live = catalog.read_live(conn, breathe)
    seen = find_seen_texts(conn, KIND, folder.texts)
    live_default = live.transforms.get(DEFAULT)

    def look(default: Transform | None) -> CatalogStatus:
        checked = check(folder.texts, folder.problems, default=default, parse=catalog.parse, breathe=breathe)
        return CatalogStatus(live=live, checked=checked, standings=tuple(_standings(live, checked, folder, seen)))

    # If the file of `_default` is about to be published, the other files will inherit from it; else from the live one.
    found = look(None)
    default = found.find(DEFAULT)
    if live_default is None:
        return found if default and default.state is FileState.NEW else _held_back(found)
    if default and default.state is FileState.SAME:
        return found
    if default is None or default.state is not FileState.NEW or default.file is None:
        # Its file says why, where there is one.
        return _with_problems(look(live_default), found.grave(DEFAULT) if DEFAULT in folder.texts else [])
    coming = {one.name for one in found.among(FileState.NEW)}
    harm = list(breaks_inheriting(catalog, live, default.file, coming))
    return _with_problems(look(live_default), harm) if harm else found


def breaks_inheriting(catalog: Catalog, live: Live, default: Transform, replaced: set[str]) -> Iterator[str]:
    """Say what a new `_default` would break among the live transforms, but for those that are replaced with it."""
    for name, text in live.texts.items():
        if name == DEFAULT or name in replaced:
            continue
        try:
            problems = list(failing_examples(catalog.parse(name, text, default)))
        except TransformInvalid as error:
            problems = [error.message]
        for problem in problems:
            yield f"{DEFAULT}.yaml: {name}, which is live and inherits from it, would be broken: {problem}"


def _held_back(found: CatalogStatus) -> CatalogStatus:
    """Without a `_default`, nothing can be published."""
    held = (replace(one, state=FileState.BROKEN) if one.state is FileState.NEW else one for one in found.standings)
    return replace(found, standings=tuple(held))


def _with_problems(found: CatalogStatus, sentences: list[str]) -> CatalogStatus:
    known = set(found.grave(DEFAULT))
    added = [Problem(name=DEFAULT, sentence=one, grave=True) for one in sentences if one not in known]
    if not added:
        return found
    checked = replace(found.checked, problems=(*added, *found.checked.problems))
    standings = [replace(one, state=FileState.BROKEN) if one.name == DEFAULT else one for one in found.standings]
    return replace(found, checked=checked, standings=tuple(standings))


def _standings(live: Live, checked: CheckReport, folder: Folder, seen: set[str]) -> Iterator[FileStatus]:
    for name in sorted(checked.names | live.texts.keys()):
        publication = live.publications.get(name)
        unseen = name in folder.texts and name not in seen
        if name not in checked.names:
            state = FileState.NO_FILE
        elif name in folder.texts and live.texts.get(name) == folder.texts[name]:
            # What both inherit is the `_default` that is live, so the texts say it all.
            state = FileState.SAME
        elif not checked.is_fit(name):
            state = FileState.BROKEN
        elif unseen and (publication is None or publication.origin == Origin.FILE):
            # By text, not by digest: an old file on another node is old whatever it inherits today. It has been seen
            # before and never publishes itself again, so a rolling deploy does not go back and forth.
            state = FileState.NEW
        else:
            state = FileState.DRIFT
        yield FileStatus(name=name, state=state, file=checked.transforms.get(name), live=publication, unseen=unseen)
