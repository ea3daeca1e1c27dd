"""The page of usage: what a metric says about a period, and the events behind each number."""

from flask import Blueprint, Response, request

from app.clock import clock
from app.errors import BadQuery, NotFound
from app.metrics.pages_query import EVENTS_PARAMETERS, PAGE_PARAMETERS, ZONES, UsageView, presets, read_address
from app.metrics.pages_view import UNANSWERED, read_events, read_list, read_usage, tell_number
from app.metrics.windows import WINDOWS
from app.settings import Settings
from app.web.pages import Pages, Values

_EMPTY = UsageView(texts={})


def usage(pages: Pages, settings: Settings) -> Blueprint:
    """Return the routes `/usage` and `/usage/events`."""
    blueprint = pages.blueprint("usage")
    folder = settings.metrics_dir

    @blueprint.get("/usage", strict_slashes=False)
    def show() -> Response:
        now = clock()
        try:
            asked = read_address(request.args.lists(), PAGE_PARAMETERS)
        except BadQuery as error:
            values = {**pages.read(read_list(folder)), **UNANSWERED, "problem": error.message, "status": 400}
            return _page(pages, "usage.html", _EMPTY, now, values)
        if not asked.metric:
            # What else was chosen is kept until a metric is.
            return _page(pages, "usage_list.html", asked, now, {**pages.read(read_list(folder)), "folder": str(folder)})
        return _page(pages, "usage.html", asked, now, pages.read(read_usage(asked, folder, now)))

    @blueprint.get("/usage/events")
    def events() -> Response:
        asked = read_address(request.args.lists(), EVENTS_PARAMETERS)
        if not asked.metric:
            raise NotFound("the events behind a number are those of a metric: choose one at /usage")
        return pages.show("usage_events.html", read_events(asked, clock()), asked=asked, number=tell_number)

    return blueprint


def _page(pages: Pages, template: str, asked: UsageView, now: int, values: Values) -> Response:
    """Render what was read before: only then it is known whether the query could be answered."""
    given = {
        "asked": asked,
        "windows": [one.value for one in WINDOWS],
        "zones": ZONES,
        "presets": presets(asked, now),
        "number": tell_number,
        **values,
    }
    status = given.pop("status", 200)
    return pages.show(template, lambda _reading: given, status=status)
