"""Settling deliveries on the JSON API: credit a surplus, release what is held back, queue the rest, and export."""

from collections.abc import Iterator

from flask import Blueprint, Response

from app.catalog.backend import Backend
from app.clock import clock
from app.errors import BadQuery
from app.forward.api import RETRY_SECONDS, read_move_request
from app.forward.export import DeliveryExport, ExportFormat, MeasureValues
from app.forward.outbox import DELIVERY_PARAMETERS, parse_delivery_filters
from app.forward.retry import Move, move_matching
from app.forward.settlement import count_release, credit_with, move_one, of_state, parse_note, request_stored
from app.forward.sql_deliveries import DeliveryState
from app.forward.sql_differences import release_held
from app.forward.sql_search import DeliveryFilters, count_matching
from app.store.query import parse_author, parse_id, parse_path_id
from app.web.errors import to_json
from app.web.offload import Offload, Work
from app.web.parameters import read_json_object, read_parameters
from app.web.sessions import api_blueprint

AUTHOR = "api"
"""Who did it, where a request does not say so."""

_TYPES = {ExportFormat.JSON: "application/json"}
_CSV = "text/csv; charset=utf-8"


def settlement_api(offload: Offload, admin_token: str, measure: MeasureValues) -> Blueprint:
    """Return the routes of `/api/v1/deliveries` that settle deliveries."""
    blueprint = api_blueprint("settlement_api", admin_token)

    @blueprint.post("/deliveries/credit")
    def credit() -> Response:
        texts, options = read_move_request(*DELIVERY_PARAMETERS, words=("note", "author"))
        filters = of_state(parse_delivery_filters(texts, clock()), DeliveryState.SURPLUS)
        move = credit_with(parse_note(options.get("note")), parse_author(options.get("author", AUTHOR)))
        return to_json(offload(_count(filters) if options.get("dry_run") else _move(move, filters, options)))

    @blueprint.post("/deliveries/release")
    def release() -> Response:
        texts, options = read_move_request(*DELIVERY_PARAMETERS)
        filters = of_state(parse_delivery_filters(texts, clock()), DeliveryState.HELD)
        return to_json(offload(_count(filters) if options.get("dry_run") else _move(release_held, filters, options)))

    @blueprint.post("/deliveries/<event_id>/credit")
    def credit_this(event_id: str) -> Response:
        number = parse_path_id("an event", event_id)
        document = _read_object("note", "author")
        move = credit_with(parse_note(document.get("note")), parse_author(document.get("author", AUTHOR)))
        settled = offload(lambda backend: move_one(backend.database, move, number, DeliveryState.SURPLUS, clock))
        return to_json({"credited": settled})

    @blueprint.post("/deliveries/<event_id>/release")
    def release_this(event_id: str) -> Response:
        number = parse_path_id("an event", event_id)
        released = offload(lambda backend: move_one(backend.database, release_held, number, DeliveryState.HELD, clock))
        return to_json({"released": released})

    @blueprint.post("/deliveries/queue")
    def queue() -> Response:
        document = _read_object("after")
        after = document.get("after", "0")
        if not isinstance(after, str):
            raise BadQuery("after must be a text, as an answer gives it in next")
        number = parse_id("after", after)
        count, further = offload(
            lambda backend: request_stored(backend.database, clock, after=number, seconds=RETRY_SECONDS)
        )
        return to_json({"count": count, "next": None if further is None else str(further)})

    @blueprint.get("/deliveries/export")
    def export() -> Response:
        texts = read_parameters(*DELIVERY_PARAMETERS, "format")
        shape = parse_format(texts.pop("format", ExportFormat.JSON))
        filters = parse_delivery_filters({"state": DeliveryState.UNFORWARDABLE.value, **texts}, clock())
        return stream_export(offload, DeliveryExport(filters, shape, measure), filters, shape)

    return blueprint


def parse_format(text: str) -> ExportFormat:
    """Return the form of an export. Raises BadQuery."""
    if text not in set(ExportFormat):
        raise BadQuery(f"format must be one of {', '.join(ExportFormat)}; it is {text[:40]!a}")
    return ExportFormat(text)


def stream_export(offload: Offload, pieces: DeliveryExport, filters: DeliveryFilters, shape: ExportFormat) -> Response:
    """Return an export, written while it is sent."""

    def read() -> Iterator[str]:
        while (piece := offload(lambda backend: pieces.read_piece(backend.database))) is not None:
            yield piece

    name = f"deliveries_{filters.state}{'_sums' if shape is ExportFormat.SUMS else ''}"
    suffix = "json" if shape is ExportFormat.JSON else "csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}.{suffix}"'}
    return Response(read(), content_type=_TYPES.get(shape, _CSV), headers=headers)


def _read_object(*accepted: str) -> dict[str, object]:
    document = read_json_object()
    if document is None:
        raise BadQuery(f"the body must be a JSON object with some of {', '.join(accepted)}")
    if wrong := next((name for name in document if name not in accepted), None):
        raise BadQuery(f"there is no member {wrong[:40]!a}: there are {', '.join(accepted)}")
    return document


def _count(filters: DeliveryFilters) -> Work:
    def work(backend: Backend) -> object:
        with backend.database.reading() as conn:
            if filters.state is DeliveryState.HELD:
                row = count_release(conn, filters)
                return {"dry_run": True, "count": row.count, "is_all": row.is_all, "doubled": row.doubled}
            count, further = count_matching(conn, filters)
        return {"dry_run": True, "count": count, "is_all": further is None}

    return work


def _move(move: Move, filters: DeliveryFilters, options: dict[str, object]) -> Work:
    before = parse_id("before", str(options["before"])) if "before" in options else None

    def work(backend: Backend) -> object:
        result = move_matching(backend.database, move, filters, clock, seconds=RETRY_SECONDS, before=before)
        return {
            "dry_run": False,
            "count": result.count,
            "left": result.left,
            "next": None if result.further is None else str(result.further),
        }

    return work
