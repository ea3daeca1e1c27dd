"""A migrated database of each kind for every test, at the price of a copy: the migrations run once per test run."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from app.bootstrap import clock
from app.fake_lotus.server import FakeLotus, running
from app.store.engine import Database, connect
from app.store.migrate import migrate
from tests.forward.forwarding import KEY, MADE


def _named(url: str, database: str) -> str:
    return sa.make_url(url).set(database=database).render_as_string(hide_password=False)


def _administer(url: str, statement: str) -> None:
    libpq = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(libpq, autocommit=True) as conn:
        conn.execute(statement)


def _migrate(url: str) -> None:
    database = connect(url)
    migrate(database)
    database.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file that nobody has open."""
    file = tmp_path_factory.mktemp("template") / "template.db"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> Iterator[str]:
    """The name of a migrated PostgreSQL database that nobody is connected to."""
    name = f"template_{uuid.uuid4().hex}"
    _administer(postgres_url, f'CREATE DATABASE "{name}" TEMPLATE template0')
    _migrate(_named(postgres_url, name))
    yield name
    _administer(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def migrated_sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a migrated SQLite file of the test's own."""
    file = tmp_path / "test.db"
    shutil.copyfile(sqlite_template, file)
    return f"sqlite:///{file}"


@pytest.fixture
def migrated_postgres_url(postgres_url: str, postgres_template: str) -> Iterator[str]:
    """The URL of a migrated PostgreSQL database of the test's own."""
    name = f"test_{uuid.uuid4().hex}"
    _administer(postgres_url, f'CREATE DATABASE "{name}" TEMPLATE "{postgres_template}"')
    yield _named(postgres_url, name)
    _administer(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["sqlite", "postgresql"])
def migrated_url(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated database; a test that asks for it runs on each kind."""
    fixture = {"sqlite": "migrated_sqlite_url", "postgresql": "migrated_postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


def _connected(url: str) -> Iterator[Database]:
    database = connect(url)
    yield database
    database.close()


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    """A migrated database; a test that asks for it runs on each kind."""
    yield from _connected(migrated_url)


@pytest.fixture
def sqlite_database(migrated_sqlite_url: str) -> Iterator[Database]:
    """A migrated SQLite database."""
    yield from _connected(migrated_sqlite_url)


@pytest.fixture
def postgres_database(migrated_postgres_url: str) -> Iterator[Database]:
    """A migrated PostgreSQL database."""
    yield from _connected(migrated_postgres_url)


@pytest.fixture
def lotus() -> FakeLotus:
    """A stand-in for Lotus."""
    return FakeLotus(KEY, clock=clock, slow_seconds=0.02)


@pytest.fixture
def address(lotus: FakeLotus) -> Iterator[str]:
    """Where it listens."""
    with running(lotus) as address:
        yield address


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close what workers opened."""
    yield
    while MADE:
        MADE.pop().close()
