"""How an answer is drawn and written: within its scale, legible with many rows, and exact where it is written."""

import re
from decimal import Decimal

import pytest

from app.core.times import parse_time
from app.metrics.definition import parse_metric
from app.metrics.pages_chart import STEPS_MAX, Chart, draw, to_short
from app.metrics.pages_view import best_window, meaning_text, moment_text, number_text
from app.metrics.query import Row
from app.zones import find_zone
from tests.metrics.test_pages import MOST, SEATS, SUM


def row_of(customer: str, at: int, value: str | None) -> Row:
    return Row(
        customer_id=customer,
        group={},
        window_start=at,
        window_end=at + 1,
        value=value,
        events_count=1,
        skipped={},
    )


def drawn(text: str, rows: list[Row], windows: int) -> Chart:
    metric = parse_metric("m", text)
    return draw(metric, rows, [(at, at + 1) for at in range(windows)], windowed=True, time_text=str)


def test_bars_stand_on_each_other_and_hang_below_zero() -> None:
    chart = drawn(SUM, [row_of("a", 0, "6"), row_of("b", 0, "2"), row_of("c", 0, "-4")], 1)
    a, c, b = chart.bars
    assert [bar.series for bar in (a, c, b)] == [1, 2, 3]
    assert chart.ticks == ["10", "5", "0", "-5"]
    assert a.y == pytest.approx(b.y + b.height, abs=0.02)
    assert c.y == pytest.approx(a.y + a.height, abs=0.02)
    assert b.y >= 0
    assert c.y + c.height <= chart.height


def test_numbers_beyond_every_scale_are_drawn_within_it() -> None:
    for value in ("0", "1e-30", "9" * 38, "-" + "9" * 38, None):
        told = None if value is None else format(Decimal(value), "f")
        for text in (SUM, MOST):
            chart = drawn(text, [row_of("a", 0, told), row_of("b", 1, "1")], 2)
            for bar in chart.bars:
                assert 0 <= bar.y <= bar.y + bar.height <= chart.height + 1
            assert len(chart.ticks) == len(chart.levels)


def test_a_line_is_broken_where_there_is_no_number() -> None:
    chart = drawn(MOST, [row_of("a", 0, "1"), row_of("a", 1, "2"), row_of("a", 3, "2")], 4)
    (line,) = chart.lines
    assert re.sub("[0-9. ]+", "", line.path) == "MhLMh"


def test_very_many_windows_are_drawn_together() -> None:
    rows = [row_of("a", at, "1") for at in range(1000)]
    chart = drawn(SUM, rows, 1000)
    assert chart.merged == 1000 // STEPS_MAX
    assert len(chart.bars) == STEPS_MAX
    assert {bar.title.split(": ")[1] for bar in chart.bars} == {"5"}
    assert {round(bar.height, 2) for bar in chart.bars} == {round(chart.bars[0].height, 2)}
    assert {bar.series for bar in drawn(MOST, rows, 1000).bars} == set()


@pytest.mark.parametrize(
    ("number", "short"), [(0, "0"), (0.25, "0.25"), (2500, "2.5k"), (12_500, "12.5k"), (2.5e6, "2.5M"), (1e40, "1e+40")]
)
def test_a_scale_is_short(number: float, short: str) -> None:
    assert to_short(number) == short


def test_a_number_has_commas_and_says_where_digits_are_left_out() -> None:
    assert number_text("-1234567.5") == ("-1,234,567.5", False)
    assert number_text("3.5806451612903225806") == ("3.580645161290", True)
    assert number_text("-0.5") == ("-0.5", False)
    assert number_text(None) == ("none", False)
    assert number_text("9" * 38)[0].count(",") == 12


def test_an_hour_that_comes_twice_is_told_apart() -> None:
    zone = find_zone("Europe/Berlin")
    assert zone is not None
    hours = [parse_time(f"2026-10-25T0{hour}:00:00Z") for hour in range(3)]
    assert [moment_text(zone, at, always_time=True) for at in hours] == [
        "2026-10-25 02:00 +02:00",
        "2026-10-25 02:00 +01:00",
        "2026-10-25 03:00",
    ]
    midnight = parse_time("2026-10-24T22:00:00Z")
    assert (moment_text(zone, midnight), moment_text(zone, midnight, always_time=True)) == (
        "2026-10-25",
        "2026-10-25 00:00",
    )
    assert moment_text(zone, midnight + 61_000_000) == "2026-10-25 00:01:01"


def test_what_a_metric_means_is_one_sentence() -> None:
    rate = "metric_type: rate\nevent_name: e\nusage_aggregation_type: count\ngranularity: minutes\n"
    assert meaning_text(parse_metric("m", rate)) == 'Rate: highest count within any minute, over events "e"'
    peak = "metric_type: gauge\nevent_name: e\nevent_type: delta\nproperty_name: p\n"
    assert meaning_text(parse_metric("m", peak)) == 'Gauge: p as a change of the level, its peak, over events "e"'
    share = MOST.replace("max", "percentile").replace("API Call", "e").replace("tokens", "p") + "percentile: 99.9\n"
    filters = "numeric_filters: [{property_name: n, operator: gt, comparison_value: 1}]\n"
    assert meaning_text(parse_metric("m", share + filters)) == (
        'Counter: percentile 99.9 of p, over events "e", where n gt 1'
    )
    assert best_window(parse_metric("m", SEATS)) == "day"
    weekly = SEATS.replace("proration: days", "proration: weeks")
    assert best_window(parse_metric("m", weekly)) == "week"
