"""Events one by one give what the reference gives of all of them."""

from fractions import Fraction

from hypothesis import given

from app.metrics.definition import Metric
from app.metrics.proration import to_buckets
from app.metrics.query import Answer, MetricEvent, Query
from app.metrics.stream import Stream, read_from
from app.metrics.windows import cut
from app.zones import find_zone
from tests.metrics.metrics import a_metric, a_query
from tests.metrics.random_metrics import cases
from tests.metrics.recomputation import compute, units_in


def stream(metric: Metric, events: list[MetricEvent], query: Query, now: int) -> Answer:
    made = Stream(metric, query, now)
    since = read_from(metric, query)
    ordered = sorted(events, key=lambda one: one.time_created) if made.needs_order else events
    for event in ordered:
        wanted = event.event_name == metric.event_name and not event.voided
        if wanted and query.customer_id in {None, event.customer_id} and event.time_created >= (since or 0):
            made.add(event)
    return made.answer()


@given(cases())
def test_a_stream_says_what_the_reference_says(case: tuple[Metric, list[MetricEvent], Query, int]) -> None:
    metric, events, query, now = case
    assert stream(metric, events, query, now) == compute(metric, events, query, now)


def test_a_level_of_a_month_by_seconds_weighs_what_its_seconds_weigh() -> None:
    metric = a_metric(metric_type="gauge", event_type="total", granularity="months", proration="seconds")
    zone = find_zone("Europe/Berlin")
    assert zone is not None
    query = a_query("2026-10-10T00:00:00.5Z", "2026-11-20")
    buckets = to_buckets(metric, zone, (query.start, query.end))
    # October in Berlin has 31 days and an hour and ends at 23:00Z; the half second it begins with is a whole bucket.
    october, november = 31 * 86_400 + 3_600, 30 * 86_400
    until_november = 22 * 86_400 - 3_600
    assert units_in(metric, zone, query.start) == october
    expected = Fraction(until_november, october) + Fraction(19 * 86_400 + 3_600, november)
    assert buckets.weigh(query.start, query.end) == expected
    first, second = buckets.at(query.start), buckets.at(query.start + 600_000)
    assert (first, second[1] - second[0]) == ((query.start, query.start + 500_000), 1_000_000)


def test_hours_and_days_weigh_what_they_do_one_by_one() -> None:
    for proration, granularity in (("hours", "days"), ("days", "months"), ("weeks", "months"), ("hours", "weeks")):
        metric = a_metric(metric_type="gauge", event_type="total", granularity=granularity, proration=proration)
        zone = find_zone("Australia/Lord_Howe")
        assert zone is not None
        assert metric.proration is not None
        query = a_query("2026-09-29T03:20Z", "2026-11-20")
        buckets = to_buckets(metric, zone, (query.start, query.end))
        total = Fraction(0)
        for first, last in cut(zone, metric.proration, query.start, query.end):
            edges = (max(first, query.start), min(last, query.end))
            assert buckets.at(edges[0]) == buckets.at(edges[1] - 1) == edges
            total += 1 / units_in(metric, zone, edges[0])
            assert buckets.weigh(query.start, edges[1]) == total
