"""Starts what is measured: the service as users start it, and the bare route, each under real gunicorn."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECRET = "a-shared-secret-of-the-benchmark"  # noqa: S105  it guards a database that lives for a minute
_ADMIN_TOKEN = "an-admin-token-of-the-benchmark"  # noqa: S105
_START_SECONDS = 20.0
_STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Server:
    """A gunicorn that runs."""

    name: str
    port: int
    pid: int
    log: Path

    @property
    def url(self) -> str:
        """Where calls are sent."""
        return f"http://127.0.0.1:{self.port}/webhooks/segment"

    def cpu_seconds(self) -> float:
        """Return how long its workers have computed until now."""
        ticks = 0
        for pid in self.workers():
            numbers = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
            ticks += int(numbers[11]) + int(numbers[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def workers(self) -> list[int]:
        """Return the process ids of its workers."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii").split()]


@contextlib.contextmanager
def ours(
    folder: Path, url: str, workers: int, flags: Sequence[str] = (), *, name: str = "ours", **settings: str
) -> Iterator[Server]:
    """The service on a migrated database, its log lines in a file of `folder`; `settings` beside the usual ones."""
    arguments = [*flags, "app.service.flask_app:serve()"]
    with _gunicorn(f"{name}-{workers}", folder, url, workers, arguments, **settings) as server:
        yield server


@contextlib.contextmanager
def bare(folder: Path, name: str, flags: Sequence[str], workers: int = 1) -> Iterator[Server]:
    """The bare route under our own configuration file; `flags` are laid over it."""
    # It never opens the database; the configuration file wants one to be named.
    url = f"sqlite:///{folder / 'unused.db'}"
    arguments = ["--pythonpath", str(Path(__file__).parent), *flags, "bare_flask:app"]
    with _gunicorn(name, folder, url, workers, arguments) as server:
        yield server


@contextlib.contextmanager
def _gunicorn(
    name: str, folder: Path, url: str, workers: int, arguments: Sequence[str], **settings: str
) -> Iterator[Server]:
    port = _free_port()
    ours_alone = ("SEGMENT_", "GUNICORN_", "MAX_", "LOG_", "LOTUS_")
    environ = {key: value for key, value in os.environ.items() if not key.startswith(ours_alone)}
    environ |= {
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": url,
        "SEGMENT_SHARED_SECRETS": SECRET,
        "ADMIN_TOKEN": _ADMIN_TOKEN,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WEB_CONCURRENCY": str(workers),
        "TRANSFORMS_DIR": str(ROOT / "transforms"),
        **settings,
    }
    log = folder / f"{''.join(one if one.isalnum() else '-' for one in name)}.log"
    command = [sys.executable, "-m", "gunicorn", "-c", "python:app.service.gunicorn_conf", *arguments]
    with log.open("wb") as out:
        # In `folder`, where no `.env` can change what is measured.
        process = subprocess.Popen(command, env=environ, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    server = Server(name, port, process.pid, log)
    try:
        _wait(server, process, workers)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(server: Server, process: "subprocess.Popen[bytes]", workers: int) -> None:
    """Wait until it answers and has all its workers."""
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
            connection.request("GET", "/healthz")
            ready = connection.getresponse().status == 200
            connection.close()
            if ready and len(server.workers()) >= workers:
                return
        time.sleep(0.05)
    raise SystemExit(f"{server.name} did not start:\n{server.log.read_text('utf-8', 'replace')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def resident_mb(pid: int) -> float:
    """Return how much memory a process holds, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
