"""How files stand to what is live: which may publish themselves, and which wait for a person."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from app.catalog.check import Checked, Problem, breathe_not, check, failing_examples
from app.catalog.files import Folder
from app.catalog.live import KIND, Catalog, Live
from app.core.transform.transform import DEFAULT, Transform
from app.errors import TransformInvalid
from app.store.engine import Connection
from app.store.publications import Origin, Publication
from app.store.versions import find_seen_texts


class State(StrEnum):
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
class Standing:
    """One name: its file, and what is live."""

    name: str
    state: State
    file: Transform | None
    """None where there is none, or where it cannot be read."""
    live: Publication | None
    """The last publication of the name; its digest is None where it was taken out."""
    unseen: bool
    """The text of the file was never kept under this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A folder held against what is live, at one moment."""

    live: Live
    checked: Checked
    standings: tuple[Standing, ...]

    def among(self, *states: State) -> list[Standing]:
        """Return those that stand like this."""
        return [one for one in self.standings if one.state in states]

    def find(self, name: str) -> Standing | None:
        """Return how one name stands."""
        return next((one for one in self.standings if one.name == name), None)

    def grave(self, name: str) -> list[str]:
        """Return what keeps the file of a name from being published."""
        return [one.sentence for one in self.checked.problems if one.grave and one.name == name]


def survey(conn: Connection, catalog: Catalog, folder: Folder, breathe: Callable[[], None] = breathe_not) -> Survey:
    """Hold a folder against what is live. `breathe` is called between two files."""
    live = catalog.read_live(conn, breathe)
    seen = find_seen_texts(conn, KIND, folder.texts)
    live_default = live.transforms.get(DEFAULT)

    def look(default: Transform | None) -> Survey:
        checked = check(folder.texts, folder.problems, default=default, parse=catalog.parse, breathe=breathe)
        return Survey(live=live, checked=checked, standings=tuple(_standings(live, checked, folder, seen)))

    # If the file of `_default` is about to be published, the other files will inherit from it; else from the live one.
    found = look(None)
    default = found.find(DEFAULT)
    if live_default is None:
        return found if default and default.state is State.NEW else _held_back(found)
    if default and default.state is State.SAME:
        return found
    if default is None or default.state is not State.NEW or default.file is None:
        # Its file says why, where there is one.
        return _with_problems(look(live_default), found.grave(DEFAULT) if DEFAULT in folder.texts else [])
    coming = {one.name for one in found.among(State.NEW)}
    harm = list(harm_to_heirs(catalog, live, default.file, coming))
    return _with_problems(look(live_default), harm) if harm else found


def harm_to_heirs(catalog: Catalog, live: Live, default: Transform, replaced: set[str]) -> Iterator[str]:
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


def _held_back(found: Survey) -> Survey:
    """Without a `_default`, nothing can be published."""
    held = (replace(one, state=State.BROKEN) if one.state is State.NEW else one for one in found.standings)
    return replace(found, standings=tuple(held))


def _with_problems(found: Survey, sentences: list[str]) -> Survey:
    known = set(found.grave(DEFAULT))
    added = [Problem(name=DEFAULT, sentence=one, grave=True) for one in sentences if one not in known]
    if not added:
        return found
    checked = replace(found.checked, problems=(*added, *found.checked.problems))
    standings = [replace(one, state=State.BROKEN) if one.name == DEFAULT else one for one in found.standings]
    return replace(found, checked=checked, standings=tuple(standings))


def _standings(live: Live, checked: Checked, folder: Folder, seen: set[str]) -> Iterator[Standing]:
    for name in sorted(checked.names | live.texts.keys()):
        publication = live.publications.get(name)
        unseen = name in folder.texts and name not in seen
        if name not in checked.names:
            state = State.NO_FILE
        elif name in folder.texts and live.texts.get(name) == folder.texts[name]:
            # What both inherit is the `_default` that is live, so the texts say it all.
            state = State.SAME
        elif not checked.is_fit(name):
            state = State.BROKEN
        elif unseen and (publication is None or publication.origin == Origin.FILE):
            # By text, not by digest: an old file on another node is old whatever it inherits today. It has been seen
            # before and never publishes itself again, so a rolling deploy does not go back and forth.
            state = State.NEW
        else:
            state = State.DRIFT
        yield Standing(name=name, state=state, file=checked.transforms.get(name), live=publication, unseen=unseen)
