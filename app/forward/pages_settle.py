"""Pages that move many deliveries: retry, credit, release, queue. A first form counts them, a second one moves."""

from collections.abc import Callable

import msgspec
from flask import Blueprint, Response

from app.catalog.backend import Backend
from app.clock import clock
from app.core.times import format_time
from app.errors import BadQuery
from app.forward.api import RETRY_SECONDS
from app.forward.outbox import DELIVERY_PARAMETERS, parse_delivery_filters
from app.forward.retry import Move, move_matching, to_retriable
from app.forward.settlement import (
    count_release,
    credit_with,
    move_one,
    of_state,
    parse_note,
    request_stored,
    request_these,
)
from app.forward.sql_deliveries import DeliveryState, retry
from app.forward.sql_differences import release_held
from app.forward.sql_search import DeliveryFilters, count_matching
from app.settings import Settings
from app.store.query import parse_author, parse_id, parse_path_id
from app.store.review_events import list_call_events
from app.web.pages import Pages, Values, Work
from app.web.parameters import read_form
from app.web.sign_in import go_to


class DeliveryAct(msgspec.Struct, frozen=True):
    """What a person can do about many deliveries."""

    name: str
    verb: str
    done: str
    choose: Callable[[DeliveryFilters], DeliveryFilters]


ACTS = (
    DeliveryAct("retry", "Retry", "queued again", to_retriable),
    DeliveryAct("credit", "Settle", "settled", lambda filters: of_state(filters, DeliveryState.SURPLUS)),
    DeliveryAct("release", "Send", "queued", lambda filters: of_state(filters, DeliveryState.HELD)),
)

_PERSON = ("note", "author")
_TEMPLATE = "deliveries_move.html"


def settlement_pages(pages: Pages, settings: Settings) -> Blueprint:
    """Return the routes that move many deliveries, and those that settle one."""
    blueprint = pages.blueprint("settlement")
    for act in ACTS:
        _add(blueprint, pages, act)

    @blueprint.post("/deliveries/<event_id>/credit")
    def credit_this(event_id: str) -> Response:
        number = parse_path_id("an event", event_id)
        texts = read_form(*_PERSON)
        move = credit_with(parse_note(texts.get("note")), parse_author(texts.get("author")))
        pages.read(lambda backend: move_one(backend.database, move, number, DeliveryState.SURPLUS, clock))
        return go_to(f"/deliveries/{number}")

    @blueprint.post("/deliveries/<event_id>/release")
    def release_this(event_id: str) -> Response:
        number = parse_path_id("an event", event_id)
        read_form()
        pages.read(lambda backend: move_one(backend.database, release_held, number, DeliveryState.HELD, clock))
        return go_to(f"/deliveries/{number}")

    @blueprint.post("/deliveries/queue")
    def queue() -> Response:
        texts = read_form("call", "after")
        if not settings.lotus_api_key:
            raise BadQuery("events are not forwarded: set LOTUS_HOST and LOTUS_API_KEY first")
        if "call" in texts:
            number = parse_path_id("a call", texts["call"])
            pages.read(lambda backend: _queue_call(backend, number))
            return go_to(f"/calls/{number}")
        after = parse_id("after", texts["after"]) if "after" in texts else 0
        return pages.show("deliveries_queued.html", lambda backend: _queue(backend, after))

    return blueprint


def _add(blueprint: Blueprint, pages: Pages, act: DeliveryAct) -> None:
    def ask() -> Response:
        words = pages.localize(read_form(*DELIVERY_PARAMETERS))
        return pages.show(_TEMPLATE, _count(act, words), act=act)

    def start() -> Response:
        texts = pages.localize(read_form(*DELIVERY_PARAMETERS, *(_PERSON if act.name == "credit" else ())))
        person = {name: texts.pop(name) for name in _PERSON if name in texts}
        return pages.show(_TEMPLATE, _start(act, texts, person), act=act, person=person)

    blueprint.add_url_rule(f"/deliveries/{act.name}", f"ask_{act.name}", ask, methods=["POST"])
    blueprint.add_url_rule(f"/deliveries/{act.name}/start", f"start_{act.name}", start, methods=["POST"])


def _count(act: DeliveryAct, words: dict[str, str]) -> Work:
    filters = act.choose(parse_delivery_filters(words, clock()))
    # Fixed times: what is confirmed must be what was counted, and "1h" would move on.
    bounds = {"since": filters.since, "until": filters.until}
    words |= {name: format_time(at) for name, at in bounds.items() if at is not None}

    def work(backend: Backend) -> Values:
        with backend.database.reading() as conn:
            release = count_release(conn, filters) if act.name == "release" else None
            count, further = count_matching(conn, filters)
        return {
            "words": {**words, "state": str(filters.state)},
            "person": {},
            "count": count,
            "doubled": 0 if release is None else release.doubled,
            "is_all": further is None,
            "done": None,
        }

    return work


def _start(act: DeliveryAct, words: dict[str, str], person: dict[str, str]) -> Work:
    filters = act.choose(parse_delivery_filters(words, clock()))
    move: Move = {"retry": retry, "release": release_held}.get(act.name) or credit_with(
        parse_note(person.get("note")), parse_author(person.get("author"))
    )

    def work(backend: Backend) -> Values:
        result = move_matching(backend.database, move, filters, clock, seconds=RETRY_SECONDS)
        return {
            "words": words,
            "count": result.count,
            "doubled": 0,
            "is_all": result.further is None or result.count == 0,
            "done": result,
        }

    return work


def _queue_call(backend: Backend, call_id: int) -> None:
    with backend.database.reading() as conn:
        event_ids = [event.id for event in list_call_events(conn, call_id)]
    request_these(backend.database, event_ids, clock)


def _queue(backend: Backend, after: int) -> Values:
    count, further = request_stored(backend.database, clock, after=after, seconds=RETRY_SECONDS)
    return {"count": count, "further": further}
