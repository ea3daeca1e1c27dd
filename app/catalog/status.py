"""Compares files with the live versions: which are published automatically, and which need a decision."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from app.catalog.check import CheckReport, Problem, check, failing_examples
from app.catalog.files import Folder
from app.catalog.live import KIND, Catalog, Live, LiveTexts
from app.core.json_oddities import Checkpoint, no_checkpoint
from app.core.transform.transform import DEFAULT, Transform
from app.errors import TransformInvalid
from app.store.engine import Connection
from app.store.publications import Origin, Publication
from app.store.versions import find_seen_texts


class FileState(StrEnum):
    """How a file compares with the live version of its name."""

    SAME = "same"
    NEW = "new"
    """A running service publishes it as soon as it sees it."""
    DRIFT = "drift"
    """A person must decide: publish the file, or pull the live text."""
    NO_FILE = "no_file"
    """Live, but there is no file of that name."""
    BROKEN = "broken"
    """The file cannot be used; the live version stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStatus:
    """One name: its file, and its live version."""

    name: str
    state: FileState
    transform: Transform | None
    """The file, parsed; None if there is none, or it cannot be read."""
    live: Publication | None
    """The last publication of the name; its digest is None if it was unpublished."""
    unseen: bool
    """The text of the file was never stored under this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogStatus:
    """A folder compared with the live versions, at one moment."""

    live: Live
    checked: CheckReport
    files: tuple[FileStatus, ...]
    """One for each name that has a file or is live, sorted by name."""

    def in_state(self, *states: FileState) -> list[FileStatus]:
        """Return the names in one of these states."""
        return [file for file in self.files if file.state in states]

    def find(self, name: str) -> FileStatus | None:
        """Return the status of one name; None if it has no file and is not live."""
        return next((file for file in self.files if file.name == name), None)

    def blocking(self, name: str) -> list[str]:
        """Return the problems that keep the file of a name from being published."""
        return [problem.sentence for problem in self.checked.problems if problem.blocking and problem.name == name]


def compare_with_live(
    conn: Connection, catalog: Catalog, folder: Folder, checkpoint: Checkpoint = no_checkpoint
) -> CatalogStatus:
    """Compare the files of a folder with the live versions. `checkpoint` is called between two files."""
    live = catalog.read_live(conn, checkpoint)
    seen_names = find_seen_texts(conn, KIND, folder.texts)
    live_default = live.transforms.get(DEFAULT)

    def compare(default: Transform | None) -> CatalogStatus:
        checked = check(folder.texts, folder.problems, default=default, parse=catalog.parse, checkpoint=checkpoint)
        return CatalogStatus(live=live, checked=checked, files=tuple(_file_statuses(live, checked, folder, seen_names)))

    # If the file of `_default` is about to be published, the other files will inherit from it; else from the live one.
    status = compare(None)
    default = status.find(DEFAULT)
    if live_default is None:
        return status if default and default.state is FileState.NEW else _without_new(status)
    if default and default.state is FileState.SAME:
        return status
    if default is None or default.state is not FileState.NEW or default.transform is None:
        # The problems of its file, if there is one, say why.
        return _with_problems(compare(live_default), status.blocking(DEFAULT) if DEFAULT in folder.texts else [])
    new_names = {file.name for file in status.in_state(FileState.NEW)}
    sentences = list(breaks_inheriting(catalog, live, default.transform, new_names))
    return _with_problems(compare(live_default), sentences) if sentences else status


def breaks_inheriting(catalog: Catalog, live: Live, default: Transform, replaced: set[str]) -> Iterator[str]:
    """Yield what a new `_default` would break in the live transforms, except in those `replaced` together with it."""
    for name, text in live.texts.items():
        if name == DEFAULT or name in replaced:
            continue
        try:
            problems = list(failing_examples(catalog.parse(name, text, default)))
        except TransformInvalid as error:
            problems = [error.message]
        for problem in problems:
            yield f"{DEFAULT}.yaml: {name}, which is live and inherits from it, would be broken: {problem}"


def _without_new(status: CatalogStatus) -> CatalogStatus:
    """Turn new files into broken ones: without a `_default`, nothing can be published."""
    files = (replace(file, state=FileState.BROKEN) if file.state is FileState.NEW else file for file in status.files)
    return replace(status, files=tuple(files))


def _with_problems(status: CatalogStatus, sentences: list[str]) -> CatalogStatus:
    """Add problems of `_default` that the status does not have yet."""
    present = set(status.blocking(DEFAULT))
    added = [Problem(name=DEFAULT, sentence=text, blocking=True) for text in sentences if text not in present]
    if not added:
        return status
    checked = replace(status.checked, problems=(*added, *status.checked.problems))
    files = [replace(file, state=FileState.BROKEN) if file.name == DEFAULT else file for file in status.files]
    return replace(status, checked=checked, files=tuple(files))


def _file_statuses(live: Live, checked: CheckReport, folder: Folder, seen_names: set[str]) -> Iterator[FileStatus]:
    """`seen_names`: those whose text was stored before."""
    fit = checked.fit_names()
    for name in sorted(checked.names | live.texts.keys()):
        publication = live.publications.get(name)
        unseen = name in folder.texts and name not in seen_names
        state = file_state(name, folder, live, is_fit=name in fit, unseen=unseen)
        transform = checked.transforms.get(name)
        yield FileStatus(name=name, state=state, transform=transform, live=publication, unseen=unseen)


def file_state(name: str, folder: Folder, live: LiveTexts, *, is_fit: bool, unseen: bool) -> FileState:
    """Compare the file of a document of any kind with the live version of its name.

    `is_fit`: nothing keeps the file from being published. `unseen`: its text was never stored under this name.
    """
    if name not in folder.texts and name not in folder.problems:
        return FileState.NO_FILE
    if name in folder.texts and live.texts.get(name) == folder.texts[name]:
        # Transforms inherit from the live `_default` on both sides, so it is enough to compare the texts.
        return FileState.SAME
    if not is_fit:
        return FileState.BROKEN
    publication = live.publications.get(name)
    if unseen and (publication is None or publication.origin == Origin.FILE):
        # By text, not by digest: an old file on another node is old whatever it inherits today. It was seen before and
        # is never published automatically again, so a rolling deploy does not go back and forth.
        return FileState.NEW
    return FileState.DRIFT
