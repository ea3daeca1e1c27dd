"""The problems page: calls that need attention, grouped by what is wrong with them."""

from collections.abc import Callable
from urllib.parse import quote, urlencode

from flask import Blueprint, Response

from app.calls.problems import Problems, find_problems, to_document
from app.catalog.backend import Backend
from app.clock import clock
from app.store.query import parse_moment
from app.web.errors import to_json
from app.web.pages import Pages, Values
from app.web.parameters import read_parameters
from app.web.sessions import api_blueprint

RANGES = {"1h": "hour", "1d": "day", "7d": "7 days", "30d": "30 days", "all": "all time"}
"""Periods the page offers; any duration or time is accepted as well."""

_RANGE = "7d"
_NEW = "new"


def problem_pages(pages: Pages) -> Blueprint:
    """Return the route `/problems`."""
    blueprint = pages.blueprint("problems")

    @blueprint.get("/problems")
    def show() -> Response:
        texts = read_parameters("range")
        work = _find(pages.localize(texts))

        def read(backend: Backend) -> Values:
            return {"problems": work(backend)}

        return pages.show(
            "problems.html",
            read,
            range=texts.get("range", _RANGE),
            ranges=RANGES,
            to_editor=_to_editor,
        )

    return blueprint


def problem_api(pages: Pages, admin_token: str) -> Blueprint:
    """Return the route `/api/v1/problems`."""
    blueprint = api_blueprint("problem_api", admin_token)

    @blueprint.get("/problems")
    def show() -> Response:
        work = _find(read_parameters("range"))
        return to_json(pages.read(lambda backend: to_document(work(backend))))

    return blueprint


def _find(texts: dict[str, str]) -> Callable[[Backend], Problems]:
    text = texts.get("range", _RANGE)
    since = None if text == "all" else parse_moment("range", text, clock())
    return lambda backend: find_problems(backend.database, since)


def _to_editor(transform: str | None, sample: str) -> str:
    """Return the address of the editor with a call open, and the transform that took it."""
    return f"/transforms/{quote(transform or _NEW, safe='')}?{urlencode({'call': sample})}"
