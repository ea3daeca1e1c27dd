"""Reading what is stored: every filter against plain Python over all rows, on both databases."""

from collections.abc import Callable

import msgspec
import pytest
import sqlalchemy as sa

from app.core.outcome import Outcome, Reason
from app.errors import NotFound
from app.store.engine import Database
from app.store.ids import Ids
from app.store.ledger import audit_ledger
from app.store.review import CallFilters, CallRow, get_call, list_call_ids, list_calls, newest_call_id
from app.store.review_events import EventFilters, EventRow, list_events
from app.store.schema import calls, events
from tests.builders import (
    NOW,
    a_call,
    a_document,
    a_lane,
    a_record,
    a_request,
    a_run,
    a_writer,
    an_event,
    an_ingest,
    post,
    some_transforms,
    store,
    to_raw,
)

SECOND = 1_000_000

DOCUMENTS: list[object] = [
    a_document(messageId="m-1", userId="ann"),
    a_document(messageId="m-2", userId="ann", event="Seats"),
    a_document(messageId="m-1", userId="ann"),
    a_document(messageId="m-1", userId="ann", properties={"tokens": 11}),
    a_document(messageId="m-3", userId="bob"),
    a_document(messageId="m-4", userId=""),
    {"type": "identify", "messageId": "m-5", "userId": "ann"},
    {"type": "wave", "messageId": "m-6", "userId": "bob"},
    "no object",
    a_document(messageId="m-7", userId="bob", event=""),
    a_document(messageId="m-8", userId="bob", event="Seats"),
    a_document(messageId="m-8", userId="bob", event="Seats"),
]


@pytest.fixture
def reviewed(database: Database) -> Database:
    """A database with calls of every outcome, a second apart."""
    clock = iter(range(NOW, NOW + 100 * SECOND, SECOND))
    transforms = some_transforms(seats="match:\n  event: Seats\n")
    # Ids of their own: those of all tests have run ahead of this clock.
    ingest = an_ingest(database, transforms, Ids(lambda _below: 7), clock=lambda: next(clock))
    for document in DOCUMENTS:
        post(ingest, to_raw(document))
    return database


def all_calls(database: Database) -> list[CallRow]:
    with database.reading() as conn:
        return list_calls(conn, CallFilters(), limit=1000)


def pages_of(database: Database, filters: CallFilters, size: int) -> list[CallRow]:
    """Everything a filter finds, page by page."""
    found: list[CallRow] = []
    while True:
        with database.reading() as conn:
            page = list_calls(conn, filters, before=found[-1].id if found else None, limit=size)
        if not page:
            return found
        assert len(page) <= size
        found += page


def with_outcome(outcome: Outcome, customer: str | None = None) -> Callable[[CallRow], object]:
    return lambda row: row.outcome is outcome and customer in {None, row.customer_id}


def with_reason(reason: Reason) -> Callable[[CallRow], object]:
    return lambda row: row.reason == reason


CASES: dict[str, tuple[CallFilters, Callable[[CallRow], object]]] = {
    "none": (CallFilters(), lambda _row: True),
    **{str(outcome): (CallFilters(outcomes=(outcome,)), with_outcome(outcome)) for outcome in Outcome},
    "two outcomes": (
        CallFilters(outcomes=(Outcome.REJECTED, Outcome.IGNORED)),
        lambda row: row.outcome in {Outcome.REJECTED, Outcome.IGNORED},
    ),
    "stored and another": (
        CallFilters(outcomes=(Outcome.STORED, Outcome.CONFLICT)),
        lambda row: row.outcome in {Outcome.STORED, Outcome.CONFLICT},
    ),
    **{
        reason: (CallFilters(reason=reason), with_reason(reason))
        for reason in (Reason.EVENT_INVALID, Reason.NO_TRANSFORM, Reason.DUPLICATE, Reason.UNSTORABLE)
    },
    "event": (CallFilters(event="Seats"), lambda row: row.event == "Seats"),
    "event and outcome": (
        CallFilters(event="API Call", outcomes=(Outcome.STORED,)),
        lambda row: row.event == "API Call" and row.outcome is Outcome.STORED,
    ),
    "transform": (CallFilters(transform="seats"), lambda row: row.transform == "seats"),
    "customer": (CallFilters(customer="ann"), lambda row: row.customer_id == "ann"),
    "customer and event": (
        CallFilters(customer="bob", event="Seats"),
        lambda row: row.customer_id == "bob" and row.event == "Seats",
    ),
    **{
        f"customer and {outcome}": (
            CallFilters(customer="ann", outcomes=(outcome,)),
            with_outcome(outcome, customer="ann"),
        )
        for outcome in Outcome
    },
    "message": (CallFilters(id="m-1"), lambda row: row.message_id == "m-1"),
    "message and outcome": (
        CallFilters(id="m-8", outcomes=(Outcome.DUPLICATE,)),
        lambda row: row.message_id == "m-8" and row.outcome is Outcome.DUPLICATE,
    ),
    "message of another customer": (CallFilters(id="m-1", customer="bob"), lambda _row: False),
    "since": (CallFilters(since=NOW + 3 * SECOND), lambda row: row.received_at >= NOW + 3 * SECOND),
    "until": (CallFilters(until=NOW + 3 * SECOND), lambda row: row.received_at < NOW + 3 * SECOND),
    "customer since and until": (
        CallFilters(customer="ann", since=NOW + SECOND, until=NOW + 6 * SECOND),
        lambda row: row.customer_id == "ann" and NOW + SECOND <= row.received_at < NOW + 6 * SECOND,
    ),
    "beyond all times": (CallFilters(since=253_402_300_799_999_999), lambda _row: False),
    "unknown": (CallFilters(customer="nobody"), lambda _row: False),
    "what no database takes": (CallFilters(event="a\0b\ud83d", customer="\0", id="\udcff"), lambda _row: False),
}


def test_every_filter_finds_what_plain_python_finds_page_by_page(reviewed: Database) -> None:
    rows = all_calls(reviewed)
    assert len(rows) == len(DOCUMENTS)
    assert {row.outcome for row in rows} == set(Outcome)
    assert rows == sorted(rows, key=lambda row: -row.id)
    for name, (filters, expected) in CASES.items():
        wanted = [row for row in rows if expected(row)]
        for size in (1, 2, 5, 100):
            assert pages_of(reviewed, filters, size) == wanted, (name, size)


def test_a_reason_of_another_outcome_finds_nothing(reviewed: Database) -> None:
    with reviewed.reading() as conn:
        assert not list_calls(conn, CallFilters(reason=Reason.NO_TRANSFORM, outcomes=(Outcome.STORED,)))


def test_a_call_is_found_by_its_own_id_its_message_and_its_idempotency_id(database: Database) -> None:
    record = a_record(an_event(idempotency_id="idem-1"), message_id="message-1")
    other = a_record(an_event(idempotency_id="idem-2"), message_id="message-2")
    store(database, record, other)
    with database.reading() as conn:
        for text in (str(record.id), "message-1", "idem-1"):
            assert list_call_ids(conn, CallFilters(id=text), limit=10) == [record.id]
        for text in ("idem-3", "9" * 19, "9" * 5000, "0", "-1", "\u0661"):
            assert list_call_ids(conn, CallFilters(id=text), limit=10) == []


@pytest.mark.parametrize("message_id", ["x" * 1000, "nul\0nul", "half \ud83d", "ünï"])
def test_a_message_is_found_by_what_its_sender_wrote(database: Database, message_id: str) -> None:
    stored = a_record(an_event(), message_id=message_id)
    again = a_record(an_event(), message_id=message_id)
    store(database, stored, again)
    with database.reading() as conn:
        assert list_call_ids(conn, CallFilters(id=message_id), limit=10) == [again.id, stored.id]
        assert [one.id for one in get_call(conn, stored.id).same_message] == [again.id]


def test_a_call_of_several_events_is_found_once_by_the_customer_of_each(database: Database) -> None:
    lane = a_lane(
        an_event(idempotency_id="a", customer_id="ann"),
        an_event(idempotency_id="b", customer_id="bob"),
        an_event(idempotency_id="c", customer_id="bob"),
    )
    record = a_record(a_run(lane, call=a_call()))
    after = a_record(an_event(idempotency_id="d", customer_id="bob"))
    store(database, record, after)
    with database.reading() as conn:
        assert list_call_ids(conn, CallFilters(customer="ann"), limit=2) == [record.id]
        assert list_call_ids(conn, CallFilters(customer="bob"), limit=2) == [after.id, record.id]
        assert get_call(conn, record.id).call.idempotency_ids == ("a", "b", "c")


def test_a_call_is_read_whole(database: Database) -> None:
    first = a_record(an_event(), raw=b'{"a": 1}')
    second = a_record(an_event(properties={"tokens": 11}), raw=b'{"a": 2}')
    store(database, first)
    store(database, second)
    with database.reading() as conn:
        stored, conflict = get_call(conn, first.id), get_call(conn, second.id)
    assert (stored.raw, stored.auth, stored.shape, stored.envelope) == (b'{"a": 1}', "signature", "array", None)
    assert [event.idempotency_id for event in stored.events] == ["id-1"]
    assert stored.call.results == ()
    assert conflict.events == ()
    assert [(one.result, one.rival) for one in conflict.call.results] == [(Outcome.CONFLICT, first.id)]
    assert b'"tokens":11' in msgspec.json.encode(conflict.call.results[0])
    assert [one.id for one in conflict.same_message] == [first.id]


@pytest.mark.parametrize("call_id", [0, -1, 1, (1 << 63) - 1, 1 << 63, 10**30])
def test_what_is_not_there_is_not_found(database: Database, call_id: int) -> None:
    with database.reading() as conn, pytest.raises(NotFound):
        get_call(conn, call_id)


def test_of_a_message_sent_a_hundred_times_only_the_newest_others_are_read(database: Database) -> None:
    records = [a_record(an_event()) for _ in range(100)]
    store(database, *records)
    with database.reading() as conn:
        whole = get_call(conn, records[0].id, same_message_limit=5)
    assert [one.id for one in whole.same_message] == [one.id for one in records[:-6:-1]]


def test_the_newest_id_is_known(database: Database) -> None:
    with database.reading() as conn:
        assert newest_call_id(conn) == 0
    records = [a_record(an_event(idempotency_id=f"{at}")) for at in range(3)]
    store(database, *records)
    with database.reading() as conn:
        assert newest_call_id(conn) == records[-1].id


def test_events_are_read_by_every_filter_page_by_page(database: Database) -> None:
    records = [
        a_record(an_event(idempotency_id=f"{at}", customer_id="ann" if at % 2 else "bob", event_name=f"e{at % 3}"))
        for at in range(7)
    ]
    pair = a_lane(an_event(idempotency_id="x"), an_event(idempotency_id="y"))
    store(database, *records, a_record(a_run(pair, call=a_call())))
    with database.writing() as conn:
        conn.execute(sa.update(events).where(events.c.idempotency_id == "3").values(voided_at=NOW, void_reason="wrong"))
    with database.reading() as conn:
        everything = list_events(conn, EventFilters(), limit=100)
    assert [row.idempotency_id for row in everything] == ["y", "x", "6", "5", "4", "3", "2", "1", "0"]
    cases: dict[str, tuple[EventFilters, Callable[[EventRow], object]]] = {
        "customer": (EventFilters(customer="ann"), lambda row: row.customer_id == "ann"),
        "event name": (EventFilters(event_name="e1"), lambda row: row.event_name == "e1"),
        "idempotency id": (EventFilters(idempotency_id="5"), lambda row: row.idempotency_id == "5"),
        "call": (EventFilters(call_id=records[2].id), lambda row: row.call_id == records[2].id),
        "voided": (EventFilters(voided=True), lambda row: row.idempotency_id == "3"),
        "not voided": (EventFilters(voided=False), lambda row: row.idempotency_id != "3"),
        "since": (EventFilters(since=NOW + 10**9), lambda _row: False),
        "until": (EventFilters(until=NOW + 10**9), lambda _row: True),
        "what no database takes": (EventFilters(customer="\0", event_name="\ud83d"), lambda _row: False),
    }
    for name, (filters, expected) in cases.items():
        for size in (1, 2, 100):
            found: list[EventRow] = []
            while True:
                with database.reading() as conn:
                    last = (found[-1].call_id, found[-1].id) if found else None
                    page = list_events(conn, filters, last, size)
                if not page:
                    break
                found += page
            assert found == [row for row in everything if expected(row)], (name, size)


def test_the_ledger_is_held_against_the_calls(reviewed: Database) -> None:
    def audit() -> tuple[int, int]:
        with reviewed.reading() as conn:
            counts, received = audit_ledger(conn)
        return sum(count for (subject, _, _), count in counts.items() if subject == "call"), received

    assert audit() == (len(DOCUMENTS), len(DOCUMENTS))
    with reviewed.writing() as conn:
        conn.execute(sa.delete(calls).where(calls.c.outcome == "conflict"))
    assert audit() == (len(DOCUMENTS), len(DOCUMENTS) - 1)


def test_a_writer_that_is_slow_to_commit_hides_nothing_below_its_ids(database: Database) -> None:
    late, early = a_record(an_event(idempotency_id="late")), a_record(an_event(idempotency_id="early"))
    a_writer(database).append(a_request(early))
    a_writer(database).append(a_request(late))
    with database.reading() as conn:
        assert list_call_ids(conn, CallFilters(), after=late.id - 1, limit=9) == [early.id, late.id]
        assert list_call_ids(conn, CallFilters(), after=late.id, limit=9) == [early.id]
