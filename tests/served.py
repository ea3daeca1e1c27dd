"""The real service as a child process: gunicorn with its workers on a free port, on a database of the test's own."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.signature import sign
from app.store.engine import connect
from app.store.migrate import migrate
from tests.builders import SECRET

ADMIN_TOKEN = "an-admin-token-of-the-tests"
ROOT = Path(__file__).parent.parent
WEBHOOK = "/webhooks/segment"

# What a child needs of this process's environment; nothing of it may be a setting of the service.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")
_START_SECONDS = 30
# Alembic keeps where it is in globals, and a test may start services on two databases at once.
_MIGRATION = threading.Lock()


@dataclass(frozen=True)
class Answer:
    """What the service said to one request."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON values."""
        return json.loads(self.body)


def signed(body: bytes, over: bytes | None = None, secret: str = SECRET) -> dict[str, str]:
    """Return the headers that Segment sends with a body, signed as a whole or over a part of it."""
    return {"Content-Type": "application/json", "X-Signature": sign(body if over is None else over, secret)}


class Served:
    """A running service. Make it with `served`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path, database_url: str) -> None:
        self.process = process
        self.port = port
        self.log = log
        self.database_url = database_url

    @property
    def pid(self) -> int:
        """Return the process id of gunicorn's first process."""
        return self.process.pid

    def connect(self, timeout: float = 30) -> http.client.HTTPConnection:
        """Return a connection that is kept alive between requests."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def socket(self, timeout: float = 30) -> socket.socket:
        """Return a bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request on a connection of its own. Raises OSError or HTTPException where no answer comes."""
        with contextlib.closing(self.connect()) as connection:
            return ask(connection, method, path, body, headers)

    def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """Post a body to the webhook, signed unless `headers` are given."""
        return self.request("POST", WEBHOOK, body, signed(body) if headers is None else headers)

    def get(self, path: str, token: str | None = None) -> Answer:
        """Get a path, with a bearer token where one is given."""
        return self.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})

    def worker_pids(self) -> set[int]:
        """Return the process ids of the workers."""
        table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        pairs = [line.split() for line in table.splitlines()]
        return {int(pid) for pid, parent in pairs if int(parent) == self.pid}

    def term(self) -> None:
        """Ask the service to stop, as an orchestrator does; `wait` for its end."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 30) -> int:
        """Wait for the end of gunicorn's first process; return its exit code."""
        return self.process.wait(seconds)

    def kill9(self) -> None:
        """Kill all processes of the service at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(10)
        wait_until(lambda: not _listens(self.port))

    def output(self) -> str:
        """Return everything that the service has written."""
        return self.log.read_text(errors="replace")

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the log; each must be one JSON object."""
        return [json.loads(line) for line in self.output().removesuffix("\n").split("\n")]


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request on a connection and read its answer."""
    connection.request(method, path, body, dict(headers or {}))
    response = connection.getresponse()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@contextlib.contextmanager
def served(
    database_url: str, folder: Path, *, log: Path | None = None, started: bool = True, **settings: str
) -> Iterator[Served]:
    """Migrate a database and run the service on it until the end of the block. `settings` as in the environment.

    Then it is killed: what was answered is in the database anyway, and gunicorn takes a second for an end in order.
    `started`: only give it once it answers. `log`: where it writes to, a file in `folder` unless said.
    """
    database = connect(database_url)
    with _MIGRATION:
        migrate(database)
    database.close()
    folder.mkdir(parents=True, exist_ok=True)
    log = log or folder / "service.log"
    port = int(settings.get("PORT") or free_port())
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ} | {
        "DATABASE_URL": database_url,
        "PORT": str(port),
        "SEGMENT_SHARED_SECRETS": SECRET,
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "TRANSFORMS_DIR": str(ROOT / "transforms"),
        # The child stands in a folder of its own, where there is no .env; this finds the project also uninstalled.
        "PYTHONPATH": str(ROOT),
        **settings,
    }
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "-c",
        "python:app.service.gunicorn_conf",
        "app.service.flask_app:serve()",
    ]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A process group of its own, to be killed as one.
            start_new_session=True,
        )
    service = Served(process, port, log, database_url)
    try:
        if started:
            _wait_for_start(service)
        yield service
    finally:
        service.kill9()


def _wait_for_start(service: Served) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if service.get("/healthz").status == 200:
                return
        if service.process.poll() is not None or time.monotonic() > until:
            raise AssertionError(f"the service did not start:\n{service.output()}")
        time.sleep(0.05)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], object], seconds: float = 15) -> None:
    """Wait for a condition that is sure to come true. Raises AssertionError where it does not."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise AssertionError("it did not come true in time")
        time.sleep(0.02)
