"""A way to type commands against the test's database, with everything that a backfill needs made live."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.service import commands
from app.settings import SETTINGS
from app.store.engine import Database, connect
from tests.backfill.backfilling import Type, prepare


def _typing(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Type:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.chdir(tmp_path)
    return lambda *words, **more: CliRunner().invoke(commands.main, words, **more)


@pytest.fixture
def type_(database: Database, migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Type a command against the database of each kind."""
    prepare(database)
    return _typing(migrated_url, tmp_path, monkeypatch)


@pytest.fixture
def file_database(migrated_sqlite_url: str) -> Iterator[Database]:
    """A SQLite database with the default transform and the metrics."""
    database = connect(migrated_sqlite_url)
    prepare(database)
    yield database
    database.close()


@pytest.fixture
def type_file(
    file_database: Database, migrated_sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., object]:
    """Type a command against it."""
    return _typing(migrated_sqlite_url, tmp_path, monkeypatch)
