"""The page of evidence: the public keys and what was made; and the form of the usage page that makes it."""

from flask import Blueprint, Response

from app.catalog.backend import Backend
from app.evidence.api import MEMBERS, send_evidence
from app.evidence.documents import to_key_document, to_record_document
from app.evidence.hooks import EvidenceHooks
from app.evidence.sql_evidence import list_keys, list_records
from app.web.offload import Offload
from app.web.pages import Pages, Values
from app.web.parameters import read_form

SHOWN = 100
"""The most files that the page lists."""

AUTHOR = "page"


def evidence_pages(pages: Pages, offload: Offload, hooks: EvidenceHooks) -> Blueprint:
    """Return the routes of `/evidence`."""
    blueprint = pages.blueprint("evidence")

    @blueprint.get("/evidence")
    def show() -> Response:
        return pages.show("evidence.html", _read, shown=SHOWN)

    @blueprint.post("/evidence")
    def make() -> Response:
        texts = read_form(*MEMBERS)
        return send_evidence(offload, hooks, {"tz": str(pages.zone()), "author": AUTHOR, **texts})

    return blueprint


def _read(backend: Backend) -> Values:
    with backend.database.reading() as conn:
        keys = list_keys(conn)
        records = list_records(conn, SHOWN)
    of_ids = {key.id: key for key in keys}
    return {
        "keys": [to_key_document(key, signs=place == 0) for place, key in enumerate(keys)],
        "files": [to_record_document(record, of_ids) for record in records],
    }
