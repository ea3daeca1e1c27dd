"""`void` and `corrections`, as they are typed; and what kill -9 leaves."""

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
from tests.corrections.correcting import METRICS, check, counted, keep
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
    assert "longest  customer-1  2026-11  depends on other events (2 events)" in answer.stderr
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
    ],
)
def test_what_cannot_be_is_said(sqlite_database: Database, type_: Type, words: list[str], sentence: str) -> None:
    answer = type_(*words)
    assert answer.exit_code != 0
    assert sentence in answer.stderr


def test_killed_in_the_middle_of_five_thousand_the_same_command_goes_on(
    database: Database, migrated_url: str, type_: Type, tmp_path: Path
) -> None:
    publish(database, *METRICS)
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": migrated_url}

    def voided() -> int:
        return len(rows_of(database, corrected_events, corrected_events.c.event_id))

    for attempt in range(5):
        # A kill that comes too late, on a busy machine, proves nothing.
        before, selection = voided(), ["--customer", f"customer-{attempt}"]
        keep(database, range(attempt * 5000, attempt * 5000 + 5000), forwards=True, customer_id=selection[1])
        command = [sys.executable, "-m", "app.service", "void", *selection, *REASON, "--yes"]
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as process:
            wait_until(lambda before=before: voided() > before, seconds=30)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            process.wait()
        stopped = voided() - before
        check(database)
        answer = type_("void", *selection, "--reason", "again", "--author", "bob", "--yes", "--json")
        if stopped < 5000:
            break
    assert 0 < stopped < 5000
    document = json.loads(answer.stdout)
    assert len(rows_of(database, corrections)) == attempt + 1
    assert (document["state"], document["author"], document["events"]) == ("finished", "ann", 5000)
    assert document["withdrawn"] == 5000
    assert counted(database) == []
    check(database)
