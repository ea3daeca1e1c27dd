"""Query parameters of metrics as text: the same names in the JSON API, on the pages and on the command line."""

import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Any

import msgspec

from app.core.times import parse_time
from app.errors import BadQuery
from app.metrics.query import Query
from app.metrics.schema import MAX_GROUPS
from app.metrics.sql_events import Place
from app.metrics.windows import FIRST_YEAR, LAST_YEAR, SECOND, WINDOWS, Unit, Window, window_at
from app.store.ids import ID_MAX
from app.store.query import check_texts, parse_moment, parse_zone

USAGE_PARAMETERS = (
    "customer_id",
    "start",
    "end",
    "window",
    "group_by",
    "tz",
    "fill",
    "include_future",
    "version",
    "as_of",
)
"""`version` is not part of the query: it selects the definition of the metric."""

NO_GROUPS = "none"
"""The value of `group_by` for one number over all groups."""

_PROPERTY_CHARS = 255
_LOCAL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)?")
_MONTH = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])")
_PLACE = re.compile(r"(-?[0-9]{1,18})\.([0-9]{1,19})")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  local time, whose zone is a parameter


def parse_usage_query(texts: Mapping[str, str], now: int, default_tz: str = "UTC") -> Query:
    """Parse a query; `texts` has some of USAGE_PARAMETERS. The default period is the current month up to now.

    As of a moment, "now" is that moment in the whole query.

    Raises:
        BadQuery: names the parameter and says which values it accepts.

    """
    check_texts({name: texts[name] for name in ("customer_id", "group_by", "version") if name in texts})
    tz = texts.get("tz", default_tz)
    zone = parse_zone(tz)
    as_of = parse_local("as_of", texts["as_of"], zone, now) if "as_of" in texts else None
    now = now if as_of is None else as_of
    end = parse_local("end", texts["end"], zone, now) if "end" in texts else now
    start = (
        parse_local("start", texts["start"], zone, now)
        if "start" in texts
        else _window_start(zone, Unit.MONTH, end - SECOND)
    )
    return Query(
        start=start,
        end=end,
        customer_id=texts.get("customer_id"),
        window=_parse_window(texts["window"]) if "window" in texts else None,
        tz=tz,
        group_by=_parse_groups(texts["group_by"]) if "group_by" in texts else None,
        fill=_parse_choice("fill", texts.get("fill"), ("zero",)),
        include_future=_parse_choice("include_future", texts.get("include_future"), ("true", "1"), ("false", "0")),
        as_of=as_of,
    )


def parse_local(name: str, text: str, zone: tzinfo, now: int) -> int:
    """Parse a time; without an offset it is local to `zone`: 2026-10-01 is the start of that day there."""
    if not _LOCAL.fullmatch(text):
        return parse_moment(name, text, now)
    # Rejects a day that does not exist with the same message as for all other times.
    wall = _EPOCH + timedelta(microseconds=parse_moment(name, text, now))
    moment = parse_time(text) - (zone.utcoffset(wall) or timedelta()) // timedelta(microseconds=1)
    if ":" in text:
        return moment
    # Where the clocks skip midnight, the day begins later.
    return _window_start(zone, Unit.DAY, moment)


def parse_month(text: str, tz: str) -> Window:
    """Parse a month, such as 2026-10, as its period in a time zone. Raises BadQuery."""
    zone = parse_zone(tz)
    if not _MONTH.fullmatch(text) or not FIRST_YEAR <= int(text[:4]) < LAST_YEAR:
        raise BadQuery(f"month must be a month such as 2026-10; it is {text[:40]!a}")
    # The middle of a month is in it in every zone.
    return window_at(zone, Unit.MONTH, parse_time(f"{text}-15"))


def parse_group(text: str | None) -> dict[str, str | None] | None:
    """Parse one group in the form of an answer: a JSON object of strings and nulls."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text.encode(), type=dict[str, str | None])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise BadQuery('group must be a group as the answer gives it, such as {"model": "m-large"}') from None


def check_group(group: Mapping[str, str | None] | None, names: Collection[str]) -> None:
    """Raise BadQuery unless a group has a value, or null, for each property of the query and for no other."""
    if group is not None and set(group) != set(names):
        raise BadQuery(f"group must say a value, or null, for {', '.join(names) or 'no property'}")


def parse_after(text: str | None) -> Place | None:
    """Parse the position at which the page before ended. Raises BadQuery."""
    if text is None:
        return None
    match = _PLACE.fullmatch(text)
    if match is None or int(match[2]) > ID_MAX:
        raise BadQuery(f"after must be what the page before gave as next; it is {text[:40]!a}")
    return int(match[1]), int(match[2])


def to_after(place: Place | None) -> str | None:
    """Return a position as text; the inverse of `parse_after`."""
    return None if place is None else f"{place[0]}.{place[1]}"


def _window_start(zone: tzinfo, unit: Unit, moment: int) -> int:
    try:
        return window_at(zone, unit, moment)[0]
    except (OverflowError, ValueError):
        # Far beyond the supported years; `Query.checked` rejects it.
        return moment


def _parse_window(text: str) -> Unit:
    if text not in WINDOWS:
        raise BadQuery(f"window must be one of {', '.join(WINDOWS)}; it is {text[:40]!a}")
    return Unit(text)


def _parse_groups(text: str) -> tuple[str, ...]:
    if text == NO_GROUPS:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if (
        len(names) > MAX_GROUPS
        or len(set(names)) < len(names)
        or not all(0 < len(name) <= _PROPERTY_CHARS for name in names)
    ):
        raise BadQuery(
            f"group_by must be up to {MAX_GROUPS} names of properties with commas between them, or {NO_GROUPS}"
        )
    return names


def _parse_choice(name: str, text: Any, yes: tuple[str, ...], no: tuple[str, ...] = ()) -> bool:
    if text is None or text in no:
        return False
    if text in yes:
        return True
    choices = " or ".join((yes[0], *no[:1]))
    raise BadQuery(f"{name} must be {choices}; it is {str(text)[:40]!a}")
