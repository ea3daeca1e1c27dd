"""What a database in trouble does: says so in time, keeps nothing in part, and works again afterwards."""

import contextlib
import fcntl
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.core.outcome import Outcome
from app.errors import SettingInvalid, Unavailable
from app.store import schema
from app.store.engine import Connection, Database, DuplicateKey, RowRefused, connect
from app.store.inserts import Insert
from app.store.integrity import Integrity
from app.store.migrate import migrate
from app.store.publications import Publication, append_publications, find_latest_id, list_live
from app.store.sqlite import Damaged
from tests.builders import NOW, a_record, a_request, a_writer, an_event, balance, rows_of, store

STORED = Outcome.STORED
# Seconds that 3 s may become on a machine that is busy with other things.
LONG = 10

ROOT = Path(__file__).parent.parent.parent


def ask(database: Database, query: str) -> object:
    with database.reading() as conn:
        return conn.execute(sa.text(query)).scalar()


# --- Durability


def test_every_sqlite_connection_waits_for_the_disk(sqlite_database: Database) -> None:
    names = ("journal_mode", "synchronous", "busy_timeout")

    def settings_of(_number: int) -> tuple[object, ...]:
        with sqlite_database.engine.connect() as conn:
            time.sleep(0.05)
            return tuple(conn.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names)

    with ThreadPoolExecutor(8) as threads:
        # 2 is FULL.
        assert set(threads.map(settings_of, range(16))) == {("wal", 2, 0)}
    with sqlite_database.writing() as conn:
        assert conn.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def test_postgresql_answers_a_commit_when_it_is_on_the_disk(postgres_database: Database) -> None:
    assert ask(postgres_database, "SHOW synchronous_commit") == "on"
    if "TEST_POSTGRES_URL" in os.environ:
        # The server that the tests bring along is told not to, since nobody pulls its plug.
        assert ask(postgres_database, "SHOW fsync") == "on"


def test_a_role_that_is_told_not_to_wait_for_the_disk_waits_all_the_same(postgres_database: Database) -> None:
    name = postgres_database.engine.url.database
    with postgres_database.writing() as conn:
        conn.execute(sa.text(f'ALTER DATABASE "{name}" SET synchronous_commit = off'))
    postgres_database.engine.dispose()
    assert ask(postgres_database, "SHOW synchronous_commit") == "on"


# --- Which database


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/name", "oracle://host"])
def test_other_databases_are_refused_by_name(url: str) -> None:
    with pytest.raises(SettingInvalid, match="DATABASE_URL"):
        connect(url)


def test_only_the_migration_makes_a_file_and_its_folder_and_for_its_owner_alone(tmp_path: Path) -> None:
    database = connect(f"sqlite:///{tmp_path}/a/b/c.db")
    for use in (database.check_writable, database.checkpoint, lambda: ask(database, "SELECT 1")):
        with pytest.raises(Unavailable, match="there is no database at"):
            use()  # type: ignore[no-untyped-call]
    assert not (tmp_path / "a").exists()
    migrate(database)
    database.check_writable()
    files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a" / "b").iterdir()}
    assert files == dict.fromkeys(("c.db", "c.db-wal", "c.db-shm", "c.db.lock", "c.db.lease"), 0o600)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    database.close()


@pytest.mark.parametrize(("mode", "then"), [(0o644, 0o600), (0o666, 0o600), (0o640, 0o640), (0o600, 0o600)])
def test_a_file_that_everybody_may_read_is_made_the_owners_alone_and_a_group_stays(
    migrated_sqlite_url: str, mode: int, then: int
) -> None:
    database = connect(migrated_sqlite_url)
    assert database.file is not None
    database.file.chmod(mode)
    database.check_writable()
    for suffix in ("", "-wal", "-shm"):
        assert Path(f"{database.file}{suffix}").stat().st_mode & 0o777 == then
    database.close()


def test_a_new_database_is_not_made_where_one_is_missed(tmp_path: Path) -> None:
    database = connect(f"sqlite:///{tmp_path}/test.db")
    migrate(database)
    database.close()
    (tmp_path / "test.db").rename(tmp_path / "elsewhere.db")
    with pytest.raises(Unavailable, match=r"there was a database at .*test\.db\.lease is still beside it"):
        migrate(database)
    (tmp_path / "test.db").touch()
    with pytest.raises(Unavailable, match="is empty"):
        migrate(database)
    (tmp_path / "elsewhere.db").rename(tmp_path / "test.db")
    migrate(database)
    database.close()


def test_a_look_at_the_pages_says_what_it_did_not_come_to(sqlite_database: Database) -> None:
    assert sqlite_database.check_integrity(None) == Integrity(None, ())
    with sqlite_database.writing() as conn:
        conn.exec_driver_sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)"
            " INSERT INTO versions (digest, kind, name, text, seen_at)"
            " SELECT CAST(i AS BLOB), 'transform', i, '', 1 FROM n"
        )
    unread = sqlite_database.check_integrity(0).unread
    assert "versions" in unread
    assert "what tables have in common" in unread
    assert sqlite_database.check_integrity(60) == Integrity(None, ())


def test_a_smaller_file_that_is_copied_over_is_noticed_by_a_process_that_never_saw_the_larger_one(
    sqlite_database: Database, tmp_path: Path
) -> None:
    file, backup = sqlite_database.file, tmp_path / "backup.db"
    assert file is not None
    a_writer(sqlite_database).append(a_request(a_record(message_id="before")))
    sqlite_database.checkpoint()
    with contextlib.closing(connect(f"sqlite:///{file}")) as idle:
        ask(idle, "SELECT count(*) FROM calls")
        # Both copies are larger than all that the idle process has seen.
        for name, copy in ("first", backup), ("second", None):
            with sqlite_database.writing() as conn:
                conn.exec_driver_sql(f"CREATE TABLE {name} AS SELECT zeroblob(300000) AS filler")
            sqlite_database.checkpoint()
            if copy is not None:
                shutil.copyfile(file, copy)
        # The one that wrote them notes what it sees when it next looks.
        ask(sqlite_database, "SELECT count(*) FROM calls")
        shutil.copyfile(backup, file)
        with pytest.raises(Damaged, match="became smaller while it was open"):
            a_writer(idle).append(a_request(a_record(message_id="after")))


def test_damage_that_one_process_meets_stops_the_writers_of_all_until_it_is_gone(sqlite_database: Database) -> None:
    assert sqlite_database.file is not None
    assert store(sqlite_database, a_record()) == [STORED]
    other = connect(str(sqlite_database.engine.url))
    other.check_writable()
    whole = sqlite_database.file.read_bytes()
    # As long as it is open, the log is there; the pages of the file are those of before.
    page = 4096
    with sqlite_database.file.open("r+b") as file:
        file.seek(page)
        file.write(os.urandom(len(whole) - page))
    fresh = connect(str(sqlite_database.engine.url))
    with pytest.raises(Damaged):
        rows_of(fresh, schema.events)
    for database in (fresh, other, sqlite_database):
        with pytest.raises(Unavailable, match=r"is damaged.*segment-lotus restore"):
            store(database, a_record(an_event(idempotency_id="late")))
    sqlite_database.file.write_bytes(whole)
    assert fresh.check_integrity(None) == Integrity(None, ())
    assert store(other, a_record(an_event(idempotency_id="late"))) == [STORED]
    other.close()
    fresh.close()


def test_the_free_bytes_of_a_disk_are_known_where_the_disk_is_ours(database: Database) -> None:
    free = database.free_bytes()
    if database.file is None:
        assert free is None
    else:
        assert free == pytest.approx(shutil.disk_usage(database.file.parent).free, rel=0.1)


# --- Trouble of a value


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("INSERT INTO refusals (id) VALUES (1)", RowRefused),
        ("SELECT * FROM nowhere", Unavailable),
        ("NO SQL AT ALL", Unavailable),
    ],
)
def test_what_a_database_says_of_a_value_is_told_from_what_it_says_of_a_statement(
    database: Database, statement: str, said: type[Exception]
) -> None:
    with pytest.raises(said), database.writing() as conn:
        conn.execute(sa.text(statement))
    database.check_writable()


def test_a_key_that_is_there_already_is_told_from_other_refusals(database: Database) -> None:
    insert = Insert(schema.requests, ("id", "received_at", "auth", "shape", "envelope"))
    with database.writing() as conn:
        assert insert.run(conn, [(1, 1, "signature", "single", None), (2, 1, "signature", "single", b"{}")]) == 2
    with pytest.raises(DuplicateKey), database.writing() as conn:
        insert.run(conn, [(3, 1, "signature", "single", None), (2, 1, "signature", "single", None)])
    with pytest.raises(RowRefused) as refused, database.writing() as conn:
        insert.run(conn, [(4, 1, None, "single", None)])
    assert not isinstance(refused.value, DuplicateKey)
    assert [row[0] for row in rows_of(database, schema.requests)] == [1, 2]


def test_columns_out_of_order_are_a_mistake_that_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="out of order"):
        Insert(schema.requests, ("received_at", "id"))


def test_an_error_in_between_rolls_everything_back(database: Database) -> None:
    def break_off() -> None:
        with database.writing() as conn:
            conn.execute(sa.text("INSERT INTO ledger VALUES (1, 1, 'call', 'stored', '', 1)"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert rows_of(database, schema.ledger) == []


# --- A SQLite file that somebody else holds


@contextlib.contextmanager
def another_program_holds(file: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as conn:
        conn.execute("BEGIN EXCLUSIVE")
        yield
        conn.execute("ROLLBACK")


@contextlib.contextmanager
def another_process_writes(file: Path) -> Iterator[None]:
    """Hold the lock file, as another worker does during a commit."""
    program = (
        "import fcntl, sys; lock = open(sys.argv[1], 'ab'); fcntl.flock(lock, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, f"{file}.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.stdin.close()
        process.wait()


@pytest.mark.parametrize("holds", [another_program_holds, another_process_writes])
def test_a_file_that_somebody_holds_is_unavailable_after_3_s_and_usable_afterwards(
    sqlite_database: Database, holds: object
) -> None:
    assert sqlite_database.file is not None
    assert callable(holds)
    with holds(sqlite_database.file):
        began = time.monotonic()
        with pytest.raises(Unavailable, match=r"busy|locked"):
            store(sqlite_database, a_record())
        assert 2.5 < time.monotonic() - began < LONG
        # Reading goes on: pages and /readyz do not wait for writers.
        assert rows_of(sqlite_database, schema.calls) == []
    assert store(sqlite_database, a_record()) == [STORED]
    assert balance(sqlite_database) == {("stored", ""): 1}


def test_a_file_that_is_given_back_in_time_costs_nothing_but_the_wait(sqlite_database: Database) -> None:
    assert sqlite_database.file is not None
    with ThreadPoolExecutor(1) as threads:
        with another_program_holds(sqlite_database.file):
            waiting = threads.submit(store, sqlite_database, a_record())
            time.sleep(0.3)
            assert not waiting.done()
        assert waiting.result(3) == [STORED]


def test_a_lock_file_that_cannot_be_opened_is_unavailable(sqlite_database: Database) -> None:
    lock = Path(f"{sqlite_database.file}.lock")
    lock.mkdir()
    with pytest.raises(Unavailable, match="lock file"):
        sqlite_database.check_writable()
    lock.rmdir()
    sqlite_database.check_writable()


def test_the_lock_is_given_back_whatever_happens_inside(sqlite_database: Database) -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), sqlite_database.writing():
            raise ZeroDivisionError
    with Path(f"{sqlite_database.file}.lock").open("ab") as lock:
        with sqlite_database.writing(), pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_closed_database_leaves_no_file_open(migrated_sqlite_url: str) -> None:
    database = connect(migrated_sqlite_url)
    database.check_writable()
    database.close()
    folder = str(Path(str(database.file)).parent)
    still_open = [str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink() and one.exists()]
    assert [one for one in still_open if one.startswith(folder)] == []


# --- A disk that is full, a file that may only be read


def test_a_full_disk_is_unavailable_keeps_nothing_in_part_and_is_usable_when_there_is_space(
    sqlite_database: Database,
) -> None:
    assert store(sqlite_database, a_record()) == [STORED]
    # One connection serves one thread, so the limit stays on it.
    with sqlite_database.engine.connect() as conn:
        pages = int(conn.exec_driver_sql("PRAGMA page_count").scalar() or 0)
        conn.exec_driver_sql(f"PRAGMA max_page_count = {pages + 20}")
    before = {table.name: rows_of(sqlite_database, table) for table in schema.METADATA.sorted_tables}
    large = [a_record(an_event(idempotency_id=f"large-{number}"), raw=os.urandom(50_000)) for number in range(20)]
    with pytest.raises(Unavailable, match="full"):
        a_writer(sqlite_database).append(a_request(*large))
    assert {table.name: rows_of(sqlite_database, table) for table in schema.METADATA.sorted_tables} == before
    assert store(sqlite_database, a_record(an_event(idempotency_id="small"))) == [STORED]
    with sqlite_database.engine.connect() as conn:
        conn.exec_driver_sql("PRAGMA max_page_count = 1000000")
    a_writer(sqlite_database).append(a_request(*large))
    assert balance(sqlite_database) == {("stored", ""): 22}


_AS_NOBODY = """
import os, sys
from app.errors import Unavailable
from app.store.engine import connect
from tests.builders import NOW, a_record, store
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
database = connect(sys.argv[1])
for step in (database.check_writable, lambda: store(database, a_record())):
    try:
        step()
    except Unavailable as error:
        print("unavailable:", error.message)
"""


@pytest.mark.parametrize("lock", ["with a lock file", "without one"])
def test_a_file_that_may_only_be_read_is_unavailable(sqlite_template: Path, lock: str) -> None:
    # Not in tmp_path: there only its owner may look inside.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "test.db"
        shutil.copyfile(sqlite_template, file)
        if lock == "with a lock file":
            Path(f"{file}.lock").touch(mode=0o666)
            Path(f"{file}.lock").chmod(0o666)
        file.chmod(0o444)
        Path(folder).chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, f"sqlite:///{file}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        Path(folder).chmod(0o755)
    assert done.stdout.count("unavailable:") == 2, done.stdout + done.stderr


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    file = tmp_path / "test.db"
    file.write_bytes(b"this is a text file, and not a short one. " * 100)
    database = connect(f"sqlite:///{file}")
    with pytest.raises(Unavailable):
        database.check_writable()
    database.close()


def test_a_database_that_was_never_migrated_is_unavailable_and_rejects_no_call(database_url: str) -> None:
    database = connect(database_url)
    record = a_record()
    with pytest.raises(Unavailable):
        store(database, record)
    assert record.outcome is None
    database.close()


# --- A server that goes away


def test_backends_that_were_ended_between_two_commits_cost_no_request(
    postgres_database: Database, migrated_postgres_url: str
) -> None:
    other = connect(migrated_postgres_url)
    assert store(postgres_database, a_record()) == [STORED]
    for number in range(3):
        assert rows_of(postgres_database, schema.refusals) == []
        with other.writing() as conn:
            ended = conn.execute(
                sa.text(
                    "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            ).scalar()
        # One of those that commit, and one of the others.
        assert ended == 2
        assert store(postgres_database, a_record(an_event(idempotency_id=f"{number}"))) == [STORED]
    other.close()


def test_a_backend_that_is_ended_within_a_commit_stores_nothing_of_it(
    postgres_database: Database, migrated_postgres_url: str
) -> None:
    other = connect(migrated_postgres_url)
    insert = Insert(schema.requests, ("id", "received_at", "auth", "shape", "envelope"))

    def write() -> None:
        with postgres_database.writing() as conn:
            insert.run(conn, [(1, 1, "signature", "single", None)])
            victim = conn.execute(sa.text("SELECT pg_backend_pid()")).scalar()
            with other.writing() as killer:
                killer.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": victim})
            time.sleep(0.2)
            # As the hot path does: past SQLAlchemy, straight to the driver.
            insert.run(conn, [(2, 1, "signature", "single", None)])

    with pytest.raises(Unavailable):
        write()
    assert rows_of(postgres_database, schema.requests) == []
    assert store(postgres_database, a_record()) == [STORED]
    other.close()


def test_a_server_that_is_not_there_is_unavailable(postgres_url: str) -> None:
    gone = connect("postgresql+psycopg://user:word@127.0.0.1:9/none")
    no_such = connect(sa.make_url(postgres_url).set(database="no_such_database").render_as_string(hide_password=False))
    for database in (gone, no_such):
        began = time.monotonic()
        with pytest.raises(Unavailable):
            database.check_writable()
        with pytest.raises(Unavailable):
            store(database, a_record())
        assert time.monotonic() - began < LONG
        database.close()


def test_a_server_that_takes_connections_and_says_nothing_is_unavailable_after_3_s_on_all_its_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with contextlib.ExitStack() as listening:
        port, addresses = 0, ("127.0.0.1", "127.0.0.2")
        for address in addresses:
            listener = listening.enter_context(socket.socket())
            listener.bind((address, port))
            listener.listen()
            port = listener.getsockname()[1]
        answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
        hung = connect(f"postgresql+psycopg://user:word@two-addresses:{port}/none")
        for most in (4.5, 1):
            began = time.monotonic()
            with pytest.raises(Unavailable, match="does not answer"):
                store(hung, a_record())
            # psycopg gives each address the whole time; and a moment later nobody waits again.
            assert time.monotonic() - began < most
        hung.close()


def test_a_row_that_another_transaction_holds_is_unavailable_after_3_s(
    postgres_database: Database, migrated_postgres_url: str
) -> None:
    other = connect(migrated_postgres_url)
    with contextlib.suppress(ZeroDivisionError), other.writing() as conn:
        Insert(schema.claims, ("message_id", "lane", "call_id", "content", "transform_digest")).run(
            conn, [("id-1", "main", 1, b"", b"")]
        )
        began = time.monotonic()
        with pytest.raises(Unavailable):
            store(postgres_database, a_record())
        assert 2.5 < time.monotonic() - began < LONG
        raise ZeroDivisionError
    assert store(postgres_database, a_record()) == [STORED]
    other.close()


def test_a_server_that_only_reads_is_unavailable(postgres_database: Database) -> None:
    name = postgres_database.engine.url.database
    with postgres_database.writing() as conn:
        conn.execute(sa.text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    postgres_database.engine.dispose()
    with pytest.raises(Unavailable):
        postgres_database.check_writable()
    with pytest.raises(Unavailable):
        store(postgres_database, a_record())


# What tells a server that a node has vanished, and ends its transaction.
_VANISHED = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")


def test_only_the_connections_of_the_group_commit_end_when_a_node_vanishes(migrated_postgres_url: str) -> None:
    # The settings of a connection over a Unix socket all read as 0; what was asked for stands elsewhere.
    asked = sa.text("SELECT name, setting, source FROM pg_settings WHERE name ~ '^tcp_|^transaction_timeout$'")
    for serving in (True, False):
        database = connect(migrated_postgres_url, serving=serving)
        for way in (database.committing, database.writing, database.reading):
            with way() as conn:
                ours = {row.name for row in conn.execute(asked) if row.source in {"client", "session"}}
            is_commit = way == database.committing
            assert ours == ({*_VANISHED, "transaction_timeout"} if is_commit else set())
        database.close()


def test_work_that_takes_long_is_not_cut(migrated_postgres_url: str) -> None:
    def work(way: Callable[[], contextlib.AbstractContextManager[Connection]]) -> object:
        with way() as conn:
            # In several pieces, and through the driver as a replay does.
            return conn.connection.execute("SELECT pg_sleep(3.5), 1").fetchone()[1]

    serving, other = (connect(migrated_postgres_url, serving=serving) for serving in (True, False))
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, (serving.reading, serving.writing, other.reading, other.writing))) == [1] * 4
    with pytest.raises(Unavailable, match="does not answer"):
        work(serving.committing)
    # And for a moment nobody asks again.
    began = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer"):
        work(serving.reading)
    assert time.monotonic() - began < 2
    time.sleep(1)
    serving.check_writable()
    for database in (serving, other):
        database.close()


def test_more_readers_than_connections_wait_for_each_other(database: Database) -> None:
    def look(_number: int) -> object:
        with database.reading() as conn:
            time.sleep(0.02)
            return conn.execute(sa.text("SELECT 1")).scalar()

    with ThreadPoolExecutor(30) as threads:
        assert list(threads.map(look, range(60))) == [1] * 60


def test_a_transaction_that_reads_sees_one_moment(database: Database) -> None:
    with database.reading() as conn:
        assert find_latest_id(conn) is None
        with database.writing() as other:
            append_publications(other, [Publication(1, "transform", "order", b"digest", "file", NOW)])
        assert list_live(conn, "transform") == {}
    with database.reading() as conn:
        assert list(list_live(conn, "transform")) == ["order"]


def test_a_transaction_that_reads_writes_nothing(postgres_database: Database) -> None:
    with pytest.raises(Unavailable), postgres_database.reading() as conn:
        append_publications(conn, [Publication(1, "transform", "order", b"digest", "file", NOW)])
    with postgres_database.writing() as conn:
        append_publications(conn, [Publication(1, "transform", "order", b"digest", "file", NOW)])


def test_what_need_not_last_does_not_make_the_next_commit_last_less(database: Database) -> None:
    question = "PRAGMA synchronous" if database.file else "SHOW synchronous_commit"
    answers = []
    for durable in (True, False, True, False):
        with database.writing(durable=durable) as conn:
            answers.append(conn.execute(sa.text(question)).scalar())
    with database.writing() as conn:
        answers.append(conn.execute(sa.text(question)).scalar())
    lasting, not_lasting = (2, 1) if database.file else ("on", "off")
    assert answers == [lasting, not_lasting, lasting, not_lasting, lasting]


def test_a_checkpoint_lets_the_log_of_a_bulk_writer_begin_anew(sqlite_database: Database, tmp_path: Path) -> None:
    bulk = connect(str(sqlite_database.engine.url), bulk=True)
    log = tmp_path / "test.db-wal"
    sizes = []
    for number in range(6):
        # As a replay does: the next batch is read while this one is committed.
        with bulk.reading() as ahead, bulk.writing(durable=False) as conn:
            ahead.exec_driver_sql("SELECT count(*) FROM publications").scalar()
            rows = range(number * 5000, (number + 1) * 5000)
            append_publications(conn, [Publication(n, "transform", f"{n:0>100}", b"d", "file", NOW) for n in rows])
        bulk.checkpoint()
        sizes.append(log.stat().st_size)
    bulk.close()
    assert sizes[-1] < 2 * sizes[0], sizes
    assert len(rows_of(sqlite_database, schema.publications)) == 30_000


def test_a_statement_that_is_broken_off_ends_its_connection_and_not_the_use_of_the_file(database: Database) -> None:
    """SQLite deletes its log with the last connection: it is open for as long as the process has the file."""

    def break_off(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    sa.event.listen(database.engine, "before_cursor_execute", break_off)
    with pytest.raises(KeyboardInterrupt), database.writing() as conn:
        conn.execute(sa.text("SELECT 1"))
    sa.event.remove(database.engine, "before_cursor_execute", break_off)
    with database.writing() as conn:
        assert conn.execute(sa.text("SELECT 1")).scalar() == 1
