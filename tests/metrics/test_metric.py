"""The reference, sentence by sentence of docs/metrics.md; the arithmetic stands beside each number."""

from typing import Any

import msgspec
import pytest

from app.core.times import format_time, parse_time
from app.errors import BadQuery
from app.metrics.definition import Metric
from app.metrics.query import MetricEvent, Query
from app.metrics.windows import Unit
from tests.metrics.metrics import a_metric, a_query, answer, of_values, rows, some_events, value, values

SUM = a_metric()
COUNT = a_metric(usage_aggregation_type="count")


# A metric takes events by name, keeps those that pass all its filters, and aggregates per customer, and per group.


def test_a_metric_takes_events_by_name() -> None:
    events = [*some_events(("2026-10-02", 1)), *some_events(("2026-10-02", 10), event_name="other")]
    assert value(SUM, events) == "1"


def test_each_customer_has_a_number_of_its_own() -> None:
    events = [*some_events(("2026-10-02", 1), ("2026-10-03", 2)), *some_events(("2026-10-02", 5), customer="bob")]
    assert [(row.customer_id, row.value) for row in rows(SUM, events)] == [("ann", "3"), ("bob", "5")]
    assert [row.value for row in rows(SUM, events, a_query(customer_id="bob"))] == ["5"]


def test_each_group_has_a_number_of_its_own() -> None:
    metric = a_metric(group_by=["model"])
    told: list[dict[str, Any]] = [
        {"n": 1, "model": "s"},
        {"n": 2, "model": "l"},
        {"n": 4, "model": "s"},
        {"n": 8},
        {"n": 16, "model": None},
        {"n": 32, "model": ""},
        {"n": 64, "model": 1},
        {"n": 128, "model": "1"},
    ]
    found = rows(metric, some_events(*(("2026-10-02", one) for one in told)))
    # Missing and null are one group (8 + 16), 1 and "1" another (64 + 128), the empty text is one of its own.
    assert [(row.group, row.value) for row in found] == [
        ({"model": None}, "24"),
        ({"model": ""}, "32"),
        ({"model": "1"}, "192"),
        ({"model": "l"}, "2"),
        ({"model": "s"}, "5"),
    ]
    # A query may ask for other groups than the metric, or for none.
    (row,) = rows(metric, some_events(*(("2026-10-02", one) for one in told)), a_query(group_by=()))
    assert (row.group, row.value) == ({}, "255")


# Period: half open; calendar windows in a time zone; empty windows are left out unless fill=zero.


def test_a_period_has_its_first_moment_and_not_its_end() -> None:
    events = some_events(
        ("2026-09-30T23:59:59.999999Z", 1),
        ("2026-10-01T00:00:00Z", 2),
        ("2026-10-31T23:59:59.999999Z", 4),
        ("2026-11-01T00:00:00Z", 8),
    )
    assert value(SUM, events) == "6"


def test_windows_are_those_of_the_time_zone_and_the_period_cuts_the_first_and_the_last() -> None:
    # 22:30Z on 24 October is 00:30 on the 25th in Berlin, which has 25 hours: until 23:00Z.
    events = some_events(("2026-10-24T22:30Z", 1), ("2026-10-25T22:30Z", 2), ("2026-10-25T23:30Z", 4))
    query = a_query("2026-10-24T22:15Z", "2026-10-26T12:00Z", window=Unit.DAY, tz="Europe/Berlin")
    found = rows(COUNT, events, query)
    assert [(format_time(row.window_start)[:16], format_time(row.window_end)[:16], row.value) for row in found] == [
        ("2026-10-24T22:15", "2026-10-25T23:00", "2"),
        ("2026-10-25T23:00", "2026-10-26T12:00", "1"),
    ]
    # The same in UTC: the 24th has 1, the 25th has 2.
    assert values(COUNT, events, a_query("2026-10-24", "2026-10-27", window=Unit.DAY)) == ["1", "2"]


@pytest.mark.parametrize(
    ("tz", "start", "end", "counts"),
    [
        # One event in each hour from midnight to midnight: as many as the day has hours.
        ("Europe/Berlin", "2026-03-28T23:00Z", "2026-03-29T22:00Z", ["23"]),
        ("Europe/Berlin", "2026-10-24T22:00Z", "2026-10-25T23:00Z", ["25"]),
        ("America/New_York", "2026-03-08T05:00Z", "2026-03-09T04:00Z", ["23"]),
        ("America/New_York", "2026-11-01T04:00Z", "2026-11-02T05:00Z", ["25"]),
        # Events at every half hour: 24.5 hours have 49, 23.5 have 47; see the step below.
        ("Australia/Lord_Howe", "2026-04-04T13:00Z", "2026-04-05T13:30Z", ["25"]),
        ("Australia/Lord_Howe", "2026-10-03T13:30Z", "2026-10-04T13:00Z", ["24"]),
        ("Asia/Kathmandu", "2026-10-03T18:15Z", "2026-10-04T18:15Z", ["24"]),
    ],
)
def test_a_day_counts_the_hours_it_has(tz: str, start: str, end: str, counts: list[str]) -> None:
    hour = 3_600_000_000
    first, last = parse_time(start), parse_time(end)
    # Two days, an event at the full hour counted from the day's beginning: ceil(24.5) = 25, ceil(23.5) = 24.
    events = [
        MetricEvent(base_id=f"e-{at}", event_name="use", customer_id="ann", time_created=moment, properties={})
        for at, moment in enumerate([*range(first, last, hour), last, first - 1])
    ]
    query = Query(start=first, end=last, window=Unit.DAY, tz=tz)
    assert values(COUNT, events, query) == counts
    both = Query(start=first - 1, end=last + 1, window=Unit.DAY, tz=tz)
    assert values(COUNT, events, both) == ["1", *counts, "1"]


def test_a_week_begins_on_monday_and_a_month_on_its_first() -> None:
    # Sunday 4 October, Monday 5 October, Saturday 31 October 2026, Sunday 1 November.
    events = some_events(("2026-10-04T23:59Z", 1), ("2026-10-05", 2), ("2026-10-31", 4), ("2026-11-01", 8))
    assert values(SUM, events, a_query("2026-09-01", "2026-12-01", window=Unit.WEEK)) == ["1", "2", "12"]
    assert values(SUM, events, a_query("2026-09-01", "2026-12-01", window=Unit.MONTH)) == ["7", "8"]


def test_minutes_and_hours() -> None:
    events = some_events(("2026-10-05T10:00:30Z", 1), ("2026-10-05T10:00:59.9Z", 2), ("2026-10-05T10:01:00Z", 4))
    query = a_query("2026-10-05", "2026-10-06", window=Unit.MINUTE)
    assert values(SUM, events, query) == ["3", "4"]
    assert values(SUM, events, a_query("2026-10-05", "2026-10-06", window=Unit.HOUR)) == ["7"]


def test_empty_windows_are_left_out_unless_they_are_asked_for() -> None:
    events = some_events(("2026-10-01", 1), ("2026-10-03", 2))
    days = a_query("2026-10-01", "2026-10-05", window=Unit.DAY)
    assert values(SUM, events, days) == ["1", "2"]
    filled = a_query("2026-10-01", "2026-10-05", window=Unit.DAY, fill=True)
    assert values(SUM, events, filled) == ["1", "0", "2", "0"]
    assert values(a_metric(usage_aggregation_type="max"), events, filled) == ["1", None, "2", None]
    assert [row.events_count for row in rows(SUM, events, filled)] == [1, 0, 1, 0]
    # A customer without events has numbers only where that one was asked for.
    assert rows(SUM, [], filled) == []
    assert values(SUM, [], a_query("2026-10-01", "2026-10-03", window=Unit.DAY, fill=True, customer_id="bob")) == [
        "0",
        "0",
    ]


def test_a_window_with_nothing_but_skipped_events_is_there() -> None:
    (row,) = rows(SUM, some_events(("2026-10-01", "much")), a_query(window=Unit.DAY))
    assert (row.value, row.events_count, row.skipped) == ("0", 0, {"text": 1})


# Values.


def test_skipped_events_are_counted_by_reason() -> None:
    told: list[Any] = [1, {}, None, "", True, {"n": {}}, {"n": []}, "x", "NaN", "Infinity", "1e50000000", "2.5"]
    row = of_values(SUM, *told)
    # 1 + 2.5
    assert (row.value, row.events_count) == ("3.5", 2)
    assert row.skipped == {
        "missing": 1,
        "null": 1,
        "empty": 1,
        "boolean": 1,
        "object": 1,
        "array": 1,
        "text": 1,
        "not_finite": 2,
        "out_of_range": 1,
    }


def test_a_tenth_three_times_is_three_tenths() -> None:
    assert of_values(SUM, 0.1, 0.1, 0.1).value == "0.3"


def test_thirty_digits_survive_a_sum() -> None:
    # 123456789012345678901234567890 + 0.000000000000000000000000000001
    row = of_values(SUM, "123456789012345678901234567890", "1e-30")
    assert row.value == "123456789012345678901234567890.000000000000000000000000000001"


def test_sums_have_no_exponent() -> None:
    assert of_values(SUM, "1e38", "1e38").value == "2" + "0" * 38
    assert of_values(SUM, "1e-30").value == "0." + "0" * 29 + "1"
    assert of_values(SUM, "1.50", "1.50").value == "3"
    assert of_values(SUM, 5, -5).value == "0"


def test_voided_events_are_in_no_number() -> None:
    first, second = some_events(("2026-10-01", 1), ("2026-10-01", 2))
    voided = MetricEvent("e-0003", "use", "ann", first.time_created, {"n": "much"}, voided=True)
    (row,) = rows(SUM, [first, second, voided])
    assert (row.value, row.events_count, row.skipped) == ("3", 2, {})
    assert rows(SUM, [voided]) == []


# counter


@pytest.mark.parametrize(
    ("aggregation", "numbers", "expected"),
    [
        ("count", [1, "x", None, {}], "4"),
        ("count", [], "0"),
        ("sum", [1, 2.5, -0.25], "3.25"),
        ("sum", ["x"], "0"),
        ("max", [3, "12.5", 7], "12.5"),
        ("max", [-3, -7], "-3"),
        ("max", ["x"], None),
        ("min", [3, "12.5", 7], "3"),
        ("min", ["x"], None),
        # (1 + 2 + 4) / 3 = 2.333..., to 38 digits; the text is no value and does not count.
        ("average", [1, 2, 4, "x"], "2." + "3" * 37),
        ("average", [1, 2], "1.5"),
        ("average", ["x"], None),
        # 1, "1" and 1.0 are one, "1.0" is another text, true and "true" are one; missing, null and empty are skipped.
        ("unique", [1, "1", True, "true", 1.0, "1.0", None, {}, ""], "3"),
        # By the digits as written, of any length: two users, and one.
        ("unique", [9007199254740993, 9007199254740992], "2"),
        ("unique", [10**23, 1e23, "1" + "0" * 23], "1"),
        ("unique", ["1" * 40, "1" * 39 + "2"], "2"),
        ("unique", [[2.0], [2], {"n": {"a": 2e0}}, {"n": {"a": 2}}], "2"),
        ("unique", [None], "0"),
        ("latest", [1, 5, 3], "3"),
        ("latest", [1, 5, "x"], "5"),
        ("latest", ["x"], None),
    ],
)
def test_every_aggregation_of_a_counter(aggregation: str, numbers: list[Any], expected: str | None) -> None:
    metric = a_metric(usage_aggregation_type=aggregation)
    if numbers:
        assert of_values(metric, *numbers).value == expected
    else:
        (row,) = rows(metric, [], a_query(customer_id="ann", fill=True))
        assert row.value == expected


def test_unique_skips_what_is_missing_null_or_empty_and_nothing_else() -> None:
    row = of_values(a_metric(usage_aggregation_type="unique"), "", {}, None, [1], {"n": {"a": 1}}, False)
    assert (row.value, row.events_count, row.skipped) == ("3", 3, {"empty": 1, "missing": 1, "null": 1})


def test_latest_is_by_time_and_then_by_base_id() -> None:
    metric = a_metric(usage_aggregation_type="latest")
    late = some_events(("2026-10-05T10:00Z", 1), ("2026-10-05T12:00Z", 2), ("2026-10-05T11:00Z", 3))
    assert value(metric, late) == "2"
    same = some_events(("2026-10-05T10:00Z", 1), ("2026-10-05T10:00Z", 2))
    assert value(metric, same) == value(metric, list(reversed(same))) == "2"


@pytest.mark.parametrize(
    ("percentile", "expected"),
    # Of 1, 2, 3, 4, 100: rank p/100 * 4. 50: the third, 3. 95: 3.8, 4 + 0.8 * 96 = 80.8. 99.9: 3.996, 99.616.
    [(0, "1"), (50, "3"), (95, "80.8"), ("99.9", "99.616"), (100, "100"), (12.5, "1.5")],
)
def test_a_percentile_is_interpolated(percentile: float | str, expected: str) -> None:
    metric = a_metric(usage_aggregation_type="percentile", percentile=percentile)
    assert of_values(metric, 4, 100, 1, "x", 3, 2).value == expected


def test_a_percentile_of_nothing_is_null() -> None:
    assert of_values(a_metric(usage_aggregation_type="percentile", percentile=50), "x").value is None


# Filters


def counted(*filters: dict[str, Any], key: str) -> Metric:
    keys: dict[str, Any] = {key: list(filters)}
    return a_metric(**keys)


MARKED: list[dict[str, Any]] = [
    {"n": 1, "size": 5},
    {"n": 2, "size": "5.0"},
    {"n": 4, "size": 6},
    {"n": 8, "size": "big"},
    {"n": 16},
    {"n": 32, "size": None},
    {"n": 64, "size": True},
]


@pytest.mark.parametrize(
    ("operator", "wanted", "expected"),
    [("gt", 5, "4"), ("gte", "5", "7"), ("lt", 6, "3"), ("lte", 6, "7"), ("eq", 5, "3"), ("eq", "6.00", "4")],
)
def test_a_numeric_filter_passes_only_numbers(operator: str, wanted: float | str, expected: str) -> None:
    only = {"property_name": "size", "operator": operator, "comparison_value": wanted}
    assert value(counted(only, key="numeric_filters"), some_events(*(("2026-10-02", one) for one in MARKED))) == (
        expected
    )


@pytest.mark.parametrize(
    ("operator", "wanted", "expected"),
    [
        # As text: 5 and "5.0" are two.
        ("isin", ["5"], "1"),
        ("isin", [5, "big"], "9"),
        ("isin", [True], "64"),
        # Missing and null are the empty text: 16 + 32.
        ("isin", [""], "48"),
        # All (127) but 5 (1).
        ("isnotin", ["5"], "126"),
        ("isnotin", ["", "big"], "71"),
    ],
)
def test_a_categorical_filter_compares_as_text(operator: str, wanted: list[Any], expected: str) -> None:
    only = {"property_name": "size", "operator": operator, "comparison_value": wanted}
    assert value(counted(only, key="categorical_filters"), some_events(*(("2026-10-02", one) for one in MARKED))) == (
        expected
    )


def test_filters_are_joined_by_and() -> None:
    metric = a_metric(
        numeric_filters=[
            {"property_name": "size", "operator": "gte", "comparison_value": 5},
            {"property_name": "n", "operator": "lt", "comparison_value": 4},
        ],
        categorical_filters=[{"property_name": "size", "operator": "isnotin", "comparison_value": ["5"]}],
    )
    # Sizes of 5 and more: n 1, 2, 4; n below 4: 1, 2; size not "5": 2.
    assert value(metric, some_events(*(("2026-10-02", one) for one in MARKED))) == "2"


def test_values_of_filters_may_hold_quotes() -> None:
    nasty = "'; DROP TABLE events; -- \"%s"
    only = {"property_name": "n'\"", "operator": "isin", "comparison_value": [nasty]}
    metric = a_metric(usage_aggregation_type="count", categorical_filters=[only])
    assert value(metric, some_events(("2026-10-02", {"n'\"": nasty}), ("2026-10-02", {"n'\"": "x"}))) == "1"


# rate


def a_rate(aggregation: str = "sum", granularity: str = "minutes") -> Metric:
    return a_metric(metric_type="rate", usage_aggregation_type=aggregation, granularity=granularity)


def test_a_rate_looks_back_and_does_not_cut_at_the_calendar() -> None:
    # 5 events of 1 at 10:00:30, 4 at 10:01:00: from 10:01:00 a minute back there are 9; calendar minutes say 5.
    events = some_events(*[("2026-10-05T10:00:30Z", 1)] * 5, *[("2026-10-05T10:01:00Z", 1)] * 4)
    assert value(a_rate(), events) == "9"
    assert value(a_rate("count"), events) == "9"
    assert value(a_rate("max"), events) == "1"
    assert values(COUNT, events, a_query(window=Unit.MINUTE)) == ["5", "4"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("2026-10-05T10:00:00Z", "2026-10-05T10:01:00Z", "3"),
        # One second resolution: 61 s apart by the clock's seconds is out, 60.999 s within the same seconds is in.
        ("2026-10-05T10:00:00Z", "2026-10-05T10:01:01Z", "2"),
        ("2026-10-05T10:00:00.000Z", "2026-10-05T10:01:00.999Z", "3"),
        ("2026-10-05T10:00:00.999Z", "2026-10-05T10:01:01.000Z", "2"),
        # Within one second each sees the other.
        ("2026-10-05T10:00:00.900Z", "2026-10-05T10:00:00.100Z", "3"),
    ],
)
def test_both_ends_of_the_look_back_are_included_to_the_second(first: str, second: str, expected: str) -> None:
    assert value(a_rate(), some_events((first, 1), (second, 2))) == expected


@pytest.mark.parametrize(
    ("granularity", "inside", "outside"),
    [
        ("seconds", "2026-10-30T23:59:59Z", "2026-10-30T23:59:58Z"),
        ("hours", "2026-10-30T23:00:00Z", "2026-10-30T22:59:59Z"),
        ("days", "2026-10-30T00:00:00Z", "2026-10-29T23:59:59Z"),
        ("weeks", "2026-10-24T00:00:00Z", "2026-10-23T23:59:59Z"),
        # A month looks back 30 days, before the start of the period too.
        ("months", "2026-10-01T00:00:00Z", "2026-09-30T23:59:59Z"),
    ],
)
def test_every_granularity_looks_back_over_itself(granularity: str, inside: str, outside: str) -> None:
    last = ("2026-10-31T00:00:00Z", 1)
    assert value(a_rate(granularity=granularity), some_events((inside, 2), last), a_query("2026-10-31")) == "3"
    assert value(a_rate(granularity=granularity), some_events((outside, 2), last), a_query("2026-10-31")) == "1"


def test_a_look_back_reaches_before_the_start_and_the_number_is_the_most_of_the_period() -> None:
    events = some_events(("2026-09-30T23:59:30Z", 7), ("2026-10-01T00:00:10Z", 1), ("2026-10-05", 3))
    (row,) = rows(a_rate(), events)
    # 7 + 1 at 00:00:10 is more than 3; the event before the start is looked at, and not one of the period's.
    assert (row.value, row.events_count) == ("8", 2)
    assert values(a_rate(), events, a_query(window=Unit.DAY)) == ["8", "3"]
    # Nothing in the period: nothing looks back.
    assert rows(a_rate(), events[:1]) == []


def test_a_rate_skips_what_has_no_value() -> None:
    row = of_values(a_rate(), 1, "x", 2)
    assert (row.value, row.events_count, row.skipped) == ("3", 2, {"text": 1})
    # What is only counted needs no property.
    assert of_values(a_rate("count"), 1, "x").value == "2"
    assert of_values(a_rate("sum"), "x").value == "0"
    assert of_values(a_rate("max"), "x").value is None


# gauge


def a_gauge(event_type: str = "total", **keys: Any) -> Metric:
    return a_metric(metric_type="gauge", event_type=event_type, **keys)


def test_a_level_without_proration_is_its_peak() -> None:
    events = some_events(("2026-10-05", 6), ("2026-10-10", 3), ("2026-10-20", 4))
    assert value(a_gauge(), events) == "6"
    # By changes: 6, 6 - 3 = 3, 3 + 1 = 4.
    changes = some_events(("2026-10-05", 6), ("2026-10-10", -3), ("2026-10-20", 1))
    assert value(a_gauge("delta"), changes) == "6"


def test_a_level_is_carried_across_periods() -> None:
    events = some_events(("2026-09-05", 6), ("2026-10-10", 3))
    # October begins with 6, which is its peak; November has no event, and a level of 3.
    assert value(a_gauge(), events) == "6"
    november = rows(a_gauge(), events, a_query("2026-11-01", "2026-12-01"))
    assert [(row.value, row.events_count) for row in november] == [("3", 0)]
    # An event in the first moment of a period: the level before never was in it.
    assert value(a_gauge(), events, a_query("2026-10-10")) == "3"
    assert rows(a_gauge(), events, a_query("2026-08-01", "2026-09-01")) == []


def test_a_level_of_nothing_is_an_empty_window() -> None:
    events = some_events(("2026-10-01", 2), ("2026-10-02T12:00Z", 0))
    days = a_query("2026-10-01", "2026-10-05", window=Unit.DAY)
    # The 2nd begins with 2.
    assert values(a_gauge(), events, days) == ["2", "2"]
    assert values(a_gauge(), events, a_query("2026-10-01", "2026-10-05", window=Unit.DAY, fill=True)) == [
        "2",
        "2",
        "0",
        "0",
    ]


MONTHLY = a_gauge(granularity="months", proration="days")
MONTHLY_CHANGE = a_gauge("delta", granularity="months", proration="days")


def test_a_prorated_level_is_the_sum_of_its_days_over_the_days_of_the_month() -> None:
    # 1 to 10 October: 6 each (60); 11 to 27: 3 each (51): together 111, and from the 28th on nothing. 111/31.
    events = some_events(("2026-10-01", 6), ("2026-10-11", 3), ("2026-10-28", 0))
    assert value(MONTHLY, events) == "3.5806451612903225806451612903225806452"
    # 3.58064516129032258064516129032258064516|129...: 38 digits, rounded half up.
    assert len("3.5806451612903225806451612903225806452") == 39


@pytest.mark.parametrize(("month", "days"), [("2027-02", 28), ("2028-02", 29), ("2026-11", 30), ("2026-12", 31)])
def test_a_month_has_the_days_it_really_has(month: str, days: int) -> None:
    year, number = map(int, month.split("-"))
    following = f"{year + number // 12}-{number % 12 + 1:02}-01"
    query = a_query(f"{month}-01", following)
    # A level of `days` on the first day only: days / days = 1. A level of 5 all month: 5.
    assert value(MONTHLY, some_events((f"{month}-01", days), (f"{month}-02", 0)), query) == "1"
    assert value(MONTHLY, some_events((f"{month}-01", 5)), query) == "5"


def test_a_bucket_has_the_highest_level_seen_in_it_or_the_one_carried_in() -> None:
    metric = a_gauge(granularity="days", proration="hours")
    day = a_query("2026-10-05", "2026-10-06")
    # 10:00 to 11:00 sees 5 and 2: 5. From 11:00 on 2 is carried, 13 hours. 5 + 26 = 31 of 24.
    events = some_events(("2026-10-05T10:10Z", 5), ("2026-10-05T10:20Z", 2))
    assert value(metric, events, day) == "1.2916666666666666666666666666666666667"
    # 10 is carried in, and the bucket of 10:00 sees only 4: ten hours of 10, then 14 of 4: 156/24 = 6.5.
    carried = some_events(("2026-10-01", 10), ("2026-10-05T10:30Z", 4))
    assert value(metric, carried, day) == "6.5"


@pytest.mark.parametrize(
    ("tz", "start", "end", "hours"),
    [
        ("Europe/Berlin", "2026-03-28T23:00Z", "2026-03-29T22:00Z", 23),
        ("America/New_York", "2026-11-01T04:00Z", "2026-11-02T05:00Z", 25),
        # 24.5 hours are 25 buckets, one of half an hour; 23.5 are 24.
        ("Australia/Lord_Howe", "2026-04-04T13:00Z", "2026-04-05T13:30Z", 25),
        ("Australia/Lord_Howe", "2026-10-03T13:30Z", "2026-10-04T13:00Z", 24),
        ("Asia/Kathmandu", "2026-10-03T18:15Z", "2026-10-04T18:15Z", 24),
    ],
)
def test_a_prorated_day_has_the_hours_it_really_has(tz: str, start: str, end: str, hours: int) -> None:
    metric = a_gauge(granularity="days", proration="hours")
    first = parse_time(start)
    query = Query(start=first, end=parse_time(end), tz=tz)
    # In its first hour alone a level of as many as it has hours: 1.
    events = some_events((format_time(first), hours), (format_time(first + 3_600_000_000), 0))
    assert value(metric, events, query) == "1"
    assert value(metric, events[:1], query) == str(hours)


def test_a_period_of_several_granularities_adds_them_up() -> None:
    # A level of 2 in October and November: 62/31 + 60/30 = 4; by month 2 each.
    events = some_events(("2026-10-01", 2))
    assert value(MONTHLY, events, a_query("2026-10-01", "2026-12-01")) == "4"
    assert values(MONTHLY, events, a_query("2026-10-01", "2026-12-01", window=Unit.MONTH)) == ["2", "2"]


def test_granularity_total_divides_by_the_units_in_the_period() -> None:
    metric = a_gauge(granularity="total", proration="days")
    # 10 days of 6 and 5 of 3 in a period of 15 days: (60 + 15) / 15 = 5.
    events = some_events(("2026-10-01", 6), ("2026-10-11", 3))
    assert value(metric, events, a_query("2026-10-01", "2026-10-16")) == "5"
    # All of October: ten days of 6 and 21 of 3 are 123, of 31 days.
    assert value(metric, events) == "3.9677419354838709677419354838709677419"


def test_weeks_of_a_month_are_its_days_by_seven() -> None:
    # February 2027 begins on a Monday and has four weeks: 4 * 7 / (28 / 7) = 7.
    metric = a_gauge(granularity="months", proration="weeks")
    assert value(metric, some_events(("2027-02-01", 7)), a_query("2027-02-01", "2027-03-01")) == "7"


def test_deltas_may_go_below_zero() -> None:
    events = some_events(("2026-10-01", 2), ("2026-10-02", -5), ("2026-10-03", 1))
    # 2, -3, then -2 for 29 days: 2 - 3 - 58 = -59 of 31.
    assert value(a_gauge("delta", granularity="months", proration="days"), events) == (
        "-1.9032258064516129032258064516129032258"
    )
    assert value(a_gauge("delta"), events, a_query("2026-10-04")) == "-2"


def test_a_gauge_skips_what_has_no_value_and_keeps_its_level() -> None:
    (row,) = rows(a_gauge(), some_events(("2026-09-01", 4), ("2026-10-02", "many"), ("2026-10-03", None)))
    assert (row.value, row.events_count, row.skipped) == ("4", 0, {"null": 1, "text": 1})


def test_a_window_finer_than_the_proration_is_refused() -> None:
    with pytest.raises(BadQuery, match="window hour is finer than the proration of a_metric, which is days"):
        rows(MONTHLY, [], a_query(window=Unit.HOUR))


# Late events count at once; events in the future count when their time has come.


def test_late_events_count_whatever_their_age() -> None:
    events = some_events(("2026-11-20T12:00Z", 1), ("2026-10-05", 2), ("1999-01-01", 4))
    assert value(SUM, events, a_query("1990-01-01", "2027-01-01")) == "7"
    # The level of a gauge is made by time, whenever an event came: on the 5th 2, and 1 from the 20th on.
    november = a_query("2026-11-01", "2026-12-01", window=Unit.DAY)
    assert values(a_gauge(), events, november)[18:21] == ["2", "2", "1"]


def test_the_future_counts_when_its_time_has_come() -> None:
    events = some_events(("2026-10-05T09:00Z", 1), ("2026-10-05T11:00Z", 2))
    now = parse_time("2026-10-05T10:00Z")
    assert value(SUM, events, a_query(), now) == "1"
    assert answer(SUM, events, a_query(), now).end == now
    assert value(SUM, events, a_query(include_future=True), now) == "3"
    assert value(SUM, events, a_query(), parse_time("2026-10-05T11:00:01Z")) == "3"
    # A period that has not begun has no rows, and no end before its start.
    later = answer(SUM, events, a_query("2026-12-01", "2027-01-01", fill=True, customer_id="ann"), now)
    assert (later.rows, later.end) == ([], parse_time("2026-12-01"))


def test_a_prorated_level_is_cut_at_now() -> None:
    # Three days of 31 so far, the third one has begun: 3 * 31 / 31.
    events = some_events(("2026-10-01", 31))
    assert value(MONTHLY, events, a_query(), parse_time("2026-10-03T10:00Z")) == "3"


def test_what_happens_at_one_instant_happens_at_once() -> None:
    # A seat changes hands on the 15th: 5 at every moment, in whatever order the two came.
    changes = [("2026-10-01", 5), ("2026-10-15T12:00Z", 1), ("2026-10-15T12:00Z", -1)]
    for told in (changes, [*changes[:1], *reversed(changes[1:])]):
        assert value(a_gauge("delta"), some_events(*told)) == "5"
        assert value(a_gauge("delta", granularity="months", proration="days"), some_events(*told)) == "5"
    # Of two totals at one instant the greater base id wins, by Unicode's order: Z, a, é, and the last plane.
    totals = some_events(*[("2026-10-15", n) for n in (1, 2, 3, 4)])
    named = [
        msgspec.structs.replace(event, base_id=base_id)
        for event, base_id in zip(totals, ("Z", "\U0001f600", "a", "\u00e9"), strict=True)
    ]
    after = a_query("2026-10-16")
    assert value(a_gauge(), named, after) == value(a_gauge(), named[::-1], after) == "2"
    assert value(a_metric(usage_aggregation_type="latest"), named[::-1]) == "2"


def test_the_levels_of_a_gauge_of_totals_add_up_where_its_groups_are_joined() -> None:
    by_bucket = a_gauge(granularity="months", proration="days", group_by=["bucket"])
    peak = a_gauge(group_by=["bucket"])
    told: list[tuple[str, Any]] = [
        ("2026-10-01", {"n": 10, "bucket": "a"}),
        ("2026-10-01T00:00:01Z", {"n": 5, "bucket": "b"}),
    ]
    for metric in (by_bucket, peak):
        assert value(metric, some_events(*told), a_query(group_by=())) == "15"
        assert values(metric, some_events(*told), a_query()) == ["10", "5"]
    # A bucket that is filled while another is emptied, at one moment, is no peak.
    moved = [*told, ("2026-10-09", {"n": 0, "bucket": "a"}), ("2026-10-09", {"n": 15, "bucket": "b"})]
    assert value(peak, some_events(*moved), a_query(group_by=())) == "15"
    assert value(peak, some_events(*moved, ("2026-10-10", {"n": 1, "bucket": "a"})), a_query(group_by=())) == "16"


def test_an_answer_says_when_a_level_was_below_zero() -> None:
    events = some_events(("2026-09-01", 20), ("2026-09-11T10:00Z", -25), ("2026-11-05", 6))
    found = rows(MONTHLY_CHANGE, events, a_query("2026-09-01", "2026-12-01", window=Unit.MONTH))
    below = [row.below_zero_at for row in found]
    assert below == [parse_time("2026-09-11T10:00Z"), parse_time("2026-10-01"), parse_time("2026-11-01")]
    assert found[1].value == "-5"
    # What happens at once with the first moment is no time below zero.
    at_once = rows(MONTHLY_CHANGE, [*events, *some_events(("2026-10-01", 5), customer="ann")], a_query())
    assert [row.below_zero_at for row in at_once] == [None]
    assert rows(SUM, some_events(("2026-10-01", -5)))[0].below_zero_at is None


def test_the_peak_of_a_level_that_only_fell_is_the_level_it_fell_from() -> None:
    (row,) = rows(a_gauge("delta"), some_events(("2026-10-05", -5)))
    assert (row.value, row.below_zero_at) == ("0", parse_time("2026-10-05"))
    # From its first moment on, the next month has no other level.
    (row,) = rows(a_gauge("delta"), some_events(("2026-10-05", -5)), a_query("2026-11-01", "2026-12-01"))
    assert (row.value, row.below_zero_at) == ("-5", parse_time("2026-11-01"))


# The answer.


def test_an_answer_names_the_metric_its_version_the_period_and_the_zone() -> None:
    found = answer(SUM, some_events(("2026-10-05", 1)), a_query(tz="Europe/Berlin"))
    assert (found.metric, found.version, found.tz) == ("a_metric", SUM.digest.hex(), "Europe/Berlin")
    assert (found.start, found.end) == (parse_time("2026-10-01"), parse_time("2026-11-01"))
    assert found.rows[0].__struct_fields__ == (
        *("customer_id", "group", "window_start", "window_end", "value", "events_count", "skipped", "below_zero_at"),
    )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (a_query("2026-10-01", "2026-10-01"), "start must be before end"),
        (a_query("0001-01-01"), "years 1900 to 2199"),
        (a_query("2026-10-01", "9999-01-01"), "years 1900 to 2199"),
        (a_query(tz="Mars/Olympus"), "tz must be the IANA name"),
        (a_query("2020-01-01", window=Unit.MINUTE), "more than 100,000 windows of a minute"),
        (a_query(window=Unit.SECOND), "window must be one of minute, hour, day, week, month"),
    ],
)
def test_what_cannot_be_answered_says_why(query: Query, message: str) -> None:
    with pytest.raises(BadQuery, match=message):
        rows(SUM, [], query)
