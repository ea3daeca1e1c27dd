"""Answers from buckets are what the reference says, whatever was folded, built and made void when."""

import time

import msgspec
import pytest

from app.core.lotus import make_event
from app.metrics.answer import answer, answer_raw
from app.metrics.answer_from_buckets import answer_from_buckets
from app.metrics.definition import Metric
from app.metrics.fold import BucketBuilder
from app.metrics.query import MetricEvent
from app.metrics.sql_buckets import BUILT
from app.service.build import event_hooks
from app.store.commit import Committer
from app.store.engine import Database
from app.store.ids import Ids, micros_of
from app.store.schema import events, usage_buckets, usage_folds, usage_metrics, usage_tail
from tests.builders import IDS, NOW, a_record, a_request, know_no_version, rows_of
from tests.metrics.conftest import Keep, fold_all, keep_events, make_void, publish
from tests.metrics.metrics import LATER, a_metric, a_query, some_events

A, B, C = some_events(("2026-10-05T10:00", 1), ("2026-10-05T10:01", 10), ("2026-10-05T10:02", 100))


def a_folder(database: Database, holder: int = 1) -> BucketBuilder:
    return BucketBuilder(database, holder, lambda: NOW)


def added_up(database: Database, metric: Metric) -> list[str | None]:
    """Return the values that buckets, edges and tail give; not what raw events would."""
    with database.reading() as conn:
        found = answer_from_buckets(conn, metric, a_query(), LATER)
    assert found is not None
    return [row.value for row in found.rows]


def test_a_sum_of_one_customer_comes_from_the_buckets(database: Database, keep: Keep) -> None:
    keep(some_events(("2026-10-05T10:00", 0.1), ("2026-10-05T10:20", 0.1), ("2026-10-31T23:59:59", "0.1")))
    metric = a_metric()
    publish(database, metric)
    fold_all(database)
    assert rows_of(database, usage_tail) == []
    assert len(rows_of(database, usage_buckets)) == 3 + 2
    with database.reading() as conn:
        found = answer_from_buckets(conn, metric, a_query(customer_id="ann"), LATER)
        assert found is not None
        assert [row.value for row in found.rows] == ["0.3"]
        assert found == answer_raw(conn, metric, a_query(customer_id="ann"), LATER)


def test_what_no_fold_has_seen_counts_at_once(database: Database, keep: Keep) -> None:
    metric = a_metric()
    publish(database, metric)
    fold_all(database)
    keep(some_events(("2026-10-05", 4)))
    assert added_up(database, metric) == ["4"]


def test_two_that_fold_the_same_count_it_once(database: Database, keep: Keep) -> None:
    metric = a_metric()
    publish(database, metric)
    fold_all(database)
    keep(some_events(("2026-10-05", 4)))
    one, other = a_folder(database, 1), a_folder(database, 2)
    overtaken: list[bool] = []

    def checkpoint() -> None:
        if not overtaken:
            overtaken.append(other.step())

    BucketBuilder(database, 1, lambda: NOW, checkpoint).step()
    assert overtaken == [True]
    assert not one.step()
    assert added_up(database, metric) == ["4"]


def test_what_becomes_visible_late_is_counted_once_whatever_its_id(database: Database) -> None:
    """A build has gone past an id when its commit comes: another node drew it before, and was slow."""
    metric = a_metric()
    keep_events(database, some_events(*[("2026-10-05", 1)] * 6), group=1)
    fold_all(database)
    publish(database, metric)
    folder = a_folder(database)
    for _ in range(3):
        folder.step(2)
    (row,) = rows_of(database, usage_metrics, usage_metrics.c.cursor)
    assert 0 < row[0] < BUILT
    late = make_event("use", "late", "ann", "2026-10-05T00:00:00Z", {"n": 100})
    record = a_record(late, message_id="m-late")
    record.received_at = NOW - 1_000_000
    ids = Ids(lambda _: 3)
    slow = Committer(database, ids, know_no_version, event_hooks(ids, forwards=False))
    slow.commit(lambda: [a_request(record)])
    assert min(rows_of(database, events, events.c.id)) < row
    for _ in range(4):
        with database.reading() as conn:
            assert [one.value for one in answer(conn, metric, a_query(), LATER).rows] == ["106"]
        folder.step(2)
    fold_all(database)
    assert added_up(database, metric) == ["106"]


def test_a_metric_that_changes_is_built_anew_while_raw_events_answer(database: Database, keep: Keep) -> None:
    keep(some_events(("2026-10-05", 4), ("2026-10-06", 9)))
    publish(database, a_metric())
    fold_all(database)
    changed = a_metric(usage_aggregation_type="max")
    publish(database, changed)
    with database.reading() as conn:
        assert answer_from_buckets(conn, changed, a_query(), LATER) is None
        assert [row.value for row in answer(conn, changed, a_query(), LATER).rows] == ["9"]
    fold_all(database)
    with database.reading() as conn:
        found = answer_from_buckets(conn, changed, a_query(), LATER)
    assert found is not None
    assert [row.value for row in found.rows] == ["9"]
    # What the old one had is gone; a new description would have built nothing.
    assert len(rows_of(database, usage_metrics)) == 1
    assert len({row[0] for row in rows_of(database, usage_buckets)}) == 1
    publish(database, a_metric(usage_aggregation_type="max", description="The largest."))
    assert not a_folder(database).step()


def test_a_bucket_is_made_anew_without_what_the_same_fold_adds(database: Database, keep: Keep) -> None:
    metric = a_metric()
    publish(database, metric)
    keep(some_events(("2026-10-05", 4)))
    fold_all(database)
    (other,) = some_events(("2026-10-05", 2))
    keep([msgspec.structs.replace(other, base_id="e-2")])
    make_void(database, ["e-1"])
    fold_all(database)
    assert added_up(database, metric) == ["2"]


def keep_between(database: Database, told: MetricEvent, before: MetricEvent) -> None:
    """Store an event of a call that came just after another's, and is committed only now."""
    query = events.select().with_only_columns(events.c.call_id).where(events.c.idempotency_id == before.base_id)
    with database.reading() as conn:
        call_id = conn.execute(query).scalar_one()
    event = make_event("use", told.base_id, "ann", "2026-10-05T10:01:00Z", told.properties)
    record = a_record(event, message_id=f"m-{told.base_id}")
    record.id = call_id + 1
    Committer(database, IDS, know_no_version, event_hooks(IDS, forwards=False)).commit(lambda: [a_request(record)])


def test_a_bucket_is_made_anew_without_what_the_tail_still_holds(database: Database, keep: Keep) -> None:
    """The call of an unfolded event lies between those of the bucket: looked up by its calls, it would be found."""
    metric = a_metric()
    publish(database, metric)
    keep([A])
    keep([C])
    fold_all(database)
    keep_between(database, B, before=A)
    make_void(database, ["e-1"])
    fold_all(database)
    assert added_up(database, metric) == ["110"]


def test_a_bucket_is_made_anew_without_what_its_build_has_not_come_to(database: Database, keep: Keep) -> None:
    metric = a_metric()
    others = [MetricEvent(f"e-{at}", "other", "ann", A.time_created, {}) for at in range(10, 15)]
    keep([A, C, *others])
    fold_all(database)
    publish(database, metric)
    folder = a_folder(database)

    def state() -> tuple[int, int]:
        """How far the build came, and how many steps were taken: after an odd number of them the tail has its turn."""
        cursors, steps = rows_of(database, usage_metrics, usage_metrics.c.cursor), rows_of(database, usage_folds)
        return cursors[0][0] if cursors else 0, steps[0][1]

    _, second, *_, last = (row[0] for row in rows_of(database, events, events.c.id))
    while state()[0] < second or state()[1] % 2 == 0:
        folder.step(build_events=1)
    keep_between(database, B, before=A)
    folder.step()
    assert rows_of(database, usage_tail) == []
    make_void(database, ["e-1"])
    for _ in range(2):
        folder.step(build_events=1)
    assert rows_of(database, usage_tail) == []
    assert second < state()[0] <= last
    fold_all(database)
    assert added_up(database, metric) == ["110"]


def test_the_edge_of_a_period_leaves_out_what_the_tail_still_holds(database: Database, keep: Keep) -> None:
    metric = a_metric()
    publish(database, metric)
    keep([A])
    keep([C])
    fold_all(database)
    keep_between(database, B, before=A)
    query = a_query("2026-10-05T09:59:59", "2026-10-05T10:02:30")
    with database.reading() as conn:
        found = answer_from_buckets(conn, metric, query, LATER)
    assert found is not None
    assert [(row.value, row.events_count) for row in found.rows] == [("111", 3)]


def test_a_build_ends_however_many_events_come_meanwhile(database: Database, keep: Keep) -> None:
    keep(some_events(*[("2026-10-05", 1)] * 6))
    metric = a_metric()
    publish(database, metric)
    folder = a_folder(database)
    folder.step()
    for at in range(100, 120):
        keep([MetricEvent(f"e-{at}", "use", "ann", A.time_created, {"n": 1})])
        # One event of history; the one that just came in is folded every other time.
        folder.step(build_events=1)
    assert rows_of(database, usage_metrics, usage_metrics.c.cursor) == [(BUILT,)]
    assert rows_of(database, usage_metrics, usage_metrics.c.done) == [(6,)]
    assert added_up(database, metric) == ["26"]


def test_a_group_too_long_for_a_key_is_made_of_raw_events(database: Database, keep: Keep) -> None:
    metric = a_metric(group_by=["kind"])
    keep(some_events(("2026-10-05", {"n": 1, "kind": "x" * 2000}), ("2026-10-05", {"n": 2, "kind": "y"})))
    publish(database, metric)
    fold_all(database)
    with database.reading() as conn:
        assert answer_from_buckets(conn, metric, a_query(), LATER) is None
        assert [row.value for row in answer(conn, metric, a_query(), LATER).rows] == ["1", "2"]


def test_commits_gather_for_a_while_unless_an_event_was_made_void(database: Database, keep: Keep) -> None:
    metric = a_metric()
    publish(database, metric)
    fold_all(database)
    keep(some_events(("2026-10-05", 4)))
    # Ids never go back, so what other tests stored before may have moved their clock on.
    ((tail_id,),) = rows_of(database, usage_tail, usage_tail.c.id)
    came = moment = micros_of(tail_id)
    folder = BucketBuilder(database, 1, lambda: moment)
    assert not folder.step(patience=3_000_000)
    moment = came + 10_000_000
    assert folder.step(patience=3_000_000)
    moment = came
    make_void(database, ["e-1"])
    assert folder.step(patience=3_000_000)
    assert rows_of(database, usage_tail) == []


def test_a_void_event_is_taken_back_out_of_a_maximum(database: Database) -> None:
    metric = a_metric(usage_aggregation_type="max")
    publish(database, metric)
    keep_events(database, some_events(("2026-10-05", 4), ("2026-10-05", 9), ("2026-10-05", 7)))
    fold_all(database)
    make_void(database, ["e-2"])
    with database.reading() as conn:
        # Nothing is wrong for a moment: until it is folded, raw events answer.
        assert answer_from_buckets(conn, metric, a_query(), LATER) is None
        assert [row.value for row in answer(conn, metric, a_query(), LATER).rows] == ["7"]
    fold_all(database)
    assert added_up(database, metric) == ["7"]


def test_a_holder_whose_clock_was_ahead_keeps_nobody_from_folding(
    database: Database, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took a step an hour ahead of the others, and died."""
    keep(some_events(("2026-10-05T10:00", 1)))
    publish(database, a_metric())
    BucketBuilder(database, 1, lambda: NOW + 3_600_000_000).step()
    other = a_folder(database, holder=2)
    assert not other.is_free()
    began = time.monotonic()
    monkeypatch.setattr("app.metrics.fold.time.monotonic", lambda: began + 1)
    assert not other.is_free()
    monkeypatch.setattr("app.metrics.fold.time.monotonic", lambda: began + 4)
    assert other.is_free()
