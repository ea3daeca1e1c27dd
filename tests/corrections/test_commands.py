"""`void` and `corrections`, as they are typed; and what kill -9 leaves."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.service import commands
from app.settings import SETTINGS
from app.store.engine import Database
from app.store.schema import corrected_events, corrections
from tests.builders import rows_of
from tests.corrections.correcting import METRICS, check, counted, deliver, keep
from tests.metrics.conftest import publish
from tests.served import wait_until

Type = Callable[..., Result]


@pytest.fixture
def type_(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Type a command against the test's database."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.setenv("DATABASE_URL", migrated_url)
    monkeypatch.chdir(tmp_path)
    return lambda *words, **more: CliRunner().invoke(commands.main, words, **more)


REASON = ("--reason", "internal traffic", "--author", "ann")


def test_it_counts_shows_asks_voids_lists_shows_and_undoes(database: Database, type_: Type) -> None:
    publish(database, *METRICS)
    keep(database, [1, 2])
    keep(database, [3], customer_id="other")
    answer = type_("void", "--customer", "customer-1", *REASON, input="n\n")
    assert (answer.exit_code, counted(database)) == (1, ["e-1", "e-2", "e-3"])
    assert "2 events would be made void\nLotus has none of them" in answer.stderr
    assert "tokens  customer-1  2026-11  changes by -3 (2 events)" in answer.stderr
    assert "longest  customer-1  2026-11  changes by -2 (2 events)" in answer.stderr
    answer = type_("void", "--customer", "customer-1", *REASON, input="y\n")
    assert (answer.exit_code, counted(database)) == (0, ["e-3"])
    assert "2 events were made void" in answer.stdout
    [line] = type_("corrections", "list").stdout.splitlines()
    number = line.split()[0]
    assert line.endswith("ann  internal traffic")
    text = type_("corrections", "show", number).stdout
    assert "reason    internal traffic" in text
    assert "e-1  voided" in text
    assert type_("corrections", "resume", number).exit_code == 1
    shown = type_("show", "e-1").stdout
    assert f"by ann (correction {number}): internal traffic" in shown
    assert "counts     0 of 1 event counts" in shown
    again = type_("void", "--customer", "customer-1", *REASON, "--yes")
    assert (again.exit_code, again.stdout) == (0, "0 events were made void (already void: 2)\n")
    answer = type_("corrections", "undo", number, "--reason", "they were paid for", "--author", "bob", input="y\n")
    assert "is undone by bob (they were paid for): 2 events count again" in answer.stdout
    assert counted(database) == ["e-1", "e-2", "e-3"]
    answer = type_("corrections", "undo", number, "--reason", "again", "--yes")
    assert (answer.exit_code, "is undone already, by bob" in answer.stderr) == (1, True)
    assert type_("ledger").exit_code == 0
    check(database)


def test_json_says_the_same_as_the_dry_run_and_never_asks(database: Database, type_: Type) -> None:
    publish(database, *METRICS)
    keep(database, [1, 2])
    assert type_("void", "e-1", *REASON, "--json").exit_code == 2
    foreseen = json.loads(type_("void", "e-1", *REASON, "--json", "--dry-run").stdout)
    assert (foreseen["id"], foreseen["dry_run"], rows_of(database, corrections)) == (None, True, [])
    done = json.loads(type_("void", "e-1", *REASON, "--json", "--yes").stdout)
    same = foreseen.keys() - {"id", "dry_run"}
    assert {name: done[name] for name in same} == {name: foreseen[name] for name in same}
    assert (done["state"], done["author"], done["reason"], done["undo"]) == ("finished", "ann", REASON[1], None)
    assert json.loads(type_("corrections", "show", done["id"], "--json").stdout) == done
    undone = json.loads(type_("corrections", "undo", done["id"], "--reason", "no", "--yes", "--json").stdout)
    assert (undone["state"], undone["revived"], undone["undo"]["reason"]) == ("undone", 1, "no")
    assert json.loads(type_("corrections", "list", "--json").stdout) == {"corrections": [undone]}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["void", "e-1"], "Missing option '--reason'"),
        (["void", "e-1", "--reason", " "], "reason must be a text of 1 to 500 characters"),
        (["void", *REASON], "name the events"),
        (["void", "nobody", *REASON], "there is no event with the id 'nobody'"),
        (["corrections", "show", "7"], "there is no correction 7"),
        (["corrections", "undo", "x", *REASON, "--yes"], "ID must be an id"),
        (["corrections", "export", "7"], "there is no correction 7"),
        (["amend", "e-1", *REASON], "set 1 to 50 values"),
        (["amend", "e-1", *REASON, "--set", "customer"], "sets nothing: write NAME=VALUE"),
        (["amend", "e-1", *REASON, "--set", "customer_id="], "customer_id is empty"),
        (["void", "e-1", *REASON, "--lotus", "never"], "is not one of"),
    ],
)
def test_what_cannot_be_is_said(sqlite_database: Database, type_: Type, words: list[str], sentence: str) -> None:
    answer = type_(*words)
    assert answer.exit_code != 0
    assert sentence in answer.stderr


def test_it_amends_says_what_changes_exports_and_brings_the_old_values_back(database: Database, type_: Type) -> None:
    publish(database, *METRICS)
    keep(database, [1, 2], forwards=True)
    deliver(database, "e-1")
    words = ("amend", "--customer", "customer-1", "--set", "customer_id=other", "--set", "properties.tokens=7")
    answer = type_(*words, "--unset", "properties.none", *REASON, input="n\n")
    assert (answer.exit_code, counted(database)) == (1, ["e-1", "e-2"])
    assert (
        "2 events would be amended\n1 of these was delivered; Lotus still counts it, and what replaces it is held back"
        in answer.stderr
    )
    assert "tokens  customer-1  2026-11  changes by -3 (2 events)" in answer.stderr
    assert "tokens  other  2026-11  changes by 14 (2 new)" in answer.stderr
    foreseen = json.loads(type_(*words, *REASON, "--lotus", "send", "--dry-run", "--json").stdout)
    answer = type_(*words, *REASON, "--name", "wrong customer", "--lotus", "send", "--yes", "--json")
    document = json.loads(answer.stdout)
    same = foreseen.keys() - {"id", "dry_run"}
    assert {name: document[name] for name in same} == {name: foreseen[name] for name in same}
    assert (document["kind"], document["name"], document["lotus"]) == ("amend", "wrong customer", "send")
    assert document["set"] == {"customer_id": "other", "properties.tokens": 7}
    check(database)
    number = document["id"]
    text = type_("corrections", "show", number).stdout
    assert "name      wrong customer" in text
    assert "sets      customer_id=other, properties.tokens=7" in text
    assert "Lotus will count both" in text
    assert "wrong customer: internal traffic" in type_("corrections", "list").stdout
    shown = type_("show", "e-1").stdout
    assert f"stands for e-1, by ann, {document['started_at'][:10]}" in shown
    assert f"(amend, correction {number}): internal traffic\n" in shown
    assert '  customer_id: "customer-1" became "other"\n  properties.tokens: 1 became 7' in shown
    lines = [
        json.loads(line) for line in type_("corrections", "export", number, "--format", "json").stdout.splitlines()
    ]
    assert [(line["old"]["idempotency_id"], line["new"]["idempotency_id"], line["state"]) for line in lines] == [
        ("e-1", "e-1~2", "voided"),
        ("e-2", "e-2~2", "voided"),
    ]
    assert (lines[0]["old"]["properties"], lines[0]["new"]["properties"]) == ({"tokens": 1}, {"tokens": 7})
    rows = list(csv.DictReader(type_("corrections", "export", number).stdout.splitlines()))
    assert [(row["customer_id"], row["new_customer_id"], row["call_id"]) for row in rows] == [
        ("customer-1", "other", line["call_id"]) for line in lines
    ]
    again = type_("amend", "--customer", "other", "--set", "properties.tokens=7", *REASON, "--yes")
    assert again.stdout == "0 events were amended (unchanged: 2)\n"
    answer = type_("corrections", "undo", number, "--reason", "it was right", "--yes")
    assert "2 events count again, 1 of them queued for Lotus; 2 events of the batch count no more" in answer.stdout
    assert counted(database) == ["e-1", "e-2"]
    check(database)


EVENTS = 3000
KILLED = [
    (["void"], []),
    (["amend"], ["--set", "properties.tokens=3", "--set", "customer_id=other"]),
]


@pytest.mark.parametrize(("command", "values"), KILLED, ids=["void", "amend"])
def test_killed_in_the_middle_the_same_command_goes_on(
    database: Database, migrated_url: str, type_: Type, tmp_path: Path, command: list[str], values: list[str]
) -> None:
    publish(database, *METRICS)
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": migrated_url}

    def done(state: str) -> int:
        return sum(row[0] == state for row in rows_of(database, corrected_events, corrected_events.c.state))

    def killed(words: list[str], state: str) -> int:
        """Type a command, kill it after its first step; return how many events it came to."""
        before = done(state)
        typed = [sys.executable, "-m", "app.service", *words, "--yes"]
        with subprocess.Popen(typed, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as process:
            wait_until(lambda: done(state) > before, seconds=30)
            process.send_signal(signal.SIGKILL)
            process.wait()
        check(database)
        return done(state) - before

    for attempt in range(5):
        # A kill that comes too late, on a busy machine, proves nothing.
        selection = ["--customer", f"customer-{attempt}"]
        keep(database, range(attempt * EVENTS, attempt * EVENTS + EVENTS), forwards=True, customer_id=selection[1])
        stopped = killed([*command, *selection, *values, *REASON], "voided")
        answer = type_(*command, *selection, *values, "--reason", "again", "--author", "bob", "--yes", "--json")
        if stopped < EVENTS:
            break
    assert 0 < stopped < EVENTS
    document = json.loads(answer.stdout)
    assert len(rows_of(database, corrections)) == attempt + 1
    assert (document["state"], document["author"], document["events"]) == ("finished", "ann", EVENTS)
    assert document["withdrawn"] == EVENTS
    check(database)
    if command == ["amend"]:
        assert killed(["corrections", "undo", document["id"], "--reason", "no"], "revived") > 0
        undone = json.loads(type_("corrections", "undo", document["id"], "--reason", "no", "--yes", "--json").stdout)
        assert (undone["state"], undone["revived"], undone["removed"]) == ("undone", EVENTS, EVENTS)
        back = {f"e-{number}" for number in range(attempt * EVENTS, attempt * EVENTS + EVENTS)}
        assert back <= set(counted(database))
        check(database)
