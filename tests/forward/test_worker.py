"""The worker against the stand-in for Lotus, on both databases."""

import socket
import ssl
import threading
from contextlib import closing
from functools import partial

import pytest

from app.clock import clock
from app.core.times import format_time
from app.forward.fake_lotus.faults import InjectedFault, PlannedFault
from app.forward.fake_lotus.rules import INVALID_JSON
from app.forward.fake_lotus.server import FakeLotus, running
from app.forward.lotus import Lotus
from app.forward.retry import try_now
from app.forward.sql_deliveries import void_deliveries
from app.forward.sql_destination import Destination, pause, read_destination
from app.forward.sql_lists import list_attempts
from app.forward.timing import back_off, pause_for
from app.forward.verdict import LotusAnswer
from app.store.engine import Database
from app.store.schema import attempted, attempts, deliveries, events
from tests.builders import an_event, rows_of, values_of
from tests.forward.forwarding import (
    DAY,
    HOUR,
    SECOND,
    Clock,
    a_recent,
    a_worker,
    balanced,
    reasons_of,
    states_of,
    store,
    work,
)
from tests.served import free_port


def trouble(database: Database) -> str | None:
    with database.reading() as conn:
        return read_destination(conn).trouble


def test_every_event_arrives_whole_and_in_order_in_batches_of_a_hundred_on_one_connection(
    database: Database, lotus: FakeLotus, address: str
) -> None:
    made = [a_recent(f"id-{number:03}", number, properties={"n": number, "text": "ü\n"}) for number in range(250)]
    store(database, made)
    work(a_worker(database, address), Clock())
    assert list(lotus.events) == [event.idempotency_id for event in made]
    assert lotus.events["id-007"] == {
        "event_name": "api_call",
        "idempotency_id": "id-007",
        "customer_id": "customer-1",
        "time_created": format_time(made[7].time_created),
        "properties": {"n": 7, "text": "ü\n"},
    }
    assert lotus.requests == [(100, 201), (100, 201), (50, 201)]
    assert (lotus.connections, lotus.repeats, lotus.violations) == (1, [], [])
    assert balanced(database) == {"delivered": 250}
    sent = rows_of(database, attempts, attempts.c.events, attempts.c.status, attempts.c.answer)
    assert sent == [(count, 201, '{"success":"all","failed_events":null}') for count in (100, 100, 50)]
    assert rows_of(database, attempted) == []


def test_a_request_holds_475_kb_at_most(database: Database, lotus: FakeLotus, address: str) -> None:
    store(database, [a_recent(f"id-{number}", properties={"text": "x" * 100_000}) for number in range(10)])
    store(database, [a_recent("large", properties={"text": "x" * 475_000})])
    work(a_worker(database, address), Clock())
    assert [status for _, status in lotus.requests] == [201, 201, 201]
    assert balanced(database) == {"delivered": 10, "failed": 1}
    assert "475,000" in reasons_of(database)["large"]


def test_what_is_out_of_lotus_window_is_never_sent_and_the_future_waits(
    database: Database, lotus: FakeLotus, address: str
) -> None:
    store(
        database, [a_recent("old", 31 * DAY), a_recent("new"), a_recent("far", -3 * DAY), a_recent("near", -DAY // 2)]
    )
    time = Clock()
    worker = a_worker(database, address, time)
    for _ in range(3):
        worker.step()
    assert set(lotus.events) == {"new", "near"}
    assert balanced(database) == {"unforwardable": 1, "delivered": 2, "waiting": 1}
    assert "30 days" in reasons_of(database)["old"]
    lotus.clock = time
    time.ahead = 2 * DAY + 120 * SECOND
    worker.step()
    assert set(lotus.events) == {"new", "near", "far"}
    assert balanced(database) == {"unforwardable": 1, "delivered": 3}
    assert len([status for _, status in lotus.requests if status != 201]) == 0


def test_a_poisonous_event_is_found_and_the_others_arrive(database: Database, lotus: FakeLotus, address: str) -> None:
    store(database, [a_recent(f"id-{number}") for number in range(60)])
    with database.writing() as conn:
        # No event that we made: Lotus cannot read its time.
        conn.execute(events.update().where(events.c.idempotency_id == "id-17").values(properties="[1]"))
    work(a_worker(database, address), Clock())
    assert set(lotus.events) == {f"id-{number}" for number in range(60)} - {"id-17"}
    assert balanced(database) == {"delivered": 59, "failed": 1}
    assert reasons_of(database) == {"id-17": INVALID_JSON}
    ids = dict(rows_of(database, events, events.c.idempotency_id, events.c.id))
    with database.reading() as conn:
        # 60, 30, 15, 8, 4, 2 and 1: halves of what held it.
        assert [one.status for one in list_attempts(conn, [ids["id-17"]])[ids["id-17"]]] == [400] * 7
        assert [one.status for one in list_attempts(conn, [ids["id-59"]])[ids["id-59"]]] == [400, 201]
    assert lotus.repeats == []


def _answer(body: bytes, _sent: bytes) -> LotusAnswer:
    return LotusAnswer(500, body)


def test_a_reason_that_no_database_takes_is_kept_as_well_as_it_goes(database: Database) -> None:
    store(database, [a_recent("a")])
    time = Clock()
    worker = a_worker(database, "http://127.0.0.1:1", time)
    said = b'{"success": "some", "failed_events": {"a": "no\\u0000 \xff"}}'
    for body in (said, said.replace(b" \xff", b" \\ud800"), b"\0\xff\xed\xa0\x80" * 10_000):
        worker._lotus.track = partial(_answer, body)  # type: ignore[method-assign]
        worker.begin()
        worker.step()
        time.ahead += DAY
    assert [len(answer) <= 20_000 for (answer,) in rows_of(database, attempts, attempts.c.answer)] == [True] * 3


def test_a_wrong_key_pauses_and_loses_nothing_and_the_right_one_goes_on(
    database: Database, lotus: FakeLotus, address: str
) -> None:
    store(database, [a_recent(f"id-{number}") for number in range(20)])
    time = Clock()
    wrong = a_worker(database, address, time, key="wrong")
    for _ in range(30):
        if wrong.step():
            time.ahead += SECOND
    assert trouble(database) == "key"
    # One batch, and then one event at a time, ever more rarely.
    assert len(lotus.requests) <= 4
    assert states_of(database) == {"waiting": 20}
    right = a_worker(database, address, time, tag=22)
    right.begin()
    work(right, time)
    assert trouble(database) is None
    assert list(lotus.events) == [f"id-{number}" for number in range(20)]


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (InjectedFault.ERROR, "server"),
        (InjectedFault.BROKER_DOWN, "broker"),
        (InjectedFault.PARTIAL, "broker"),
        (InjectedFault.BUSY, "busy"),
        (InjectedFault.HANG_UP, "network"),
        (InjectedFault.HANG_UP_AFTER, "network"),
        (InjectedFault.NOT_JSON, "answer"),
        (InjectedFault.REDIRECT, "answer"),
        (InjectedFault.ENDLESS, "network"),
    ],
)
def test_a_trouble_pauses_and_then_everything_arrives(
    database: Database, lotus: FakeLotus, address: str, fault: InjectedFault, word: str
) -> None:
    store(database, [a_recent(f"id-{number}") for number in range(30)])
    lotus.faults.plan([PlannedFault(fault, left=2)])
    time = Clock()
    worker = a_worker(database, address, time, timeout=0.5)
    worker.step()
    assert trouble(database) == word
    work(worker, time)
    assert trouble(database) is None
    assert set(lotus.events) == {f"id-{number}" for number in range(30)}
    assert balanced(database) == {"delivered": 30}
    assert lotus.violations == []


def test_while_it_is_paused_nothing_is_sent_and_after_it_the_batches_grow(
    database: Database, lotus: FakeLotus, address: str
) -> None:
    store(database, [a_recent(f"id-{number:03}") for number in range(120)])
    lotus.faults.plan([PlannedFault(InjectedFault.BUSY, left=1)])
    time = Clock()
    worker = a_worker(database, address, time)
    worker.step()
    for _ in range(20):
        assert worker.step() > 0
    assert len(lotus.requests) == 1
    work(worker, time)
    assert [count for count, _ in lotus.requests] == [100, 1, 2, 4, 8, 16, 32, 57]
    assert list(lotus.events) == [f"id-{number:03}" for number in range(120)]


def test_a_pause_that_is_ended_by_hand_is_noticed_within_a_second(
    database: Database, lotus: FakeLotus, address: str
) -> None:
    assert not try_now(database)
    store(database, [a_recent("id-1")])
    worker = a_worker(database, address)
    with database.writing() as conn:
        pause(conn, Destination(), "network", "gone", now=clock(), probe_at=clock() + HOUR)
    assert 0 < worker.step() <= 1
    assert not lotus.events
    assert try_now(database)
    worker.step()
    assert list(lotus.events) == ["id-1"]
    assert not try_now(database)
    assert balanced(database) == {"delivered": 1}


def test_lotus_is_away_and_comes_back(database: Database, lotus: FakeLotus) -> None:
    port = free_port()
    store(database, [a_recent(f"id-{number:03}", customer_id=f"c-{number % 7}") for number in range(300)])
    time = Clock()
    worker = a_worker(database, f"http://127.0.0.1:{port}", time)
    for _ in range(700):
        if worker.step():
            time.ahead += 5 * SECOND
    assert time.ahead > 3000 * SECOND
    assert trouble(database) == "network"
    assert states_of(database) == {"waiting": 300}
    # An hour of it: about one try every two minutes.
    assert len(rows_of(database, attempts)) < 60
    with running(lotus, port):
        work(worker, time)
    assert list(lotus.events) == [f"id-{number:03}" for number in range(300)]
    assert lotus.repeats == []


def test_an_hour_of_traffic_queues_up_and_goes_out_in_order_without_a_stampede(
    database: Database, lotus: FakeLotus
) -> None:
    port = free_port()
    time = Clock()
    # The second one looks on: while it is paused, one try is made for all workers.
    workers = [a_worker(database, f"http://127.0.0.1:{port}", time, tag=tag) for tag in (33, 34)]
    names = []
    for minute in range(60):
        more = [f"id-{minute:02}-{number}" for number in range(5)]
        names += more
        store(database, [a_recent(name, customer_id=f"c-{len(names) % 7}") for name in more])
        for worker in (*workers, *workers):
            worker.step()
        time.ahead += 60 * SECOND
    assert trouble(database) == "network"
    assert states_of(database) == {"waiting": 300}
    tried = len(rows_of(database, attempts))
    assert tried < 60
    with running(lotus, port):
        for _ in range(200):
            for worker in workers:
                if worker.step():
                    time.ahead += 5 * SECOND
    # One event first, and then ever more: what was not tried for itself keeps its place.
    sizes = [count for count, _ in lotus.requests]
    assert sizes[0] == 1
    assert all(after <= 2 * max(sizes[: at + 1]) for at, after in enumerate(sizes[1:]))
    assert balanced(database) == {"delivered": 300}
    assert list(lotus.events) == names
    assert lotus.repeats == []


def test_two_workers_share_the_queue_and_send_nothing_twice(database: Database, lotus: FakeLotus, address: str) -> None:
    store(database, [a_recent(f"id-{number}") for number in range(2500)])
    workers = [a_worker(database, address, tag=tag) for tag in (31, 32)]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    for _ in range(600):
        if not states_of(database)["waiting"]:
            break
        threading.Event().wait(0.05)
    for worker in workers:
        worker.stopping.set()
    for thread in threads:
        thread.join(20)
    assert balanced(database) == {"delivered": 2500}
    assert len(lotus.events) == 2500
    assert lotus.repeats == []


def test_an_event_that_is_made_void_under_way_is_surplus(database: Database, lotus: FakeLotus, address: str) -> None:
    store(database, [a_recent("a"), a_recent("b")])
    ids = values_of(rows_of(database, events, events.c.id))
    worker = a_worker(database, address)
    ask = worker._lotus.track

    def meanwhile(body: bytes) -> object:
        with database.writing() as conn:
            void_deliveries(conn, ids[:1], clock())
        return ask(body)

    worker._lotus.track = meanwhile  # type: ignore[method-assign,assignment]
    worker.step()
    assert states_of(database) == {"surplus": 1, "delivered": 1}


def test_a_server_that_never_ends_its_answer_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with closing(connection):
                connection.recv(65536)
                try:
                    for _ in range(200):
                        connection.sendall(b"H")
                        threading.Event().wait(0.05)
                except OSError:
                    pass

        thread = threading.Thread(target=drip)
        thread.start()
        client = Lotus(f"http://127.0.0.1:{server.getsockname()[1]}", "k", timeout_seconds=0.3)
        answer = client.track(b"{}")
        client.close()
        thread.join(20)
    assert answer.status is None
    assert "within 0.3 s" in answer.text()


def test_a_connection_that_lotus_closed_meanwhile_is_opened_again(address: str, lotus: FakeLotus) -> None:
    client = Lotus(address, "a-key")
    assert client.ping().status == 200
    assert client._connection.sock is not None
    client._connection.sock.shutdown(socket.SHUT_RDWR)
    assert client.ping().status == 200
    client.close()


def test_https_is_verified() -> None:
    context = Lotus("https://lotus.example.com", "k")._connection._context  # type: ignore[attr-defined]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_back_off_grows_and_scatters_and_a_pause_is_never_shorter_than_asked() -> None:
    waits = [back_off(tries, 0.5) // SECOND for tries in range(1, 9)]
    assert waits == [5, 30, 120, 600, 1800, 7200, 7200, 7200]
    assert (back_off(1, 0.0), back_off(1, 1.0)) == (4 * SECOND, 6 * SECOND)
    assert [pause_for(failures, 0, 0.5) // SECOND for failures in (1, 2, 3, 9)] == [5, 30, 120, 120]
    assert pause_for(1, 60, 0.0) == 60 * SECOND


def test_an_event_without_trouble_of_its_own_keeps_its_place(
    database: Database, lotus: FakeLotus, address: str
) -> None:
    store(database, [an_event(idempotency_id="x", time_created=format_time(clock()))])
    before = rows_of(database, deliveries, deliveries.c.due_at, deliveries.c.tries)
    lotus.faults.plan([PlannedFault(InjectedFault.WRONG_KEY)])
    a_worker(database, address).step()
    assert rows_of(database, deliveries, deliveries.c.due_at, deliveries.c.tries) == before
