"""The same on a database of each kind, both at once: most of the time is waiting."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

Play = Callable[[str, Path], object]
"""What happens on the database of a URL, in a folder."""


@pytest.fixture
def play_on_both(migrated_sqlite_url: str, migrated_postgres_url: str, tmp_path: Path) -> Callable[[Play], None]:
    """Lets it happen on a migrated database of each kind; the error of one says which it was."""

    def play_all(play: Play) -> None:
        urls = {"sqlite": migrated_sqlite_url, "postgresql": migrated_postgres_url}
        with ThreadPoolExecutor(2) as threads:
            plays = {name: threads.submit(play, url, tmp_path / name) for name, url in urls.items()}
        for name, future in plays.items():
            if (error := future.exception()) is not None:
                error.add_note(f"on {name}")
                raise error

    return play_all
