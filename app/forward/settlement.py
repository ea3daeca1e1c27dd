"""What people decide about deliveries: a surplus is credited, what is held back is released, the rest is requested."""

import secrets
import time
from collections.abc import Callable, Sequence

import msgspec

from app.errors import BadQuery, NotFound
from app.forward.retry import Move
from app.forward.sql_deliveries import DeliveryState, count_waiting, request_events, request_later
from app.forward.sql_differences import count_doubled, credit
from app.forward.sql_lists import get_delivery, newest_event_id
from app.forward.sql_search import DeliveryFilters, search_deliveries
from app.store import ledger
from app.store.engine import Connection, Database
from app.store.ids import Ids
from app.store.query import parse_words
from app.store.walk import MOST

# Lets calls that arrived during a batch be stored before the next one.
_PAUSE_SECONDS = 0.005


class ReleaseCount(msgspec.Struct, frozen=True):
    """What a release would do."""

    count: int
    doubled: int
    """How many stand for a surplus that is not settled: Lotus would count both."""
    is_all: bool
    """False: there are more, and time ran out."""


def parse_note(text: object) -> str:
    """Return the note of a credit. Raises BadQuery."""
    return parse_words("note", text)


def of_state(filters: DeliveryFilters, state: DeliveryState) -> DeliveryFilters:
    """Return `filters` for deliveries of this state. Raises BadQuery if they name another one."""
    if filters.state not in {None, state}:
        raise BadQuery(f"state must be {state} or be left out; it is {filters.state}")
    return msgspec.structs.replace(filters, state=state)


def credit_with(note: str, author: str) -> Move:
    """Return the move that settles surplus deliveries with a note."""
    return lambda conn, event_ids, now: credit(conn, event_ids, note, author, now)


def move_one(database: Database, move: Move, event_id: int, state: DeliveryState, clock: Callable[[], int]) -> bool:
    """Move one delivery; return False if it stays.

    Raises:
        NotFound: there is no such delivery.
        BadQuery: it has another state than `state`.
        Unavailable: the database cannot be written to now.

    """
    now = clock()
    with database.writing() as conn:
        row = get_delivery(conn, event_id)
        if row is None:
            raise NotFound("there is no delivery of this event")
        if row.state != state:
            raise BadQuery(f"the delivery is {row.state}, and not {state}: there is nothing to do")
        counts = move(conn, [event_id], now)
        ledger.append(conn, Ids(secrets.randbelow).tag, now, counts)
        return counts[ledger.DELIVERY, state.value, ""] < 0


def count_release(conn: Connection, filters: DeliveryFilters, seconds: float = 1.0) -> ReleaseCount:
    """Count what releasing matching deliveries would do, for at most `seconds`."""
    count = doubled = 0
    before: int | None = None
    until = time.monotonic() + seconds
    while True:
        step = search_deliveries(conn, filters, before=before, limit=MOST)
        count, doubled = count + len(step.ids), doubled + count_doubled(conn, step.ids)
        before = step.reached
        if before is None or time.monotonic() > until:
            return ReleaseCount(count, doubled, before is None)


def request_stored(
    database: Database, clock: Callable[[], int], *, after: int, until: int | None = None, seconds: float
) -> tuple[int, int | None]:
    """Queue events that count and were never queued, with ids in (after, until], for at most `seconds`.

    Returns how many, and the id after which to continue; None: there are no more. Raises Unavailable.
    """
    tag, end = Ids(secrets.randbelow).tag, time.monotonic() + seconds
    with database.reading() as conn:
        last = newest_event_id(conn)
    last = last if until is None else min(last, until)
    count = 0
    reached: int | None = after
    while reached is not None and reached < last:
        if time.monotonic() > end:
            return count, reached
        with database.writing() as conn:
            added, reached = request_later(conn, reached, last, clock())
            ledger.append(conn, tag, clock(), count_waiting(added))
        count += added
        time.sleep(_PAUSE_SECONDS)
    return count, None


def request_these(database: Database, event_ids: Sequence[int], clock: Callable[[], int]) -> int:
    """Queue those of these events that count and were never queued; return how many. Raises Unavailable."""
    now = clock()
    with database.writing() as conn:
        count = request_events(conn, event_ids, now)
        ledger.append(conn, Ids(secrets.randbelow).tag, now, count_waiting(count))
    return count
