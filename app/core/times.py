"""Read times in all forms that occur in calls, as integer microseconds since 1970-01-01T00:00:00 UTC.

Integers, because SQLite returns datetimes without their zone, and because they compare and bucket exactly.
`parse_time` lists the forms.
"""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_WITHOUT_ZONE = datetime(1970, 1, 1)  # noqa: DTZ001 - only for output, where the zone is written by hand

MIN_MICROS = -62_135_596_800_000_000
"""0001-01-01T00:00:00Z, the first moment that RFC 3339 and both databases can write."""

MAX_MICROS = 253_402_300_799_999_999
"""9999-12-31T23:59:59.999999Z, the last one."""

_MICROS_PER_UNIT = (
    (10**11, Decimal(1_000_000)),
    (10**14, Decimal(1_000)),
    (10**17, Decimal(1)),
    (10**20, Decimal("0.001")),
)
"""Seconds, milliseconds, microseconds or nanoseconds, distinguished by size. Below 10**11 a number is seconds (up to
the year 5138), so milliseconds are recognised from 1973-03-03 on; each further unit is a thousand times larger."""

_WHOLE_MICROS_PER_UNIT = tuple((limit, int(micros)) for limit, micros in _MICROS_PER_UNIT if micros >= 1)

_EXACT = Context(prec=80, rounding=ROUND_HALF_EVEN)
"""Wide enough for every number that matches _NUMBER, so nothing is rounded before the microsecond."""

_LONGEST = 64
"""No time is written with more characters; longer text is refused unread."""

_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,30})?")
_MOMENT = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{1,2})-(?P<day>[0-9]{1,2})"
    r"(?:[Tt ] ?(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{1,2})(?::(?P<second>[0-9]{1,2})(?:[.,](?P<fraction>[0-9]+))?)?"
    r" ?(?P<zone>[Zz]|UTC|GMT|(?P<sign>[+-])(?P<zone_hour>[0-9]{1,2})(?::?(?P<zone_minute>[0-9]{2}))?)?)?"
)
_BASIC_DATE = 8
_HOURS_IN_DAY = 24
_LEAP_SECOND = 60
_LAST_MINUTE = 59
_MICRO_DIGITS = 6
_QUOTED = 40


class TimeInvalid(ValueError):
    """A value is not a time."""


def parse_time(value: Any) -> int:
    """Read a time into microseconds since the epoch, UTC.

    - text as in RFC 3339 and somewhat beyond: a space or `t` for `T`, `z`, months, days and hours of one digit, a
      comma before the fraction, seconds or the whole clock missing (then midnight), zone missing (then UTC),
      `24:00:00` for the end of the day. Digits after the sixth of a fraction are cut off. A leap second, `:60`, is
      the last microsecond before it ends (`:59.999999`), so that it stays in its own day and month;
    - a number, or text that is one: seconds, milliseconds, microseconds or nanoseconds since the epoch,
      distinguished by size (see `_MICROS_PER_UNIT`); what is finer than a microsecond is rounded half to even.

    Raises TimeInvalid, with a sentence, for everything else: bool, years outside 1 to 9999, and text of up to
    eight digits, such as `20261101` or `2026`, which is rather a date than seconds in 1970.
    """
    if isinstance(value, str):
        return _parse_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _parse_number(value)
    raise TimeInvalid(f"A time is text or a number, not {_NAMES.get(type(value), type(value).__name__)}.")


def localized(text: str, zone: tzinfo) -> str:
    """Return a time that says no zone as that time in `zone`, written in UTC; any other text as it is.

    Of a time that the clocks skip there, or show twice, the offset from before the change is taken.
    """
    try:
        micros = parse_time(text)
    except TimeInvalid:
        return text
    if _says_zone(text.strip()):
        return text
    try:
        offset = zone.utcoffset(_EPOCH_WITHOUT_ZONE + timedelta(microseconds=micros)) or timedelta()
        return format_time(micros - offset // timedelta(microseconds=1))
    except (OverflowError, TimeInvalid):
        # The first or the last day of all.
        return text


def format_time(micros: int) -> str:
    """Write microseconds since the epoch as RFC 3339 in UTC, always with six digits: `2026-11-01T10:00:00.123000Z`.

    Raises TimeInvalid outside the years 1 to 9999.
    """
    seconds, fraction = divmod(_in_range(micros, micros), 1_000_000)
    moment = _EPOCH_WITHOUT_ZONE + timedelta(0, seconds, fraction)
    return moment.isoformat(timespec="microseconds") + "Z"


_NAMES = {bool: "true or false", dict: "an object", list: "an array", type(None): "null"}


def _parse_text(text: str) -> int:
    if text[10:11] == "T" and text[4:5] == "-" and text[7:8] == "-" and len(text) <= _LONGEST:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return _parse_loosely(text)
        since = moment - _EPOCH if moment.tzinfo else moment - _EPOCH_WITHOUT_ZONE
        return _in_range((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds, text)
    return _parse_loosely(text)


def _parse_loosely(text: str) -> int:
    stripped = text.strip() if len(text) <= _LONGEST else ""
    if _NUMBER.fullmatch(stripped):
        if len(stripped) <= _BASIC_DATE and stripped.isdigit():
            raise TimeInvalid(f"{_quote(text)} could be a date or seconds: write a date as 2026-11-01.")
        return _from_epoch(Decimal(stripped), text)
    match = _MOMENT.fullmatch(stripped)
    if match is None:
        raise TimeInvalid(f"{_quote(text)} is not a time: write it as 2026-11-01T10:00:00Z.")
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    micros = int((match["fraction"] or "")[:_MICRO_DIGITS].ljust(_MICRO_DIGITS, "0"))
    if second == _LEAP_SECOND:
        second, micros = 59, 999_999
    ends_day = hour == _HOURS_IN_DAY and not (minute or second or micros)
    try:
        moment = datetime(
            int(match["year"]),
            int(match["month"]),
            int(match["day"]),
            0 if ends_day else hour,
            minute,
            second,
            micros,
            tzinfo=_zone(match),
        )
    except ValueError as error:
        raise TimeInvalid(f"{_quote(text)} is not a time: {error}.") from None
    since = moment - _EPOCH + timedelta(days=ends_day)
    return _in_range(since // timedelta(microseconds=1), text)


def _says_zone(text: str) -> bool:
    """Whether a text that is a time says what it is in UTC, too: by a zone, or as a number."""
    if _NUMBER.fullmatch(text):
        return True
    match = _MOMENT.fullmatch(text)
    return match["zone"] is not None if match else datetime.fromisoformat(text).tzinfo is not None


def _zone(match: re.Match[str]) -> timezone:
    """Return the zone of a match of _MOMENT, UTC where it names none. Raises ValueError."""
    if match["sign"] is None:
        return UTC
    hours, minutes = int(match["zone_hour"]), int(match["zone_minute"] or 0)
    if hours >= _HOURS_IN_DAY or minutes > _LAST_MINUTE:
        raise ValueError("its zone must be within 23:59")
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if match["sign"] == "-" else offset)


def _parse_number(value: float) -> int:
    if type(value) is int:
        size = abs(value)
        for limit, micros in _WHOLE_MICROS_PER_UNIT:
            if size < limit:
                return _in_range(value * micros, value)
        return _from_epoch(Decimal(value), value)
    # repr is the shortest text that gives this float again, so 1793527200.123 is exactly .123000
    return _from_epoch(Decimal(repr(value)), value)


def _from_epoch(number: Decimal, origin: str | float) -> int:
    if number.is_finite():
        size = number.copy_abs()
        for limit, micros in _MICROS_PER_UNIT:
            if size < limit:
                return _in_range(int(_EXACT.multiply(number, micros).to_integral_value(context=_EXACT)), origin)
    raise TimeInvalid(f"{_quote(origin)} is too large for a time.")


def _in_range(micros: int, origin: str | float) -> int:
    if MIN_MICROS <= micros <= MAX_MICROS:
        return micros
    raise TimeInvalid(f"{_quote(origin)} is outside the years 1 to 9999.")


def _quote(value: str | float) -> str:
    if type(value) is int and abs(value) >= 10**_QUOTED:
        return "The number"  # Python refuses to print very long integers
    text = ascii(value[:_QUOTED]) if isinstance(value, str) else repr(value)
    return text if len(text) <= _QUOTED else text[: _QUOTED - 3] + "..."
