"""What the migrations make is what the tables in `app.store.schema` say, on both engines."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.calls.sql_problems import count_faults
from app.errors import Unavailable
from app.store import migrate as migrate_module
from app.store.engine import Database, connect
from app.store.ledger import sum_counts
from app.store.migrate import is_current, migrate
from app.store.review import CallFilters, list_call_ids
from app.store.schema import METADATA, calls, claims, deliveries, events
from tests.builders import rows_of

ROOT = Path(__file__).parent.parent.parent
VERSIONS = Path(migrate_module.__file__).parent / "migrations" / "versions"
HEAD = str(ScriptDirectory(str(VERSIONS.parent)).get_current_head())


def current(database: Database) -> bool:
    with database.reading() as conn:
        return is_current(conn)


@pytest.fixture
def fresh(database_url: str) -> Iterator[Database]:
    """An empty database of each kind."""
    database = connect(database_url)
    database.create()
    yield database
    database.close()


def shape_of(database: Database) -> dict[str, Any]:
    """Return all that can be seen of a schema, Alembic's own table aside."""
    inspector = sa.inspect(database.engine)
    shape: dict[str, Any] = {}
    for table in sorted(set(inspector.get_table_names()) - {"alembic_version"}):
        shape[table] = {
            "columns": [
                (one["name"], str(one["type"]), one["nullable"], one["default"]) for one in inspector.get_columns(table)
            ],
            "primary key": inspector.get_pk_constraint(table)["constrained_columns"],
            "unique": sorted((one["name"], one["column_names"]) for one in inspector.get_unique_constraints(table)),
            "foreign keys": inspector.get_foreign_keys(table),
            "indexes": {one["name"]: (one["column_names"], str(_where(one))) for one in inspector.get_indexes(table)},
        }
    with database.reading() as conn:
        if database.file:
            statements = conn.execute(sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
            shape["without rowid"] = {name for name, sql in statements if "WITHOUT ROWID" in sql}
        else:
            statements = conn.execute(sa.text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"))
            shape["index definitions"] = {name: sql for name, sql in statements if not name.startswith("alembic")}
            shape["comments"] = {name: inspector.get_table_comment(name) for name in METADATA.tables}
    return shape


def _where(index: Any) -> object:
    options = index.get("dialect_options", {})
    return options.get("sqlite_where") if "sqlite_where" in options else options.get("postgresql_where")


def test_migrating_gives_the_same_schema_as_creating_the_tables(fresh: Database) -> None:
    METADATA.create_all(fresh.engine)
    created = shape_of(fresh)
    METADATA.drop_all(fresh.engine)
    migrate(fresh)
    assert shape_of(fresh) == created
    assert set(METADATA.tables) < set(created)


def test_the_comparison_sees_partial_indexes(database: Database) -> None:
    """So that the test above cannot pass by not looking."""
    indexes = shape_of(database)["calls"]["indexes"]
    assert "stored" in indexes["calls_unstored_message"][1]
    assert indexes["calls_event"] == (["event", "id"], "None")


def test_alembic_finds_nothing_left_to_migrate(database: Database) -> None:
    with database.reading() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA) == []


def test_there_are_no_foreign_keys_sequences_or_triggers(postgres_database: Database) -> None:
    with postgres_database.reading() as conn:
        assert conn.execute(sa.text("SELECT relname FROM pg_class WHERE relkind = 'S'")).all() == []
        assert conn.execute(sa.text("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")).all() == []
        assert conn.execute(sa.text("SELECT conname FROM pg_constraint WHERE contype = 'f'")).all() == []


def test_a_database_is_current_after_migrating_and_not_before(fresh: Database) -> None:
    assert not current(fresh)
    assert migrate(fresh) == HEAD
    assert current(fresh)


def test_a_database_of_another_revision_is_not_current(database: Database) -> None:
    with database.writing() as conn:
        conn.execute(sa.text("UPDATE alembic_version SET version_num = 'another'"))
    assert not current(database)


def test_migrating_twice_is_migrating_once(fresh: Database) -> None:
    migrate(fresh)
    before = shape_of(fresh)
    assert migrate(fresh) == HEAD
    assert shape_of(fresh) == before
    with fresh.reading() as conn:
        assert conn.execute(sa.text("SELECT version_num FROM alembic_version")).all() == [(HEAD,)]


def test_a_migration_that_fails_leaves_nothing_behind(fresh: Database) -> None:
    with fresh.writing() as conn:
        # The last table of the migration is there already.
        conn.execute(sa.text("CREATE TABLE versions (mine INTEGER)"))
    with pytest.raises(Unavailable):
        migrate(fresh)
    assert sa.inspect(fresh.engine).get_table_names() == ["versions"]
    with fresh.writing() as conn:
        conn.execute(sa.text("DROP TABLE versions"))
    assert migrate(fresh) == HEAD


def test_two_processes_that_migrate_at_once_both_end_well(database_url: str, fresh: Database) -> None:
    program = (
        "import sys; from app.store.engine import connect; from app.store.migrate import migrate;"
        "print('ready', flush=True); sys.stdin.readline(); print(migrate(connect(sys.argv[1])))"
    )
    nodes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program, database_url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for node in nodes:
        assert node.stdout is not None
        assert node.stdout.readline() == "ready\n"
    for node in nodes:
        assert node.stdin is not None
        node.stdin.write("go\n")
        node.stdin.flush()
    assert [node.communicate(timeout=60)[0] for node in nodes] == [f"{HEAD}\n"] * 2
    assert current(fresh)
    assert rows_of(fresh, METADATA.tables["ledger"]) == []


_OLD_CALL = """INSERT INTO calls (id, request_id, position, received_at, route, message_id, outcome)
VALUES (:id, 1, 0, 1, 'webhook', :message, :outcome)"""


def test_a_call_from_before_is_still_found_by_its_message(fresh: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))
    with fresh.writing() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "0008")
        for number, outcome in enumerate(["rejected", "stored", "ignored"], 1):
            conn.execute(sa.text(_OLD_CALL), {"id": number, "message": f"m-{number}", "outcome": outcome})
    migrate(fresh)
    with fresh.reading() as conn:
        found = [list_call_ids(conn, CallFilters(id=f"m-{number}"), limit=5) for number in (1, 2, 3)]
    # A stored call is found through its claim, and this one has none.
    assert found == [[1], [], [3]]


_OLD_EVENT = """INSERT INTO events (id, idempotency_id, call_id, lane, position, event_name, customer_id, time_created,
properties, content, transform, transform_digest)
VALUES (:id, :key, 1, 'main', 0, 'e', 'c', 1, '{}', :digest, 't', :digest)"""
_OLD_VOID = "INSERT INTO voids (replay_id, event_id, idempotency_id, replaced_by) VALUES (:replay, :id, :key, :new)"
_OLD_DELIVERY = "INSERT INTO deliveries (event_id, state, due_at, tries) VALUES (:id, :state, 1, 0)"
_OLD_CLAIM = """INSERT INTO claims (message_id, lane, call_id, content, transform_digest)
VALUES (:key, :lane, :id, :digest, :digest)"""


def test_what_was_corrected_before_gets_its_base_id_and_each_message_one_claim(fresh: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))
    with fresh.writing() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "0009")
        # `b~1` is an id that a transform made by itself, and was corrected once; `a` was corrected twice, then moved.
        for number, key in enumerate(["a", "a~2", "a~3", "x", "b~1", "b~1~2"], 1):
            conn.execute(sa.text(_OLD_EVENT), {"id": number, "key": key, "digest": b"d"})
        for replay, number, key, new in (
            (1, 1, "a", "a~2"),
            (2, 2, "a~2", "a~3"),
            (3, 3, "a~3", "x"),
            (3, 5, "b~1", "b~1~2"),
        ):
            conn.execute(sa.text(_OLD_VOID), {"replay": replay, "id": number, "key": key, "new": new})
        for number, (key, lane) in enumerate([("m", "main"), ("m", "also"), ("n", "also"), ("n", "more")], 1):
            conn.execute(sa.text(_OLD_CLAIM), {"id": number, "key": key, "lane": lane, "digest": b"d"})
    migrate(fresh)
    columns = events.c
    assert rows_of(fresh, events, columns.idempotency_id, columns.base_id, columns.revision) == [
        ("a", None, None),
        ("a~2", "a", 2),
        ("a~3", "a", 3),
        ("x", None, None),
        ("b~1", None, None),
        ("b~1~2", "b~1", 2),
    ]
    assert rows_of(fresh, claims, claims.c.message_id, claims.c.lane, claims.c.call_id) == [
        ("m", "also", 2),
        ("m", "main", 1),
        ("n", "also", 3),
        ("n", "main", 3),
        ("n", "more", 4),
    ]


def test_what_lotus_has_and_was_void_before_becomes_surplus(fresh: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))
    states = ["delivered", "delivered", "voided", "waiting"]
    with fresh.writing() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "0014")
        for number, state in enumerate(states, 1):
            conn.execute(sa.text(_OLD_EVENT), {"id": number, "key": f"e-{number}", "digest": b"d"})
            conn.execute(sa.text(_OLD_DELIVERY), {"id": number, "state": state})
        conn.execute(sa.text("UPDATE events SET voided_at = 7 WHERE id IN (1, 3)"))
    migrate(fresh)
    assert [row[0] for row in rows_of(fresh, deliveries, deliveries.c.state)] == ["surplus", *states[1:]]
    with fresh.reading() as conn:
        changes = {entry: count for entry, count in sum_counts(conn).items() if count}
    assert changes == {("delivery", "delivered", ""): -1, ("delivery", "surplus", ""): 1}


def test_revisions_form_one_line_in_the_order_of_their_file_names() -> None:
    script = ScriptDirectory(str(VERSIONS.parent))
    revisions = [one.revision for one in script.walk_revisions()][::-1]
    assert revisions == sorted(revisions)
    assert [path.name.split("_")[0] for path in sorted(VERSIONS.glob("[0-9]*.py"))] == revisions
    assert len(script.get_heads()) == 1


_OLD_FAILURE = """INSERT INTO calls
(id, request_id, position, received_at, route, outcome, reason, detail, transform, transform_digest)
VALUES (:id, 1, 0, 1, 'webhook', :outcome, :reason, :detail, :transform, :digest)"""


def test_calls_from_before_get_the_fault_that_their_sentence_names(
    fresh: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("app.store.migrations.versions.0013_faults"), "_SLICE", 2)
    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))
    long = "customer_id has {} characters; Lotus takes at most 50"
    rows = [
        ("rejected", "event_invalid", long.format(63), "order"),
        ("stored", None, None, "order"),
        ("rejected", "event_invalid", long.format(1024), "order"),
        ("rejected", "event_invalid", long.format(63), "other"),
        ("conflict", "conflict", "the event 'a' is already there with other content, made by call 7", "order"),
        ("duplicate", "duplicate", "call 7 already made this event", "order"),
        ("conflict", "conflict", "the event 'b' is already there with other content, made by call 8", "order"),
        ("ignored", "no_transform", "no transform takes the identify call", None),
        ("rejected", None, None, None),
    ]
    with fresh.writing() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "0012")
        for number, (outcome, reason, detail, transform) in enumerate(rows, 1):
            values = {"id": number, "outcome": outcome, "reason": reason, "detail": detail, "transform": transform}
            conn.execute(sa.text(_OLD_FAILURE), {**values, "digest": None if transform is None else b"v"})
    migrate(fresh)
    with fresh.reading() as conn:
        counts = count_faults(conn, 0)
    ellipsis = "\N{HORIZONTAL ELLIPSIS}"
    conflict = "an event with this id is already there, with other content"
    assert [(row.transform, row.path, row.sentence, row.count, row.first_id, row.last_id) for row in counts] == [
        ("order", "idempotency_id", conflict, 2, 5, 7),
        ("order", "customer_id", long.format(ellipsis), 2, 1, 3),
        (None, "", "", 1, 9, 9),
        (None, "", "no transform takes the identify call", 1, 8, 8),
        ("other", "customer_id", long.format(ellipsis), 1, 4, 4),
    ]
    assert rows_of(fresh, calls, calls.c.id, calls.c.fault)[1] == (2, None)
