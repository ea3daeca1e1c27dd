"""Time zones by their IANA names, and the local time of a moment in one.

They come with the operating system or the package `tzdata`. The name of a zone is `str(zone)`.
"""

import difflib
import re
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

COMMON = (
    "UTC",
    "America/Los_Angeles",
    "America/New_York",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "Asia/Singapore",
    "Asia/Tokyo",
    "Australia/Sydney",
    "Europe/Berlin",
    "Europe/London",
)
"""What a field for a zone suggests; it accepts any other, too."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Excludes files that are not zones, such as `localtime` and `posixrules`, and paths.
_NAME = re.compile(r"[A-Z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2}")
_LONGEST = 64
_NEAR = 3


def find_zone(name: str) -> tzinfo | None:
    """Return the time zone of an IANA name, or None if there is none."""
    if name == "UTC":
        return UTC
    if len(name) <= _LONGEST and _NAME.fullmatch(name):
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            # Not found, not in the zone file format, or a folder such as `America`.
            pass
    return None


def zone_hint(name: str) -> str:
    """Return the accepted forms for an unknown name, with similar names."""
    near = _list_near(name[:_LONGEST])
    question = f" (did you mean {' or '.join(near)}?)" if near else ""
    return f"must be the IANA name of a time zone, such as Europe/Berlin{question}"


def to_wall(zone: tzinfo, micros: int, timespec: str = "seconds") -> str:
    """Return the local time of a moment in a zone: `2026-11-23 17:30:12`.

    A local time that occurs twice gets its offset from UTC, `2026-10-25 02:00:00 +01:00`, and so does one that lies
    outside the years 1 to 9999 there, and is shown in UTC.
    """
    moment = _EPOCH + timedelta(microseconds=micros)
    try:
        moment = moment.astimezone(zone)
        is_twice = moment.utcoffset() != moment.replace(fold=1 - moment.fold).utcoffset()
    except OverflowError:
        is_twice = True
    wall = moment.replace(tzinfo=None).isoformat(" ", timespec)
    offset = moment.isoformat(" ", timespec)[len(wall) :]
    return f"{wall} {offset}" if is_twice else wall


def to_local(zone: tzinfo, micros: int) -> str:
    """Return a moment in a zone with its offset, as RFC 3339: `2026-11-23T17:30:12.345678+01:00`.

    One that lies outside the years 1 to 9999 there is in UTC.
    """
    moment = _EPOCH + timedelta(microseconds=micros)
    try:
        return moment.astimezone(zone).isoformat()
    except OverflowError:
        return moment.isoformat()


def _list_near(name: str) -> list[str]:
    spellings = _spellings()
    near = difflib.get_close_matches(name.strip().lower().replace(" ", "_"), spellings, _NEAR, cutoff=0.75)
    return list(dict.fromkeys(spellings[spelling] for spelling in near))


@cache
def _spellings() -> dict[str, str]:
    """Return the zones by their names in lower case, and by the names of their cities alone."""
    # Etc/GMT+3 is three hours behind, the other way than most who look for it expect.
    names = sorted(name for name in available_timezones() if not name.startswith("Etc/"))
    return {name.rpartition("/")[2].lower(): name for name in names} | {name.lower(): name for name in names}
