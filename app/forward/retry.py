"""Letting deliveries that failed wait again: one, those of one reason, or a range."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from app.errors import BadQuery, NotFound
from app.forward.sql_deliveries import DeliveryState, hasten, retry
from app.forward.sql_lists import get_delivery
from app.forward.sql_search import DeliveryFilters, search_deliveries
from app.store import ledger
from app.store.engine import Database
from app.store.ids import Ids

RETRIABLE = (DeliveryState.FAILED, DeliveryState.UNFORWARDABLE)

_BATCH = 500
# Calls that came in while a batch was written have their turn.
_PAUSE_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class RetryResult:
    """What was done."""

    count: int
    """Deliveries that wait again."""
    further: int | None
    """Where the time was over, and there may be more: the event to go on below. None: there are no more."""


def to_retriable(filters: DeliveryFilters) -> DeliveryFilters:
    """Return filters of what can be tried again; without a state, of what failed. Raises BadQuery for other states."""
    if filters.state is None:
        return msgspec.structs.replace(filters, state=DeliveryState.FAILED)
    if filters.state not in RETRIABLE:
        raise BadQuery(f"state must be {' or '.join(RETRIABLE)} to be tried again; it is {filters.state}")
    return filters


def retry_matching(
    database: Database, filters: DeliveryFilters, clock: Callable[[], int], *, seconds: float, before: int | None = None
) -> RetryResult:
    """Let deliveries wait again, for at most so long, in transactions of a few hundred; `clock` in microseconds.

    Raises:
        BadQuery: the state is not one of RETRIABLE.
        Unavailable: the database cannot be written to now. What was written before stays.

    """
    filters = to_retriable(filters)
    # One moment for all of them, so that they are sent in the order of their events.
    now, tag, until = clock(), Ids(secrets.randbelow).tag, time.monotonic() + seconds
    count = 0
    while True:
        with database.reading() as conn:
            step = search_deliveries(conn, filters, before=before, limit=_BATCH)
        if step.ids:
            with database.writing() as conn:
                counts = retry(conn, sorted(step.ids), now)
                ledger.append(conn, tag, clock(), counts)
            count += counts[ledger.DELIVERY, DeliveryState.WAITING.value, ""]
        before = step.reached
        if before is None or time.monotonic() > until:
            return RetryResult(count, before)
        time.sleep(_PAUSE_SECONDS)


def retry_one(database: Database, event_id: int, clock: Callable[[], int]) -> bool:
    """Let one delivery be sent as soon as can be, also one that waits for its time.

    False: it was delivered, made void, or is at hand already. Raises NotFound, Unavailable.
    """
    now = clock()
    with database.writing() as conn:
        if get_delivery(conn, event_id) is None:
            raise NotFound("there is no delivery of this event")
        counts = retry(conn, [event_id], now)
        ledger.append(conn, Ids(secrets.randbelow).tag, now, counts)
        return bool(counts[ledger.DELIVERY, DeliveryState.WAITING.value, ""]) or hasten(conn, event_id, now)
