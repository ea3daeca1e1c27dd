"""The ledger: counts of calls and events by outcome, written in the transactions they count, so it always balances.

Each process adds to its own rows (a minute, its tag, a result), so no writer waits for another, and a day is a few
thousand rows whatever the traffic. A call that changes its outcome is subtracted from the old and added to the new one.
"""

from collections import Counter
from collections.abc import Iterable

import sqlalchemy as sa

from app.core.outcome import Outcome
from app.store.inserts import Insert
from app.store.record import Record
from app.store.schema import calls, ledger

CALL = "call"
EVENT = "event"

DELIVERY = "delivery"
"""Subject of the counts of deliveries by their state."""

WAITING = "waiting"
"""Outcome of a delivery that is to be sent."""

DIFFERENCE = "difference"
"""Subject of the count of corrections of sums, which are deliveries without an event."""

QUEUED = "queued"
"""Outcome of all of them."""

VOIDED = "voided"
"""Outcome of an event, beside `stored`: how many of the stored ones have been voided."""

MINUTE = 60_000_000

_LEDGER = Insert(ledger, ("minute", "node", "subject", "outcome", "reason", "count"), add="count")

Entry = tuple[str, str, str]
"""(subject, outcome, reason or '')"""


def count_records(records: Iterable[Record]) -> Counter[Entry]:
    """Return the counts that `append` adds for these settled records."""
    counts: Counter[Entry] = Counter()
    with_one_event = 0
    for record in records:
        if record.outcome is Outcome.STORED and not record.results:
            # Nearly every call, so avoid a dictionary look-up.
            with_one_event += 1
            continue
        counts[CALL, record.outcome or "", record.reason or ""] += 1
        for result in record.results:
            counts[EVENT, result.result, ""] += 1
    if with_one_event:
        counts[CALL, Outcome.STORED, ""] += with_one_event
        counts[EVENT, Outcome.STORED, ""] += with_one_event
    return counts


def append(conn: sa.Connection, node: int, micros: int, counts: Counter[Entry]) -> None:
    """Add counts to the minute of `micros` (microseconds since 1970) in the rows of `node`."""
    minute = micros // MINUTE
    rows = [(minute, node, *entry, count) for entry, count in sorted(counts.items()) if count]
    _LEDGER.run(conn, rows)


def sum_counts(conn: sa.Connection, since: int | None = None, until: int | None = None) -> Counter[Entry]:
    """Sum the ledger over [since, until), in microseconds since 1970, rounded down to the minute."""
    query = sa.select(
        ledger.c.subject, ledger.c.outcome, ledger.c.reason, sa.func.sum(ledger.c.count).label("total")
    ).group_by(ledger.c.subject, ledger.c.outcome, ledger.c.reason)
    if since is not None:
        query = query.where(ledger.c.minute >= since // MINUTE)
    if until is not None:
        query = query.where(ledger.c.minute < until // MINUTE)
    return Counter({(row.subject, row.outcome, row.reason): int(row.total) for row in conn.execute(query)})


def audit_ledger(conn: sa.Connection) -> tuple[Counter[Entry], int]:
    """Return the ledger's sums, and the number of stored calls.

    In one statement: each statement of a PostgreSQL transaction sees what was committed before it began, so two would
    differ by the calls stored between them. It counts all calls: 0.1 s for a million.
    """
    total = sa.func.sum(ledger.c.count).label("total")
    entry = (ledger.c.subject, ledger.c.outcome, ledger.c.reason)
    rows = sa.select(*(sa.null() for _ in entry), sa.select(sa.func.count()).select_from(calls).scalar_subquery())
    counts: Counter[Entry] = Counter()
    received = 0
    statement: sa.Executable = sa.union_all(sa.select(*entry, total).group_by(*entry), rows)
    for row in conn.execute(statement):
        if row.subject is None:
            received = int(row.total)
        else:
            counts[row.subject, row.outcome, row.reason] = int(row.total)
    return counts, received
