"""Parsers of settings: text to value. Each raises a ValueError that says what is accepted."""

import re
from collections.abc import Callable
from datetime import tzinfo
from urllib.parse import urlsplit

from app.zones import find_zone, zone_hint

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": KIB, "mib": MIB, "gib": GIB}

_DATABASE_SCHEMES = {
    # Heroku and others still hand out the spelling that SQLAlchemy dropped.
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "sqlite": "sqlite",
}

_SERVER = re.compile(r"([^@]*@)?(\[[^\]]*\]|[^@:,\[]*)(:[0-9]*)?(\?.*)?")
"""What stands before the path of a PostgreSQL URL: user and password, one host, its port."""


def parse_database_url(text: str) -> str:
    """Return the URL as SQLAlchemy expects it; `postgres://` and `postgresql://` both mean psycopg 3."""
    scheme, separator, location = text.partition("://")
    spelling = _DATABASE_SCHEMES.get(scheme.lower())
    if not separator or spelling is None:
        message = "must start with sqlite:/// or postgresql://"
        raise ValueError(message)
    if spelling == "sqlite":
        path = location.removeprefix("/").partition("?")[0]
        if not location.startswith("/"):
            message = "needs three slashes before a relative path and four before an absolute one: sqlite:///var/my.db"
            raise ValueError(message)
        if path in {"", ":memory:"} or path.startswith("file:"):
            message = "must name a file: a database in memory is lost at the next restart"
            raise ValueError(message)
    elif not location:
        message = "names no server and no database: postgresql://user:password@host/database"
        raise ValueError(message)
    elif not _SERVER.fullmatch(location.partition("/")[0]):
        message = (
            "must name one server as postgresql://user:password@host:port/database: in user and password, a @ is"
            " written %40 and a / is written %2F"
        )
        raise ValueError(message)
    return f"{spelling}://{location}"


def parse_public_url(text: str) -> str:
    """Return the address of this service, without a trailing slash."""
    parts = urlsplit(text)
    if text and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment):
        raise ValueError("must be an address such as https://billing.example.com")
    return text.rstrip("/")


def parse_lotus_host(text: str) -> str:
    """Return the address of Lotus, without a trailing slash."""
    parts = urlsplit(text)
    more = parts.query or parts.fragment or "@" in parts.netloc
    if text and (parts.scheme not in {"http", "https"} or not parts.hostname or more):
        raise ValueError("must be an address such as https://lotus.example.com")
    return text.rstrip("/")


def parse_list(text: str) -> tuple[str, ...]:
    """Return comma-separated entries, trimmed, without empty ones. An entry may hold any character but a comma."""
    return tuple(entry for part in text.split(",") if (entry := part.strip()))


def parse_basic_auth(text: str) -> tuple[str, ...]:
    """Return comma-separated `user:password` pairs, each as that one text, which a request sends in base64."""
    pairs = parse_list(text)
    for number, pair in enumerate(pairs, start=1):
        user, _, password = pair.partition(":")
        if not (user and password):
            message = f"must be comma-separated user:password pairs; entry {number} is not one"
            raise ValueError(message)
    return pairs


def parse_bool(text: str) -> bool:
    """1, true, yes, on; 0, false, no, off."""
    match text.lower():
        case "1" | "true" | "yes" | "on":
            return True
        case "0" | "false" | "no" | "off":
            return False
    message = "must be 1 or 0 (true, false, yes, no, on and off also work)"
    raise ValueError(message)


def parse_int(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` to `high`."""

    def parse(text: str) -> int:
        # int() also takes "1_0", " 1" and digits of other scripts.
        if not re.fullmatch(r"[0-9]{1,18}", text) or not low <= int(text) <= high:
            message = f"must be a whole number from {low} to {high}"
            raise ValueError(message)
        return int(text)

    return parse


def parse_bytes(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of sizes: whole bytes, or with a unit (16MB is 16,000,000 bytes, 16MiB is 16,777,216)."""

    def parse(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,18}) ?([a-z]*)", text.lower())
        if match is None or match[2] not in _UNITS:
            message = "must be a number of bytes, or a whole number with KB, MB, GB, KiB, MiB or GiB after it"
            raise ValueError(message)
        if not low <= (size := int(match[1]) * _UNITS[match[2]]) <= high:
            message = f"must be from {low} to {high} bytes"
            raise ValueError(message)
        return size

    return parse


def parse_log_level(text: str) -> str:
    """Return the level in lower case."""
    if (level := text.lower()) not in {"debug", "info", "warning", "error"}:
        message = "must be debug, info, warning or error"
        raise ValueError(message)
    return level


def parse_time_zone(text: str) -> tzinfo:
    """Return the time zone of an IANA name."""
    zone = find_zone(text)
    if zone is None:
        raise ValueError(zone_hint(text))
    return zone
