"""The page of lookalikes: groups with a box each, and a question before the others of a group are made void."""

import json
from typing import Any

from flask import Blueprint, Response, request

from app.catalog.backend import Backend
from app.clock import clock
from app.corrections.api import RUN_SECONDS
from app.corrections.api_lookalikes import SEARCH_SECONDS
from app.corrections.corrector import make_corrector
from app.corrections.hooks import CorrectionHooksFactory
from app.corrections.lookalike_search import find_lookalikes
from app.corrections.lookalikes import MEMBERS, PERIOD, WITHIN, FindCounted, parse_question
from app.corrections.selection import Selection, parse_selection
from app.errors import BadQuery, EditConflict
from app.store.corrections import Attribution, Correction
from app.store.query import parse_author, parse_reason
from app.web.pages import Pages, Values
from app.web.parameters import to_address, to_texts
from app.web.sessions import CSRF_FIELD
from app.web.sign_in import go_to

_GROUPS = 100
_EFFECTS = 20


def lookalike_pages(pages: Pages, make_hooks: CorrectionHooksFactory, find_counted: FindCounted) -> Blueprint:
    """Return the routes below `/lookalikes`."""
    blueprint = pages.blueprint("lookalikes")

    @blueprint.get("/lookalikes")
    def show() -> Response:
        texts = to_texts(request.args.lists(), (*MEMBERS, "after"))
        words = {**texts, "since": texts.get("since", PERIOD), "within": texts.get("within", WITHIN)}
        localized = pages.localize(words)
        after = localized.pop("after", None)
        question = parse_question(localized, clock())

        def work(backend: Backend) -> Values:
            with backend.database.reading() as conn:
                page = find_lookalikes(conn, question, find_counted, limit=_GROUPS, after=after, seconds=SEARCH_SECONDS)
            boxes = [
                (group, json.dumps(group.spare_ids) if group.spare_ids else None, bytes(group.properties).decode())
                for group in page.groups
            ]
            further = None if page.next is None else to_address("/lookalikes", {**words, "after": page.next})
            filled = dict.fromkeys(MEMBERS, "") | words
            return {"page": page, "boxes": boxes, "question": question, "words": filled, "further": further}

        return pages.show("lookalikes.html", work)

    @blueprint.post("/lookalikes")
    def ask() -> Response:
        selection = _parse_boxes()
        return pages.show("lookalikes_ask.html", lambda backend: _preview(backend, make_hooks, selection))

    @blueprint.post("/lookalikes/void")
    def void() -> Response:
        fields = request.form
        reason, author = parse_reason(fields.get("reason")), parse_author(fields.get("author"))
        selection = _parse_boxes("reason", "author")
        correction = pages.read(lambda backend: _void(backend, make_hooks, selection, author, reason))
        return go_to(f"/corrections/{correction.id}")

    return blueprint


def _parse_boxes(*others: str) -> Selection:
    """Return the events of the boxes that are ticked: each has a JSON list of ids. Raises BadQuery."""
    if wrong := next((name for name in request.form if name not in {CSRF_FIELD, "ids", *others}), None):
        raise BadQuery(f"there is no parameter {wrong[:40]!a}: there is ids")
    ids: list[Any] = []
    for text in request.form.getlist("ids"):
        try:
            listed = json.loads(text)
        except (ValueError, RecursionError):
            listed = None
        if not isinstance(listed, list):
            raise BadQuery("ids must be a JSON list of idempotency ids")
        ids += listed
    if not ids:
        raise BadQuery("no group is selected: tick the boxes of those whose other events are to be made void")
    return parse_selection({"ids": ids}, clock())


def _preview(backend: Backend, make_hooks: CorrectionHooksFactory, selection: Selection) -> Values:
    tally = make_corrector(backend.database, make_hooks).preview(selection).tally
    effects = sorted(tally.effects, key=lambda row: (row.metric, -row.events, row.month))[:_EFFECTS]
    return {"tally": tally, "effects": effects, "ids": json.dumps(selection.ids)}


def _void(
    backend: Backend, make_hooks: CorrectionHooksFactory, selection: Selection, author: str, reason: str
) -> Correction:
    corrector = make_corrector(backend.database, make_hooks)
    preview = corrector.preview(selection)
    if not preview.tally.events:
        raise EditConflict("all these events are void already")
    return corrector.run(corrector.begin(preview, Attribution(author=author, reason=reason)), seconds=RUN_SECONDS)
