"""Group commit: who waits for what, and what a row, a database or a colleague in trouble does to the others."""

import contextlib
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import psycopg
import pytest
import sqlalchemy as sa

from app.core.lotus import LotusEvent
from app.core.outcome import Outcome, Reason
from app.core.pipeline import MAIN_LANE, Lane
from app.core.segment import Call
from app.errors import Unavailable
from app.store import schema
from app.store import writer as writer_module
from app.store.commit import Committer
from app.store.engine import Connection, Database, connect
from app.store.events import NewEvent, prepare_claims, prepare_events
from app.store.ids import Ids
from app.store.record import Record, Request
from app.store.writer import Commit, Writer
from tests.builders import (
    IDS,
    NOW,
    a_digest,
    a_lane,
    a_record,
    a_request,
    a_writer,
    an_event,
    balance,
    know_no_version,
    outcomes_of,
    rows_of,
    some_ids,
    store,
    values_of,
)

STORED, DUPLICATE, CONFLICT = Outcome.STORED, Outcome.DUPLICATE, Outcome.CONFLICT
ROOT = Path(__file__).parent.parent.parent


def records_of(count: int, name: str = "id") -> list[Record]:
    return [a_record(an_event(idempotency_id=f"{name}-{number}"), raw=b"%d" % number) for number in range(count)]


def is_kept(database: Database, record: Record) -> bool:
    with database.reading() as conn:
        found = conn.execute(sa.select(schema.calls.c.outcome).where(schema.calls.c.id == record.id)).scalar()
    return found is not None and found == record.outcome


def unstorable_events() -> dict[str, Callable[[LotusEvent], LotusEvent]]:
    """Events that no transform can make, since the rules of Lotus keep them out; the database has the last word."""

    def remade(**fields: object) -> Callable[[LotusEvent], LotusEvent]:
        return lambda event: msgspec.structs.replace(event, **fields)

    return {
        "half of a surrogate pair": remade(customer_id="\ud83d"),
        "a time beyond 64 bits": remade(time_created=2**70),
        "no text": remade(event_name=None),
    }


# --- Groups


class _Held:
    """A watcher that holds the first commit's thread until told to go on, so that others queue up meanwhile."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self.go_on = threading.Event()

    def __call__(self, commit: Commit) -> None:
        self.commits.append(commit)
        if len(self.commits) == 1:
            assert self.go_on.wait(20)


def when_queued(writer: Writer, count: int) -> None:
    until = time.monotonic() + 20
    while len(writer._queue) < count:
        assert time.monotonic() < until
        time.sleep(0.001)


def queue(writer: Writer, *requests: Request) -> list[writer_module._Entry]:
    """Queue requests whose senders wait, as they do while somebody else leads."""
    entries = [writer_module._Entry(request) for request in requests]
    for entry in entries:
        entry.wake.acquire()
    writer._queue.extend(entries)
    return entries


def test_requests_that_come_during_a_commit_share_the_next_one(database: Database) -> None:
    held = _Held()
    writer = a_writer(database, watch=held)
    [first, *others] = records_of(31)
    with ThreadPoolExecutor(31) as threads:
        leading = threads.submit(writer.append, a_request(first))
        while not held.commits:
            time.sleep(0.001)
        waiting = [threads.submit(writer.append, a_request(record)) for record in others]
        when_queued(writer, 30)
        held.go_on.set()
        for one in (leading, *waiting):
            one.result(20)
    assert [len(commit.records) for commit in held.commits] == [1, 30]
    assert held.commits[1].waiting == 0
    assert balance(database) == {("stored", ""): 31}


def test_every_request_is_answered_after_the_commit_that_holds_it(migrated_url: str, database: Database) -> None:
    commits: list[Commit] = []
    writer = a_writer(database, watch=commits.append)
    other = connect(migrated_url)
    start = threading.Barrier(32)

    def send(record: Record) -> bool:
        start.wait(20)
        writer.append(a_request(record))
        # On another connection: what is not committed is not seen there.
        return record.outcome is STORED and is_kept(other, record)

    with ThreadPoolExecutor(32) as threads:
        assert all(threads.map(send, records_of(32)))
        start.reset()
        assert all(threads.map(send, records_of(32, "more")))
    other.close()
    assert sum(len(commit.records) for commit in commits) == 64
    assert len(commits) < 64


def test_nobody_is_answered_before_the_commit_when_more_queued_up_than_one_commit_takes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MAX_CALLS_PER_COMMIT", 3)
    commits: list[Commit] = []
    writer = a_writer(database, watch=commits.append)
    # Others came before; it is this thread that gets the lead.
    queue(writer, *(a_request(*records_of(2, f"before-{number}")) for number in range(4)))
    [record] = records_of(1)
    writer.append(a_request(record))
    assert record.outcome is STORED
    assert is_kept(database, record)
    assert [len(commit.records) for commit in commits] == [2, 2, 2, 3]


def test_a_request_larger_than_a_commit_is_committed_whole(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "MAX_CALLS_PER_COMMIT", 3)
    records = records_of(10)
    a_writer(database).append(a_request(*records))
    assert outcomes_of(records) == [STORED] * 10


def test_many_threads_over_small_commits_are_all_stored(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "MAX_CALLS_PER_COMMIT", 2)
    writer = a_writer(database)
    records = records_of(150)
    with ThreadPoolExecutor(25) as threads:
        list(threads.map(lambda record: writer.append(a_request(record)), records))
    assert all(is_kept(database, record) for record in records)
    assert balance(database) == {("stored", ""): 150}


class _Stopped(BaseException):
    """A thread that is told to stop in the middle, as gevent tells a greenlet."""


def test_a_leader_that_is_stopped_in_the_middle_leaves_nobody_waiting(database: Database) -> None:
    hurdle = _Hurdle(_Stopped())
    writer = a_writer(database, hurdle.map_again)
    store(database, a_record(an_event(), message_id="m-1"))
    # Made by another version than what is there, so that the commit has to map it again: there it is stopped.
    leader = a_record(a_lane(an_event(), version="2"), message_id="m-1")
    [other] = records_of(1, "other")
    [colleague] = queue(writer, a_request(*records_of(1, "colleague")))
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(writer.append, a_request(leader))
        assert hurdle.reached.wait(20)
        second = threads.submit(writer.append, a_request(other))
        when_queued(writer, 1)
        hurdle.go_on.set()
        with pytest.raises(_Stopped):
            first.result(20)
        second.result(20)
    assert colleague.done
    assert isinstance(colleague.error, Unavailable)
    assert other.outcome is STORED
    assert balance(database) == {("stored", ""): 2}


class _Hurdle:
    """Maps nothing again: waits, then raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def map_again(self, _conn: Connection, _call: Call, _digest: bytes, _received_at: int) -> Lane | None:
        self.reached.set()
        assert self.go_on.wait(20)
        raise self.error


_A_KILLED_GREENLET = """
from gevent import monkey
monkey.patch_all()
import sys, threading, gevent
from app.store.engine import connect
from tests.builders import a_lane, a_record, a_request, a_writer, an_event, store

database = connect(sys.argv[1])
store(database, a_record(an_event(), message_id="m-1"))
reached, go_on = threading.Event(), threading.Event()

def map_again(conn, call, digest, received_at):
    reached.set()
    go_on.wait()

commits = []
writer = a_writer(database, map_again, watch=commits.append)
send = lambda record: gevent.spawn(writer.append, a_request(record))
leader = send(a_record(a_lane(an_event(), version="2"), message_id="m-1"))
reached.wait()
waiting = [send(a_record(an_event(idempotency_id=f"id-{number}"))) for number in range(2, 52)]
gevent.sleep(0.05)
waiting[0].kill()
go_on.set()
gevent.joinall([leader, *waiting], timeout=20, raise_error=True)
late = send(a_record(an_event(idempotency_id="late")))
late.get(timeout=20)
at_once = [send(a_record(an_event(idempotency_id=f"at-once-{number}"))) for number in range(50)]
gevent.joinall(at_once, timeout=20, raise_error=True)
print([len(commit.records) for commit in commits])
database.close()
"""


def test_under_gevent_a_killed_sender_is_never_handed_the_lead(sqlite_database: Database) -> None:
    """Fifty-one greenlets come, and the first that waits is killed: the lead goes to the next, and all others go on.

    Fifty more that come at once share one commit.
    """
    done = subprocess.run(
        [sys.executable, "-c", _A_KILLED_GREENLET, f"sqlite:///{sqlite_database.file}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "[1, 49, 1, 50]\n", done.stderr


# --- Trouble


@pytest.mark.parametrize("flaw", sorted(unstorable_events()))
def test_one_row_among_a_thousand_that_the_database_refuses_fails_alone(database: Database, flaw: str) -> None:
    records = records_of(1000)
    bad = a_record(unstorable_events()[flaw](an_event(idempotency_id="bad")), raw=b"bad", message_id="bad")
    records[617] = bad
    requests = [a_request(*records[:500]), a_request(*records[500:])]
    commits: list[Commit] = []
    writer = a_writer(database, watch=commits.append)
    queue(writer, requests[0])
    writer.append(requests[1])
    assert (bad.outcome, bad.reason) == (Outcome.REJECTED, Reason.UNSTORABLE)
    assert bad.detail
    assert balance(database) == {("stored", ""): 999, ("rejected", "unstorable"): 1}
    assert sorted(values_of(rows_of(database, schema.requests, schema.requests.c.id))) == sorted(
        request.id for request in requests
    )
    columns = schema.calls.c
    kept = {row[0]: row[1:] for row in rows_of(database, schema.calls, columns.id, columns.raw, columns.request_id)}
    assert kept == {record.id: (record.raw, record.request_id) for record in records}
    assert "bad" not in values_of(rows_of(database, schema.claims, schema.claims.c.message_id))


def test_a_nul_that_only_postgresql_refuses_fails_alone_there(postgres_database: Database) -> None:
    bad = a_record(unstorable_nul(), message_id="bad")
    records = [*records_of(20), bad]
    assert store(postgres_database, *records) == [STORED] * 20 + [Outcome.REJECTED]
    assert bad.reason is Reason.UNSTORABLE


def unstorable_nul() -> LotusEvent:
    return LotusEvent("api_call", "bad", "customer\0", NOW, "{}", a_digest("content"))


def test_several_refused_rows_fail_each_alone(database: Database) -> None:
    spoil = unstorable_events()["half of a surrogate pair"]
    events = [an_event(idempotency_id=f"id-{number}") for number in range(50)]
    records = [
        a_record(spoil(event) if number % 7 == 3 else event, message_id=f"m-{number}")
        for number, event in enumerate(events)
    ]
    store(database, *records)
    assert [record.outcome for record in records] == [
        Outcome.REJECTED if number % 7 == 3 else STORED for number in range(50)
    ]
    assert balance(database) == {("stored", ""): 43, ("rejected", "unstorable"): 7}


def test_duplicates_are_found_across_the_halves_of_a_group_that_was_taken_apart(database: Database) -> None:
    spoil = unstorable_events()["half of a surrogate pair"]
    twin, other = an_event(idempotency_id="twin"), an_event(idempotency_id="twin", properties={})
    records = [
        a_record(twin, message_id="m-1"),
        *records_of(5),
        a_record(spoil(an_event(idempotency_id="bad"))),
        a_record(twin, message_id="m-2"),
        a_record(other, message_id="m-3"),
    ]
    assert store(database, *records) == [STORED] * 6 + [Outcome.REJECTED, DUPLICATE, CONFLICT]


def test_a_call_that_cannot_even_be_kept_as_rejected_makes_the_sender_come_back(database: Database) -> None:
    record = a_record()
    record.route = "\ud83d"
    with pytest.raises(Unavailable):
        store(database, record)
    assert balance(database) == {}
    assert store(database, a_record()) == [STORED]


def test_an_unexpected_error_in_a_commit_reaches_all_senders_and_the_writer_works_afterwards(
    database: Database,
) -> None:
    store(database, a_record(an_event(), message_id="m-1"))
    hurdle = _Hurdle(ZeroDivisionError("a bug of ours"))
    hurdle.go_on.set()
    writer = a_writer(database, hurdle.map_again)
    others = queue(writer, *(a_request(record) for record in records_of(3, "other")))
    with pytest.raises(ZeroDivisionError):
        writer.append(a_request(a_record(a_lane(an_event(), version="2"), message_id="m-1")))
    assert [type(entry.error) for entry in others] == [ZeroDivisionError] * 3
    assert all(entry.done for entry in others)
    assert balance(database) == {("stored", ""): 1}
    [record] = records_of(1, "afterwards")
    writer.append(a_request(record))
    assert record.outcome is STORED
    assert balance(database) == {("stored", ""): 2}


@contextlib.contextmanager
def locked(url: str) -> Iterator[None]:
    """Hold a lock on the database from outside, as a backup or a person with a shell would."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with contextlib.closing(sqlite3.connect(str(parsed.database), isolation_level=None)) as conn:
            conn.execute("BEGIN EXCLUSIVE")
            yield
            conn.execute("ROLLBACK")
        return
    with psycopg.connect(parsed.set(drivername="postgresql").render_as_string(hide_password=False)) as conn:
        conn.execute("LOCK TABLE calls IN EXCLUSIVE MODE")
        yield
        conn.rollback()


def test_a_locked_database_turns_every_sender_away_after_3_s_and_stores_nothing_of_them(
    migrated_url: str, database: Database
) -> None:
    writer = a_writer(database)
    requests = [a_request(*records_of(3, f"r-{number}")) for number in range(8)]
    start = threading.Barrier(8)

    def send(number: int) -> float:
        start.wait(20)
        began = time.monotonic()
        with pytest.raises(Unavailable):
            writer.append(requests[number])
        return time.monotonic() - began

    with locked(migrated_url), ThreadPoolExecutor(8) as threads:
        waited = list(threads.map(send, range(8)))
    # A second group may wait its own 3 s behind the first.
    assert min(waited) > 2.5
    assert max(waited) < 20
    assert balance(database) == {}
    assert rows_of(database, schema.requests) == []
    assert rows_of(database, schema.claims) == []
    for request in requests:
        writer.append(a_request(*request.records))
    assert balance(database) == {("stored", ""): 24}


def test_while_a_commit_takes_long_only_so_many_wait_and_others_hear_so_at_once(
    migrated_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_LONG_COMMIT_SECONDS", 0.2)
    monkeypatch.setattr(writer_module, "_MOST_WAITING", 5)
    writer = a_writer(database)
    records = records_of(8)
    with ThreadPoolExecutor(6) as threads, locked(migrated_url):
        waiting = [threads.submit(writer.append, a_request(records[0]))]
        time.sleep(0.3)
        waiting += [threads.submit(writer.append, a_request(record)) for record in records[1:6]]
        when_queued(writer, 5)
        began = time.monotonic()
        with pytest.raises(Unavailable, match="too many requests wait"):
            writer.append(a_request(records[6]))
        assert time.monotonic() - began < 1
    for sending in waiting:
        # Those that the lock let through in time are stored.
        with contextlib.suppress(Unavailable):
            sending.result(20)
    writer.append(a_request(records[7]))
    assert records[7].outcome is STORED
    assert not is_kept(database, records[6])


def test_a_watcher_sees_what_was_committed_and_only_that(database: Database) -> None:
    commits: list[Commit] = []
    writer = a_writer(database, watch=commits.append)
    good, broken = records_of(2), a_record()
    broken.route = "\ud83d"
    writer.append(a_request(*good))
    with pytest.raises(Unavailable):
        writer.append(a_request(broken))
    assert [list(commit.records) for commit in commits] == [good]
    assert commits[0].seconds > 0


def test_a_watcher_that_fails_harms_no_sender_and_no_other_watcher_and_is_logged_once(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    commits: list[Commit] = []

    def fail(_commit: Commit) -> None:
        raise KeyError("odd")

    writer = Writer(Committer(database, IDS, know_no_version), fail, commits.append)
    for record in records_of(2):
        writer.append(a_request(record))
    assert [len(commit.records) for commit in commits] == [1, 1]
    assert capsys.readouterr().out.count("a watcher failed") == 1


def test_a_sender_whose_group_holds_an_odd_call_is_answered_while_watchers_fail(database: Database) -> None:
    def failing(_commit: Commit) -> None:
        raise UnicodeEncodeError("utf-8", "odd", 0, 1, "odd")

    held = _Held()
    writer = Writer(Committer(database, IDS, know_no_version), held, failing)
    records = records_of(20)
    with ThreadPoolExecutor(20) as threads:
        waiting = [threads.submit(writer.append, a_request(records[0]))]
        while not held.commits:
            time.sleep(0.001)
        waiting += [threads.submit(writer.append, a_request(record)) for record in records[1:]]
        when_queued(writer, 19)
        held.go_on.set()
        for sender in waiting:
            sender.result(20)
    assert outcomes_of(records) == [STORED] * 20
    assert balance(database) == {("stored", ""): 20}


# --- Ids that meet


def test_two_processes_that_drew_the_same_tag_and_meet_in_one_microsecond_both_store(database: Database) -> None:
    tags = iter(range(100))

    def draw(_below: int) -> int:
        return 1 if next(tags) < 2 else next(tags)

    nodes = [Ids(draw), Ids(draw)]
    assert nodes[0].tag == nodes[1].tag
    for number, ids in enumerate(nodes):
        writer = a_writer(database, ids=ids)
        request = a_request(*records_of(3, f"node-{number}"))
        for record in request.records:
            record.id = ids.next(NOW)
        writer.append(request)
        assert outcomes_of(request.records) == [STORED] * 3
        assert all(is_kept(database, record) for record in request.records)
    assert nodes[0].tag != nodes[1].tag
    assert balance(database) == {("stored", ""): 6}


@pytest.mark.parametrize("offset", range(1, 6))
@pytest.mark.parametrize("twin", ["late", "first-0", "first-1", "first-2"])
def test_no_event_is_lost_where_ids_of_any_kind_meet(database: Database, offset: int, twin: str) -> None:
    """Requests, calls and events take ids from one source, so an event's id can be the only one that meets another."""
    tags = iter([1, 1, 2, 3, 4])
    first, second = Ids(lambda _below: next(tags)), Ids(lambda _below: next(tags))
    batch = a_request(*records_of(3, "first"))
    for record in batch.records:
        record.id = first.next(NOW)
    a_writer(database, ids=first).append(batch)
    late = a_record(an_event(idempotency_id=twin), message_id="late")
    late.id = second.next(NOW + offset)
    a_writer(database, ids=second).append(a_request(late))
    assert outcomes_of([*batch.records, late]) == [STORED] * 3 + [STORED if twin == "late" else DUPLICATE]
    assert balance(database).total() == 4


TAKEN = 200
"""Microseconds in a row that a node under tag 1 gave to its calls."""


def meeting(database: Database, times: int) -> Ids:
    """Return the ids of another node, which draws tag 1 so many times in a row, and then tag 2."""
    first = Ids(lambda _below: 1)
    records = records_of(TAKEN, "first")
    for record in records:
        record.id = first.next(NOW)
    a_writer(database, ids=first).append(a_request(*records))
    tags = iter([1] * times)
    return Ids(lambda _below: next(tags, 2))


def a_meeting_request(ids: Ids, *records: Record) -> Request:
    request = a_request(*records)
    request.id = ids.next(NOW)
    for record in records:
        record.id, record.request_id = ids.next(NOW), request.id
    return request


@pytest.mark.parametrize("times", [2, 3, 7])
def test_ids_that_meet_again_and_again_reject_no_call(database: Database, times: int) -> None:
    ids = meeting(database, times)
    request = a_meeting_request(ids, *records_of(4))
    a_writer(database, ids=ids).append(request)
    assert outcomes_of(request.records) == [STORED] * 4
    assert all(is_kept(database, record) for record in request.records)
    assert {record.request_id for record in request.records} == {request.id}
    assert balance(database) == {("stored", ""): TAKEN + 4}
    assert len(rows_of(database, schema.requests)) == 2
    assert ids.tag == 2


@pytest.mark.parametrize("times", [1, 2, 4])
def test_ids_that_meet_beside_a_row_that_is_refused_reject_only_its_call(database: Database, times: int) -> None:
    ids = meeting(database, times)
    bad = a_record(unstorable_events()["half of a surrogate pair"](an_event(idempotency_id="bad")), message_id="bad")
    records = [*records_of(3, "a"), bad, *records_of(3, "b")]
    request = a_meeting_request(ids, *records)
    a_writer(database, ids=ids).append(request)
    assert outcomes_of(records) == [STORED] * 3 + [Outcome.REJECTED] + [STORED] * 3
    assert {record.request_id for record in records} == {request.id}
    assert all(is_kept(database, record) for record in records)
    assert len(rows_of(database, schema.requests)) == 2


def test_ids_that_never_stop_meeting_are_trouble_of_ours_and_no_fault_of_a_call(database: Database) -> None:
    ids = meeting(database, 1000)
    with pytest.raises(Unavailable, match="ids of two processes meet"):
        a_writer(database, ids=ids).append(a_meeting_request(ids, *records_of(4)))
    assert balance(database) == {("stored", ""): TAKEN}


# --- Many at once


def test_100_threads_with_one_message_over_two_nodes_store_it_once(migrated_url: str) -> None:
    databases = [connect(migrated_url), connect(migrated_url)]
    writers = [a_writer(database, ids=some_ids(tag)) for tag, database in enumerate(databases)]
    records = [a_record(an_event(), message_id="m-1") for _ in range(100)]
    start = threading.Barrier(100)

    def send(number: int) -> None:
        start.wait(20)
        writers[number % 2].append(a_request(records[number]))

    with ThreadPoolExecutor(100) as threads:
        list(threads.map(send, range(100)))
    assert Counter(outcomes_of(records)) == {STORED: 1, DUPLICATE: 99}
    assert balance(databases[0]) == {("stored", ""): 1, ("duplicate", "duplicate"): 99}
    [winner] = [record for record in records if record.outcome is STORED]
    assert {result.rival for record in records for result in record.results if record is not winner} == {winner.id}
    for database in databases:
        database.close()


def test_overlapping_batches_in_shuffled_order_never_deadlock(migrated_url: str) -> None:
    dice = random.Random(2)  # noqa: S311  it shuffles
    databases = [connect(migrated_url) for _ in range(4)]
    writers = [a_writer(database, ids=some_ids(tag)) for tag, database in enumerate(databases)]
    batches = []
    for _ in range(8):
        batch = records_of(1500)
        dice.shuffle(batch)
        batches.append(batch)
    with ThreadPoolExecutor(8) as threads:
        sending = [
            threads.submit(writers[number % 4].append, a_request(*batch)) for number, batch in enumerate(batches)
        ]
        for one in sending:
            one.result(60)
    assert Counter(outcome for batch in batches for outcome in outcomes_of(batch)) == {STORED: 1500, DUPLICATE: 10_500}
    assert balance(databases[0]) == {("stored", ""): 1500, ("duplicate", "duplicate"): 10_500}
    for database in databases:
        database.close()


@pytest.mark.parametrize("table", ["claims", "events"])
def test_two_transactions_that_bring_the_same_keys_in_opposite_orders_take_turns(
    postgres_database: Database, table: str
) -> None:
    lanes = [a_lane(an_event(idempotency_id=f"id-{number}")) for number in range(8000)]
    wanted = [(lane.events[0].idempotency_id, MAIN_LANE, lane, number) for number, lane in enumerate(lanes)]
    together = threading.Barrier(2)

    def bring(order: int) -> bool:
        with postgres_database.writing() as conn:
            new = [NewEvent(IDS.next(NOW), number, lane, 0) for _, _, lane, number in wanted][::order]
            together.wait(20)
            ready = prepare_claims(conn, wanted[::order]) if table == "claims" else prepare_events(conn, new)
            return ready.send().rowcount == len(new)

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(bring, [1, -1])) == [False, True]


def test_two_real_processes_store_the_same_calls_once(migrated_url: str, database: Database) -> None:
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.store.a_node", migrated_url, str(tag)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for tag in (1, 2)
    ]
    for node in nodes:
        assert node.stdout is not None
        assert node.stdout.readline() == "ready\n"
    answers = _at_once(nodes)
    counts: Counter[str] = Counter()
    for part in " ".join(answers).split():
        outcome, _, number = part.partition("=")
        counts[outcome] += int(number)
    # 50 calls that both send, 50 that only one of them sends, and one message that both send 100 times.
    assert counts == {"stored": 151, "duplicate": 249}
    assert balance(database) == {("stored", ""): 151, ("duplicate", "duplicate"): 249}


def _at_once(nodes: Sequence[subprocess.Popen[str]]) -> list[str]:
    for node in nodes:
        assert node.stdin is not None
        node.stdin.write("go\n")
        node.stdin.flush()
    answers = [node.communicate(timeout=60)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0]
    return answers
