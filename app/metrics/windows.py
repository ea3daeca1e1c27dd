"""Calendar windows in a time zone, in integer microseconds since 1970.

A day begins at the first moment of its date, and so has 23, 25 or 23.5 hours when the clocks change. A week begins on
Monday. An hour or a minute never spans a change of the clocks: in the night when 02:00 occurs twice, there are two
hours from 02:00 to 03:00; where the clocks change by half an hour, one hour is only half as long.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum

SECOND = 1_000_000

Window = tuple[int, int]
"""[start, end) in microseconds."""


class Unit(StrEnum):
    """A calendar unit."""

    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


WINDOWS = (Unit.MINUTE, Unit.HOUR, Unit.DAY, Unit.WEEK, Unit.MONTH)
"""The windows that a period can be divided into."""

SECONDS_OF: dict[Unit, int] = {
    Unit.SECOND: 1,
    Unit.MINUTE: 60,
    Unit.HOUR: 3_600,
    Unit.DAY: 86_400,
    Unit.WEEK: 604_800,
    # For the look-back of `rate`; calendar months have their real number of days.
    Unit.MONTH: 30 * 86_400,
}

_OF_THE_CLOCK = (Unit.SECOND, Unit.MINUTE, Unit.HOUR)
_DAYS_IN_WEEK = 7
_MONTHS_IN_YEAR = 12
_ORDINAL_OF_1970 = date(1970, 1, 1).toordinal()
_DAY_SECONDS = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

FIRST_YEAR = 1900
LAST_YEAR = 2200
"""Windows are within these years: today's calendar applies, and no arithmetic leaves the years of Python."""


def cut(zone: tzinfo, unit: Unit, start: int, end: int) -> Iterator[Window]:
    """Yield the calendar windows that overlap [start, end), each in full."""
    at = start
    while at < end:
        window = window_at(zone, unit, at)
        yield window
        at = window[1]


def window_at(zone: tzinfo, unit: Unit, micros: int) -> Window:
    """Return the calendar window around a moment."""
    at = micros // SECOND
    first, last = _of_clock(zone, unit, at) if unit in _OF_THE_CLOCK else _of_dates(zone, unit, at)
    return first * SECOND, last * SECOND


def count_windows(zone: tzinfo, unit: Unit, start: int, end: int) -> int:
    """Return how many calendar windows overlap [start, end)."""
    if unit in {Unit.SECOND, Unit.MINUTE} and start < end:
        # Clocks change by whole minutes: all windows from the first to the last have one size.
        first, last = window_at(zone, unit, start)[0], window_at(zone, unit, end - 1)[1]
        return (last - first) // (SECONDS_OF[unit] * SECOND)
    return sum(1 for _ in cut(zone, unit, start, end))


def _of_clock(zone: tzinfo, unit: Unit, at: int) -> tuple[int, int]:
    size = SECONDS_OF[unit]
    offset = _offset(zone, at)
    first = (at + offset) // size * size - offset
    last = first + size
    if unit is not Unit.SECOND:
        if _offset(zone, first) != offset:
            first = _change(first, at, lambda moment: _offset(zone, moment) == offset)
        if _offset(zone, last - 1) != offset:
            last = _change(at, last - 1, lambda moment: _offset(zone, moment) != offset)
    return first, last


def _of_dates(zone: tzinfo, unit: Unit, at: int) -> tuple[int, int]:
    local = (_EPOCH + timedelta(seconds=at)).astimezone(zone).date()
    day = _floor(unit, local)
    while True:
        following = _following(unit, day)
        first, last = day_start(zone, day), day_start(zone, following)
        # Where the clocks go back over midnight, a date occurs twice: the next date begins with its first moment.
        if at < last:
            return first, last
        day = following


def _floor(unit: Unit, day: date) -> date:
    if unit is Unit.WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if unit is Unit.MONTH else day


def _following(unit: Unit, day: date) -> date:
    if unit is Unit.MONTH:
        years, month = divmod(day.month, _MONTHS_IN_YEAR)
        return day.replace(year=day.year + years, month=month + 1)
    return day + timedelta(days=_DAYS_IN_WEEK if unit is Unit.WEEK else 1)


def day_start(zone: tzinfo, day: date) -> int:
    """Return the first moment at which it is this date or a later one, in seconds since 1970."""
    midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001  only used to ask the zone for its offset
    wall = (day.toordinal() - _ORDINAL_OF_1970) * _DAY_SECONDS
    before = _seconds(zone.utcoffset(midnight))
    if _offset(zone, wall - before) == before:
        return wall - before
    # The clocks skip midnight: the date begins with the change.
    after = _seconds(zone.utcoffset(midnight.replace(fold=1)))
    return _change(wall - after, wall - before, lambda moment: _offset(zone, moment) != before)


def _change(low: int, high: int, is_after: Callable[[int], bool]) -> int:
    """Return the first second in (low, high] that is after a change; `low` is before it."""
    while high - low > 1:
        middle = (low + high) // 2
        if is_after(middle):
            high = middle
        else:
            low = middle
    return high


def _offset(zone: tzinfo, at: int) -> int:
    return _seconds((_EPOCH + timedelta(seconds=at)).astimezone(zone).utcoffset())


def _seconds(offset: timedelta | None) -> int:
    return 0 if offset is None else offset.days * _DAY_SECONDS + offset.seconds
