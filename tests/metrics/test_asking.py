"""Queries as text: times in their zone, and what is taken where nothing is said."""

import pytest

from app.core.times import format_time, parse_time
from app.errors import BadQuery
from app.metrics.parameters import parse_after, parse_group, parse_local, parse_usage_query, to_after
from app.metrics.query import Query
from app.metrics.windows import Unit
from app.zones import find_zone

NOW = parse_time("2026-11-23T17:30:00Z")


@pytest.mark.parametrize(
    ("text", "tz", "moment"),
    [
        ("2026-10-01", "UTC", "2026-10-01T00:00:00"),
        # Berlin in summer is two hours ahead, Kathmandu 5:45 all year.
        ("2026-10-01", "Europe/Berlin", "2026-09-30T22:00:00"),
        ("2026-10-01", "Asia/Kathmandu", "2026-09-30T18:15:00"),
        ("2026-10-01T08:00", "Europe/Berlin", "2026-10-01T06:00:00"),
        ("2026-10-01 08:00:30.5", "Europe/Berlin", "2026-10-01T06:00:30.5"),
        # What names its zone is that moment, whatever tz is.
        ("2026-10-01T08:00Z", "Europe/Berlin", "2026-10-01T08:00:00"),
        ("2026-10-01T08:00+05:30", "Europe/Berlin", "2026-10-01T02:30:00"),
        # Of an hour that comes twice it is the first; of midnight that does not come, the moment the day begins.
        ("2026-10-25T02:30", "Europe/Berlin", "2026-10-25T00:30:00"),
        ("2026-03-08", "America/Havana", "2026-03-08T05:00:00"),
        ("7d", "Europe/Berlin", "2026-11-16T17:30:00"),
    ],
)
def test_a_time_without_a_zone_is_of_the_zone_that_is_asked_for(text: str, tz: str, moment: str) -> None:
    zone = find_zone(tz)
    assert zone is not None
    assert format_time(parse_local("start", text, zone, NOW)).startswith(moment)


def test_what_is_asked_is_read() -> None:
    texts = {
        "start": "2026-10-01",
        "end": "2026-11-01",
        "tz": "Asia/Kathmandu",
        "window": "day",
        "fill": "zero",
        "customer_id": "ann",
        "group_by": "model, region",
        "include_future": "true",
    }
    assert parse_usage_query(texts, NOW) == Query(
        start=parse_time("2026-09-30T18:15Z"),
        end=parse_time("2026-10-31T18:15Z"),
        customer_id="ann",
        window=Unit.DAY,
        tz="Asia/Kathmandu",
        group_by=("model", "region"),
        fill=True,
        include_future=True,
    )


def test_without_a_period_it_is_this_month_so_far() -> None:
    assert parse_usage_query({}, NOW) == Query(start=parse_time("2026-11-01"), end=NOW)
    first = parse_time("2026-10-31T23:30Z")
    assert parse_usage_query({"tz": "Europe/Berlin"}, first).start == parse_time("2026-10-31T23:00Z")
    # The month that an end of the period ends, and not the one it begins.
    assert parse_usage_query({"end": "2026-11-01"}, NOW).start == parse_time("2026-10-01")


def test_a_group_is_what_the_answer_gives() -> None:
    assert parse_group(None) is None
    assert parse_group('{"model": null, "region": ""}') == {"model": None, "region": ""}
    for text in ("", "{", "[]", '{"model": 1}', "\ud83d"):
        with pytest.raises(BadQuery, match="group must be a group"):
            parse_group(text)


def test_a_page_goes_on_where_the_page_before_ended() -> None:
    for place in ((NOW, 12), (-1, 0)):
        assert parse_after(to_after(place)) == place
    assert to_after(None) is None
    assert parse_after(None) is None
    for text in ("", "1", "1.2.3", "a.b", f"1.{1 << 63}"):
        with pytest.raises(BadQuery, match="after must be what"):
            parse_after(text)
