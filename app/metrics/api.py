"""The JSON API of metrics: the list, their answers, and the events behind each number."""

from collections.abc import Callable, Iterator

from flask import Blueprint, Response

from app.catalog.backend import Backend
from app.clock import clock
from app.errors import BadQuery
from app.metrics.answer import answer, verify
from app.metrics.catalog import get_metric, read_live_metrics
from app.metrics.definition import Metric
from app.metrics.documents import (
    to_answer_document,
    to_csv,
    to_csv_name,
    to_explanation_document,
    to_metric_document,
    to_shares_document,
)
from app.metrics.explain import explain, explain_call
from app.metrics.month_documents import to_note_document
from app.metrics.month_note import find_month_note
from app.metrics.parameters import USAGE_PARAMETERS, check_group, parse_after, parse_group, parse_usage_query
from app.metrics.query import Answer
from app.metrics.tables import make_events_table, to_events_name
from app.store.engine import Connection
from app.store.moment import reading_at
from app.store.query import parse_limit, parse_path_id
from app.web.downloads import CSV, attachment, send_csv
from app.web.errors import to_json
from app.web.offload import Offload
from app.web.parameters import read_parameters
from app.web.sessions import api_blueprint


def usage_api(offload: Offload, admin_token: str) -> Blueprint:
    """Return the routes of metrics under `/api/v1`. Each reads the database where `offload` runs it."""
    blueprint = api_blueprint("usage_api", admin_token)

    @blueprint.get("/metrics")
    def metrics() -> Response:
        read_parameters()
        return to_json(offload(_metrics))

    @blueprint.get("/metrics/<metric_name>/usage")
    def usage(metric_name: str) -> Response:
        return _usage(offload, metric_name)

    @blueprint.get("/metrics/<metric_name>/events")
    def events(metric_name: str) -> Response:
        return to_json(offload(_events(metric_name)))

    @blueprint.get("/metrics/<metric_name>/events.csv")
    def events_file(metric_name: str) -> Response:
        return _events_file(offload, metric_name)

    @blueprint.get("/calls/<call_id>/metrics")
    def call_metrics(call_id: str) -> Response:
        return to_json(offload(_call_metrics(call_id)))

    return blueprint


def _metrics(backend: Backend) -> object:
    with backend.database.reading() as conn:
        live = read_live_metrics(conn)
    return {"metrics": [to_metric_document(metric) for metric in live.values()]}


def _usage(offload: Offload, name: str) -> Response:
    texts = read_parameters(*USAGE_PARAMETERS, "format", "verify")
    shape, verified = texts.pop("format", "json"), texts.pop("verify", None)
    if shape not in {"json", "csv"}:
        raise BadQuery(f"format must be json or csv; it is {shape[:40]!a}")
    if verified not in {None, "1"} or (verified and shape == "csv"):
        raise BadQuery("verify must be 1, and belongs to format=json: it says whether raw events give the same answer")
    now = clock()
    query = parse_usage_query(texts, now)

    def work(backend: Backend) -> object:
        with reading_at(backend.database, query.as_of) as conn:
            metric = get_metric(conn, name, texts.get("version"), query.as_of)
            result, same = verify(conn, metric, query, now) if verified else (answer(conn, metric, query, now), None)
            note = None if shape == "csv" else find_month_note(conn, metric, query, now)
        if shape == "csv":
            return result, metric, query.groups(metric)
        return to_answer_document(result, same=same, month=None if note is None else to_note_document(note))

    result = offload(work)
    if isinstance(result, tuple):
        headers = attachment(to_csv_name(result[0], query.customer_id))
        return Response(stream_csv(offload, *result), content_type=CSV, headers=headers)
    return to_json(result)


def _events_file(offload: Offload, name: str) -> Response:
    texts = _read_events_parameters()
    now = clock()
    group, query = parse_group(texts.get("group")), parse_usage_query(texts, now)

    def find(backend: Backend) -> Metric:
        with reading_at(backend.database, query.as_of) as conn:
            return get_metric(conn, name, texts.get("version"), query.as_of)

    metric: Metric = offload(find)
    check_group(group, query.groups(metric))
    return send_csv(offload, make_events_table(metric, query, now, group), to_events_name(metric, query, now))


def _read_events_parameters(*more: str) -> dict[str, str]:
    texts = read_parameters(*USAGE_PARAMETERS, "group", *more)
    if "window" in texts or "fill" in texts:
        raise BadQuery("this lists the events behind one number: give its window_start and window_end as start and end")
    return texts


def _events(name: str) -> Callable[[Backend], object]:
    texts = _read_events_parameters("after", "limit")
    now = clock()
    group, after, limit = (
        parse_group(texts.get("group")),
        parse_after(texts.get("after")),
        parse_limit(texts.get("limit")),
    )
    query = parse_usage_query(texts, now)

    def work(backend: Backend) -> object:
        with reading_at(backend.database, query.as_of) as conn:
            metric = get_metric(conn, name, texts.get("version"), query.as_of)
            check_group(group, query.groups(metric))
            page = explain(conn, metric, query, now, group=group, after=after, limit=limit)
        return to_shares_document(metric, page)

    return work


def _call_metrics(call_id: str) -> Callable[[Backend], object]:
    read_parameters()
    number = parse_path_id("a call", call_id)
    now = clock()

    def work(backend: Backend) -> object:
        with backend.database.reading() as conn:
            explanations = explain_call(conn, _live(conn), number, now)
        return {"metrics": [to_explanation_document(explanation) for explanation in explanations]}

    return work


def _live(conn: Connection) -> list[Metric]:
    return list(read_live_metrics(conn).values())


def stream_csv(offload: Offload, answer: Answer, metric: Metric, names: tuple[str, ...]) -> Iterator[str]:
    """Yield an answer piece by piece: each is written where `offload` runs it, once the one before was sent.

    So memory holds one piece at a time beside the answer, and no large file delays a webhook request.
    """
    pieces = to_csv(answer, metric, names)

    def following(_reading: Backend) -> str | None:
        return next(pieces, None)

    while (piece := offload(following)) is not None:
        yield piece
