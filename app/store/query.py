"""Parses filters: the query parameters of the JSON API and the options of the command line.

The names are the same in both places. Whatever is invalid raises a BadQuery that names the parameter and says what is
accepted; no parameter is ever silently ignored.
"""

import re
from collections.abc import Mapping
from datetime import UTC, tzinfo
from typing import TypeVar

from app.core.outcome import REASONS_OF, Outcome, Reason
from app.core.times import MIN_MICROS, TimeInvalid, parse_time
from app.errors import BadQuery, NotFound
from app.store.ids import ID_MAX
from app.store.review import CallFilters
from app.store.review_events import EventFilters, Place
from app.zones import find_zone, zone_hint

CALL_PARAMETERS = ("outcome", "reason", "event", "customer", "id", "transform", "since", "until")
EVENT_PARAMETERS = ("customer", "event_name", "idempotency_id", "call_id", "voided", "since", "until")

LIMIT_DEFAULT = 50
REASON_MAX = 500
"""Characters of a reason or a note."""

AUTHOR_MAX = 100
"""Characters of the name of a person, or of what a person names."""

LIMIT_MAX = 500

Name = TypeVar("Name", Outcome, Reason)

_SECONDS_OF = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")
_ID = re.compile(r"[0-9]{1,19}")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def parse_call_filters(texts: Mapping[str, str], now: int) -> CallFilters:
    """Parse the filters of calls; `texts` has some of CALL_PARAMETERS, `now` is in microseconds since 1970."""
    reason = _parse_name("reason", texts["reason"], Reason) if "reason" in texts else None
    outcomes = tuple(
        _parse_name("outcome", name.strip(), Outcome) for name in texts.get("outcome", "").split(",") if name
    )
    check_texts({name: texts[name] for name in ("event", "customer", "id", "transform") if name in texts})
    for outcome, reasons in REASONS_OF.items():
        if reason in reasons and outcomes and outcome not in outcomes:
            raise BadQuery(f"reason {reason} belongs to the outcome {outcome}, and outcome asks for others")
    return CallFilters(
        outcomes=outcomes,
        reason=reason,
        event=texts.get("event"),
        customer=texts.get("customer"),
        id=texts.get("id"),
        transform=texts.get("transform"),
        since=_parse_bound("since", texts, now),
        until=_parse_bound("until", texts, now),
    )


def parse_event_filters(texts: Mapping[str, str], now: int) -> EventFilters:
    """Parse the filters of events; `texts` has some of EVENT_PARAMETERS."""
    voided = texts.get("voided")
    if voided not in {None, "true", "false"}:
        raise BadQuery(f"voided must be true or false; it is {_quote(voided or '')}")
    check_texts({name: texts[name] for name in ("customer", "event_name", "idempotency_id") if name in texts})
    return EventFilters(
        customer=texts.get("customer"),
        event_name=texts.get("event_name"),
        idempotency_id=texts.get("idempotency_id"),
        call_id=parse_id("call_id", texts["call_id"]) if "call_id" in texts else None,
        voided=None if voided is None else voided == "true",
        since=_parse_bound("since", texts, now),
        until=_parse_bound("until", texts, now),
    )


def check_texts(texts: Mapping[str, str]) -> None:
    """Raise BadQuery for text that no database stores: with a NUL, or half of a surrogate pair."""
    for name, text in texts.items():
        if _NO_TEXT.search(text):
            raise BadQuery(f"{name} must be text without NUL or half surrogate pairs; it is {_quote(text)}")


def parse_words(name: str, text: object, most: int = REASON_MAX) -> str:
    """Return what a person wrote, 1 to `most` characters, without spaces around it. Raises BadQuery."""
    words = text.strip() if isinstance(text, str) else ""
    if not 0 < len(words) <= most:
        raise BadQuery(f"{name} must be a text of 1 to {most} characters")
    check_texts({name: words})
    return words


def parse_author(text: object) -> str:
    """Return who does something, as they call themselves. Raises BadQuery."""
    return parse_words("author", text, AUTHOR_MAX)


def parse_reason(text: object) -> str:
    """Return why somebody does something. Raises BadQuery."""
    return parse_words("reason", text)


def parse_moment(name: str, text: str, now: int) -> int:
    """Parse a time, or a duration before `now` (1h, 30m, 7d), to microseconds since 1970."""
    duration = _DURATION.fullmatch(text.strip())
    if duration:
        moment = now - int(duration[1]) * _SECONDS_OF[duration[2]] * 1_000_000
        if moment < MIN_MICROS:
            raise BadQuery(f"{name} reaches back before the year 1; it is {_quote(text)}")
        return moment
    try:
        return parse_time(text)
    except TimeInvalid as error:
        raise BadQuery(f"{name} must be a time, or a duration such as 30m, 1h or 7d: {error}") from error


def parse_zone(text: str | None, default: tzinfo = UTC) -> tzinfo:
    """Parse the name of a time zone."""
    zone = default if text is None else find_zone(text)
    if zone is None:
        raise BadQuery(f"tz {zone_hint(text or '')}; it is {_quote(text or '')}")
    return zone


def parse_limit(text: str | None) -> int:
    """Parse the maximum number of results."""
    if text is None:
        return LIMIT_DEFAULT
    if not (re.fullmatch(r"[0-9]{1,4}", text) and 1 <= int(text) <= LIMIT_MAX):
        raise BadQuery(f"limit must be a whole number from 1 to {LIMIT_MAX}; it is {_quote(text)}")
    return int(text)


def parse_id(name: str, text: str) -> int:
    """Parse an id that this program made."""
    if not (_ID.fullmatch(text) and int(text) <= ID_MAX):
        raise BadQuery(f"{name} must be an id as this API gives it, up to 19 digits; it is {_quote(text)}")
    return int(text)


def parse_path_id(of: str, text: str, hint: str = "") -> int:
    """Parse an id in a path, `of` a call for example. Raises NotFound: there is nothing at that address."""
    try:
        return parse_id("id", text)
    except BadQuery as error:
        raise NotFound(f"the id of {of} is a number of up to {len(str(ID_MAX))} digits{hint}") from error


def parse_place(text: str) -> Place:
    """Parse the end of the previous page of events."""
    call_id, dot, event_id = text.partition(".")
    if not (dot and _ID.fullmatch(call_id) and _ID.fullmatch(event_id)) or max(int(call_id), int(event_id)) > ID_MAX:
        raise BadQuery(f"before must be what the page before gave as next; it is {_quote(text)}")
    return int(call_id), int(event_id)


def _parse_bound(name: str, texts: Mapping[str, str], now: int) -> int | None:
    return parse_moment(name, texts[name], now) if name in texts else None


def _parse_name(parameter: str, text: str, names: type[Name]) -> Name:
    try:
        return names(text)
    except ValueError:
        raise BadQuery(f"{parameter} must be one of {', '.join(names)}; it is {_quote(text)}") from None


def _quote(text: str) -> str:
    return ascii(text[:40])
