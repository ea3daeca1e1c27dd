"""The pages of corrections: count the events of a selection, ask, make them void; see a batch, and undo it."""

from typing import Any

from flask import Blueprint, Response

from app.catalog.backend import Backend
from app.clock import clock
from app.corrections.api import RUN_SECONDS
from app.corrections.corrector import Corrector, make_corrector
from app.corrections.documents import to_selection, to_tally
from app.corrections.hooks import CorrectionHooksFactory
from app.corrections.selection import Selection, parse_author, parse_reason, parse_selection
from app.corrections.sql_corrections import list_event_ids
from app.errors import EditConflict
from app.store.corrections import Correction, get_correction, list_corrections
from app.store.query import parse_path_id
from app.store.tally import CorrectionTally
from app.web.pages import Pages, Values
from app.web.parameters import read_form, read_parameters
from app.web.sign_in import go_to

_LISTED = 50
_ROWS = 20
"""Customers, effects and events that are shown; the API has more."""

_SELECTION = ("id", "call", "message", "event_name", "customer", "since", "until")
"""Fields of a form. `id` is one idempotency id."""


def correction_pages(pages: Pages, make_hooks: CorrectionHooksFactory) -> Blueprint:
    """Return the routes `/corrections`."""
    blueprint = pages.blueprint("corrections")

    def corrector_of(backend: Backend) -> Corrector:
        return make_corrector(backend.database, make_hooks)

    @blueprint.get("/corrections")
    def show_list() -> Response:
        read_parameters()
        return pages.show("corrections.html", _list)

    @blueprint.post("/corrections")
    def ask() -> Response:
        selection = _parse(pages.localize(read_form(*_SELECTION)))
        return pages.show("correction_ask.html", lambda backend: _preview(corrector_of(backend), selection))

    @blueprint.post("/corrections/start")
    def start() -> Response:
        texts = read_form(*_SELECTION, "reason", "author")
        reason, author = parse_reason(texts.pop("reason", None)), parse_author(texts.pop("author", None))
        selection = _parse(texts)
        run = pages.read(lambda backend: _start(corrector_of(backend), selection, author, reason))
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


def _preview(corrector: Corrector, selection: Selection) -> Values:
    preview = corrector.preview(selection)
    return {"words": _words(selection), "lotus": preview.lotus, **_shown(preview.tally)}


def _start(corrector: Corrector, selection: Selection, author: str, reason: str) -> Correction:
    preview = corrector.preview(selection)
    if not preview.tally.events:
        raise EditConflict("all events of this selection are void already")
    return corrector.run(corrector.begin(preview, author, reason), seconds=RUN_SECONDS)


def _undo(corrector: Corrector, number: int, author: str, reason: str) -> Correction:
    return corrector.run(corrector.begin_undo(number, author, reason), seconds=RUN_SECONDS)


def _parse(texts: dict[str, str]) -> Selection:
    values: dict[str, Any] = {name: text for name, text in texts.items() if name != "id"}
    return parse_selection({**values, "ids": [texts["id"]] if "id" in texts else None}, clock())


def _words(selection: Selection) -> dict[str, str]:
    """Return the fields of a form that mean this selection."""
    values = {name: value for name, value in selection.to_values().items() if value is not None}
    ids = values.pop("ids", [])
    return ({"id": ", ".join(ids)} if ids else {}) | values


def _shown(tally: CorrectionTally) -> Values:
    """Return a tally, and its first rows: the most events first."""
    customers = sorted(tally.by_customer, key=lambda row: -row[1])
    effects = sorted(tally.effects, key=lambda effect: (effect.metric, -effect.events, effect.month))
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
    words = _words(to_selection(correction))
    return {"correction": correction, "words": words, "event_ids": event_ids, **_shown(to_tally(correction))}
