"""What is void is never sent, and nobody misses it, whatever queued it and whatever Lotus has. On both databases."""

import threading

import sqlalchemy as sa

from app.clock import clock
from app.forward.fake_lotus.server import FakeLotus
from app.forward.lotus import Lotus
from app.forward.reconcile import Reconciliation
from app.forward.sql_deliveries import count_waiting, request_later, send_again, void_deliveries
from app.metrics.effect import measure_values
from app.store import ledger
from app.store.engine import Connection, Database
from app.store.schema import events
from tests.builders import NOW, rows_of
from tests.forward.forwarding import KEY, Clock, a_recent, a_worker, balanced, store, work

LAST = (1 << 63) - 1


def ids_of(database: Database) -> dict[str, int]:
    return {key: id_ for id_, key in rows_of(database, events, events.c.id, events.c.idempotency_id)}


def make_void(conn: Connection, event_id: int) -> None:
    """Do what a correction does."""
    conn.execute(sa.update(events).where(events.c.id == event_id).values(voided_at=NOW))
    ledger.append(conn, 1, NOW, void_deliveries(conn, [event_id], NOW))


def test_a_void_event_that_waits_all_the_same_is_taken_out_and_not_sent(
    database: Database, lotus: FakeLotus, address: str
) -> None:
    store(database, [a_recent("good"), a_recent("void")])
    with database.writing() as conn:
        conn.execute(sa.update(events).where(events.c.idempotency_id == "void").values(voided_at=NOW))
    work(a_worker(database, address), Clock())
    assert balanced(database) == {"delivered": 1, "voided": 1}
    assert list(lotus.events) == ["good"]


def test_a_delivered_event_that_is_void_is_not_missing_and_not_sent_again(
    database: Database, lotus: FakeLotus, address: str
) -> None:
    store(database, [a_recent("lost"), a_recent("void")])
    work(a_worker(database, address), Clock())
    with database.writing() as conn:
        make_void(conn, ids_of(database)["void"])
    lotus.forget()
    client = Lotus(address, KEY)
    report = Reconciliation(database, client, measure_values, clock).run(0)
    client.close()
    assert [event.idempotency_id for event in report.missing] == ["lost"]
    with database.writing() as conn:
        ledger.append(conn, 1, NOW, send_again(conn, [event.event_id for event in report.missing], NOW))
    work(a_worker(database, address), Clock())
    assert balanced(database) == {"delivered": 1, "surplus": 1}
    assert list(lotus.events) == ["lost"]


def test_what_is_queued_beside_a_correction_is_taken_out_by_it(database: Database) -> None:
    """Between the look at an event and its row in the outbox another process made it void."""
    store(database, [a_recent("a"), a_recent("b")], forwards=False)
    looked, corrected = threading.Event(), threading.Event()

    def correct() -> None:
        looked.wait(10)
        with database.writing() as conn:
            make_void(conn, ids_of(database)["a"])
        corrected.set()

    thread = threading.Thread(target=correct)
    thread.start()
    with database.writing() as conn:
        queued, _ = request_later(conn, 0, LAST, NOW)
        looked.set()
        # It cannot end before this does.
        assert not corrected.wait(0.5)
        ledger.append(conn, 2, NOW, count_waiting(queued))
    thread.join(10)
    assert corrected.is_set()
    assert balanced(database) == {"waiting": 1, "voided": 1}
