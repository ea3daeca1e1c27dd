"""A node: one process's folder, catalog and watcher on a shared database."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from app.catalog.actions import CatalogActions
from app.catalog.files import read_folder
from app.catalog.live import Catalog
from app.catalog.publish import publish_new
from app.catalog.status import CatalogStatus, FileState
from app.catalog.watch import Watcher
from app.store.engine import Database
from app.store.ids import Ids
from app.store.publications import list_history
from tests.builders import DEFAULT_TEXT, NOW

_TAGS = count(100)


@dataclass
class Node:
    """One process of the service."""

    database: Database
    folder: Path
    catalog: Catalog = field(default_factory=Catalog)
    ids: Ids = field(default_factory=lambda: Ids(lambda _below: next(_TAGS)))
    clock: Callable[[], int] = lambda: NOW

    def write(self, **texts: str) -> None:
        """Write files; the name `default` is `_default`."""
        for name, text in texts.items():
            (self.folder / f"{'_default' if name == 'default' else name}.yaml").write_text(text)

    def delete(self, name: str) -> None:
        (self.folder / f"{name}.yaml").unlink()

    def sync(self) -> list[str]:
        """Publish what may publish itself, and map by what is live; return the names that were published."""
        status, published = publish_new(
            self.database, self.catalog, read_folder(self.folder), self.ids.next, self.clock
        )
        self.catalog.activate(status.live)
        return published

    @property
    def acts(self) -> CatalogActions:
        return CatalogActions(self.database, self.catalog, self.folder, self.ids.next, self.clock)

    @property
    def watcher(self) -> Watcher:
        return Watcher(self.catalog, self.database, self.folder, self.ids, self.clock)

    def status(self) -> CatalogStatus:
        return self.acts.status()

    def states(self) -> dict[str, FileState]:
        return {file.name: file.state for file in self.status().files}

    def live(self) -> dict[str, str]:
        """Return the live text of each name."""
        return self.status().live.texts

    def active(self) -> dict[str, str]:
        """Return the text that this process maps by, of each name."""
        return {one.name: one.text for one in self.catalog.active.transforms}

    def history(self, name: str) -> list[tuple[bytes | None, str]]:
        """Return digest and origin of each publication, the newest first."""
        with self.database.reading() as conn:
            return [(one.digest, one.origin) for one in list_history(conn, "transform", name)]


@pytest.fixture
def make_node(database: Database, tmp_path: Path) -> Callable[..., Node]:
    """Makes nodes, each with a folder of its own that holds a `_default` and other texts."""
    numbers = count(1)

    def make(**texts: str) -> Node:
        folder = tmp_path / f"node-{next(numbers)}"
        folder.mkdir()
        node = Node(database, folder)
        node.write(default=DEFAULT_TEXT)
        node.write(**texts)
        return node

    return make
