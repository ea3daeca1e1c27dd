"""Corrections on the JSON API. A request works for a few seconds at most; a larger batch is then resumed."""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response

from app.catalog.backend import Backend
from app.clock import clock
from app.corrections.corrector import make_corrector
from app.corrections.documents import to_document, to_preview_document
from app.corrections.hooks import CorrectionHooksFactory
from app.corrections.selection import MEMBERS, parse_author, parse_reason, parse_selection
from app.errors import BadQuery
from app.store.corrections import VOID, Correction, CorrectionState, get_correction, list_corrections
from app.store.query import parse_path_id
from app.web.errors import to_json
from app.web.offload import Offload, Work
from app.web.parameters import read_json_object, read_list_parameters, read_parameters
from app.web.sessions import api_blueprint

RUN_SECONDS = 5.0
"""The most time that one request spends on steps; its answer says `running` or `undoing` where there are more."""

AUTHOR = "api"
"""Who did it, where a request does not say so."""


def corrections_api(offload: Offload, admin_token: str, make_hooks: CorrectionHooksFactory) -> Blueprint:
    """Return the routes below `/api/v1/corrections`."""
    blueprint = api_blueprint("corrections_api", admin_token, "/api/v1/corrections")

    @blueprint.get("")
    def show_list() -> Response:
        return to_json(offload(_list()))

    @blueprint.post("")
    def void() -> Response:
        return _answer(offload(_void(make_hooks)))

    @blueprint.get("/<correction_id>")
    def show(correction_id: str) -> Response:
        read_parameters()
        return to_json(to_document(_get(offload, correction_id)))

    @blueprint.post("/<correction_id>/undo")
    def undo(correction_id: str) -> Response:
        document = _read_body("reason", "author")
        reason, author = parse_reason(document.get("reason")), parse_author(document.get("author", AUTHOR))
        correction = _get(offload, correction_id)

        def work(backend: Backend) -> dict[str, Any]:
            corrector = make_corrector(backend.database, make_hooks)
            undo = corrector.begin_undo(correction.id, author, reason)
            return to_document(corrector.run(undo, seconds=RUN_SECONDS))

        return _answer(offload(work))

    @blueprint.post("/<correction_id>/resume")
    def resume(correction_id: str) -> Response:
        correction = _get(offload, correction_id)
        return _answer(
            offload(
                lambda backend: to_document(
                    make_corrector(backend.database, make_hooks).run(correction, seconds=RUN_SECONDS)
                )
            )
        )

    return blueprint


def _list() -> Work:
    _, before, limit = read_list_parameters()

    def work(backend: Backend) -> object:
        with backend.database.reading() as conn:
            rows = list_corrections(conn, limit + 1, before)
        following = str(rows[limit - 1].id) if len(rows) > limit else None
        return {"corrections": [to_document(row) for row in rows[:limit]], "next": following}

    return work


def _void(make_hooks: CorrectionHooksFactory) -> Callable[[Backend], dict[str, Any]]:
    document = _read_body("kind", *MEMBERS, "reason", "author", "dry_run")
    if document.pop("kind", None) != VOID:
        raise BadQuery(f"kind must be {VOID}")
    dry_run = document.pop("dry_run", False)
    if not isinstance(dry_run, bool):
        raise BadQuery("dry_run must be true or false")
    reason, author = parse_reason(document.pop("reason", None)), parse_author(document.pop("author", AUTHOR))
    selection = parse_selection(document, clock())

    def work(backend: Backend) -> dict[str, Any]:
        corrector = make_corrector(backend.database, make_hooks)
        preview = corrector.preview(selection)
        if dry_run or not preview.tally.events:
            return to_preview_document(preview, dry_run=dry_run)
        return to_document(corrector.run(corrector.begin(preview, author, reason), seconds=RUN_SECONDS))

    return work


def _get(offload: Offload, text: str) -> Correction:
    number = parse_path_id("a correction", text)

    def work(backend: Backend) -> Correction:
        with backend.database.reading() as conn:
            return get_correction(conn, number)

    correction: Correction = offload(work)
    return correction


def _answer(document: dict[str, Any]) -> Response:
    """202 says that there is more to do."""
    more = document.get("state") in {CorrectionState.RUNNING, CorrectionState.UNDOING}
    return to_json(document, 202 if more else 200)


def _read_body(*accepted: str) -> dict[str, Any]:
    document = read_json_object()
    if document is None:
        raise BadQuery(f"the body must be a JSON object with some of {', '.join(accepted)}")
    if wrong := next((name for name in document if name not in accepted), None):
        raise BadQuery(f"there is no member {wrong[:40]!a}: there are {', '.join(accepted)}")
    return document
