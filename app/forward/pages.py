"""The pages of deliveries: what reaches Lotus, what does not and why, and retries.

A retry of many is confirmed first: the first form counts them.
"""

from collections import Counter

import msgspec
from flask import Blueprint, Response, request

from app.catalog.backend import Backend
from app.clock import clock
from app.errors import BadQuery, NotFound
from app.forward.outbox import to_delivery_document
from app.forward.pages_query import RANGES, DeliveryQuery, read_deliveries_query, to_unusable_query
from app.forward.retry import RETRIABLE, retry_one, try_now
from app.forward.sql_deliveries import DeliveryState, find_next_due
from app.forward.sql_lists import (
    ATTEMPTS,
    GROUPED,
    count_undelivered,
    find_groups,
    get_delivery,
    list_attempts,
    read_deliveries,
    read_last_attempts,
    read_newest_attempt,
)
from app.forward.sql_search import search_deliveries
from app.settings import Settings
from app.store.engine import Connection
from app.store.ids import micros_of
from app.store.ledger import DELIVERY, DIFFERENCE, EVENT, QUEUED, Entry
from app.store.ledger_total import LedgerTotal
from app.store.query import parse_path_id
from app.web.pages import Pages, Values, Work
from app.web.sign_in import go_to

PAGE = 50

# An event this long overdue is late, if no worker has sent anything for as long.
_LATE = 60_000_000


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger of events: stored + differences = the sum of all states + not requested."""

    stored: int
    delivered: int
    waiting: int
    failed: int
    unforwardable: int
    voided: int
    """Made void before they were sent."""
    surplus: int
    credited: int
    held: int
    differences: int
    """Deliveries that are no events."""
    not_requested: int
    """Stored while there was no LOTUS_API_KEY."""
    balances: bool
    """Whether the undelivered rows match the ledger, and there are no more deliveries than stored events."""


def delivery_pages(pages: Pages, settings: Settings) -> Blueprint:
    """Return the routes of `/deliveries`."""
    blueprint = pages.blueprint("deliveries")
    total = LedgerTotal()

    @blueprint.get("/deliveries")
    def show_list() -> Response:
        problem = None
        try:
            query = read_deliveries_query(request.args.lists(), clock(), pages.localize)
        except BadQuery as error:
            query, problem = to_unusable_query(dict(request.args.lists())), error.message
        return pages.show(
            "deliveries.html",
            _list_work(query, total, valid=problem is None),
            status=400 if problem else 200,
            query=query,
            problem=problem,
            forwards=bool(settings.lotus_api_key),
            host=settings.lotus_host,
            states=list(DeliveryState),
            export_of=query.export_address,
            retriable=[state.value for state in RETRIABLE],
            ranges=RANGES,
            grouped=GROUPED,
        )

    @blueprint.get("/deliveries/<event_id>")
    def show(event_id: str) -> Response:
        work = _delivery_work(parse_path_id("an event", event_id))
        return pages.show("delivery.html", work, most=ATTEMPTS, forwards=bool(settings.lotus_api_key))

    @blueprint.post("/deliveries/<event_id>/retry")
    def retry_this(event_id: str) -> Response:
        number = parse_path_id("an event", event_id)
        pages.read(lambda backend: retry_one(backend.database, number, clock))
        return go_to(request.form.get("back") or f"/deliveries/{number}")

    @blueprint.post("/deliveries/try-now")
    def try_lotus() -> Response:
        pages.read(lambda backend: try_now(backend.database))
        return go_to(request.form.get("back") or "/deliveries")

    return blueprint


def _list_work(query: DeliveryQuery, total: LedgerTotal, *, valid: bool) -> Work:
    def work(backend: Backend) -> Values:
        now = clock()
        with backend.database.reading() as conn:
            undelivered = count_undelivered(conn)
            balance = _balance(total.read(conn, now), undelivered)
            groups, edge = find_groups(conn, query.filters)
            step = search_deliveries(conn, query.filters, before=query.before, limit=PAGE) if valid else None
            rows = read_deliveries(conn, step.ids) if step else []
            last = read_last_attempts(conn, [row.attempt_id for row in rows if row.attempt_id is not None])
            late = _read_lateness(conn, now)
        return {
            "balance": balance,
            "groups": groups,
            "grouped_back_to": None if edge is None else micros_of(edge),
            "rows": [(to_delivery_document(row), last.get(row.attempt_id or 0)) for row in rows],
            "looked_at": step.looked_at if step else 0,
            "full": step.full if step else False,
            "back_to": micros_of(step.reached) if step and step.reached else None,
            "further": query.address(before=str(step.reached)) if step and step.reached else None,
            **late,
        }

    return work


def _read_lateness(conn: Connection, now: int) -> Values:
    """Return since when the first event is due, and whether it seems that no worker is running."""
    due = find_next_due(conn)
    newest = read_newest_attempt(conn)
    is_late = due is not None and due < now - _LATE
    return {
        "due": due,
        "is_due": due is not None and due <= now,
        "newest_attempt": newest,
        "is_idle": is_late and (newest is None or newest.started_at < now - _LATE),
        "late_before": now - _LATE,
    }


def _balance(sums: Counter[Entry], undelivered: Counter[str]) -> Balance:
    states = {state.value: sums[DELIVERY, state.value, ""] for state in DeliveryState}
    stored = sums[EVENT, "stored", ""]
    differences = sums[DIFFERENCE, QUEUED, ""]
    not_requested = stored + differences - sum(states.values())
    same = all(states[state] == undelivered[state] for state in states if state != DeliveryState.DELIVERED)
    return Balance(
        stored=stored,
        differences=differences,
        not_requested=not_requested,
        balances=same and not_requested >= 0,
        **states,
    )


def _delivery_work(number: int) -> Work:
    def work(backend: Backend) -> Values:
        with backend.database.reading() as conn:
            row = get_delivery(conn, number)
            if row is None:
                raise NotFound("there is no delivery of this event: it is unknown, or was not to be forwarded")
            attempts = list_attempts(conn, [number])[number]
        return {"delivery": to_delivery_document(row), "attempts": attempts}

    return work
