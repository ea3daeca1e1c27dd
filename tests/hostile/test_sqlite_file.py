"""What an operator does to the SQLite file while the service runs: no 200 without the call in a file, and no empty one.

The load never stops. What was answered 200 is looked for afterwards, in whatever file it must be in.
"""

import contextlib
import shutil
import sqlite3
import time
from functools import partial
from pathlib import Path

import pytest

from tests.hostile.operator import serving, type_command
from tests.served import ADMIN_TOKEN, Served, wait_until
from tests.survival.load import Load, a_call
from tests.survival.whole import find_broken, stored_messages

pytestmark = pytest.mark.survival


@pytest.fixture
def var(tmp_path: Path) -> Path:
    """The folder of the database; the service stands, and logs, in another."""
    return tmp_path / "var"


@pytest.fixture
def file(var: Path) -> Path:
    return var / "test.db"


def has_answered(load: Load, count: int) -> bool:
    return len(load.answered) > count


def has_refused(load: Load, count: int) -> bool:
    return load.statuses[503] > count


def why_not_ready(service: Served) -> str:
    # Each worker remembers for a second what it found.
    wait_until(lambda: service.get("/readyz").status == 503)
    time.sleep(1.1)
    answer = service.get("/readyz", ADMIN_TOKEN)
    assert answer.status == 503, answer
    return "; ".join(check["message"] for check in answer.json["checks"] if not check["ok"])


def show_that_nothing_is_taken(service: Served, load: Load) -> str:
    """Return why; the load goes on."""
    assert {service.post(a_call(f"late-{number}")).status for number in range(20)} == {503}
    before = load.underway
    wait_until(lambda: not before & load.underway)
    answered = len(load.answered)
    wait_until(partial(has_refused, load, load.statuses[503] + 20))
    assert len(load.answered) == answered
    assert service.get("/healthz").status == 200
    return why_not_ready(service)


def test_a_file_that_is_moved_or_deleted_is_503_until_it_is_back_and_holds_all_that_was_answered(
    file: Path, var: Path
) -> None:
    elsewhere, copy, saved = var.with_name("elsewhere.db"), var.with_name("copy.db"), var.with_name("saved.db")
    with serving(file) as service, Load(service, 4) as load:
        wait_until(partial(has_answered, load, 200))
        file.rename(elsewhere)
        assert "moved or deleted while it was open" in show_that_nothing_is_taken(service, load)
        assert not file.exists()
        # Alone, without the log that stayed behind: it is whole.
        shutil.copyfile(elsewhere, copy)
        assert set(load.answered) <= set(stored_messages(f"sqlite:///{copy}"))
        assert find_broken(f"sqlite:///{copy}") == []

        elsewhere.rename(file)
        wait_until(partial(has_answered, load, len(load.answered) + 100))
        wait_until(lambda: service.get("/readyz").status == 200)

        saved.hardlink_to(file)
        shutil.rmtree(var)
        assert "moved or deleted while it was open" in show_that_nothing_is_taken(service, load)
        assert service.get("/api/v1/calls", ADMIN_TOKEN).status == 503
        typed = type_command(file, "log")
        assert (typed.exit_code, "there is no database" in typed.stderr) == (1, True), typed
        assert not var.exists()
    # What was answered before the folder was deleted, but for what stood in the log only.
    assert find_broken(f"sqlite:///{saved}") == []


def test_another_file_in_its_place_is_503_until_a_restart_and_is_whole_then(file: Path, var: Path) -> None:
    with serving(file) as service, Load(service, 4) as load:
        wait_until(partial(has_answered, load, 100))
        backup, former = var.with_name("backup.db"), var.with_name("former.db")
        earlier = set(load.answered)
        with contextlib.closing(sqlite3.connect(file)) as source, contextlib.closing(sqlite3.connect(backup)) as target:
            source.backup(target)
        wait_until(partial(has_answered, load, len(earlier) + 300))
        # As somebody restores by hand, who does not think of the log beside it.
        file.rename(former)
        shutil.copyfile(backup, file)
        assert "another file stands at" in show_that_nothing_is_taken(service, load)
        # Nor does any other process open it beside those that have the former one open.
        typed = type_command(file, "log")
        assert (typed.exit_code, "stop all of them" in typed.stderr) == (1, True), typed
    assert set(load.answered) <= set(stored_messages(f"sqlite:///{former}"))
    with serving(file, "again", workers=1) as service:
        assert service.get("/readyz").status == 200
        assert service.post(a_call("after")).status == 200
    assert earlier | {"after"} <= set(stored_messages(f"sqlite:///{file}"))
    for one in (former, file):
        assert find_broken(f"sqlite:///{one}") == []


def test_a_backup_that_is_copied_over_an_open_file_is_503_and_found_damaged(file: Path, var: Path) -> None:
    backup = var.with_name("backup.db")
    with serving(file) as service, Load(service, 4) as load:
        wait_until(partial(has_answered, load, 100))
        with contextlib.closing(sqlite3.connect(file)) as source, contextlib.closing(sqlite3.connect(backup)) as target:
            source.backup(target)
            wait_until(partial(has_answered, load, len(load.answered) + 300))
            wait_until(lambda: source.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0)
        # Something was stored since: what the log holds now is not all that the file lacks. And somebody saw the size.
        wait_until(partial(has_answered, load, len(load.answered) + 100))
        assert backup.stat().st_size < file.stat().st_size
        shutil.copyfile(backup, file)
        # Noticed by its size, or by the first page that does not fit.
        assert "the database is damaged" in show_that_nothing_is_taken(service, load)


@pytest.mark.parametrize("suffixes", [("-wal", "-shm"), ("-shm",)])
def test_a_log_that_is_deleted_is_503_until_a_restart_and_what_it_held_is_in_the_file(
    file: Path, suffixes: tuple[str]
) -> None:
    with serving(file) as service, Load(service, 4) as load:
        wait_until(partial(has_answered, load, 200))
        for suffix in suffixes:
            file.with_name(file.name + suffix).unlink()
        assert "deleted or replaced while it was open" in show_that_nothing_is_taken(service, load)
        assert "stop all of them" in type_command(file, "log").stderr
        # Not even a chance to close the file.
        service.kill9()
    with serving(file, "again", workers=1) as service:
        assert service.post(a_call("after")).status == 200
    assert set(load.answered) | {"after"} <= set(stored_messages(f"sqlite:///{file}"))
    assert find_broken(f"sqlite:///{file}") == []


def test_a_lock_that_is_deleted_is_made_anew_and_costs_nothing(file: Path) -> None:
    with serving(file) as service, Load(service, 4) as load:
        for suffix in (".lock", ".lease", ".lock"):
            wait_until(partial(has_answered, load, len(load.answered) + 150))
            file.with_name(file.name + suffix).unlink()
        wait_until(partial(has_answered, load, len(load.answered) + 100))
        service.kill9()
    assert set(load.answered) <= set(stored_messages(f"sqlite:///{file}"))
    assert find_broken(f"sqlite:///{file}") == []


def test_an_old_file_beside_a_newer_log_is_noticed_when_it_is_opened_and_takes_no_call(file: Path, var: Path) -> None:
    with serving(file) as service:
        with Load(service, 4):
            time.sleep(0.3)
        file_of_before = var.with_name("before.db")
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as source:
            # So that the log begins anew, as after some minutes of traffic.
            wait_until(lambda: source.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
            shutil.copyfile(file, file_of_before)
            with Load(service, 4):
                time.sleep(0.5)
            wait_until(lambda: source.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
            with Load(service, 4):
                time.sleep(0.5)
            service.kill9()
            # Not closed by this test, which would write the log into the file.
            log = Path(f"{file}-wal").read_bytes()
    Path(f"{file}-wal").write_bytes(log)
    Path(f"{file}-shm").unlink(missing_ok=True)
    shutil.copyfile(file_of_before, file)
    with serving(file, "again", workers=1) as service:
        statuses = {service.post(a_call(f"after-{number}")).status for number in range(30)}
        assert statuses == {503}
        assert "the database is damaged" in why_not_ready(service)
        assert service.get("/healthz").status == 200
        typed = type_command(file, "doctor")
        assert typed.exit_code == 1
        assert "the database is damaged" in typed.stdout, typed.stdout
