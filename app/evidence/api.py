"""Evidence over HTTP: a file made on request, what was made, and the public keys."""

import secrets
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

from flask import Blueprint, Response

from app.catalog.backend import Backend
from app.clock import clock
from app.errors import BadQuery
from app.evidence.documents import to_key_document, to_record_document
from app.evidence.hooks import EvidenceHooks, Subject
from app.evidence.maker import EvidenceMaker, check_subject, to_evidence_name
from app.evidence.sql_evidence import list_keys, list_records
from app.store.ids import Ids
from app.store.query import parse_author
from app.web.downloads import attachment
from app.web.errors import to_json
from app.web.offload import Offload
from app.web.parameters import read_json_object, read_list_parameters, read_parameters
from app.web.sessions import api_blueprint

MEMBERS = ("metric", "version", "customer_id", "month", "tz", "author")

AUTHOR = "api"
"""Who made it, where a request does not say so."""

_PIECE = 1 << 16
_ZIP = "application/zip"


def evidence_api(offload: Offload, admin_token: str, hooks: EvidenceHooks) -> Blueprint:
    """Return the routes below `/api/v1/evidence`."""
    blueprint = api_blueprint("evidence_api", admin_token, "/api/v1/evidence")

    @blueprint.get("")
    def show_list() -> Response:
        _, before, limit = read_list_parameters()

        def work(backend: Backend) -> object:
            with backend.database.reading() as conn:
                rows = list_records(conn, limit + 1, before)
                keys = {key.id: key for key in list_keys(conn)}
            following = str(rows[limit - 1].id) if len(rows) > limit else None
            return {"evidence": [to_record_document(row, keys) for row in rows[:limit]], "next": following}

        return to_json(offload(work))

    @blueprint.post("")
    def make() -> Response:
        document = read_json_object()
        if document is None or not all(isinstance(value, str) for value in document.values()):
            raise BadQuery(f"the body must be a JSON object of texts, with some of {', '.join(MEMBERS)}")
        if wrong := next((name for name in document if name not in MEMBERS), None):
            raise BadQuery(f"there is no member {wrong[:40]!a}: there are {', '.join(MEMBERS)}")
        return send_evidence(offload, hooks, document)

    @blueprint.get("/keys")
    def keys() -> Response:
        read_parameters()

        def work(backend: Backend) -> object:
            with backend.database.reading() as conn:
                rows = list_keys(conn)
            return {"keys": [to_key_document(key, signs=place == 0) for place, key in enumerate(rows)]}

        return to_json(offload(work))

    return blueprint


def send_evidence(offload: Offload, hooks: EvidenceHooks, members: Mapping[str, Any]) -> Response:
    """Make evidence where `offload` runs it, into a file without a name; then send it.

    Raises:
        BadQuery: a member is missing or cannot be used.
        NotFound: there is no such metric or version.

    """
    for name in ("metric", "customer_id", "month"):
        if not members.get(name):
            raise BadQuery(f"{name} is missing: evidence is about one metric, customer_id and month")
    author = parse_author(members.get("author") or AUTHOR)
    subject = check_subject(
        Subject(
            metric=members["metric"],
            version=members.get("version") or None,
            customer_id=members["customer_id"],
            month=members["month"],
            tz=members.get("tz") or "UTC",
        )
    )

    def work(backend: Backend) -> IO[bytes]:
        file = tempfile.TemporaryFile()  # noqa: SIM115  the response closes it
        try:
            EvidenceMaker(backend.database, Ids(secrets.randbelow), clock, hooks).make(subject, author, file)
        except BaseException:
            file.close()
            raise
        return file

    file: IO[bytes] = offload(work)
    size = file.seek(0, 2)
    file.seek(0)
    headers = {**attachment(to_evidence_name(subject)), "Content-Length": str(size)}
    response = Response(_pieces(file), content_type=_ZIP, headers=headers)
    # Also where nobody reads it to its end.
    response.call_on_close(file.close)
    return response


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(_PIECE):
            yield piece
