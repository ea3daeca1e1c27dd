"""Calendar windows: days of 23 and 25 hours, zones off the whole hour, and every moment in exactly one window."""

from datetime import UTC, date, datetime, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.times import format_time, parse_time
from app.metrics.windows import SECOND, Unit, count_windows, cut, day_start, window_at
from app.zones import find_zone


def zone(name: str) -> tzinfo:
    found = find_zone(name)
    assert found is not None
    return found


def told(name: str, unit: Unit, start: str, end: str) -> list[str]:
    """The windows that overlap a period, each as its start and its length in minutes."""
    return [
        f"{format_time(first)[:16]} {(last - first) // (60 * SECOND)}"
        for first, last in cut(zone(name), unit, parse_time(start), parse_time(end))
    ]


@pytest.mark.parametrize(
    ("name", "start", "end", "days"),
    [
        # Berlin: +1, in summer +2. 29 March 2026 begins at 23:00Z and the next day at 22:00Z: 23 hours.
        ("Europe/Berlin", "2026-03-28T23:00Z", "2026-03-30T22:00Z", ["2026-03-28T23:00 1380", "2026-03-29T22:00 1440"]),
        # 25 October 2026: from 22:00Z to 23:00Z of the next day: 25 hours.
        ("Europe/Berlin", "2026-10-24T22:00Z", "2026-10-25T23:00Z", ["2026-10-24T22:00 1500"]),
        # New York: -5, in summer -4. 8 March 2026 has 23 hours, 1 November 25.
        ("America/New_York", "2026-03-08T05:00Z", "2026-03-09T04:00Z", ["2026-03-08T05:00 1380"]),
        ("America/New_York", "2026-11-01T04:00Z", "2026-11-02T05:00Z", ["2026-11-01T04:00 1500"]),
        # Lord Howe: +10:30, in summer +11. 5 April 2026 has 24.5 hours, 4 October 23.5.
        ("Australia/Lord_Howe", "2026-04-04T13:00Z", "2026-04-05T13:30Z", ["2026-04-04T13:00 1470"]),
        ("Australia/Lord_Howe", "2026-10-03T13:30Z", "2026-10-04T13:00Z", ["2026-10-03T13:30 1410"]),
        # Kathmandu: +5:45 all year.
        ("Asia/Kathmandu", "2026-10-03T18:15Z", "2026-10-04T18:15Z", ["2026-10-03T18:15 1440"]),
        # Havana goes from 00:00 to 01:00: 8 March 2026 begins at 01:00, 05:00Z.
        ("America/Havana", "2026-03-08T05:00Z", "2026-03-09T04:00Z", ["2026-03-08T05:00 1380"]),
        # Samoa left out 30 December 2011: the 29th (UTC-10) ends where the 31st (UTC+14) begins.
        ("Pacific/Apia", "2011-12-29T10:00Z", "2011-12-31T10:00Z", ["2011-12-29T10:00 1440", "2011-12-30T10:00 1440"]),
    ],
)
def test_a_day_begins_with_its_date_and_has_the_hours_it_has(name: str, start: str, end: str, days: list[str]) -> None:
    assert told(name, Unit.DAY, start, end) == days


def test_hours_where_the_clocks_change() -> None:
    # Berlin, 25 October: 02:00 to 03:00 comes twice. 00:00Z is 02:00 in summer time, 01:00Z is 02:00 in winter time.
    night = told("Europe/Berlin", Unit.HOUR, "2026-10-25T00:00Z", "2026-10-25T02:00Z")
    assert night == ["2026-10-25T00:00 60", "2026-10-25T01:00 60"]
    assert count_windows(zone("Europe/Berlin"), Unit.HOUR, *window_of("Europe/Berlin", "2026-10-25T12:00Z")) == 25
    assert count_windows(zone("Europe/Berlin"), Unit.HOUR, *window_of("Europe/Berlin", "2026-03-29T12:00Z")) == 23
    assert count_windows(zone("America/New_York"), Unit.HOUR, *window_of("America/New_York", "2026-11-01T12:00Z")) == 25
    # Lord Howe, 4 October: 02:00 becomes 02:30, so there is half an hour from 02:30 to 03:00 (15:30Z to 16:00Z).
    half = told("Australia/Lord_Howe", Unit.HOUR, "2026-10-03T14:30Z", "2026-10-03T16:00Z")
    assert half == ["2026-10-03T14:30 60", "2026-10-03T15:30 30"]
    # 5 April: at 02:00 (15:00Z) it is 01:30 again: a whole hour from 01:00, then half of it once more.
    twice = told("Australia/Lord_Howe", Unit.HOUR, "2026-04-04T14:00Z", "2026-04-04T16:30Z")
    assert twice == ["2026-04-04T14:00 60", "2026-04-04T15:00 30", "2026-04-04T15:30 60"]


def window_of(name: str, moment: str, unit: Unit = Unit.DAY) -> tuple[int, int]:
    return window_at(zone(name), unit, parse_time(moment))


def test_hours_of_a_zone_off_the_whole_hour_begin_at_its_own() -> None:
    # 10:00 in Kathmandu is 04:15Z.
    assert told("Asia/Kathmandu", Unit.HOUR, "2026-10-05T04:20Z", "2026-10-05T05:16Z") == [
        "2026-10-05T04:15 60",
        "2026-10-05T05:15 60",
    ]


def test_a_week_begins_on_monday_and_a_month_has_its_days() -> None:
    # 1 October 2026 is a Thursday; its week began on Monday 28 September.
    assert told("UTC", Unit.WEEK, "2026-10-01", "2026-10-12") == ["2026-09-28T00:00 10080", "2026-10-05T00:00 10080"]
    # February 2028 has 29 days; March in Berlin has 31 days less an hour.
    assert told("UTC", Unit.MONTH, "2028-02-10", "2028-02-11") == [f"2028-02-01T00:00 {29 * 1440}"]
    assert told("Europe/Berlin", Unit.MONTH, "2026-03-10", "2026-03-11") == [f"2026-02-28T23:00 {31 * 1440 - 60}"]
    assert told("UTC", Unit.MONTH, "2026-12-10", "2027-01-01") == [f"2026-12-01T00:00 {31 * 1440}"]


ZONES = st.sampled_from(
    (
        *("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Havana"),
        *("Pacific/Apia", "America/St_Johns", "Africa/Cairo", "Pacific/Chatham", "Asia/Gaza"),
    )
)
MOMENTS = st.integers(parse_time("1975-01-01"), parse_time("2037-01-01"))


@given(ZONES, st.sampled_from(list(Unit)), MOMENTS)
def test_every_moment_lies_in_exactly_one_window(name: str, unit: Unit, moment: int) -> None:
    first, last = window_at(zone(name), unit, moment)
    assert first <= moment < last
    for other in (first, (first + last) // 2, last - 1):
        assert window_at(zone(name), unit, other) == (first, last)
    assert window_at(zone(name), unit, last)[0] == last
    assert window_at(zone(name), unit, first - 1)[1] == first


@given(ZONES, MOMENTS)
def test_windows_join_without_gaps_and_are_as_many_as_counted(name: str, moment: int) -> None:
    for unit, length in ((Unit.MINUTE, 3600), (Unit.HOUR, 90_000), (Unit.DAY, 900_000), (Unit.MONTH, 30_000_000)):
        found = list(cut(zone(name), unit, moment, moment + length * SECOND))
        assert all(one[1] == other[0] for one, other in pairwise(found))
        assert found[0][0] <= moment
        assert found[-1][1] >= moment + length * SECOND
        assert count_windows(zone(name), unit, moment, moment + length * SECOND) == len(found)


@given(ZONES, st.dates(date(1975, 1, 1), date(2036, 1, 1)))
def test_a_day_begins_where_no_earlier_moment_has_its_date(name: str, day: date) -> None:
    start = day_start(zone(name), day)
    local = zone(name)
    at = datetime.fromtimestamp(start, UTC).astimezone(local)
    before = datetime.fromtimestamp(start - 1, UTC).astimezone(local)
    assert at.date() >= day > before.date()


@pytest.mark.parametrize("name", ["", "Nowhere", "europe/berlin", "../etc/passwd", "America", "localtime", "A" * 100])
def test_what_is_no_zone_is_not_found(name: str) -> None:
    assert find_zone(name) is None


def test_zones_have_iana_names() -> None:
    assert find_zone("Asia/Kathmandu") == ZoneInfo("Asia/Kathmandu")
