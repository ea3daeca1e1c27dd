"""The debugger: the calls, newest first, and the page of one call, which shows why it was counted or not."""

from collections.abc import Callable, Sequence

from flask import Blueprint, Response, request

from app.calls.curl import to_curl
from app.calls.pages_call import read_call
from app.calls.pages_query import ACCEPTED, RANGES, CallQuery, invalid_query, parse_query
from app.calls.review import to_call_document
from app.calls.sql_search import search_calls
from app.catalog.backend import Backend
from app.clock import clock
from app.core.outcome import REASONS_OF, Outcome
from app.errors import BadQuery, NotFound
from app.settings import Settings
from app.store.engine import Connection
from app.store.ids import TAG_BITS, micros_of
from app.store.query import parse_id, parse_path_id
from app.store.review import WholeCall, get_call, get_raw, newest_call_id, read_calls
from app.store.walk import SearchPage
from app.web.pages import Pages, Values, Work
from app.web.parameters import to_texts
from app.web.stages import Panel

PAGE = 50

NEWER_MAX = 100
"""Calls that one poll for newer ones returns at most: the newest."""

_LATE = 30_000_000 << TAG_BITS
"""30 s as a distance between ids: an id is drawn some seconds, at most, before its commit is visible."""

_REMOVED = "the bytes of this call were removed by retention"


def debugger(pages: Pages, settings: Settings, panels: Sequence[Panel]) -> Blueprint:
    """Return the routes `/calls` and below. `panels` add their values to the page of each call."""
    blueprint = pages.blueprint("debugger")

    @blueprint.get("/calls")
    def calls() -> Response:
        try:
            query = parse_query(request.args.lists(), clock(), pages.localize)
        except BadQuery as error:
            return pages.show("calls.html", status=400, **_invalid_query_values(error))
        return pages.show("calls.html", _calls(query), problem=None, **_choices())

    @blueprint.get("/calls/newer")
    def newer() -> Response:
        params = dict(request.args.lists())
        newest = parse_id("newest", "".join(params.pop("newest", ["0"])[:1]))
        work = _newer(parse_query(params.items(), clock(), pages.localize), newest)
        return pages.show("calls_newer.html", work, fragment=True)

    @blueprint.get("/calls/<call_id>")
    def call(call_id: str) -> Response:
        return pages.show("call.html", read_call(_to_id(call_id), clock(), panels))

    @blueprint.get("/calls/<call_id>/raw")
    def raw(call_id: str) -> Response:
        number = _to_id(call_id)
        # As an attachment: whatever it contains, no browser runs it here.
        headers = {"Content-Disposition": f'attachment; filename="call-{number}.json"'}
        return Response(pages.read(_raw(number)), headers=headers, content_type="application/octet-stream")

    @blueprint.get("/calls/<call_id>/curl")
    def curl(call_id: str) -> Response:
        number = _to_id(call_id)
        address = settings.public_url or request.host_url
        secret = next(iter(settings.segment_shared_secrets), None)
        whole: WholeCall = pages.read(_whole(number))
        text = to_curl(str(number), whole.raw or b"", address, secret, route=whole.call.route, envelope=whole.envelope)
        return Response(text, content_type="text/plain; charset=utf-8")

    return blueprint


def _calls(query: CallQuery) -> Work:
    def work(backend: Backend) -> Values:
        with backend.database.reading() as conn:
            newest = newest_call_id(conn)
            step = search_calls(conn, query.filters, query.q, before=query.before, limit=PAGE)
            rows = read_calls(conn, step.ids)
        return {
            "query": query,
            "calls": [to_call_document(row) for row in rows],
            "newest": newest,
            "looked_at": step.looked_at,
            "back_to": _reached_at(step),
            "further": None if step.reached is None else query.address(before=str(step.reached)),
            "full": step.full,
        }

    return work


def _newer(query: CallQuery, newest: int) -> Work:
    def work(backend: Backend) -> Values:
        with backend.database.reading() as conn:
            step, now = _find_newer(conn, query, newest)
            rows = read_calls(conn, step.ids)
        return {"calls": [to_call_document(row) for row in rows], "newest": max(now, newest), "more": step.full}

    return work


def _find_newer(conn: Connection, query: CallQuery, newest: int) -> tuple[SearchPage, int]:
    """Find calls after the id `newest`, reading the last 30 s again: ids are not in the order of commits."""
    now = newest_call_id(conn)
    return search_calls(conn, query.filters, query.q, after=max(0, newest - _LATE), limit=NEWER_MAX), now


def _raw(number: int) -> Callable[[Backend], bytes]:
    def work(backend: Backend) -> bytes:
        with backend.database.reading() as conn:
            raw = get_raw(conn, number)
        if raw is None:
            raise NotFound(_REMOVED)
        return raw

    return work


def _whole(number: int) -> Callable[[Backend], WholeCall]:
    def work(backend: Backend) -> WholeCall:
        with backend.database.reading() as conn:
            whole = get_call(conn, number, same_message_limit=0)
        if whole.raw is None:
            raise NotFound(_REMOVED)
        return whole

    return work


def _reached_at(step: SearchPage) -> int | None:
    return None if step.reached is None else micros_of(step.reached)


def _invalid_query_values(error: BadQuery) -> Values:
    """Return the values of the page for an invalid query."""
    try:
        texts = to_texts(request.args.lists(), ACCEPTED)
    except BadQuery:
        texts = {}
    shown = {"calls": [], "newest": 0, "looked_at": 0, "back_to": None, "further": None, "full": False}
    return {**shown, **_choices(), "query": invalid_query(texts), "problem": error.message}


def _choices() -> Values:
    return {
        "outcomes": list(Outcome),
        "reasons": {outcome: reasons for outcome, reasons in REASONS_OF.items() if len(reasons) > 1},
        "ranges": RANGES,
    }


def _to_id(text: str) -> int:
    return parse_path_id("a call", text, "; the filter `id` of the calls page also takes message ids")
