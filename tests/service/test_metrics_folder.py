"""The folder of the counters: held while a service lives, and removed by the next start where it was killed."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.service.metrics_folder import LOCK, PREFIX, make_metrics_folder, remove_abandoned
from tests.served import ROOT, Served, served, wait_until

MAKE = "import sys, pathlib, os; from app.service.metrics_folder import make_metrics_folder as make; "


def folders_of(service: Served) -> set[Path]:
    """Return the folders whose lock gunicorn's first process has open."""
    links = [link.readlink() for link in Path(f"/proc/{service.pid}/fd").iterdir() if link.exists()]
    return {link.parent for link in links if link.name == LOCK and link.parent.name.startswith(PREFIX)}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc: Linux only")
@pytest.mark.survival
def test_what_a_killed_service_left_in_memory_is_gone_after_the_next_start_and_the_living_ones_stay(
    migrated_sqlite_url: str, tmp_path: Path
) -> None:
    with served(migrated_sqlite_url, tmp_path / "killed", started=False, WEB_CONCURRENCY="1") as killed:
        wait_until(lambda: folders_of(killed))
        [left] = folders_of(killed)
        killed.kill9()
        assert left.exists()
    with served(migrated_sqlite_url, tmp_path / "living", WEB_CONCURRENCY="1") as living:
        assert not left.exists()
        [own] = folders_of(living)
        with served(migrated_sqlite_url, tmp_path / "another", started=False, WEB_CONCURRENCY="1") as another:
            wait_until(lambda: folders_of(another))
            assert list(own.glob("*.db"))
            another.kill9()
        living.term()
        living.wait()
    # Whoever is asked to end takes it along.
    assert not own.exists()


def test_a_folder_is_held_until_the_last_of_those_who_inherited_it_has_ended(tmp_path: Path) -> None:
    # The first process is gone at once; the one that it forked waits for the end of its input.
    program = MAKE + "print(make(pathlib.Path(sys.argv[1])), flush=True); os.fork() and os._exit(0); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    folder = Path(child.stdout.readline().strip())
    child.wait(10)
    remove_abandoned(tmp_path)
    assert folder.exists()
    child.stdin.close()
    # Its end: it had the output, too.
    assert child.stdout.read() == ""
    child.stdout.close()

    def is_removed() -> bool:
        remove_abandoned(tmp_path)
        return not folder.exists()

    wait_until(is_removed)


def test_what_is_no_services_folder_of_this_kind_stays(tmp_path: Path) -> None:
    older, elsewhere = tmp_path / f"{PREFIX}older", tmp_path / "elsewhere"
    for folder in (older, elsewhere):
        folder.mkdir()
        (folder / "counter_1.db").touch()
    linked = tmp_path / f"{PREFIX}linked"
    linked.mkdir()
    (elsewhere / LOCK).touch()
    (linked / LOCK).symlink_to(elsewhere / LOCK)
    remove_abandoned(tmp_path)
    assert older.exists()
    assert linked.exists()
    assert {file.name for file in elsewhere.iterdir()} == {"counter_1.db", LOCK}


def test_starts_at_the_same_time_take_nothing_from_each_other(tmp_path: Path) -> None:
    stopping = threading.Event()

    def sweep() -> None:
        while not stopping.is_set():
            remove_abandoned(tmp_path)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        made = [make_metrics_folder(tmp_path) for _ in range(300)]
    finally:
        stopping.set()
        sweeper.join(10)
    assert all((folder / LOCK).exists() for folder in made)
    # The folders are held by this process: let it go of them.
    held = {(folder / LOCK).stat().st_ino for folder in made}
    for descriptor in range(3, 4096):
        try:
            if os.fstat(descriptor).st_ino in held:
                os.close(descriptor)
        except OSError:
            continue
