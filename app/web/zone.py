"""The time zone of the pages, in which times are shown and typed: what a browser chose, else TIME_ZONE."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, tzinfo

from flask import Blueprint, Response, request

from app.core.times import parse_time
from app.errors import BadQuery
from app.web.sign_in import go_to
from app.zones import find_zone, to_wall, zone_hint

_COOKIE = "segment_lotus_zone"
_YEAR = 365 * 86_400

# A template's macros do not see the values of the page, and the work that reads a page runs on another thread than its
# request: so neither can be handed the zone as a value.
_page_zone: ContextVar[tzinfo] = ContextVar("page_zone", default=UTC)


def find_chosen_zone() -> tzinfo | None:
    """Return the zone that the browser of this request chose; None without one."""
    return find_zone(request.cookies.get(_COOKIE, ""))


@contextmanager
def showing_in(zone: tzinfo) -> Iterator[None]:
    """Let `page_zone` be this zone while a page is read and rendered."""
    token = _page_zone.set(zone)
    try:
        yield
    finally:
        _page_zone.reset(token)


def page_zone() -> tzinfo:
    """Return the zone of the page that is being read or rendered."""
    return _page_zone.get()


def to_moment(time: int | str, timespec: str = "milliseconds") -> str:
    """Return a time as people read it, in the zone of the page: `2026-11-23 17:30:12.345`.

    `time`: microseconds since 1970, or RFC 3339 as in documents. `timespec`: milliseconds, seconds or minutes.
    """
    return to_wall(page_zone(), parse_time(time) if isinstance(time, str) else time, timespec)


def zone_choice(blueprint: Blueprint) -> Blueprint:
    """Add the form of the frame to a blueprint of pages: a browser chooses its zone, or the default again."""

    @blueprint.post("/time-zone")
    def choose() -> Response:
        name = request.form.get("zone", "").strip()
        if name and find_zone(name) is None:
            raise BadQuery(f"zone {zone_hint(name)}")
        response = go_to(request.form.get("back") or "/")
        # An empty one is deleted at once. It is not secret, and tells nothing about its user.
        response.set_cookie(
            _COOKIE, name, max_age=_YEAR if name else 0, secure=request.is_secure, httponly=True, samesite="Lax"
        )
        return response

    return blueprint
