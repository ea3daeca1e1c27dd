"""Calls that feed several metrics: lanes, fan-out and retries through the real store, on both databases."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.outcome import Outcome, Reason
from app.core.transform.transform import TransformSet
from app.store import schema
from app.store.engine import Database
from app.store.record import Record
from tests.builders import a_document, a_record_of, balance, empty, published, rows_of, some_transforms, store

STORED, DUPLICATE, CONFLICT = Outcome.STORED, Outcome.DUPLICATE, Outcome.CONFLICT
IGNORED, REJECTED = Outcome.IGNORED, Outcome.REJECTED

MAIN = {"order": "match: {event: Order}\nevent: {properties: {total: properties.total}}"}
SEATS = {
    "seats": "match: {event: Order}\nalso: true\nevent: {event_name: {const: seats}, properties: {n: properties.n}}"
}
SEATS_IN_MAIN = {"seats": SEATS["seats"].replace("also: true\n", "")}
FAN = {"fan": "match: {event: Order}\neach: properties.items\nevent: {properties: {sku: item}}"}
ALSO_FAN = {"lines": "match: {event: Order}\nalso: true\neach: properties.items\nevent: {properties: {sku: item}}"}
BAD = {"bad": "match: {event: Order}\nalso: true\nevent: {customer_id: properties.nobody}"}


def an_order(**members: Any) -> dict[str, Any]:
    return a_document(event="Order", **members)


CALL = an_order(properties={"total": 5, "n": 2, "items": ["a", "b"]})


def receive(database: Database, transforms: TransformSet, *documents: object) -> list[Record]:
    # What is live stays live until it is taken out; here it is these transforms and no others that map.
    catalog = published(database, transforms)
    records = [a_record_of(document, transforms) for document in documents]
    store(database, *records, map_again=catalog.map_again)
    return records


def results_of(record: Record) -> list[tuple[str, int, Outcome]]:
    """Each event's own end; of a call whose one event is stored there is no list."""
    return [(one.lane, one.position, one.result) for one in record.results]


def stored_in(database: Database) -> list[tuple[str, str]]:
    columns = schema.events.c
    return sorted(rows_of(database, schema.events, columns.lane, columns.idempotency_id))


# --- Each send is a set of transforms and a call; what follows is what becomes of it


@dataclass(frozen=True, kw_only=True)
class Send:
    files: dict[str, str]
    ends: Outcome
    events: list[tuple[str, int, Outcome]] = field(default_factory=list)
    call: dict[str, Any] = field(default_factory=lambda: CALL)


HISTORIES: dict[str, tuple[list[Send], list[tuple[str, str]]]] = {
    "one call makes the events of all its lanes, and a retry none": (
        [
            Send(
                files=MAIN | SEATS | ALSO_FAN,
                ends=STORED,
                events=[("main", 0, STORED), ("lines", 0, STORED), ("lines", 1, STORED), ("seats", 0, STORED)],
            ),
            Send(
                files=MAIN | SEATS | ALSO_FAN,
                ends=DUPLICATE,
                events=[
                    ("main", 0, DUPLICATE),
                    ("lines", 0, DUPLICATE),
                    ("lines", 1, DUPLICATE),
                    ("seats", 0, DUPLICATE),
                ],
            ),
        ],
        [
            ("lines", "message-1:lines:0"),
            ("lines", "message-1:lines:1"),
            ("main", "message-1"),
            ("seats", "message-1:seats"),
        ],
    ),
    "a retry makes no event, in a lane that came later neither": (
        [
            Send(files=MAIN, ends=STORED),
            Send(files=MAIN | SEATS, ends=DUPLICATE, events=[("main", 0, DUPLICATE), ("seats", 0, DUPLICATE)]),
        ],
        [("main", "message-1")],
    ),
    "a transform that moves to a lane of its own makes nothing of what is sent again": (
        [
            Send(files=SEATS_IN_MAIN, ends=STORED),
            Send(files=SEATS, ends=DUPLICATE, events=[("main", 0, DUPLICATE), ("seats", 0, DUPLICATE)]),
        ],
        [("main", "message-1")],
    ),
    "a lane of its own that is renamed makes nothing of what is sent again": (
        [
            Send(files=SEATS, ends=STORED, events=[("main", 0, STORED), ("seats", 0, STORED)]),
            Send(
                files={"places": SEATS["seats"]},
                ends=DUPLICATE,
                events=[("main", 0, DUPLICATE), ("places", 0, DUPLICATE)],
            ),
        ],
        [("main", "message-1"), ("seats", "message-1:seats")],
    ),
    "a retry after a lane was taken out finds the main one done": (
        [
            Send(files=MAIN | SEATS, ends=STORED, events=[("main", 0, STORED), ("seats", 0, STORED)]),
            Send(files=MAIN, ends=DUPLICATE, events=[("main", 0, DUPLICATE)]),
        ],
        [("main", "message-1"), ("seats", "message-1:seats")],
    ),
    "a main claim holds though the main transform fans out now": (
        [
            Send(files=MAIN, ends=STORED),
            Send(files=FAN, ends=DUPLICATE, events=[("main", 0, DUPLICATE), ("main", 1, DUPLICATE)]),
        ],
        [("main", "message-1")],
    ),
    "a fan-out is claimed as a whole": (
        [
            Send(files=FAN, ends=STORED, events=[("main", 0, STORED), ("main", 1, STORED)]),
            Send(
                files=FAN,
                call=an_order(properties={"total": 5, "n": 2, "items": ["a", "b", "c"]}),
                ends=CONFLICT,
                events=[("main", 0, CONFLICT), ("main", 1, CONFLICT), ("main", 2, CONFLICT)],
            ),
        ],
        [("main", "message-1:0"), ("main", "message-1:1")],
    ),
    "other content under a known message is a conflict, in a lane that came later too": (
        [
            Send(files=MAIN, ends=STORED),
            Send(
                files=MAIN | SEATS,
                call=an_order(properties={"total": 6, "n": 2}),
                ends=CONFLICT,
                events=[("main", 0, CONFLICT), ("seats", 0, CONFLICT)],
            ),
        ],
        [("main", "message-1")],
    ),
    "lanes of their own conflict by themselves": (
        [
            Send(files=MAIN | SEATS, ends=STORED, events=[("main", 0, STORED), ("seats", 0, STORED)]),
            Send(
                files=MAIN | SEATS,
                call=an_order(properties={"total": 5, "n": 3}),
                ends=CONFLICT,
                events=[("main", 0, DUPLICATE), ("seats", 0, CONFLICT)],
            ),
        ],
        [("main", "message-1"), ("seats", "message-1:seats")],
    ),
    "one bad lane rejects the call and stores none": (
        [
            Send(files=MAIN | SEATS | BAD, ends=REJECTED),
            Send(files=MAIN | SEATS, ends=STORED, events=[("main", 0, STORED), ("seats", 0, STORED)]),
        ],
        [("main", "message-1"), ("seats", "message-1:seats")],
    ),
    "two items of one id reject the call and store none": (
        [Send(files={"twins": "each: properties.items\nevent: {idempotency_id: \"'x'\"}"}, ends=REJECTED)],
        [],
    ),
    "the main one may want no event, and the message is claimed by a lane of its own": (
        [
            Send(files={"order": "when: properties.no"} | SEATS, ends=STORED),
            Send(files=MAIN | SEATS, ends=DUPLICATE, events=[("main", 0, DUPLICATE), ("seats", 0, DUPLICATE)]),
        ],
        [("seats", "message-1:seats")],
    ),
    "where all are filtered nothing is stored and nothing is claimed": (
        [
            Send(files={"order": "when: nothing"} | {"lines": "also: true\neach: nothing"}, ends=IGNORED),
            Send(files=MAIN, ends=STORED),
        ],
        [("main", "message-1")],
    ),
    "an id of its own that another call took is a duplicate in its lane alone": (
        [
            Send(
                files={
                    "once": "also: true\nevent: {idempotency_id: userId, event_name: {const: once}, properties: {}}"
                },
                call=an_order(messageId="m-1"),
                ends=STORED,
                events=[("main", 0, STORED), ("once", 0, STORED)],
            ),
            Send(
                files={
                    "once": "also: true\nevent: {idempotency_id: userId, event_name: {const: once}, properties: {}}"
                },
                call=an_order(messageId="m-2"),
                ends=STORED,
                events=[("main", 0, STORED), ("once", 0, DUPLICATE)],
            ),
        ],
        [("main", "m-1"), ("main", "m-2"), ("once", "customer-1")],
    ),
}


@pytest.mark.parametrize("story", sorted(HISTORIES))
def test_what_is_sent_again_with_other_lanes(story: str, database: Database) -> None:
    sends, stored = HISTORIES[story]
    for send in sends:
        [record] = receive(database, some_transforms(**send.files), send.call)
        assert record.outcome is send.ends, record.detail
        assert results_of(record) == send.events
    assert stored_in(database) == stored
    assert sum(balance(database).values()) == len(sends)


def test_calls_of_one_commit_are_settled_lane_by_lane(database: Database) -> None:
    transforms = some_transforms(**MAIN, **SEATS)
    records = receive(database, transforms, CALL, CALL, an_order(messageId="message-2"))
    assert [record.outcome for record in records] == [STORED, DUPLICATE, STORED]
    assert len(stored_in(database)) == 4


def test_a_rejected_call_leaves_no_trace_of_its_good_lanes(database: Database) -> None:
    [record] = receive(database, some_transforms(**MAIN, **SEATS, **BAD), CALL)
    assert (record.outcome, record.reason) == (REJECTED, Reason.EVENT_INVALID)
    assert "bad.yaml" in (record.detail or "")
    for table in (schema.events, schema.claims):
        assert rows_of(database, table) == []


def test_each_event_names_the_version_of_its_own_lane(database: Database) -> None:
    transforms = some_transforms(**MAIN, **SEATS)
    receive(database, transforms, CALL)
    versions = {one.name: one.digest for one in transforms.transforms}
    columns = schema.events.c
    assert sorted(rows_of(database, schema.events, columns.lane, columns.transform, columns.transform_digest)) == [
        ("main", "order", versions["order"]),
        ("seats", "seats", versions["seats"]),
    ]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sends=st.lists(
        st.tuples(
            st.lists(st.sampled_from(["m-1", "m-2"]), min_size=1, max_size=3),
            st.sets(st.sampled_from("abc")),
            st.booleans(),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_lanes_come_and_go_each_message_makes_its_events_once(
    database: Database, sends: list[tuple[list[str], set[str], bool]]
) -> None:
    empty(database)
    expected: set[tuple[str, str]] = set()
    claimed: set[str] = set()
    for messages, lanes, wanted in sends:
        files = {name: f"also: true\nevent: {{event_name: {{const: {name}}}}}" for name in lanes}
        main = {} if wanted else {"z": "when: nothing"}
        records = receive(database, some_transforms(**files, **main), *[an_order(messageId=one) for one in messages])
        for message, record in zip(messages, records, strict=True):
            made = {(name, f"{message}:{name}") for name in lanes} | ({("main", message)} if wanted else set())
            if not made:
                assert record.outcome is IGNORED
            elif message in claimed:
                # With other content it may be a conflict; in no case is anything stored.
                assert record.outcome in {DUPLICATE, CONFLICT}
            else:
                assert record.outcome is STORED
                claimed.add(message)
                expected |= made
    assert stored_in(database) == sorted(expected)
    balance(database)
