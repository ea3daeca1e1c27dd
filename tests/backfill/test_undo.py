"""A backfill is undone as a unit: what it added counts no more, and what was there before stays."""

import json
from pathlib import Path

import pytest

from app.store.engine import Database
from app.store.schema import corrected_events
from tests.backfill.backfilling import (
    REASON,
    Type,
    a_loader,
    batches,
    expected_events,
    judge,
    ndjson,
    some_calls,
    stored_events,
)
from tests.builders import an_ingest, outcomes_of, post, rows_of, some_transforms, to_raw


def test_an_undo_takes_out_what_was_added_and_nothing_else(database: Database, type_: Type) -> None:
    ingest = an_ingest(database, some_transforms())
    post(ingest, to_raw(some_calls([1, 2])))
    Path("day.ndjson").write_bytes(ndjson(some_calls([2, 3, 4])))
    done = json.loads(type_("backfill", "day.ndjson", *REASON, "--yes", "--json").stdout)
    judge(database)
    undone = type_("corrections", "undo", done["id"], "--reason", "the wrong day", "--author", "bob", "--yes")
    assert undone.exit_code == 0, undone.output
    assert batches(database) == [("backfill", "undone")]
    assert {row[3] for row in rows_of(database, corrected_events)} == {"removed"}
    assert stored_events(database) == expected_events([1, 2])
    # Their ids stay taken, as those of all void events.
    assert set(outcomes_of(post(ingest, to_raw(some_calls([3]))))) == {"duplicate"}
    again = type_("backfill", "day.ndjson", *REASON, "--yes")
    assert "This file was loaded before" in again.stderr
    assert stored_events(database) == expected_events([1, 2])


def test_a_backfill_that_was_stopped_is_undone_as_far_as_it_came(
    file_database: Database, type_file: Type, tmp_path: Path
) -> None:
    numbers = range(1, 1201)
    file = tmp_path / "day.ndjson"
    file.write_bytes(ndjson(some_calls(numbers)))

    def stop(_count: int) -> None:
        raise KeyboardInterrupt

    with a_loader(file_database, file) as loader, pytest.raises(KeyboardInterrupt):
        loader.run(loader.begin("ann", "the outage"), stop)
    assert 0 < len(stored_events(file_database)) < len(numbers)
    [number] = [line.split()[0] for line in type_file("corrections", "list").stdout.splitlines()]
    assert type_file("corrections", "undo", number, "--reason", "no", "--author", "bob", "--yes").exit_code == 0
    assert (batches(file_database), stored_events(file_database)) == ([("backfill", "undone")], [])
