"""`backfill`, as it is typed: every form of a file, what is there already, what is asked, and what kill -9 leaves."""

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.store.engine import Database
from app.store.schema import calls, corrected_events, requests
from tests.backfill.backfilling import (
    CALL_COLUMNS,
    EVENT_COLUMNS,
    REASON,
    Type,
    batches,
    expected_events,
    judge,
    ndjson,
    some_calls,
    some_events,
    stored_events,
    table,
)
from tests.builders import an_ingest, outcomes_of, post, rows_of, some_transforms, to_raw
from tests.served import wait_until

NUMBERS = range(1, 31)

FORMS: dict[str, tuple[str, Callable[[], bytes], list[str]]] = {
    "calls as NDJSON": ("calls.ndjson", lambda: ndjson(some_calls(NUMBERS)), []),
    "calls as CSV": ("calls.csv", lambda: table(CALL_COLUMNS, some_calls(NUMBERS)), []),
    "events as NDJSON": ("events.ndjson", lambda: ndjson(some_events(NUMBERS)), ["--of", "events"]),
    "events as CSV": ("events.csv", lambda: table(EVENT_COLUMNS, some_events(NUMBERS)), ["--of", "events"]),
    "gzip of calls": ("calls.ndjson.gz", lambda: gzip.compress(ndjson(some_calls(NUMBERS))), []),
    "gzip under another name, with a BOM": (
        "calls",
        lambda: gzip.compress(b"\xef\xbb\xbf" + table(CALL_COLUMNS, some_calls(NUMBERS))),
        ["--format", "csv"],
    ),
    "lines of Windows, blank ones, no last end": (
        "calls.ndjson",
        lambda: b"\r\n" + ndjson(some_calls(NUMBERS)).replace(b"\n", b"\r\n\n").rstrip(),
        [],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_each_form_gives_the_very_events(file_database: Database, type_file: Type, form: str) -> None:
    name, content, words = FORMS[form]
    Path(name).write_bytes(content())
    answer = type_file("backfill", name, *words, *REASON, "--yes", "--json")
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.stdout)
    assert (document["state"], document["calls"], document["events"]) == ("finished", {"stored": 30}, 30)
    assert stored_events(file_database) == expected_events(NUMBERS)
    judge(file_database)


def test_standard_input_is_read_and_leaves_no_file(
    file_database: Database, type_file: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    body = gzip.compress(ndjson(some_calls(NUMBERS)))
    assert type_file("backfill", "-", *REASON, "--yes", input=body).exit_code == 0
    assert stored_events(file_database) == expected_events(NUMBERS)
    assert list(spool.iterdir()) == []


def test_it_counts_shows_asks_loads_and_is_shown(database: Database, type_: Type) -> None:
    Path("day.ndjson").write_bytes(ndjson(some_calls([1, 4, 2])))
    answer = type_("backfill", "day.ndjson", *REASON, "--name", "outage", input="n\n")
    assert (answer.exit_code, stored_events(database), batches(database)) == (1, [], [])
    assert "3 calls of day.ndjson\n          3  would be stored" in answer.stderr
    assert "tokens  customer-1  2026-11  changes by 5 (2 events)" in answer.stderr
    assert "Load 3 calls?" in answer.stderr
    foreseen = json.loads(type_("backfill", "day.ndjson", *REASON, "--dry-run", "--json").stdout)
    answer = type_("backfill", "day.ndjson", *REASON, "--name", "outage", input="y\n")
    assert (answer.exit_code, stored_events(database)) == (0, expected_events([1, 2, 4]))
    number = answer.stdout.split()[-1]
    shown = json.loads(type_("corrections", "show", number, "--json").stdout)
    assert (shown["kind"], shown["name"], shown["state"]) == ("backfill", "outage", "finished")
    assert (shown["selection"]["file"], shown["selection"]["rows"]) == ("day.ndjson", 3)
    same = ("events", "customers", "event_names", "metrics", "calls", "lines")
    assert {name: shown[name] for name in same} == {name: foreseen[name] for name in same}
    text = type_("corrections", "show", number).stdout
    assert "3 events were added from a file" in text
    assert "m-4  added" in text
    assert type_("corrections", "resume", number).exit_code == 1
    shown_call = type_("show", "m-4").stdout
    assert "by backfill: ndjson, backfill" in shown_call
    judge(database)


def test_what_came_live_is_a_duplicate_or_a_conflict_and_what_comes_after_is_a_duplicate(
    database: Database, type_: Type
) -> None:
    ingest = an_ingest(database, some_transforms())
    post(ingest, to_raw(some_calls([1, 2])))
    file = some_calls([1, 2, 3, 4])
    file[1]["properties"]["tokens"] = 99
    Path("day.ndjson").write_bytes(ndjson(file))
    foreseen = json.loads(type_("backfill", "day.ndjson", *REASON, "--dry-run", "--json").stdout)
    done = json.loads(type_("backfill", "day.ndjson", *REASON, "--yes", "--json").stdout)
    for document in (foreseen, done):
        assert document["calls"] == {"stored": 2, "duplicate": 1, "conflict": 1}
        assert document["lines"] == {"duplicate": [1], "conflict": [2]}
    retried = post(ingest, to_raw(some_calls([1, 2, 3, 4])))
    assert set(outcomes_of(retried)) == {"duplicate"}
    assert stored_events(database) == expected_events([1, 2, 3, 4])
    again = type_("backfill", "day.ndjson", *REASON, "--yes")
    assert "This file was loaded before" in again.stderr
    assert len(batches(database)) == 1
    # Other bytes, the same calls: each is told apart by its id.
    Path("more.ndjson").write_bytes(ndjson(some_calls([3, 4, 5])))
    more = json.loads(type_("backfill", "more.ndjson", *REASON, "--yes", "--json").stdout)
    assert (more["calls"], more["events"]) == ({"duplicate": 2, "stored": 1}, 1)
    judge(database)


@pytest.mark.parametrize("large", [1, 5000])
def test_a_later_version_of_the_transform_makes_no_conflict_of_a_duplicate(
    file_database: Database, type_file: Type, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    # With one row, a file is large: a process of its own maps it.
    monkeypatch.setattr("app.backfill.mapper._LARGE", large)
    post(an_ingest(file_database, some_transforms()), to_raw(some_calls([1])))
    changed = "match: {type: track, event: api_call}\nevent:\n  event_name: \"'other'\"\n"
    an_ingest(file_database, some_transforms(api_call=changed))
    Path("day.ndjson").write_bytes(ndjson(some_calls([1, 2])))
    done = json.loads(type_file("backfill", "day.ndjson", *REASON, "--yes", "--json").stdout)
    assert (done["calls"], done["event_names"]) == (
        {"duplicate": 1, "stored": 1},
        [{"event_name": "other", "events": 1}],
    )


def test_a_dry_run_tells_how_many_events_have_the_id_of_an_earlier_line(
    file_database: Database, type_file: Type
) -> None:
    by_customer = "match: {type: track, event: api_call}\nevent:\n  idempotency_id: userId\n"
    an_ingest(file_database, some_transforms(api_call=by_customer))
    Path("day.ndjson").write_bytes(ndjson(some_calls(range(1000))))
    words = ("backfill", "day.ndjson", *REASON)
    assert "an idempotency id of an earlier line: not stored, but" in type_file(*words, "--dry-run").stdout
    foreseen = json.loads(type_file(*words, "--dry-run", "--json").stdout)
    done = json.loads(type_file(*words, "--yes", "--json").stdout)
    assert foreseen["calls"]["stored"] - foreseen["same_ids"] == done["calls"]["stored"] == 3
    assert foreseen["same_ids"] > 0


def test_calls_that_no_transform_takes_are_kept_and_a_replay_reads_them_as_they_were(
    file_database: Database, type_file: Type
) -> None:
    documents = some_calls([1, 2])
    documents[0]["type"] = "identify"
    documents[1]["userId"] = None
    Path("day.ndjson").write_bytes(ndjson(documents))
    done = json.loads(type_file("backfill", "day.ndjson", *REASON, "--yes", "--json").stdout)
    assert (done["calls"], done["lines"]) == ({"ignored": 1, "rejected": 1}, {"ignored": [1], "rejected": [2]})
    fixed = "match: {type: track, event: api_call}\nevent:\n  customer_id: \"'customer-2'\"\n"
    an_ingest(file_database, some_transforms(api_call=fixed))
    assert type_file("replay", "--outcome", "rejected", "--yes").exit_code == 0
    assert stored_events(file_database) == expected_events([2])
    [(envelope, auth)] = rows_of(file_database, requests, requests.c.envelope, requests.c.auth)
    assert (json.loads(envelope)["lines"], auth) == ([1, 2], "backfill")


def test_a_correcting_replay_corrects_loaded_events_and_leaves_those_in_lotus_form(
    file_database: Database, type_file: Type
) -> None:
    Path("calls.ndjson").write_bytes(ndjson(some_calls([1])))
    Path("events.ndjson").write_bytes(ndjson(some_events([2])))
    assert type_file("backfill", "calls.ndjson", *REASON, "--yes").exit_code == 0
    assert type_file("backfill", "events.ndjson", "--of", "events", *REASON, "--yes").exit_code == 0
    changed = 'match: {type: track, event: api_call}\nevent:\n  properties: "{tokens: `50`}"\n'
    an_ingest(file_database, some_transforms(api_call=changed))
    assert type_file("replay", "--correct", "--until", "0s", "--yes").exit_code == 0
    assert [(row[0], row[3]) for row in stored_events(file_database)] == [
        ("m-1~2", '{"tokens":50}'),
        ("m-2", '{"tokens":2}'),
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing.ndjson", *REASON], "nothing.ndjson cannot be read: No such file"),
        (["day.ndjson"], "Missing option '--reason'"),
        (["day.ndjson", "--reason", " "], "reason must be a text of 1 to 500 characters"),
        (["day.ndjson", *REASON, "--json"], "--json does not ask"),
        (["empty.ndjson", *REASON, "--yes"], "empty.ndjson holds no calls"),
        (["day.ndjson", *REASON, "--bad", "no/where", "--yes"], "no/where cannot be written"),
    ],
)
def test_what_cannot_be_is_said(type_file: Type, words: list[str], sentence: str) -> None:
    Path("day.ndjson").write_bytes(ndjson(some_calls([1])))
    Path("empty.ndjson").write_bytes(b"\n\n")
    answer = type_file("backfill", *words)
    assert answer.exit_code != 0
    assert sentence in answer.stderr


def test_killed_in_the_middle_the_same_command_goes_on(
    database: Database, migrated_url: str, type_: Type, tmp_path: Path
) -> None:
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": migrated_url}
    # Enough to be mapped by a process of its own.
    size = 6000

    def added() -> int:
        with database.reading() as conn:
            return conn.execute(sa.select(sa.func.count()).select_from(corrected_events)).scalar_one()

    for attempt in range(5):
        # A kill that comes too late, on a busy machine, proves nothing.
        before, numbers = added(), range(attempt * size, attempt * size + size)
        file = tmp_path / f"{attempt}.ndjson"
        file.write_bytes(ndjson(some_calls(numbers)))
        command = [sys.executable, "-m", "app.service", "backfill", str(file), *REASON, "--yes"]
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as process:
            wait_until(lambda before=before: added() > before, seconds=30)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            process.wait()
        stopped = added() - before
        answer = type_("backfill", str(file), "--reason", "again", "--author", "bob", "--yes", "--json")
        if stopped < size:
            break
    assert 0 < stopped < size
    document = json.loads(answer.stdout)
    assert (document["state"], document["calls"], document["events"]) == ("finished", {"stored": size}, size)
    assert len(batches(database)) == attempt + 1
    assert len(rows_of(database, calls, calls.c.id)) == size * (attempt + 1)
    assert stored_events(database) == expected_events(range(size * (attempt + 1)))
    judge(database)
