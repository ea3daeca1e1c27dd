"""Proof of a number: the listed events alone give it again, each with its value or why it was skipped."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from app.core.times import parse_time
from app.errors import NotFound
from app.metrics.answer import answer
from app.metrics.bucket_parts import to_metric_event
from app.metrics.definition import Metric, MetricType
from app.metrics.explain import EventStanding, Share, explain, explain_call
from app.metrics.query import MetricEvent, Query
from app.metrics.sql_events import Place
from app.metrics.values import Skip
from app.store.engine import Database
from app.store.schema import calls
from tests.builders import empty, rows_of
from tests.metrics.conftest import Keep, keep_events
from tests.metrics.metrics import LATER, a_metric, a_query, some_events
from tests.metrics.random_metrics import cases
from tests.metrics.recomputation import compute


def listed(
    database: Database,
    metric: Metric,
    query: Query,
    now: int = LATER,
    *,
    group: dict[str, str | None] | None = None,
    limit: int = 3,
) -> list[Share]:
    """All events behind a number, page by page."""
    shares: list[Share] = []
    after: Place | None = None
    while True:
        with database.reading() as conn:
            page = explain(conn, metric, query, now, group=group, after=after, limit=limit)
        assert len(page.shares) <= limit
        shares += page.shares
        after = page.following
        if after is None:
            return shares


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_the_listed_events_alone_give_each_number_again(
    sqlite_database: Database, case: tuple[Metric, list[MetricEvent], Query, int]
) -> None:
    metric, events, query, now = case
    empty(sqlite_database)
    keep_events(sqlite_database, events)
    with sqlite_database.reading() as conn:
        rows = answer(conn, metric, query, now).rows
    for row in rows:
        one = Query(
            start=row.window_start,
            end=row.window_end,
            customer_id=row.customer_id,
            tz=query.tz,
            group_by=query.group_by,
            fill=query.fill,
            include_future=True,
        )
        shares = listed(sqlite_database, metric, one, now, group=row.group)
        again = compute(metric, [to_metric_event(metric, share.event) for share in shares], one, now)
        assert [found.value for found in again.rows] == ([row.value] if again.rows else [])
        assert bool(again.rows) or not (row.events_count or row.skipped)
        inside = [share for share in shares if not share.before]
        assert len([share for share in inside if share.skipped is None]) == row.events_count
        assert len([share for share in inside if share.skipped]) == sum(row.skipped.values())
        assert all(share.group == row.group for share in shares)
        if metric.metric_type is MetricType.COUNTER:
            assert inside == shares


def test_each_event_has_its_value_or_why_it_was_skipped(database: Database, keep: Keep) -> None:
    keep(some_events(("2026-10-05", "1.50"), ("2026-10-04", "many"), ("2026-10-03", 2), ("2026-11-03", 2)))
    found = listed(database, a_metric(), a_query())
    assert [(share.event.idempotency_id, share.value, share.skipped) for share in found] == [
        ("e-3", "2", None),
        ("e-2", None, Skip.TEXT),
        ("e-1", "1.5", None),
    ]


def test_a_number_of_one_group_lists_that_group(database: Database, keep: Keep) -> None:
    told: list[tuple[str, dict[str, Any]]] = [("2026-10-05", {"n": 1, "k": "a"}), ("2026-10-05", {"n": 2})]
    keep(some_events(*told))
    metric = a_metric(group_by=["k"])
    assert [share.value for share in listed(database, metric, a_query(), group={"k": None})] == ["2"]
    assert [share.value for share in listed(database, metric, a_query(), group={"k": "a"})] == ["1"]
    assert len(listed(database, metric, a_query())) == 2


def test_a_gauge_lists_what_made_the_level_it_begins_with(database: Database, keep: Keep) -> None:
    keep(some_events(("2026-09-01", 6), ("2026-09-02", 4), ("2026-09-03", "x"), ("2026-10-05", 3)))
    gauge = a_metric(metric_type="gauge", event_type="total")
    found = listed(database, gauge, a_query())
    # A level that was said replaces the one before it; one that was changed is made of all changes.
    assert [(share.event.idempotency_id, share.before) for share in found] == [("e-2", True), ("e-4", False)]
    # On the 5th itself there is a level from the first moment on; by days, the whole day has it.
    assert [share.event.idempotency_id for share in listed(database, gauge, a_query("2026-10-05"))] == ["e-4"]
    days = a_metric(metric_type="gauge", event_type="total", granularity="months", proration="days")
    fifth = a_query("2026-10-05", "2026-10-06")
    assert [share.event.idempotency_id for share in listed(database, days, fifth)] == ["e-4"]
    assert [share.event.idempotency_id for share in listed(database, days, a_query("2026-10-04"))] == ["e-2", "e-4"]
    delta = a_metric(metric_type="gauge", event_type="delta")
    assert [share.event.idempotency_id for share in listed(database, delta, a_query())] == ["e-1", "e-2", "e-4"]


def test_a_rate_lists_what_it_looks_back_at(database: Database, keep: Keep) -> None:
    keep(some_events(("2026-09-30T23:58:00Z", 6), ("2026-09-30T23:59:30Z", 4), ("2026-10-01T00:00:10Z", 3)))
    rate = a_metric(metric_type="rate", usage_aggregation_type="sum", granularity="minutes")
    assert [(share.value, share.before) for share in listed(database, rate, a_query())] == [("4", True), ("3", False)]


def test_of_a_call_it_is_said_which_metrics_counted_it_and_which_did_not(database: Database, keep: Keep) -> None:
    keep(some_events(("2026-10-05", {"n": "2.50", "k": "it's"})))
    (call_id,) = rows_of(database, calls, calls.c.id)[0]
    small = [{"property_name": "n", "operator": "lt", "comparison_value": "1e-1"}]
    metrics = [
        a_metric("summed"),
        a_metric("counted", usage_aggregation_type="count"),
        a_metric("told_apart", usage_aggregation_type="unique", property_name="k"),
        a_metric("skipped", property_name="k"),
        a_metric("missed", property_name="m"),
        a_metric("small", numeric_filters=small),
        a_metric("other", event_name="other"),
    ]
    with database.reading() as conn:
        found = explain_call(conn, metrics, call_id, LATER)
        early = explain_call(conn, metrics[:1], call_id, parse_time("2026-10-01"))
    assert [(one.metric.name, one.verdict, one.value, one.why) for one in found] == [
        ("counted", EventStanding.COUNTED, None, None),
        ("missed", EventStanding.SKIPPED, None, "m is missing"),
        ("skipped", EventStanding.SKIPPED, None, "k is text"),
        ("small", EventStanding.FILTERED, None, "it does not pass the filter: n lt 0.1"),
        ("summed", EventStanding.COUNTED, "2.5", None),
        ("told_apart", EventStanding.COUNTED, "it's", None),
    ]
    assert [(one.verdict, one.value) for one in early] == [(EventStanding.FUTURE, "2.5")]
    with database.reading() as conn, pytest.raises(NotFound):
        explain_call(conn, metrics, 1, LATER)
