"""Whatever kills the service, and whenever: nothing that it had started goes on for more than a few seconds."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import WITH_WORKER
from app.store.engine import Database
from tests.forward.forwarding import a_recent, store
from tests.served import ADMIN_TOKEN, Served, free_port, served, wait_until

pytestmark = pytest.mark.survival

A_FEW_SECONDS = 20


def processes_of(service: Served) -> dict[int, str]:
    """Return the command of each process that the service has started, itself included, by process id."""
    table = subprocess.run(["ps", "-A", "-o", "pid=,sid=,stat=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(maxsplit=3) for line in table.stdout.splitlines()]
    return {int(pid): args for pid, session, state, args in rows if int(session) == service.pid and state[0] != "Z"}


def helpers_of(service: Served, module: str) -> set[int]:
    return {pid for pid, args in processes_of(service).items() if f"-m {module}" in args}


def kill(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def forwarding(url: str, folder: Path, lotus_port: int, *, started: bool = True) -> Iterator[Served]:
    """Run a service that keeps a forwarder running."""
    settings = {WITH_WORKER: "1", "LOTUS_HOST": f"http://127.0.0.1:{lotus_port}", "LOTUS_API_KEY": "a-key"}
    with served(url, folder, log=None, started=started, WEB_CONCURRENCY="1", **settings) as service:
        yield service


# From its first moment to the one in which it forwards, on a machine with time.
@pytest.mark.parametrize("delay", [0.0, 0.2, 0.6])
def test_a_forwarder_whose_parents_are_killed_while_it_starts_ends(
    delay: float, migrated_sqlite_url: str, tmp_path: Path
) -> None:
    with forwarding(migrated_sqlite_url, tmp_path, free_port(), started=False) as service:
        wait_until(lambda: helpers_of(service, "app.service worker"))
        time.sleep(delay)
        kill(processes_of(service).keys() - helpers_of(service, "app.service worker"))
        service.process.wait(10)
        wait_until(lambda: not processes_of(service), A_FEW_SECONDS)


def test_a_forwarder_that_waits_for_an_answer_ends_soon_after_gunicorns_first_process(
    sqlite_database: Database, migrated_sqlite_url: str, tmp_path: Path
) -> None:
    store(sqlite_database, [a_recent("under-way")])
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        forwarding(migrated_sqlite_url, tmp_path, silent.getsockname()[1]) as service,
    ):
        silent.settimeout(20)
        connection, _ = silent.accept()
        with connection:
            # gunicorn's other processes see by themselves that it is gone.
            kill({service.pid})
            service.process.wait(10)
            wait_until(lambda: not processes_of(service), A_FEW_SECONDS)


def test_a_sandbox_whose_parents_are_killed_while_it_starts_ends(migrated_sqlite_url: str, tmp_path: Path) -> None:
    with served(migrated_sqlite_url, tmp_path, WEB_CONCURRENCY="1") as service:
        # Whoever looks at a transform will soon want a preview.
        assert service.get("/api/v1/transforms/api_call", ADMIN_TOKEN).status == 200
        sandboxes = helpers_of(service, "app.transforms.sandbox")
        assert len(sandboxes) == 1
        kill(processes_of(service).keys() - sandboxes)
        service.process.wait(10)
        wait_until(lambda: not processes_of(service), A_FEW_SECONDS)
