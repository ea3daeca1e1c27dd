"""The pages of corrections: count the events of a selection, ask, correct them; see a batch, and undo it."""

from flask import Blueprint, Response, request

from app.catalog.backend import Backend
from app.corrections.api import RUN_SECONDS
from app.corrections.corrector import Corrector, make_corrector
from app.corrections.documents import to_amendment, to_selection, to_tally
from app.corrections.hooks import CorrectionHooksFactory
from app.corrections.pages_form import (
    AMENDMENT,
    SELECTION,
    parse_form_amendment,
    parse_form_selection,
    to_amendment_fields,
    to_selection_fields,
)
from app.corrections.selection import Selection, parse_lotus, parse_name
from app.corrections.sql_corrections import list_event_ids
from app.corrections.text import done_text, to_change_texts
from app.errors import EditConflict
from app.store.corrections import Attribution, Correction, LotusChoice, get_correction, list_corrections
from app.store.query import parse_author, parse_id, parse_path_id, parse_reason
from app.store.tally import CorrectionTally
from app.web.pages import Pages, Values
from app.web.parameters import read_form, read_parameters, to_texts
from app.web.sign_in import go_to

_LISTED = 50
_ROWS = 20
"""Customers, effects and events that are shown; the API has more."""

_TEXT_CHARS = 20_000
"""Of a field: many properties on lines of their own."""

_BATCH = ("reason", "author", "name", "lotus", "counted_at")


def correction_pages(pages: Pages, make_hooks: CorrectionHooksFactory) -> Blueprint:
    """Return the routes `/corrections`."""
    blueprint = pages.blueprint("corrections")

    def corrector_of(backend: Backend) -> Corrector:
        return make_corrector(backend.database, make_hooks)

    @blueprint.get("/corrections")
    def show_list() -> Response:
        # Other pages lead here with a selection: it is shown in the form, and not counted yet.
        fields = to_texts(request.args.lists(), SELECTION)
        return pages.show("corrections.html", _list, fields=fields)

    @blueprint.post("/corrections")
    def ask() -> Response:
        texts = pages.localize(read_form(*SELECTION, *AMENDMENT, chars_max=_TEXT_CHARS))
        return pages.show("correction_ask.html", lambda backend: _preview(corrector_of(backend), texts))

    @blueprint.post("/corrections/amend")
    def ask_values() -> Response:
        selection = parse_form_selection(pages.localize(read_form(*SELECTION)))
        return pages.show("correction_amend.html", lambda backend: _count(corrector_of(backend), selection))

    @blueprint.post("/corrections/start")
    def start() -> Response:
        texts = read_form(*SELECTION, *AMENDMENT, *_BATCH, chars_max=_TEXT_CHARS)
        run = pages.read(lambda backend: _start(corrector_of(backend), texts))
        return go_to(f"/corrections/{run.id}")

    @blueprint.get("/corrections/<correction_id>")
    def show(correction_id: str) -> Response:
        read_parameters()
        number = parse_path_id("a correction", correction_id)
        return pages.show("correction.html", lambda backend: _show(backend, number))

    @blueprint.post("/corrections/<correction_id>/undo")
    def undo(correction_id: str) -> Response:
        number = parse_path_id("a correction", correction_id)
        texts = read_form("reason", "author")
        reason, author = parse_reason(texts.get("reason")), parse_author(texts.get("author"))
        pages.read(lambda backend: _undo(corrector_of(backend), number, author, reason))
        return go_to(f"/corrections/{number}")

    @blueprint.post("/corrections/<correction_id>/resume")
    def resume(correction_id: str) -> Response:
        number = parse_path_id("a correction", correction_id)
        read_form()
        pages.read(lambda backend: corrector_of(backend).run(_get(backend, number), seconds=RUN_SECONDS))
        return go_to(f"/corrections/{number}")

    return blueprint


def _preview(corrector: Corrector, texts: dict[str, str]) -> Values:
    selection, amendment = parse_form_selection(texts), parse_form_amendment(texts)
    preview = corrector.preview(selection, amendment)
    fields = to_selection_fields(selection.to_values())
    return {
        "words": fields,
        "kind": preview.kind,
        "done": done_text(preview.kind),
        "lotus": None,
        "choices": list(LotusChoice) if amendment else [LotusChoice.HOLD, LotusChoice.DIFFERENCE],
        "changes": to_change_texts(amendment),
        "hidden": {**fields, **to_amendment_fields(amendment), "counted_at": str(preview.counted_at)},
        **_shown(preview.tally),
    }


def _count(corrector: Corrector, selection: Selection) -> Values:
    tally = corrector.preview(selection).tally
    return {"words": to_selection_fields(selection.to_values()), "tally": tally}


def _start(corrector: Corrector, texts: dict[str, str]) -> Correction:
    reason, author = parse_reason(texts.get("reason")), parse_author(texts.get("author"))
    name, lotus = parse_name(texts.get("name")), parse_lotus(texts.get("lotus"))
    counted_at = parse_id("counted_at", texts["counted_at"]) if "counted_at" in texts else None
    preview = corrector.preview(parse_form_selection(texts), parse_form_amendment(texts), counted_at)
    if not preview.tally.events:
        raise EditConflict("all events of this selection are corrected already: nothing was done")
    begun = corrector.begin(preview, Attribution(author=author, reason=reason, name=name, lotus=lotus))
    return corrector.run(begun, seconds=RUN_SECONDS)


def _undo(corrector: Corrector, number: int, author: str, reason: str) -> Correction:
    return corrector.run(corrector.begin_undo(number, author, reason), seconds=RUN_SECONDS)


def _shown(tally: CorrectionTally) -> Values:
    """Return a tally, and its first rows: the most events first."""
    customers = sorted(tally.by_customer, key=lambda row: -row[1])
    effects = sorted(tally.effects, key=lambda effect: (effect.metric, -effect.events - effect.added, effect.month))
    return {
        "tally": tally,
        "customers": customers[:_ROWS],
        "more_customers": max(0, len(customers) - _ROWS),
        "effects": effects[:_ROWS],
        "more_effects": max(0, len(effects) - _ROWS),
    }


def _list(backend: Backend) -> Values:
    with backend.database.reading() as conn:
        rows = list_corrections(conn, _LISTED)
    return {"corrections": [(row, to_tally(row)) for row in rows]}


def _get(backend: Backend, number: int) -> Correction:
    with backend.database.reading() as conn:
        return get_correction(conn, number)


def _show(backend: Backend, number: int) -> Values:
    with backend.database.reading() as conn:
        correction = get_correction(conn, number)
        event_ids = list_event_ids(conn, number, _ROWS)
    return {
        "correction": correction,
        "words": to_selection_fields(to_selection(correction)),
        "kind": correction.kind,
        "done": done_text(correction.kind),
        "lotus": correction.lotus,
        "changes": to_change_texts(to_amendment(correction)),
        "event_ids": event_ids,
        **_shown(to_tally(correction)),
    }
