"""The ledger, told: how many calls, events and deliveries ended how, and whether that is all of them."""

from collections import Counter
from typing import Any

import msgspec

from app.core.outcome import Outcome
from app.core.times import format_time
from app.forward.sql_lists import count_events, count_states
from app.store.deliveries import State
from app.store.engine import Database
from app.store.ledger import CALL, DELIVERY, EVENT, MINUTE, VOIDED, sum_counts
from app.store.review_ledger import audit_ledger


class LedgerDocument(msgspec.Struct, kw_only=True):
    """The ledger: received = stored + duplicate + conflict + ignored + rejected."""

    calls: dict[str, Any]
    events: dict[str, int]
    deliveries: dict[str, int]
    """stored events = delivered + waiting + failed + unforwardable + voided (before they were sent) + not_requested."""
    since: str | None
    until: str | None
    balances: bool | None
    """Whether there are as many calls, events and deliveries as it counts.

    None for a part of time: it has the minute of a call's commit.
    """


def read_ledger(database: Database, since: int | None = None, until: int | None = None) -> LedgerDocument:
    """Read the ledger of [since, until), cut to the minute; of all time, also hold it against the calls."""
    received: int | None = None
    with database.reading() as conn:
        if since is None and until is None:
            counts, received = audit_ledger(conn)
            in_tables = (count_events(conn), count_states(conn))
        else:
            counts = sum_counts(conn, since, until)
            in_tables = None
    by_outcome = dict.fromkeys(Outcome, 0)
    by_reason: dict[str, int] = {}
    events: dict[str, int] = {"stored": 0, "duplicate": 0, "conflict": 0, VOIDED: 0}
    for (subject, outcome, reason), count in sorted(counts.items()):
        if subject == EVENT:
            events[outcome] += count
        elif subject == CALL:
            by_outcome[Outcome(outcome)] += count
            if reason and count:
                by_reason[reason] = count
    states = {state.value: counts[DELIVERY, state.value, ""] for state in State}
    deliveries = {**states, "not_requested": events["stored"] - sum(states.values())}
    counted = sum(by_outcome.values())
    balances = None
    if received is not None and in_tables is not None:
        balances = (received, *in_tables) == (counted, events["stored"], +Counter(states))
    calls: dict[str, Any] = {outcome.value: count for outcome, count in by_outcome.items()}
    return LedgerDocument(
        calls={"received": counted if received is None else received, **calls, "by_reason": by_reason},
        events=events,
        deliveries=deliveries,
        since=None if since is None else format_time(since // MINUTE * MINUTE),
        until=None if until is None else format_time(until // MINUTE * MINUTE),
        balances=balances,
    )
