"""Retries of failed deliveries (one, those with one reason, or a range) and of a paused destination; moves of many."""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from app.errors import BadQuery, NotFound
from app.forward.sql_deliveries import DeliveryState, hasten, retry
from app.forward.sql_destination import probe_now
from app.forward.sql_lists import get_delivery
from app.forward.sql_search import DeliveryFilters, search_deliveries
from app.store import ledger
from app.store.engine import Connection, Database
from app.store.ids import Ids
from app.store.ledger import Entry

RETRIABLE = (DeliveryState.FAILED,)

TOO_OLD_TO_RETRY = (
    "Lotus takes no event that is more than 30 days old, so a retry would fail again: bill it by hand, with the "
    "amounts from `segment-lotus deliveries export`"
)

Move = Callable[[Connection, Sequence[int], int], Counter[Entry]]
"""(connection, event ids, now) -> the ledger's changes: moves deliveries that are in one state to another one."""

_BATCH = 500
# Lets calls that arrived during a batch be stored before the next one.
_PAUSE_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class MoveResult:
    """The result of a move of many."""

    count: int
    """Deliveries that were moved."""
    left: int
    """Those that matched, and stay."""
    further: int | None
    """If the time ran out, the event id below which to continue; None: there are no more."""


def to_retriable(filters: DeliveryFilters) -> DeliveryFilters:
    """Return `filters` with a retriable state, FAILED where none is set. Raises BadQuery for other states."""
    if filters.state is None:
        return msgspec.structs.replace(filters, state=DeliveryState.FAILED)
    if filters.state is DeliveryState.UNFORWARDABLE:
        raise BadQuery(TOO_OLD_TO_RETRY)
    if filters.state not in RETRIABLE:
        raise BadQuery(f"state must be {' or '.join(RETRIABLE)} for a retry; it is {filters.state}")
    return filters


def move_matching(
    database: Database,
    move: Move,
    filters: DeliveryFilters,
    clock: Callable[[], int],
    *,
    seconds: float,
    before: int | None = None,
) -> MoveResult:
    """Move deliveries that match, all of one state, for at most `seconds`, in transactions of a few hundred.

    `clock` gives microseconds since 1970; `before`: only events with ids below it.

    Raises:
        Unavailable: the database cannot be written to now. Earlier transactions stay.

    """
    # The same due time for all, so that they are sent in the order of their events.
    now, tag, until = clock(), Ids(secrets.randbelow).tag, time.monotonic() + seconds
    count = left = 0
    while True:
        with database.reading() as conn:
            step = search_deliveries(conn, filters, before=before, limit=_BATCH)
        if step.ids:
            with database.writing() as conn:
                counts = move(conn, sorted(step.ids), now)
                ledger.append(conn, tag, clock(), counts)
            moved = -counts[ledger.DELIVERY, str(filters.state), ""]
            count, left = count + moved, left + len(step.ids) - moved
        before = step.reached
        if before is None or time.monotonic() > until:
            return MoveResult(count, left, before)
        time.sleep(_PAUSE_SECONDS)


def retry_matching(
    database: Database, filters: DeliveryFilters, clock: Callable[[], int], *, seconds: float, before: int | None = None
) -> MoveResult:
    """Queue failed deliveries that match again, as `move_matching` does. Raises BadQuery for another state."""
    return move_matching(database, retry, to_retriable(filters), clock, seconds=seconds, before=before)


def retry_one(database: Database, event_id: int, clock: Callable[[], int]) -> bool:
    """Make one delivery due now, whether it failed or waits for a later time.

    Returns False if it is in another state, or a worker has it already.

    Raises:
        NotFound: there is no such delivery.
        BadQuery: the event is too old for Lotus.
        Unavailable: the database cannot be written to now.

    """
    now = clock()
    with database.writing() as conn:
        row = get_delivery(conn, event_id)
        if row is None:
            raise NotFound("there is no delivery of this event")
        if row.state == DeliveryState.UNFORWARDABLE:
            raise BadQuery(TOO_OLD_TO_RETRY)
        counts = retry(conn, [event_id], now)
        ledger.append(conn, Ids(secrets.randbelow).tag, now, counts)
        return bool(counts[ledger.DELIVERY, DeliveryState.WAITING.value, ""]) or hasten(conn, event_id, now)


def try_now(database: Database) -> bool:
    """End the wait of a pause: a running worker tries Lotus within a second. Returns False if there is no pause."""
    with database.writing() as conn:
        return probe_now(conn)
