"""Functions of times. None reads a clock; every time is UTC, and only `time_format` writes it in another zone.

Zones are IANA's, from Python's `zoneinfo`, which reads a zone's rules once. They are constants, like Python's Unicode
tables, and come with the operating system or the package `tzdata`: a new release of either can move times after a
country's change of law.
"""

import re
from calendar import monthrange
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from app.core.jmespath.call import Function, wrong_type
from app.core.jmespath.functions.arguments import function, invalid_value, string, template, whole_number
from app.core.jmespath.functions.decimals import ROUNDED, WIDE, Number, exact_number, plain_number, round_result
from app.core.times import TimeInvalid, format_time, parse_time
from app.errors import ExpressionFailed
from app.zones import find_zone

_SECOND = 1_000_000
_MICROS: Mapping[str, int] = {
    "microseconds": 1,
    "milliseconds": 1_000,
    "seconds": _SECOND,
    "minutes": 60 * _SECOND,
    "hours": 3_600 * _SECOND,
    "days": 86_400 * _SECOND,
    "weeks": 604_800 * _SECOND,
}
_MONTHS: Mapping[str, int] = {"months": 1, "years": 12}
_UNITS: Mapping[str, int] = {**_MICROS, **_MONTHS}

# No two times are further apart.
_MOST_MONTHS = 12 * 10_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)

# The names of Python's `strftime` depend on the machine's language.
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTH_NAMES = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
_UTC = frozenset({"UTC", "GMT", "Z"})
# Phones say `GMT+03:00` or `GMT+3` where they know no name. IANA's `Etc/GMT+3` is three hours the other way.
_OFFSET = re.compile(r"(?:UTC|GMT)?(?P<sign>[+-])(?P<hours>[01]?[0-9]|2[0-3])(?::?(?P<minutes>[0-5][0-9]))?")


def _micros(name: str, position: int, value: Any) -> int:
    if value.__class__ is Decimal:
        value = format(value, "f")
    if value.__class__ not in (str, int, float):
        raise wrong_type(name, position, "a time", value)
    try:
        return parse_time(value)
    except TimeInvalid:
        # Its message quotes the value.
        raise invalid_value(name, position, "a time", value) from None


def _time_text(name: str, micros: int) -> str:
    try:
        return format_time(micros)
    except TimeInvalid:
        raise ExpressionFailed(f"{name}() gives times of the years 1 to 9999, and this one is beyond") from None


def _to_time(value: Any) -> str:
    return format_time(_micros("to_time", 1, value))


def _unit(name: str, value: Any, units: Mapping[str, int]) -> str:
    """Return a unit's plural name, given in the plural or the singular."""
    text = string(name, 3, value)
    for unit in (text, text + "s"):
        if unit in units:
            return unit
    raise invalid_value(name, 3, f"a unit ({', '.join(units)})", text)


def _time_add(time: Any, amount: Any, unit: Any) -> str:
    start = _micros("time_add", 1, time)
    plural = _unit("time_add", unit, _UNITS)
    if plural in _MONTHS:
        return _months_later(start, whole_number("time_add", 2, amount) * _MONTHS[plural])
    micros = WIDE.multiply(exact_number("time_add", 2, amount), Decimal(_MICROS[plural]))
    return _time_text("time_add", start + int(micros.to_integral_value(ROUND_HALF_UP)))


def _months_later(start: int, months: int) -> str:
    """Return the same day and clock time in another month, or its last day where it has no such day."""
    moment = _EPOCH + start * _MICRO
    year, month = divmod(moment.year * 12 + moment.month - 1 + max(-_MOST_MONTHS, min(months, _MOST_MONTHS)), 12)
    try:
        day = min(moment.day, monthrange(year, month + 1)[1])
        later = moment.replace(year=year, month=month + 1, day=day)
    except ValueError:
        raise ExpressionFailed("time_add() gives times of the years 1 to 9999, and this one is beyond") from None
    return _time_text("time_add", (later - _EPOCH) // _MICRO)


def _time_diff(first: Any, second: Any, unit: Any) -> Number:
    micros = _micros("time_diff", 1, first) - _micros("time_diff", 2, second)
    size = _MICROS[_unit("time_diff", unit, _MICROS)]
    return plain_number(round_result("time_diff", ROUNDED.divide(Decimal(micros), Decimal(size))))


def _offset(moment: datetime) -> str:
    minutes = round((moment.utcoffset() or timedelta()) / timedelta(minutes=1))
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"


_DIRECTIVES: Mapping[str, Callable[[datetime], str]] = {
    "Y": lambda moment: f"{moment.year:04}",
    "y": lambda moment: f"{moment.year % 100:02}",
    "m": lambda moment: f"{moment.month:02}",
    "d": lambda moment: f"{moment.day:02}",
    "j": lambda moment: f"{moment.timetuple().tm_yday:03}",
    "H": lambda moment: f"{moment.hour:02}",
    "I": lambda moment: f"{(moment.hour + 11) % 12 + 1:02}",
    "p": lambda moment: "PM" if moment.hour >= 12 else "AM",  # noqa: PLR2004
    "M": lambda moment: f"{moment.minute:02}",
    "S": lambda moment: f"{moment.second:02}",
    "L": lambda moment: f"{moment.microsecond // 1000:03}",
    "f": lambda moment: f"{moment.microsecond:06}",
    "z": _offset,
    "s": lambda moment: str((moment - _EPOCH) // timedelta(seconds=1)),
    "B": lambda moment: _MONTH_NAMES[moment.month - 1],
    "b": lambda moment: _MONTH_NAMES[moment.month - 1][:3],
    "A": lambda moment: _WEEKDAYS[moment.weekday()],
    "a": lambda moment: _WEEKDAYS[moment.weekday()][:3],
    "u": lambda moment: str(moment.isoweekday()),
    "G": lambda moment: f"{moment.isocalendar().year:04}",
    "V": lambda moment: f"{moment.isocalendar().week:02}",
    "%": lambda _: "%",
}


def _time_format(time: Any, pattern: Any, zone: Any = "UTC") -> str:
    moment = _EPOCH + _micros("time_format", 1, time) * _MICRO
    text = template("time_format", 2, pattern)
    try:
        local = moment.astimezone(_zone(zone))
    except OverflowError:
        raise ExpressionFailed("time_format() gives times of the years 1 to 9999, and this one is beyond") from None

    def directive(match: re.Match[str]) -> str:
        write = _DIRECTIVES.get(match[1])
        if write is None:
            directives = " ".join(f"%{letter}" for letter in _DIRECTIVES)
            raise ExpressionFailed(f"time_format() takes a format as argument 2 of text and {directives}")
        return write(local)

    return _DIRECTIVE.sub(directive, text)


def _zone(value: Any) -> tzinfo:
    name = string("time_format", 3, value)
    zone = _find_zone(name)
    if zone is None:
        raise invalid_value("time_format", 3, "a time zone (Europe/Berlin, UTC, +02:00)", name)
    return zone


def _find_zone(name: str) -> tzinfo | None:
    if name in _UTC:
        return UTC
    offset = _OFFSET.fullmatch(name)
    if offset:
        size = timedelta(hours=int(offset["hours"]), minutes=int(offset["minutes"] or 0))
        return timezone(-size if offset["sign"] == "-" else size)
    return find_zone(name)


def _is_time_zone(value: Any) -> bool:
    return value.__class__ is str and _find_zone(value) is not None


TIME: tuple[Function, ...] = (
    function(_to_time, 1, growth=2),
    function(_time_add, 3, growth=2),
    function(_time_diff, 3, growth=1),
    # The longest that two characters become is the twelve of `%s`.
    function(_time_format, 2, 3, growth=7),
    function(_is_time_zone, 1, growth=1),
)
