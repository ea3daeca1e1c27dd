"""Corrections on the JSON API. A request works for a few seconds at most; a larger batch is then resumed."""

from collections.abc import Callable, Iterator
from typing import Any

from flask import Blueprint, Response

from app.catalog.backend import Backend
from app.clock import clock
from app.corrections.amendment import Amendment, parse_amendment
from app.corrections.corrector import make_corrector
from app.corrections.documents import to_document, to_preview_document
from app.corrections.export import CSV_HEAD, to_csv, to_event_document
from app.corrections.hooks import CorrectionHooksFactory
from app.corrections.selection import MEMBERS, parse_lotus, parse_name, parse_selection
from app.corrections.sql_export import BatchEvent, list_batch_events
from app.errors import BadQuery
from app.store.corrections import (
    AMEND,
    VOID,
    Attribution,
    Correction,
    CorrectionState,
    get_correction,
    list_corrections,
)
from app.store.query import parse_author, parse_id, parse_limit, parse_path_id, parse_reason
from app.web.errors import to_json
from app.web.offload import Offload, Work
from app.web.parameters import read_json_object, read_list_parameters, read_parameters
from app.web.sessions import api_blueprint

RUN_SECONDS = 5.0
"""The most time that one request spends on steps; its answer says `running` or `undoing` where there are more."""

AUTHOR = "api"
"""Who did it, where a request does not say so."""


_BATCH = ("set", "unset", "reason", "author", "name", "lotus", "dry_run")
_PIECE = 1000


def corrections_api(offload: Offload, admin_token: str, make_hooks: CorrectionHooksFactory) -> Blueprint:
    """Return the routes below `/api/v1/corrections`."""
    blueprint = api_blueprint("corrections_api", admin_token, "/api/v1/corrections")

    @blueprint.get("")
    def show_list() -> Response:
        return to_json(offload(_list()))

    @blueprint.post("")
    def correct() -> Response:
        return _answer(offload(_correct(make_hooks)))

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

    @blueprint.get("/<correction_id>/events")
    def events(correction_id: str) -> Response:
        return to_json(offload(_events(_get(offload, correction_id))))

    @blueprint.get("/<correction_id>/events.csv")
    def events_csv(correction_id: str) -> Response:
        read_parameters()
        correction = _get(offload, correction_id)
        headers = {"Content-Disposition": f'attachment; filename="correction_{correction.id}.csv"'}
        pieces = _stream_csv(offload, correction)
        return Response(pieces, content_type="text/csv; charset=utf-8", headers=headers)

    return blueprint


def _list() -> Work:
    _, before, limit = read_list_parameters()

    def work(backend: Backend) -> object:
        with backend.database.reading() as conn:
            rows = list_corrections(conn, limit + 1, before)
        following = str(rows[limit - 1].id) if len(rows) > limit else None
        return {"corrections": [to_document(row) for row in rows[:limit]], "next": following}

    return work


def _events(correction: Correction) -> Work:
    texts = read_parameters("after", "limit")
    after = parse_id("after", texts["after"]) if "after" in texts else -1
    limit = parse_limit(texts.get("limit"))

    def work(backend: Backend) -> object:
        with backend.database.reading() as conn:
            rows = list_batch_events(conn, correction.id, after, limit + 1)
        following = str(rows[limit - 1].event_id) if len(rows) > limit else None
        return {"events": [to_event_document(row) for row in rows[:limit]], "next": following}

    return work


def _stream_csv(offload: Offload, correction: Correction) -> Iterator[str]:
    """Yield all events of a batch piece by piece: no large file delays a webhook request, or is held in memory."""
    yield CSV_HEAD
    after = -1
    while True:

        def work(backend: Backend, after: int = after) -> list[BatchEvent]:
            with backend.database.reading() as conn:
                return list_batch_events(conn, correction.id, after, _PIECE)

        rows: list[BatchEvent] = offload(work)
        if not rows:
            return
        after = rows[-1].event_id
        yield to_csv(rows)


def _correct(make_hooks: CorrectionHooksFactory) -> Callable[[Backend], dict[str, Any]]:
    document = _read_body("kind", *MEMBERS, *_BATCH)
    kind = document.pop("kind", None)
    if not isinstance(kind, str) or kind not in {VOID, AMEND}:
        raise BadQuery(f"kind must be {VOID} or {AMEND}")
    dry_run = document.pop("dry_run", False)
    if not isinstance(dry_run, bool):
        raise BadQuery("dry_run must be true or false")
    reason, author = parse_reason(document.pop("reason", None)), parse_author(document.pop("author", AUTHOR))
    name, lotus = parse_name(document.pop("name", None)), parse_lotus(document.pop("lotus", None))
    amendment = _read_amendment(kind, document.pop("set", {}), document.pop("unset", []))
    selection = parse_selection(document, clock())

    def work(backend: Backend) -> dict[str, Any]:
        corrector = make_corrector(backend.database, make_hooks)
        preview = corrector.preview(selection, amendment, lotus=lotus)
        if dry_run or not preview.tally.events:
            return to_preview_document(preview, lotus, dry_run=dry_run)
        begun = corrector.begin(preview, Attribution(author=author, reason=reason, name=name, lotus=lotus))
        return to_document(corrector.run(begun, seconds=RUN_SECONDS))

    return work


def _read_amendment(kind: str, values: object, unset: object) -> Amendment | None:
    if not isinstance(values, dict) or not isinstance(unset, list):
        raise BadQuery("set must be a JSON object of new values, and unset a list of properties")
    if kind == AMEND:
        return parse_amendment(values, unset)
    if values or unset:
        raise BadQuery(f"set and unset belong to the kind {AMEND}")
    return None


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
