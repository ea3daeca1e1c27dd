"""The clock that all writers of a database share."""

import time

from app.store.clock import read_clock
from app.store.engine import Database
from app.store.schema import events
from tests.builders import an_event, rows_of
from tests.forward.forwarding import store


def test_an_event_holds_when_it_was_stored_whatever_time_it_says_and_whenever_its_call_came(database: Database) -> None:
    with database.writing() as conn:
        before = read_clock(conn)
    store(database, [an_event(idempotency_id="1"), an_event(idempotency_id="2", time_created="2020-01-01")])
    with database.writing() as conn:
        after = read_clock(conn)
    moments = [moment for (moment,) in rows_of(database, events, events.c.stored_at)]
    assert len(moments) == 2
    assert all(before <= moment <= after for moment in moments)
    assert abs(after - time.time_ns() // 1000) < 60_000_000
