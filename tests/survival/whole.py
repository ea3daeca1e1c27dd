"""Whether what a database holds is whole: every call with all that belongs to it, and a ledger that balances."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from app.core.outcome import Outcome
from app.store.engine import Database, connect
from app.store.ledger import CALL, EVENT, sum_counts
from app.store.schema import calls, claims, events, ledger, requests


@contextmanager
def opened(url: str) -> Iterator[Database]:
    """Give a connection pool of the test's own to a database that a service may be using."""
    database = connect(url)
    try:
        yield database
    finally:
        database.close()


def find_broken(url: str) -> list[str]:
    """Return a sentence for everything that is there in part, or counted wrongly; none where all is whole."""
    broken: list[str] = []
    with opened(url) as database, database.reading() as conn:
        call_rows = {row.id: row for row in conn.execute(sa.select(calls))}
        event_calls = Counter(conn.scalars(sa.select(events.c.call_id)))
        claim_calls = Counter(conn.scalars(sa.select(claims.c.call_id)))
        request_ids = set(conn.scalars(sa.select(requests.c.id)))
        counted = {key: count for key, count in sum_counts(conn).items() if count}
    stored = {identifier for identifier, row in call_rows.items() if row.outcome == Outcome.STORED}
    if set(event_calls) != stored or any(count != 1 for count in event_calls.values()):
        broken.append(f"{len(set(event_calls) ^ stored)} calls and events do not belong together")
    # An event that came in Lotus's own form has no message.
    claiming = {identifier for identifier in stored if call_rows[identifier].message_id is not None}
    if set(claim_calls) != claiming:
        broken.append(f"{len(set(claim_calls) ^ claiming)} calls and claims do not belong together")
    positions: dict[int, set[int]] = {}
    for row in call_rows.values():
        positions.setdefault(row.request_id, set()).add(row.position)
    if set(positions) != request_ids:
        broken.append(f"{len(set(positions) ^ request_ids)} requests and calls do not belong together")
    # Every call of a request is of its transaction: where the last position is there, the ones before it must be.
    torn = [request for request, places in positions.items() if places != set(range(len(places)))]
    if torn:
        broken.append(f"{len(torn)} requests lack a call in the middle")
    expected: Counter[tuple[str, str, str]] = Counter(
        (CALL, row.outcome, row.reason or "") for row in call_rows.values()
    )
    in_ledger = {key: count for key, count in counted.items() if key[0] == CALL}
    if in_ledger != dict(expected):
        broken.append(f"the ledger says {in_ledger}, the calls say {dict(expected)}")
    if counted.get((EVENT, Outcome.STORED, ""), 0) != len(stored):
        broken.append("the ledger of events does not balance")
    return broken


def stored_messages(url: str) -> list[str]:
    """Return the message id of every call that made an event, in order."""
    with opened(url) as database, database.reading() as conn:
        return list(conn.scalars(sa.select(events.c.idempotency_id).order_by(events.c.idempotency_id)))


def batch_sizes(url: str) -> Counter[int]:
    """Return how many requests hold how many calls."""
    with opened(url) as database, database.reading() as conn:
        rows = conn.execute(sa.select(sa.func.count()).select_from(calls).group_by(calls.c.request_id))
        return Counter(count for (count,) in rows)


def writers(url: str) -> int:
    """Return how many processes have written to the ledger."""
    with opened(url) as database, database.reading() as conn:
        return len(set(conn.scalars(sa.select(ledger.c.node))))
