"""The page of one transform: a call, the text, the event. Its buttons use `/api/v1/transforms`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from flask import Blueprint, Response, request

from app.catalog.backend import Backend
from app.catalog.files import to_path
from app.core.segment import Call, parse_call
from app.core.transform.transform import DEFAULT
from app.errors import CallRejected, NotFound, TransformInvalid
from app.store.engine import Connection
from app.store.kept import KeptCall, read_kept
from app.store.query import parse_path_id
from app.transforms.sql_drafts import list_drafted
from app.transforms.starter import make_starter, to_name
from app.transforms.traffic import list_ids_for
from app.web.pages import Pages
from app.web.sign_in import go_to

_NAMES_TRIED = 100
_CALLS_LOOKED_AT = 50
_BYTES_LOOKED_AT = 1 << 20
_EVENT_CHARS_MAX = 200


def editor(pages: Pages) -> Blueprint:
    """Return the routes `/transforms/<name>` and `/transforms/new`."""
    blueprint = pages.blueprint("editor")

    @blueprint.get("/transforms/new")
    def new() -> Response:
        """Begin a transform for a call that no other takes; without a call, show the transform named `new`."""
        call = request.args.get("call")
        if call is None:
            return show("new")
        name = pages.read(_find_name(_to_id(call)))
        return go_to(f"/transforms/{quote(name)}?call={quote(call)}")

    @blueprint.get("/transforms/<name>")
    def show(name: str) -> Response:
        _check_name(name)
        call = request.args.get("call", "")
        call_id = _to_id(call) if call else None
        event = request.args.get("event", "")[:_EVENT_CHARS_MAX]
        return pages.show(
            "editor.html",
            lambda backend: {"starter": _make_starter(backend, call_id, event)},
            name=name,
            call=call,
            example="example" in request.args,
        )

    return blueprint


def _check_name(name: str) -> None:
    try:
        to_path(Path(), name)
    except TransformInvalid as error:
        raise NotFound(error.message) from error


def _to_id(text: str) -> int:
    return parse_path_id("a call", text, "; follow the link on the page of a call")


def _find_name(call_id: int) -> Callable[[Backend], str]:
    """Return a function that finds a name for a transform of a call: one that is not live and has no draft."""

    def find(backend: Backend) -> str:
        with backend.database.reading() as conn:
            call = _read_call(conn, call_id)
            used = {*backend.catalog.read_live(conn).texts, *list_drafted(conn)}
        first = to_name((call.event or call.type) if call else "")
        candidates = (first if number == 1 else f"{first}_{number}" for number in range(1, _NAMES_TRIED))
        return next((name for name in candidates if name not in used), first)

    return find


def _make_starter(backend: Backend, call_id: int | None, event: str) -> str:
    """Return the text that the editor shows for a name that has none yet.

    It is made from the call and others like it, or from stored calls of the event; without either, it is a blank form.
    """
    with backend.database.reading() as conn:
        call = None if call_id is None else _read_call(conn, call_id)
        default = backend.catalog.read_live(conn).transforms.get(DEFAULT)
        name = event if call is None else (call.event or "")
        if default is None or (call is None and not name):
            return _BLANK
        if call is not None and (call.type != "track" or not name):
            return _OF_TYPE.format(type=call.type)
        documents = [similar.document for similar in _read_similar(conn, name, call)]
    if call is not None:
        documents.insert(0, call.document)
    text = make_starter(name, documents, default, backend.catalog.parse, "")
    # The first line names the schema for editors of files; this editor needs none.
    return text.split("\n", 1)[1]


def _read_similar(conn: Connection, event: str, call: Call | None) -> Iterator[Call]:
    """Yield other stored calls of an event: together they show which properties there are."""
    ids = list_ids_for(conn, None, event, _CALLS_LOOKED_AT)
    for row in read_kept(conn, ids, _BYTES_LOOKED_AT):
        similar = _parse(row)
        if similar is not None and similar.type == "track" and (call is None or similar.document != call.document):
            yield similar


def _read_call(conn: Connection, call_id: int) -> Call | None:
    """Return a stored call; None if it cannot be parsed, or its bytes were removed. Raises NotFound."""
    rows = read_kept(conn, [call_id])
    if not rows:
        raise NotFound(f"there is no call {call_id}")
    return _parse(rows[0])


def _parse(row: KeptCall) -> Call | None:
    if row.raw is None:
        return None
    try:
        return parse_call(row.raw, row.read())
    except CallRejected:
        return None


_BLANK = """\
description: What it is billed for, in one line.
match:
  event: Name of the event
event:
  event_name: {const: name_in_lotus}
  properties: properties
"""

_OF_TYPE = """\
description: What it is billed for, in one line.
match:
  type: {type}
event:
  event_name: {{const: {type}}}
  properties: coalesce(properties, traits, `{{}}`)
"""
