"""The list of transforms: the calls, the state and the traffic of each; and the form for a new one."""

from pathlib import Path
from urllib.parse import quote, urlencode

import msgspec
from flask import Blueprint, Response, request

from app.catalog.backend import Backend
from app.clock import clock
from app.errors import NotFound, TransformInvalid, Unavailable
from app.transforms.catalog_documents import list_transforms
from app.transforms.sandboxes import Sandboxes
from app.transforms.starter import to_name
from app.web.pages import Pages, Values
from app.web.sign_in import go_to

_EVENT_CHARS_MAX = 200
_DONE_SENTENCES = {
    "file": "The file is live now. All nodes map by it within two seconds.",
    "live": "The live version was written into the file.",
}


def transforms(pages: Pages, sandboxes: Sandboxes, folder: Path) -> Blueprint:
    """Return the route `/transforms`, and the routes of its forms."""
    blueprint = pages.blueprint("transforms")

    def show(status: int = 200, wrong: str | None = None, notice: tuple[str, str] | None = None) -> Response:
        return pages.show(
            "transforms.html", lambda backend: _read(backend, folder), status=status, wrong=wrong, notice=notice
        )

    @blueprint.get("/transforms", strict_slashes=False)
    def list_all() -> Response:
        name, sentence = request.args.get("done", ""), _DONE_SENTENCES.get(request.args.get("took", ""))
        return show(notice=(name, sentence) if name and sentence else None)

    @blueprint.post("/transforms")
    def new() -> Response:
        event = request.form.get("event", "").strip()
        if not event or len(event) > _EVENT_CHARS_MAX or not event.isprintable():
            return show(400, f"Enter the name of the event, up to {_EVENT_CHARS_MAX} characters.")
        return go_to(f"/transforms/{quote(to_name(event))}?{urlencode({'event': event})}")

    @blueprint.post("/transforms/<name>/resolve")
    def resolve(name: str) -> Response:
        take = request.form.get("take", "")
        if take not in _DONE_SENTENCES:
            return show(400, "Choose the file or the live version.")
        try:
            sandboxes.work("resolve", name, msgspec.json.encode({"take": take}))
        except (TransformInvalid, NotFound) as error:
            return show(400, f"Nothing was changed. {error.message}")
        except Unavailable as error:
            return show(503, f"Nothing was changed. {error.message}")
        return go_to(f"/transforms?{urlencode({'done': name, 'took': take})}")

    return blueprint


def _read(backend: Backend, folder: Path) -> Values:
    with backend.database.reading() as conn:
        return {"listing": list_transforms(conn, backend.catalog, folder, clock())}
