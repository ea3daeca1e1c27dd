"""The overview: what came, what became of it, and what needs a person."""

from flask import Blueprint, Response

from app.bootstrap import Reading
from app.review import read_ledger
from app.web.pages import Pages, Values


def overview(pages: Pages) -> Blueprint:
    """Return the route `/`."""
    blueprint = pages.blueprint("overview")

    @blueprint.get("/", strict_slashes=False)
    def show() -> Response:
        return pages.show("overview.html", _read)

    return blueprint


def _read(reading: Reading) -> Values:
    return {"ledger": read_ledger(reading.database)}
