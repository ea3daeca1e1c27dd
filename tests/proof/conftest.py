"""A migrated database of each kind."""

from collections.abc import Iterator

import pytest

from app.store.engine import Database, connect
from app.store.migrate import migrate


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty database; a test that asks for it runs on each kind."""
    database = connect(database_url)
    migrate(database)
    yield database
    database.close()
