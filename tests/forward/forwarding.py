"""A worker on a clock that the test moves, and what tests of forwarding ask of the store."""

import random
from collections import Counter
from collections.abc import Iterable

from app.clock import clock
from app.core.lotus import LotusEvent
from app.core.times import format_time
from app.forward.lotus import Lotus
from app.forward.worker import ForwardWorker
from app.service.build import event_hooks
from app.store import ledger
from app.store.commit import Committer
from app.store.engine import Database
from app.store.ids import Ids
from app.store.schema import deliveries, events
from app.store.writer import Writer
from tests.builders import IDS, a_record, a_request, an_event, know_no_version, rows_of, watch_nothing

KEY = "a-key"
SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR


MADE: list[Lotus] = []
"""Clients whose connections the test has to close."""


class Clock:
    """Goes on by itself, and leaps when it is told to."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return clock() + self.ahead


def a_recent(id_: str, age: int = 0, **fields: object) -> LotusEvent:
    """Return an event of now, or of `age` microseconds ago."""
    return an_event(idempotency_id=id_, time_created=format_time(clock() - age), **fields)


def store(database: Database, made: Iterable[LotusEvent], *, forwards: bool = True, commit: int = 500) -> None:
    """Store events that are to be forwarded."""
    writer = Writer(Committer(database, IDS, know_no_version, event_hooks(IDS, forwards=forwards)), watch_nothing)
    records = [a_record(event) for event in made]
    for start in range(0, len(records), commit):
        writer.append(a_request(*records[start : start + commit]))


def a_worker(
    database: Database, address: str, time: Clock | None = None, *, key: str = KEY, tag: int = 21, timeout: float = 2.0
) -> ForwardWorker:
    """Return a worker, as a process of its own would have it."""
    MADE.append(Lotus(address, key, timeout_seconds=timeout))
    return ForwardWorker(
        database=database,
        ids=Ids(lambda _below: tag),
        lotus=MADE[-1],
        clock=time or Clock(),
        draw=random.Random(tag).random,  # noqa: S311
        timeout_seconds=timeout,
    )


def work(worker: ForwardWorker, time: Clock, *, steps: int = 2000, leap: int = SECOND) -> None:
    """Let a worker go on until nothing waits that will ever be due; the clock leaps where it would wait."""
    for _ in range(steps):
        if worker.step():
            time.ahead += leap
        if not states_of(worker._database)["waiting"]:
            return
    raise AssertionError(f"it did not come to an end: {states_of(worker._database)}")


def states_of(database: Database) -> Counter[str]:
    """Return deliveries by state."""
    return Counter(state for (state,) in rows_of(database, deliveries, deliveries.c.state))


def balanced(database: Database) -> Counter[str]:
    """Return deliveries by state, after checking that the ledger says the same."""
    with database.reading() as conn:
        summed = ledger.sum_counts(conn)
    counted = states_of(database)
    assert {entry[1]: count for entry, count in summed.items() if count and entry[0] == ledger.DELIVERY} == counted
    return counted


def reasons_of(database: Database) -> dict[str, str]:
    """Return why events were not delivered, by idempotency id."""
    ids = dict(rows_of(database, events, events.c.id, events.c.idempotency_id))
    rows = rows_of(database, deliveries, deliveries.c.event_id, deliveries.c.reason)
    return {ids[id_]: reason for id_, reason in rows if reason}
