"""The last mile: two variables, `serve --with-worker`, and events arrive in Lotus, whoever is killed."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.forward.fake_lotus.server import FakeLotus, running
from app.forward.supervisor import next_pause
from tests.forward.forwarding import KEY
from tests.served import free_port, wait_until
from tests.service.test_serve import Folder, answers

START_SECONDS = 30


@contextlib.contextmanager
def serving(folder: Folder, lotus: FakeLotus, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """Serve with a worker on a new database; at the end, ask it to stop."""
    folder.type("init")
    folder.type("migrate")
    with running(lotus) as address:
        process = folder.start("serve", "--with-worker", LOTUS_HOST=address, LOTUS_API_KEY=KEY, **settings)
        try:
            wait_until(lambda: answers(folder.port) or process.poll() is not None, START_SECONDS)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(START_SECONDS)
            process.kill()


def children_of(*parents: int) -> dict[int, int]:
    """Return the parent of each process that one of these has started, by its id."""
    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [line.split() for line in table.splitlines()]
    return {int(pid): int(parent) for pid, parent in pairs if int(parent) in parents}


def worker_of(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Return the ids of the worker, and of the process of the service that started it, once there is one."""
    found: dict[int, int] = {}

    def is_there() -> bool:
        found.update(children_of(*children_of(process.pid)))
        return bool(found)

    wait_until(is_there, START_SECONDS)
    [(worker, parent)] = found.items()
    return worker, parent


def test_two_variables_and_events_arrive_and_the_worker_ends_with_the_service(tmp_path: Path, lotus: FakeLotus) -> None:
    folder = Folder(tmp_path, free_port())
    with serving(folder, lotus) as process:
        assert folder.type("send", "sample").returncode == 0
        wait_until(lambda: len(lotus.events) == 4, START_SECONDS)
    # Whoever reads what they print sees its end only once both are gone.
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert '"event":"forwarding"' in stdout.replace(": ", ":")
    assert KEY not in stdout + stderr
    assert lotus.violations == []


@pytest.mark.survival
def test_a_worker_that_is_killed_is_started_again_and_so_it_is_where_its_parent_dies(
    tmp_path: Path, lotus: FakeLotus
) -> None:
    folder = Folder(tmp_path, free_port())
    with serving(folder, lotus, WEB_CONCURRENCY="2") as process:
        worker, parent = worker_of(process)
        os.kill(worker, signal.SIGKILL)
        assert folder.type("send", "api_call", "--set", "messageId=after-the-worker").returncode == 0
        wait_until(lambda: "after-the-worker" in lotus.events, START_SECONDS)
        another, same = worker_of(process)
        assert another != worker
        assert same == parent
        os.kill(parent, signal.SIGKILL)
        wait_until(lambda: parent not in children_of(process.pid), START_SECONDS)
        wait_until(lambda: answers(folder.port), START_SECONDS)
        assert folder.type("send", "api_call", "--set", "messageId=after-its-parent").returncode == 0
        wait_until(lambda: "after-its-parent" in lotus.events, START_SECONDS)
        # One for all processes of the service.
        worker_of(process)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    [told] = [line for line in stdout.splitlines() if "starting another one" in line]
    assert '"level":"warning"' in told.replace(": ", ":")
    assert "-9" in told


def test_one_that_dies_at_once_is_started_ever_more_rarely_and_one_that_lived_soon() -> None:
    pauses = [0.0]
    for _ in range(8):
        pauses.append(next_pause(pauses[-1], lived_seconds=0.5))
    assert pauses[1:] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert next_pause(60, lived_seconds=3600) == 1
