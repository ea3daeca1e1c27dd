"""The JSON API of transforms: live versions, drafts, preview, publishing. Needs the admin token or a session.

Unchecked texts only run in the sandbox, a separate process; see app.transforms.sandbox.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from flask import Blueprint, Response, request

from app.catalog.backend import Backend
from app.catalog.files import FILE_BYTES_MAX, to_path
from app.catalog.live import KIND
from app.clock import clock
from app.core.segment import MAX_CALL_BYTES
from app.core.times import format_time
from app.errors import BadQuery, EditConflict, TransformInvalid
from app.settings import Settings
from app.store.engine import Connection, Database
from app.store.publications import list_live
from app.store.query import parse_limit
from app.store.review import read_calls
from app.transforms.catalog_documents import find_live_transform, list_transforms, read_transform, read_version
from app.transforms.documents import DraftDocument, to_draft_document, to_version
from app.transforms.sandboxes import Sandboxes
from app.transforms.sql_drafts import DraftConflict, discard_draft, save_draft
from app.transforms.traffic import CALLS_FOR_PATHS, list_ids_for, list_paths
from app.transforms.workbench import (
    ImpactRequest,
    PreviewRequest,
    PublishRequest,
    ResolveRequest,
    RollbackRequest,
    UnpublishRequest,
)
from app.web.application import body_limit
from app.web.body import Limit
from app.web.errors import to_json
from app.web.offload import Offload
from app.web.parameters import read_parameters
from app.web.sessions import api_blueprint

T = TypeVar("T")

# In ASCII-only JSON no character takes more than three times its bytes in UTF-8. The other fields are short.
_TEXT = Limit(3 * FILE_BYTES_MAX + (4 << 10), "the most that a text takes")
_TEXT_AND_CALL = Limit(_TEXT.most + 3 * MAX_CALL_BYTES, "the most that a text and a call take")
_JSON = "application/json"
_PICKED_CALLS = 20
_CALLS_MAX = 100
_LAST_MAX = 10_000


class SaveRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A draft to save; `revision` is that of the draft it was begun from, 0 if there was none.

    `base` is the live version that a new draft was begun from; without it, the one that is live now.
    """

    text: str
    revision: int
    base: str | msgspec.UnsetType | None = msgspec.UNSET


class DiscardRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A draft to discard."""

    revision: int


def transforms_api(database: Database, settings: Settings, offload: Offload, sandboxes: Sandboxes) -> Blueprint:
    """Return the routes below `/api/v1/transforms`."""
    blueprint = api_blueprint("transforms_api", settings.admin_token, "/api/v1/transforms")
    blueprint.register_error_handler(TransformInvalid, _invalid_response)
    blueprint.register_error_handler(DraftConflict, _conflict_response)
    _add_reads(blueprint, offload, sandboxes, settings.transforms_dir)
    _add_drafts(blueprint, database, settings.transforms_dir)
    _add_sandbox_jobs(blueprint, sandboxes)
    return blueprint


def _add_reads(blueprint: Blueprint, offload: Offload, sandboxes: Sandboxes, folder: Path) -> None:
    @blueprint.get("", strict_slashes=False)
    def list_all() -> Response:
        read_parameters()
        return to_json(offload(lambda backend: _list(backend, folder)))

    @blueprint.get("/<name>")
    def show(name: str) -> Response:
        read_parameters()
        to_path(folder, name)
        # A person who opens a transform will soon want a preview.
        sandboxes.warm()
        return to_json(offload(lambda backend: _show(backend, folder, name)))

    @blueprint.get("/<name>/versions/<version>")
    def version(name: str, version: str) -> Response:
        read_parameters()
        return to_json(offload(_reading(lambda conn: read_version(conn, name, version))))

    @blueprint.get("/<name>/calls")
    def calls(name: str) -> Response:
        texts = read_parameters("limit", "event")
        limit = min(parse_limit(texts.get("limit", str(_PICKED_CALLS))), _CALLS_MAX)
        return to_json(offload(lambda backend: _calls(backend, name, texts.get("event"), limit)))

    @blueprint.get("/<name>/paths")
    def paths(name: str) -> Response:
        texts = read_parameters("event")
        return to_json(offload(lambda backend: _paths(backend, name, texts.get("event"))))


def _add_drafts(blueprint: Blueprint, database: Database, folder: Path) -> None:
    @blueprint.put("/<name>")
    @body_limit(_TEXT)
    def save(name: str) -> Response:
        to_path(folder, name)
        body = _read_body(SaveRequest)
        _check_text(body.text)
        base = body.base if isinstance(body.base, str) else None
        digest = _to_digest(base) if base is not None else None
        if "\0" in body.text:
            raise BadQuery("the text holds a NUL character, which cannot be stored")
        with database.writing() as conn:
            if body.base is msgspec.UNSET:
                digest = _live_digest(conn, name)
            draft = save_draft(conn, name, body.text, body.revision, digest, clock())
        answer = {"revision": draft.revision, "saved_at": format_time(draft.saved_at), "base": to_version(draft.base)}
        return to_json(answer)

    @blueprint.delete("/<name>/draft")
    def discard(name: str) -> Response:
        body = _read_body(DiscardRequest)
        with database.writing() as conn:
            discard_draft(conn, name, body.revision, clock())
        return to_json({})


def _add_sandbox_jobs(blueprint: Blueprint, sandboxes: Sandboxes) -> None:
    @blueprint.post("/<name>/preview")
    @body_limit(_TEXT_AND_CALL)
    def preview(name: str) -> Response:
        body = _read_body(PreviewRequest)
        _check_text(body.text)
        if body.call is not None and len(body.call) > MAX_CALL_BYTES:
            raise BadQuery(f"the call is larger than the limit of {MAX_CALL_BYTES} bytes")
        return _json_response(sandboxes.preview(name, request.get_data()))

    @blueprint.post("/<name>/impact")
    @body_limit(_TEXT)
    def impact(name: str) -> Response:
        body = _read_body(ImpactRequest)
        _check_text(body.text)
        if not 1 <= body.last <= _LAST_MAX:
            raise BadQuery(f"last must be a whole number from 1 to {_LAST_MAX}")
        return _json_response(sandboxes.work("impact", name, request.get_data()))

    @blueprint.post("/<name>/publish")
    @body_limit(_TEXT)
    def publish(name: str) -> Response:
        body = _read_body(PublishRequest)
        _check_text(body.text)
        return _json_response(sandboxes.publish(name, body.text, request.get_data()))

    @blueprint.post("/<name>/rollback")
    def rollback(name: str) -> Response:
        _read_body(RollbackRequest)
        return _json_response(sandboxes.work("rollback", name, request.get_data()))

    @blueprint.post("/<name>/unpublish")
    def unpublish(name: str) -> Response:
        _read_body(UnpublishRequest)
        return _json_response(sandboxes.work("unpublish", name, request.get_data()))

    @blueprint.post("/<name>/resolve")
    def resolve(name: str) -> Response:
        _read_body(ResolveRequest)
        return _json_response(sandboxes.work("resolve", name, request.get_data()))


def _list(backend: Backend, folder: Path) -> object:
    with backend.database.reading() as conn:
        return list_transforms(conn, backend.catalog, folder, clock())


def _show(backend: Backend, folder: Path, name: str) -> object:
    with backend.database.reading() as conn:
        return read_transform(conn, backend.catalog, folder, name)


def _calls(backend: Backend, name: str, event: str | None, limit: int) -> object:
    with backend.database.reading() as conn:
        transform = None if event else find_live_transform(conn, backend.catalog, name)
        rows = read_calls(conn, list_ids_for(conn, transform, event, limit))
    return {
        "calls": [
            {
                "id": str(row.id),
                "received_at": format_time(row.received_at),
                "outcome": row.outcome.value,
                "reason": row.reason,
                "event": row.event,
                "customer_id": row.customer_id,
            }
            for row in rows
        ]
    }


def _paths(backend: Backend, name: str, event: str | None) -> object:
    with backend.database.reading() as conn:
        transform = None if event else find_live_transform(conn, backend.catalog, name)
        return {"paths": list_paths(conn, list_ids_for(conn, transform, event, CALLS_FOR_PATHS))}


def _reading(work: Callable[[Connection], T]) -> Callable[[Backend], T]:
    def read(backend: Backend) -> T:
        with backend.database.reading() as conn:
            return work(conn)

    return read


def _read_body(kind: type[T]) -> T:
    """Read the body of a request. Raises BadQuery."""
    try:
        return msgspec.json.decode(request.get_data(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadQuery(f"the body cannot be used: {error}") from error


def _check_text(text: str) -> None:
    if len(text.encode()) > FILE_BYTES_MAX:
        raise TransformInvalid(f"the text is larger than the limit of {FILE_BYTES_MAX // 1024} KiB")


def _to_digest(version: str) -> bytes:
    try:
        return bytes.fromhex(version)
    except ValueError:
        raise BadQuery(f"{version[:40]!a} is not a version") from None


def _live_digest(conn: Connection, name: str) -> bytes | None:
    live = list_live(conn, KIND).get(name)
    return live.digest if live else None


def _json_response(body: bytes) -> Response:
    return Response(body, content_type=_JSON)


def _invalid_response(error: TransformInvalid) -> Response:
    # A 400 only here: Segment does not resend calls after a 400.
    return to_json({"code": error.code, "message": error.message}, 400)


def _conflict_response(error: DraftConflict) -> Response:
    conflict = EditConflict("somebody else saved this draft meanwhile; nothing was overwritten")
    draft: DraftDocument | None = to_draft_document(error.draft)
    return to_json({"code": conflict.code, "message": conflict.message, "draft": draft}, 409)
