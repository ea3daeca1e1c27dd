"""Retries: of failed deliveries (one, those with one reason, or a time range), and of a destination that is paused."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from app.errors import BadQuery, NotFound
from app.forward.sql_deliveries import DeliveryState, hasten, retry
from app.forward.sql_destination import probe_now
from app.forward.sql_lists import get_delivery
from app.forward.sql_search import DeliveryFilters, search_deliveries
from app.store import ledger
from app.store.engine import Database
from app.store.ids import Ids

RETRIABLE = (DeliveryState.FAILED, DeliveryState.UNFORWARDABLE)

_BATCH = 500
# Lets calls that arrived during a batch be stored before the next one.
_PAUSE_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class RetryResult:
    """The result of a retry."""

    count: int
    """Deliveries queued again."""
    further: int | None
    """If the time ran out, the event id below which to continue; None: there are no more."""


def to_retriable(filters: DeliveryFilters) -> DeliveryFilters:
    """Return `filters` with a retriable state, FAILED where none is set. Raises BadQuery for other states."""
    if filters.state is None:
        return msgspec.structs.replace(filters, state=DeliveryState.FAILED)
    if filters.state not in RETRIABLE:
        raise BadQuery(f"state must be {' or '.join(RETRIABLE)} for a retry; it is {filters.state}")
    return filters


def retry_matching(
    database: Database, filters: DeliveryFilters, clock: Callable[[], int], *, seconds: float, before: int | None = None
) -> RetryResult:
    """Queue matching deliveries again, for at most `seconds`, in transactions of a few hundred.

    `clock` gives microseconds since 1970; `before`: only events with ids below it.

    Raises:
        BadQuery: the state is not one of RETRIABLE.
        Unavailable: the database cannot be written to now. Earlier transactions stay.

    """
    filters = to_retriable(filters)
    # The same due time for all, so that they are sent in the order of their events.
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
    """Make one delivery due now, whether it failed or waits for a later time.

    Returns False if it was delivered or voided, or a worker has it already. Raises NotFound, Unavailable.
    """
    now = clock()
    with database.writing() as conn:
        if get_delivery(conn, event_id) is None:
            raise NotFound("there is no delivery of this event")
        counts = retry(conn, [event_id], now)
        ledger.append(conn, Ids(secrets.randbelow).tag, now, counts)
        return bool(counts[ledger.DELIVERY, DeliveryState.WAITING.value, ""]) or hasten(conn, event_id, now)


def try_now(database: Database) -> bool:
    """End the wait of a pause: a running worker tries Lotus within a second. Returns False if there is no pause."""
    with database.writing() as conn:
        return probe_now(conn)
