"""The usage pages: the numbers of a metric for a period, and the events behind each number."""

from flask import Blueprint, Response, redirect, request
from flask.typing import ResponseReturnValue

from app.clock import clock
from app.errors import BadQuery, NotFound
from app.metrics.pages_query import (
    EVENTS_PARAMETERS,
    PAGE_PARAMETERS,
    UsageView,
    address_of_preset,
    list_presets,
    read_address,
)
from app.metrics.pages_view import UNANSWERED, number_text, read_events, read_list, read_usage
from app.metrics.windows import WINDOWS
from app.settings import Settings
from app.web.pages import Pages, Values


def usage(pages: Pages, settings: Settings) -> Blueprint:
    """Return the routes `/usage` and `/usage/events`."""
    blueprint = pages.blueprint("usage")
    folder = settings.metrics_dir

    @blueprint.get("/usage", strict_slashes=False)
    def show() -> ResponseReturnValue:
        now = clock()
        try:
            view = read_address(request.args.lists(), PAGE_PARAMETERS, str(pages.zone()))
            address = address_of_preset(view, now)
        except BadQuery as error:
            values = {**pages.read(read_list(folder)), **UNANSWERED, "problem": error.message, "status": 400}
            return _page(pages, "usage.html", UsageView(texts={}, page_zone=str(pages.zone())), now, values)
        if address:
            return redirect(address, 303)
        if not view.metric:
            # The other parameters stay in the links until a metric is chosen.
            return _page(pages, "usage_list.html", view, now, {**pages.read(read_list(folder)), "folder": str(folder)})
        return _page(pages, "usage.html", view, now, pages.read(read_usage(view, folder, now)))

    @blueprint.get("/usage/events")
    def events() -> Response:
        view = read_address(request.args.lists(), EVENTS_PARAMETERS, str(pages.zone()))
        if not view.metric:
            raise NotFound("the events behind a number are those of a metric: choose one at /usage")
        return pages.show(
            "usage_events.html", read_events(view, clock()), zone=view.zone, view=view, number=number_text
        )

    return blueprint


def _page(pages: Pages, template: str, view: UsageView, now: int, values: Values) -> Response:
    """Render values that were read before, since the status depends on whether the query could be answered."""
    context = {
        "view": view,
        "windows": [unit.value for unit in WINDOWS],
        "presets": list_presets(view, now),
        "number": number_text,
        **values,
    }
    status = context.pop("status", 200)
    return pages.show(template, lambda _reading: context, status=status, zone=view.zone)
