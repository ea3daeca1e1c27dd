"""Two at once, live calls meanwhile, and how commits adapt to them."""

import threading
from pathlib import Path

import msgspec
import pytest

from app.backfill import batch
from app.backfill.batch import Loaded
from app.backfill.formats import Content, FileRow
from app.backfill.pace import ALONE_SECONDS, BESIDE_SECONDS, CALLS_MAX, Pace
from app.backfill.sql_backfill import others_take_calls
from app.clock import clock
from app.core.transform.transform import TransformSet
from app.errors import EditConflict, Unavailable
from app.metrics.fold import BucketBuilder
from app.store.engine import Database
from tests.backfill.backfilling import (
    a_loader,
    batches,
    expected_events,
    judge,
    ndjson,
    prepare,
    some_calls,
    stored_events,
)
from tests.builders import an_ingest, post, some_ids, some_transforms, to_raw
from tests.corrections.correcting import a_corrector
from tests.served import ADMIN_TOKEN
from tests.sites import Site


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of 1,200 calls: more than one commit."""
    file = tmp_path / "day.ndjson"
    file.write_bytes(ndjson(some_calls(range(1200))))
    return file


def test_of_two_processes_with_the_same_file_the_second_is_told(database: Database, file: Path) -> None:
    prepare(database)
    with a_loader(database, file, 1) as first, a_loader(database, file, 2) as second:
        begun = first.begin("ann", "the outage")
        assert second.begin("bob", "the same outage") == begun
        told: list[str] = []

        def go_on(_count: int) -> None:
            if not told:
                with pytest.raises(Unavailable) as error:
                    second.run(begun, lambda _count: None)
                told.append(error.value.message)

        assert first.run(begun, go_on).state == "finished"
    assert told == [f"another process goes on with correction {begun.id}"]
    assert (batches(database), stored_events(database)) == ([("backfill", "finished")], expected_events(range(1200)))
    judge(database)


def test_who_loads_is_told_that_somebody_undoes_it(database: Database, file: Path) -> None:
    prepare(database)
    with a_loader(database, file) as loader:
        begun = loader.begin("ann", "the outage")

        def undo(_count: int) -> None:
            a_corrector(database).begin_undo(begun.id, "bob", "the wrong day")

        with pytest.raises(EditConflict, match=f"correction {begun.id} is undoing by bob"):
            loader.run(begun, undo)
    assert batches(database) == [("backfill", "undoing")]


def test_live_calls_and_folds_meanwhile_leave_each_event_once(database: Database, file: Path) -> None:
    prepare(database)
    ingest = an_ingest(database, some_transforms(), some_ids(7), clock=clock)
    stopping = threading.Event()

    def live() -> None:
        number = 0
        folder = BucketBuilder(database, 7, clock)
        while not stopping.is_set() and number < 2400:
            # Every other one is of the file, too.
            post(ingest, to_raw(some_calls(range(number, number + 20, 2))))
            folder.step(100)
            number += 20

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with a_loader(database, file) as loader:
            done = loader.run(loader.begin("ann", "the outage"), lambda _count: None)
    finally:
        stopping.set()
        thread.join()
    assert done.state == "finished"
    ids = [row[0] for row in stored_events(database)]
    assert len(ids) == len(set(ids))
    assert {f"m-{number}" for number in range(1200)} <= set(ids)
    judge(database)


def test_a_row_that_the_database_refuses_is_rejected_alone(
    database: Database, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(database)

    def map_row(row: FileRow, content: Content, transforms: TransformSet, received_at: int) -> Loaded:
        loaded = batch.map_row(row, content, transforms, received_at)
        if row.line == 701:
            # No transform can make it: the database has the last word.
            [lane] = loaded.record.run.lanes
            event = msgspec.structs.replace(lane.events[0], time_created=2**70)
            lanes = (msgspec.structs.replace(lane, events=(event,)),)
            loaded.record.run = msgspec.structs.replace(loaded.record.run, lanes=lanes)
        return loaded

    monkeypatch.setattr("app.backfill.mapper.map_row", map_row)
    with a_loader(database, file) as loader:
        done = loader.run(loader.begin("ann", "the outage"), lambda _count: None)
    tally = batch.to_tally(done)
    assert (tally.calls, tally.lines, tally.events) == ({"stored": 1199, "rejected": 1}, {"rejected": [701]}, 1199)
    assert stored_events(database) == expected_events(number for number in range(1200) if number != 700)
    judge(database)


def test_its_page_shows_the_file_the_outcomes_and_the_way_to_go_on(visited: Site, tmp_path: Path) -> None:
    database = visited.service.database
    prepare(database)
    post(an_ingest(database, some_transforms(), some_ids(7)), to_raw(some_calls([1, 2])))
    file = tmp_path / "day.ndjson"
    file.write_bytes(ndjson(some_calls([1, 2, 3])))
    with a_loader(database, file) as loader:
        begun = loader.begin("ann", "the outage")
        page = f"/corrections/{begun.id}"
        assert "<code>segment-lotus backfill</code> with the same file goes on" in visited.ask(page).text
        resumed = visited.client.post(
            f"/api/v1{page}/resume", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}, json={}
        )
        assert (resumed.status_code, resumed.get_json()["code"]) == (409, "edit_conflict")
        loader.run(begun, lambda _count: None)
    text = " ".join(visited.ask(page).text.split())
    assert "<h1>Backfill</h1>" in text
    assert "day.ndjson" in text
    assert "<b>1</b> <span>event was added from a file</span>" in text
    assert "<b>2</b> <span>duplicate: lines 1, 2</span>" in text
    assert '<span class="hint">added</span>' in text
    assert visited.ask("/corrections").status_code == 200


def test_a_commit_beside_live_calls_is_short_and_rests_as_long() -> None:
    pace = Pace()
    for _ in range(10):
        pace.note(pace.calls, pace.calls * 50e-6, beside=False)
    assert pace.calls == pytest.approx(ALONE_SECONDS / 50e-6, rel=0.01)
    pace.note(pace.calls, ALONE_SECONDS, beside=True)
    assert pace.rest_seconds == ALONE_SECONDS
    pace.note(pace.calls, pace.calls * 50e-6, beside=True)
    assert pace.calls == pytest.approx(BESIDE_SECONDS / 50e-6, rel=0.01)
    assert pace.rest_seconds == pytest.approx(BESIDE_SECONDS)
    for _ in range(10):
        pace.note(pace.calls, 1e-9, beside=False)
    assert pace.calls == CALLS_MAX
    for _ in range(3):
        pace.note(pace.calls, 100.0, beside=True)
    assert pace.calls > 0


def test_calls_that_other_processes_took_in_the_last_minutes_are_noticed(database: Database) -> None:
    prepare(database)
    now = clock()
    ids = some_ids(7)
    with database.reading() as conn:
        assert not others_take_calls(conn, 41, now)
    post(an_ingest(database, some_transforms(), ids, clock=lambda: now), to_raw(some_calls([1])))
    with database.reading() as conn:
        assert others_take_calls(conn, 41, now)
        assert not others_take_calls(conn, ids.tag, now)
        assert not others_take_calls(conn, 41, now + 120_000_000)
