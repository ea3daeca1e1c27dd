"""Lookalikes on the JSON API. They are voided by their ids: `POST /api/v1/corrections`."""

from flask import Blueprint, Response

from app.catalog.backend import Backend
from app.clock import clock
from app.corrections.lookalike_search import find_lookalikes
from app.corrections.lookalikes import MEMBERS, FindCounted, parse_question
from app.store.query import parse_limit
from app.web.errors import to_json
from app.web.offload import Offload
from app.web.parameters import read_parameters
from app.web.sessions import api_blueprint

SEARCH_SECONDS = 3.0
"""After so long the answer says after which customer to go on."""


def lookalikes_api(offload: Offload, admin_token: str, find_counted: FindCounted) -> Blueprint:
    """Return the route `/api/v1/lookalikes`."""
    blueprint = api_blueprint("lookalikes_api", admin_token, "/api/v1/lookalikes")

    @blueprint.get("")
    def show() -> Response:
        texts = read_parameters(*MEMBERS, "after", "limit")
        limit, after = parse_limit(texts.pop("limit", None)), texts.pop("after", None)
        question = parse_question(texts, clock())

        def work(backend: Backend) -> object:
            with backend.database.reading() as conn:
                return find_lookalikes(conn, question, find_counted, limit=limit, after=after, seconds=SEARCH_SECONDS)

        return to_json(offload(work))

    return blueprint
