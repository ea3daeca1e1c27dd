import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.times import MAX_MICROS, MIN_MICROS, TimeInvalid, format_time, localized, parse_time

from .examples import often

MICROS = st.integers(MIN_MICROS, MAX_MICROS)


TIMES: tuple[tuple[Any, str], ...] = (
    # as in the contract
    ("2026-11-01T10:00:00.123Z", "2026-11-01T10:00:00.123000Z"),
    ("2026-11-01T15:30:00.123456+05:30", "2026-11-01T10:00:00.123456Z"),
    ("2026-11-01T10:00:00+00:00", "2026-11-01T10:00:00.000000Z"),
    ("2026-11-01", "2026-11-01T00:00:00.000000Z"),
    ("2026-1-2", "2026-01-02T00:00:00.000000Z"),
    ("2026-1-2T3:04:05Z", "2026-01-02T03:04:05.000000Z"),
    ("2026-11-01 10:00:00.5+00:00", "2026-11-01T10:00:00.500000Z"),
    ("2026-11-01 10:00:00", "2026-11-01T10:00:00.000000Z"),
    ("2099-12-31T23:59:59Z", "2099-12-31T23:59:59.000000Z"),
    (1793527200, "2026-11-01T10:00:00.000000Z"),
    ("1793527200", "2026-11-01T10:00:00.000000Z"),
    (1793527200123, "2026-11-01T10:00:00.123000Z"),
    ("1793527200123", "2026-11-01T10:00:00.123000Z"),
    # beside it
    ("2026-11-01t10:00:00z", "2026-11-01T10:00:00.000000Z"),
    ("2026-11-01T10:00:00", "2026-11-01T10:00:00.000000Z"),
    ("2026-11-01T10:00Z", "2026-11-01T10:00:00.000000Z"),
    ("2026-11-01 10:00:00 UTC", "2026-11-01T10:00:00.000000Z"),
    (" 2026-11-01T10:00:00Z\n", "2026-11-01T10:00:00.000000Z"),
    ("2026-11-01T10:00:00,25Z", "2026-11-01T10:00:00.250000Z"),
    ("2026-11-01T10:00:00.1Z", "2026-11-01T10:00:00.100000Z"),
    ("2026-11-01T10:00:00.123456999Z", "2026-11-01T10:00:00.123456Z"),
    ("2026-11-01 10:00:00.123456999Z", "2026-11-01T10:00:00.123456Z"),
    ("2026-11-01T05:00:00-0500", "2026-11-01T10:00:00.000000Z"),
    ("2026-11-01 05:00:00-5", "2026-11-01T10:00:00.000000Z"),
    ("2026-11-01T23:59:60Z", "2026-11-01T23:59:59.999999Z"),
    ("2026-11-01T24:00:00Z", "2026-11-02T00:00:00.000000Z"),
    ("2024-02-29", "2024-02-29T00:00:00.000000Z"),
    # numbers
    (0, "1970-01-01T00:00:00.000000Z"),
    (-1, "1969-12-31T23:59:59.000000Z"),
    (1793527200123456, "2026-11-01T10:00:00.123456Z"),
    (1793527200123456789, "2026-11-01T10:00:00.123457Z"),
    (1793527200.123, "2026-11-01T10:00:00.123000Z"),
    (1793527200.123457, "2026-11-01T10:00:00.123457Z"),
    (1793527200.0, "2026-11-01T10:00:00.000000Z"),
    (1.7935272e12, "2026-11-01T10:00:00.000000Z"),
    ("1793527200.1234564", "2026-11-01T10:00:00.123456Z"),
    ("-1.5", "1969-12-31T23:59:58.500000Z"),
    (99_999_999_999, "5138-11-16T09:46:39.000000Z"),
    (100_000_000_000, "1973-03-03T09:46:40.000000Z"),
    # the ends
    ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
    ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
)


@pytest.mark.parametrize(("value", "written"), TIMES, ids=range(len(TIMES)))
def test_times_of_every_form_become_rfc_3339_in_utc(value: Any, written: str) -> None:
    assert format_time(parse_time(value)) == written


# fmt: off
NO_TIMES: tuple[Any, ...] = (
    None, True, False, [], {}, [1], "", " ", "now", "2026", "2026-11", "2026-13-01", "2026-02-30", "2026-11-01T",
    "2026-11-01T25:00:00Z", "2026-11-01T24:00:01Z", "2026-11-01T10:61:00Z", "2026-11-01T10:00:61Z", "11/01/2026",
    "2026-11-01T10:00:00+24:00", "2026-11-01T10:00:00 +5:99", "0", "2026-11-01T10:00:00ZZ",
    "20261101", "NaN", "Infinity", "1e9", "0x10", "1_000", "1" * 21, "1793527\uff12\uff10\uff10", "202\uff16-11-01",
    math.nan, math.inf, -math.inf, 1e300, 10**20, -(10**20), 10**5000, "0000-01-01", "0001-01-01T00:00:00+00:01",
    "9999-12-31T23:59:59-00:01", "9999-12-31T24:00:00Z", "10000-01-01", "-2026-11-01", "2026-W44-1T10:00:00Z",
    "\0", "2026-11-01\0", "\ud83d", "2026-11-01T10:00:00Z" + " " * 100, "1" * 5_000_000, "2" * 10 + "-" * 100,
)
# fmt: on


@pytest.mark.parametrize("value", NO_TIMES, ids=range(len(NO_TIMES)))
def test_what_is_no_time_is_refused_in_a_sentence_that_quotes_little(value: Any) -> None:
    with pytest.raises(TimeInvalid) as refused:
        parse_time(value)
    sentence = str(refused.value)
    assert re.fullmatch(r"[\x20-\x7e]+\.", sentence)
    assert len(sentence) < 120


@often
@given(MICROS)
def test_a_written_time_reads_as_it_was(micros: int) -> None:
    assert parse_time(format_time(micros)) == micros
    assert parse_time(format_time(micros).replace("T", " ")) == micros
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", format_time(micros))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01", "2026-10-31T23:00:00.000000Z"),
        ("2026-11-01 10:00", "2026-11-01T09:00:00.000000Z"),
        ("2026-07-01T10:00:00.5", "2026-07-01T08:00:00.500000Z"),
        ("2026-11-01T10", "2026-11-01T09:00:00.000000Z"),
        (" 2026-7-1 9:00 ", "2026-07-01T07:00:00.000000Z"),
        # The clocks go from 02:00 to 03:00, and back from 03:00 to 02:00.
        ("2026-03-29 02:30", "2026-03-29T01:30:00.000000Z"),
        ("2026-10-25 02:30", "2026-10-25T00:30:00.000000Z"),
    ],
)
def test_a_time_without_a_zone_can_be_read_in_one(text: str, expected: str) -> None:
    assert localized(text, ZoneInfo("Europe/Berlin")) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("2026-11-01T10:00:00Z", "2026-11-01 10:00 UTC", "2026-11-01T10:00+02:00", "2026-11-01T10:00:00 -3"),
        *("1793527200", "1793527200.5", "7d", "soon", "", "2026", "0001-01-01", "x" * 1000),
    ],
)
def test_whatever_says_its_zone_or_is_no_time_stays_as_it_is(text: str) -> None:
    assert localized(text, ZoneInfo("Europe/Berlin")) == text


@often
@given(MICROS, MICROS)
def test_written_times_sort_as_the_times_do(one: int, other: int) -> None:
    assert (one < other) == (format_time(one) < format_time(other))


@often
@given(
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=st.timezones()),  # noqa: DTZ001
)
def test_any_zone_is_brought_to_utc(moment: datetime) -> None:
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert parse_time(moment.isoformat()) == expected


@often
@given(st.integers(0, 4_102_444_800_000_000))
def test_floats_of_seconds_and_milliseconds_are_exact_to_the_microsecond(micros: int) -> None:
    assert abs(parse_time(micros / 1e6) - micros) <= (0 if micros < 10**15 else 1)
    if micros >= 10**14:
        assert parse_time(micros / 1e3) == micros


@often
@given(st.text() | st.integers() | st.floats() | st.none() | st.booleans() | st.text("0123456789-:T.Z+ ", max_size=30))
def test_anything_is_a_time_in_range_or_is_refused(value: Any) -> None:
    try:
        micros = parse_time(value)
    except TimeInvalid:
        return
    assert MIN_MICROS <= micros <= MAX_MICROS


def test_a_time_that_cannot_be_written_is_refused() -> None:
    for micros in (MIN_MICROS - 1, MAX_MICROS + 1, 10**30, -(10**5000)):
        with pytest.raises(TimeInvalid):
            format_time(micros)
