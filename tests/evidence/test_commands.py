"""`evidence`, `evidence-keys` and `verify-evidence`, as they are typed."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.service import commands
from app.settings import SETTINGS
from app.store.engine import Database
from app.store.schema import evidence, signing_keys
from tests.builders import a_record, an_event, rows_of, store
from tests.evidence.proving import unpack
from tests.metrics.conftest import keep_events, publish
from tests.metrics.metrics import a_metric, some_events

Type = Callable[..., Result]


@pytest.fixture
def type_(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Type a command against the test's database."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.setenv("DATABASE_URL", migrated_url)
    monkeypatch.chdir(tmp_path)
    return lambda *words, **more: CliRunner().invoke(commands.main, words, **more)


OCTOBER = ("evidence", "a_metric", "--customer", "ann", "--month", "2026-10")


def test_a_file_is_made_and_checked_without_the_service(
    database: Database, type_: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(database, a_metric())
    keep_events(database, some_events(("2026-10-05", 3), ("2026-10-06", 4)))
    key = type_("evidence-keys").stdout.strip()
    made = type_(*OCTOBER, "--tz", "Europe/Berlin", "--output", "e.zip", "--author", "ann")
    assert made.exit_code == 0, made.output
    [row] = rows_of(database, evidence)
    assert made.stdout == f"e.zip: manifest {bytes(row[5]).hex()}\n"
    assert row[1:5] == ("a_metric", "ann", "2026-10", "Europe/Berlin")
    assert [path.name for path in tmp_path.glob("*.part")] == []
    assert json.loads(type_("evidence-keys", "--json").stdout)["public_key"] == key
    assert len(rows_of(database, signing_keys)) == 1
    # Elsewhere, where there is no database and no setting.
    monkeypatch.delenv("DATABASE_URL")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    right = type_("verify-evidence", "../e.zip", "--key", key)
    assert (right.exit_code, right.stdout.splitlines()[-1]) == (
        0,
        "The signature and all digests are right, and the events give the number.",
    )
    assert "a_metric of ann, 2026-10 in Europe/Berlin" in right.stdout
    unsigned = type_("verify-evidence", "../e.zip", "--no-key")
    assert (unsigned.exit_code, "The signature was not checked" in unsigned.stdout) == (0, True)
    wrong = type_("verify-evidence", "../e.zip", "--key", "00" * 32)
    assert (wrong.exit_code, "wrong: it is signed with another key" in wrong.stderr) == (1, True)
    assert type_("verify-evidence", "../e.zip").exit_code == 2
    assert type_("verify-evidence", "../e.zip", "--key", key, "--no-key").exit_code == 2
    nowhere = type_("verify-evidence", "nowhere.zip", "--no-key")
    assert (nowhere.exit_code, "wrong: No such file" in nowhere.stderr) == (1, True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_that_is_there_is_not_replaced_unless_asked(database: Database, type_: Type, tmp_path: Path) -> None:
    publish(database, a_metric())
    (tmp_path / "e.zip").write_text("mine")
    refused = type_(*OCTOBER, "--output", "e.zip")
    assert (refused.exit_code, (tmp_path / "e.zip").read_text()) == (1, "mine")
    assert "give --overwrite" in refused.stderr
    assert rows_of(database, evidence) == []
    for words in (("--output", "none/e.zip"), ("--output", "f.zip", "--month", "2099-01")):
        assert type_(*OCTOBER, *words).exit_code == 1
    assert [path.name for path in tmp_path.iterdir() if "zip" in path.name] == ["e.zip"]
    assert type_(*OCTOBER, "--output", "e.zip", "--overwrite").exit_code == 0
    assert "manifest.json" in unpack(tmp_path / "e.zip")


def test_lists_are_csv_in_the_zone_that_is_asked_for(database: Database, type_: Type) -> None:
    numbers = range(1, 61)
    store(database, *(a_record(an_event(idempotency_id=f"e-{number}", customer_id="=1+1")) for number in numbers))
    rows = list(csv.DictReader(type_("log", "--csv", "--tz", "Asia/Kathmandu").stdout.splitlines()))
    assert len(rows) == 60
    assert {(row["received"][-6:], row["customer_id"], row["delivery_states"]) for row in rows} == {
        ("+05:45", "'=1+1", "not_requested")
    }
    newest = [row["call_id"] for row in rows][:3]
    few = list(csv.DictReader(type_("log", "--csv", "--limit", "3").stdout.splitlines()))
    assert [row["call_id"] for row in few] == newest
    assert type_("deliveries", "list", "--csv").stdout.startswith("event_id,time,")
    assert type_("refused", "--csv").stdout == "id,received,code,message,method,path,headers,body_start\n"
    for words in (("--csv", "--json"), ("--tz", "UTC"), ("--csv", "--follow"), ("--csv", "--tz", "Mars")):
        assert type_("log", *words).exit_code in {1, 2}
    assert type_("deliveries", "list", "--csv", "--groups").exit_code == 2
