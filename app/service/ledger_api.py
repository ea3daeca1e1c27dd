"""The ledger in the JSON API. Only with the admin token."""

from flask import Blueprint, Response

from app.catalog.backend import Backend
from app.clock import clock
from app.service.ledger import read_ledger
from app.store.query import parse_moment
from app.web.errors import to_json
from app.web.offload import Offload
from app.web.parameters import read_parameters
from app.web.sessions import api_blueprint


def ledger_api(offload: Offload, admin_token: str) -> Blueprint:
    """Return the route `/api/v1/ledger`."""
    blueprint = api_blueprint("ledger_api", admin_token)

    @blueprint.get("/ledger")
    def ledger() -> Response:
        texts = read_parameters("since", "until")
        since, until = (
            parse_moment(name, texts[name], clock()) if name in texts else None for name in ("since", "until")
        )

        def read(backend: Backend) -> object:
            return read_ledger(backend.database, since, until)

        return to_json(offload(read))

    return blueprint
