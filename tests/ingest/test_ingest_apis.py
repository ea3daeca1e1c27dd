"""Segment's and Lotus's track APIs from request to rows, and a second time: replay, `show` and preview read alike.

On both databases.
"""

import json
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.calls.review import to_whole_document
from app.calls.steps import list_steps
from app.catalog.live import Catalog
from app.core.credentials import Auth, Credentials
from app.core.outcome import Outcome
from app.core.times import format_time
from app.core.transform.transform import TransformSet
from app.errors import UnparsableJson
from app.ingest.ingest import Ingest
from app.store.engine import Database
from app.store.ids import Ids
from app.store.record import Record
from app.store.review import CallFilters, get_call
from app.store.schema import calls, claims, events, requests
from app.transforms.preview import Preview, compare_newest
from tests.builders import (
    DEFAULT_TEXT,
    IDS,
    MISSING,
    NOW,
    SECRET,
    a_document,
    an_ingest,
    balance,
    empty,
    outcomes_of,
    rows_of,
    some_ids,
    some_transforms,
    to_raw,
)
from tests.ingest.test_native import an_event
from tests.replay.replaying import UNMADE, outcomes, replay

KEYS = Credentials(shared_secrets=(SECRET,), write_keys=("key",), ingest_keys=("key",))
HOUR = 3_600_000_000

CORRECTED = "match: {event: Order}\nevent: {properties: {batch: context.batch, own: context.own}}\n"
"""Shows in its events what only the batch says."""

WRONG = "match: {event: Order}\nevent: {customer_id: properties.account}\n"

several_examples = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)


def a_keyed_ingest(database: Database, transforms: TransformSet | None = None, ids: Ids = IDS) -> Ingest:
    return an_ingest(database, transforms, ids, credentials=KEYS)


def track(ingest: Ingest, *items: Any, beside: dict[str, Any] | None = None, route: str = "/v1/batch") -> list[Record]:
    return ingest.take(ingest.from_tracking("Bearer key", route), to_raw({"batch": items, **(beside or {})}))


def native(ingest: Ingest, *items: Any) -> list[Record]:
    return ingest.take(ingest.from_native("key"), to_raw({"batch": items}))


def an_order(**members: Any) -> dict[str, Any]:
    return a_document(**{"event": "Order", "timestamp": format_time(NOW - HOUR), **members})


SKEWED = {"sentAt": format_time(NOW - HOUR // 2), "context": {"batch": 1, "own": 1}}
"""Beside a batch from a clock that is half an hour late."""


def made(database: Database) -> list[tuple[Any, ...]]:
    """Return the events, but not which call and version made them."""
    left_out = {"id", "call_id", "transform", "transform_digest", "stored_at"}
    return sorted(rows_of(database, events, *(one for one in events.c if one.name not in left_out)))


def test_the_event_has_the_corrected_time_and_the_batchs_context_and_the_call_its_own_bytes(database: Database) -> None:
    item = an_order(context={"own": 2})
    [record] = track(a_keyed_ingest(database, some_transforms(order=CORRECTED)), item, beside=SKEWED)
    assert (record.outcome, record.raw) == (Outcome.STORED, to_raw(item))
    assert rows_of(database, calls, calls.c.raw, calls.c.route) == [(to_raw(item), "/v1/batch")]
    assert rows_of(database, events, events.c.time_created, events.c.properties) == [
        (NOW - HOUR // 2, '{"batch":1,"own":2}')
    ]
    [(auth, envelope)] = rows_of(database, requests, requests.c.auth, requests.c.envelope)
    assert (auth, json.loads(envelope)) == (Auth.WRITE_KEY, SKEWED)


@pytest.mark.parametrize(
    "item", [an_order(), an_order(messageId=MISSING), an_order(type=MISSING), an_order(writeKey="key")]
)
def test_a_replay_makes_the_event_that_would_have_been_made_when_the_call_came(
    database: Database, item: dict[str, Any]
) -> None:
    [record] = track(a_keyed_ingest(database, some_transforms(order=WRONG)), item, beside=SKEWED, route="/v1/track")
    assert record.outcome is Outcome.REJECTED
    plan = replay(database, some_transforms(order=CORRECTED))
    assert plan.tally.changed == {"rejected > stored": 1}
    balance(database)
    replayed = made(database)
    if item.get("messageId"):
        empty(database)
        track(a_keyed_ingest(database, some_transforms(order=CORRECTED)), item, beside=SKEWED, route="/v1/track")
        assert made(database) == replayed
    else:
        assert [row[0] for row in replayed] == [record.message_id]
    assert rows_of(database, events, events.c.time_created) == [(NOW - HOUR // 2,)]
    assert b'"key"' not in rows_of(database, calls, calls.c.raw)[0][0]


@pytest.mark.parametrize(
    "spoiled",
    [
        b'"\xff\xfe"',
        b'"k\xc3("',
        b'"\xed\xa0\xbd"',
        b'"k',
        b'"\\ud83d"',
        b'"\\x"',
        b'"\x00"',
        b"NaN",
        b"[[1]]",
        b"1" * 500,
        b"[" * 300 + b"]" * 300,
        b'"a","writeKey":"\xff"',
        b'"' + b"k" * 40_000 + b'"',
    ],
    ids=lambda spoiled: repr(spoiled[:12]),
)
def test_a_write_key_of_any_bytes_makes_no_call_that_replays_otherwise(database: Database, spoiled: bytes) -> None:
    """The key is hidden in what is kept: what is left may be JSON where what came was none."""
    ingest = a_keyed_ingest(database)
    item = to_raw(an_order(messageId="m-1"))
    items = [item[:-1] + b',"writeKey":' + spoiled + b"}", to_raw(an_order(messageId="m-2"))]
    body = b'{"batch":[' + b",".join(items) + b'],"writeKey":' + spoiled + b"}"
    try:
        records = ingest.take(ingest.from_tracking("Bearer key", "/v1/batch"), body)
    except UnparsableJson:
        # Its brackets or quotes do not match: there is no item to keep.
        assert rows_of(database, calls) == []
        return
    first = outcomes(database)
    assert len(records) == 2
    assert replay(database, again=True, outcomes=tuple(Outcome)).tally.changed == {}
    assert outcomes(database) == first
    assert b"\xff" not in b"".join(raw for (raw,) in rows_of(database, calls, calls.c.raw))
    balance(database)


def test_a_message_id_that_was_made_is_kept_and_claims_as_any_other(database: Database) -> None:
    ingest = a_keyed_ingest(database)
    [one], [two] = (track(ingest, an_order(messageId=MISSING)) for _ in range(2))
    assert outcomes(database) == ["stored", "stored"]
    assert one.message_id != two.message_id
    assert rows_of(database, calls, calls.c.message_id) == [(one.message_id,), (two.message_id,)]
    assert {key for (key,) in rows_of(database, claims, claims.c.message_id)} == {one.message_id, two.message_id}


def test_show_tells_the_steps_that_ran_when_the_call_came(database: Database) -> None:
    item = an_order(type=MISSING, messageId=MISSING)
    ingest = a_keyed_ingest(database, some_transforms(order=CORRECTED))
    [record] = track(ingest, item, beside=SKEWED, route="/v1/t")
    steps = steps_of(database, record)
    ours = format_time(NOW - HOUR // 2)
    assert steps[1].sentence == (
        f"it was received at {format_time(NOW)}; its timestamp, corrected from the sender's clock to ours, is {ours}"
    )
    assert [(step.name, step.passed) for step in steps] == [
        (name, True) for name in ("parsed", "completed", "transform", "mapped", "checked", "stored")
    ]


def steps_of(database: Database, record: Record) -> Any:
    with database.reading() as conn:
        whole = get_call(conn, record.id)
        steps = list_steps(conn, Catalog(), whole)
        assert to_whole_document(whole, steps).route == record.route
    return steps


def test_preview_reads_kept_calls_as_they_were_understood(database: Database) -> None:
    live, draft = some_transforms(order=WRONG), some_transforms(order=CORRECTED)
    ingest = a_keyed_ingest(database, live)
    track(ingest, an_order(context={"own": 2}), beside=SKEWED)
    native(ingest, an_event(event_name="Order"))
    changed = next(one for one in draft.transforms if one.name == "order")
    report = compare_newest(database, Preview(live, changed, draft), CallFilters(), None, lambda _count: None)
    assert (report.calls, report.concerned) == (2, 1)
    [mapped] = report.newly_mapped
    [event] = mapped.after
    assert event["time_created"] == format_time(NOW - HOUR // 2)
    assert event["properties"] == {"batch": 1, "own": 2}


# --- Native events


def test_show_tells_of_a_native_event_that_nothing_changed_it(database: Database) -> None:
    taken, refused, none = native(a_keyed_ingest(database), an_event(), an_event(customer_id=""), 7)
    assert [(step.name, step.passed) for step in steps_of(database, taken)] == [
        (name, True) for name in ("parsed", "transform", "checked", "stored")
    ]
    assert steps_of(database, refused)[-1].sentence == "No customer_id provided"
    assert [(step.name, step.passed) for step in steps_of(database, none)] == [("parsed", False)]


def test_a_replay_leaves_native_events_as_they_are(database: Database) -> None:
    ingest = a_keyed_ingest(database)
    native(ingest, an_event(), an_event(properties={"other": 1}), an_event(idempotency_id="2", customer_id=""), 7)
    before = outcomes(database), made(database)
    assert before[0] == ["stored", "conflict", "rejected", "rejected"]
    for wanted in (UNMADE, tuple(Outcome)):
        plan = replay(database, some_transforms(DEFAULT_TEXT, api="match: {event: API Call}\n"), outcomes=wanted)
        assert plan.tally.changed == {}
    assert (outcomes(database), made(database)) == before
    balance(database)


def test_a_segment_call_and_a_native_event_of_one_id_are_compared(database: Database) -> None:
    ingest = a_keyed_ingest(database)
    native(ingest, an_event(idempotency_id="message-1"))
    records = track(ingest, a_document(), a_document(messageId="message-1", userId="somebody else"))
    assert outcomes_of(records) == [Outcome.DUPLICATE, Outcome.CONFLICT]
    track(ingest, a_document(messageId="message-2"))
    records = native(ingest, an_event(idempotency_id="message-2"), an_event(idempotency_id="message-2", event_name="x"))
    assert outcomes_of(records) == [Outcome.DUPLICATE, Outcome.CONFLICT]
    assert len(made(database)) == 2


def test_two_writers_with_one_id_at_once_make_one_event(database: Database) -> None:
    ways = []
    for tag in range(2, 6):
        ingest = a_keyed_ingest(database, ids=some_ids(tag))
        ways += [
            lambda ingest=ingest: native(ingest, an_event(idempotency_id="message-1"), an_event()),
            lambda ingest=ingest: track(ingest, a_document()),
        ]
    start = threading.Barrier(len(ways))
    failed: list[BaseException] = []

    def run(way: Any) -> None:
        try:
            start.wait(30)
            way()
        except BaseException as error:  # noqa: BLE001  the test shows it
            failed.append(error)

    threads = [threading.Thread(target=run, args=(way,)) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    assert balance(database) == {("stored", ""): 2, ("duplicate", "duplicate"): 10}
    assert [row[0] for row in made(database)] == ["id-1", "message-1"]


_TEXT = st.sampled_from(("", "a", "\0", "\ud83d", "x" * 300, "message-1"))
_VALUE = st.none() | st.booleans() | st.integers() | _TEXT | st.just({"a": 1})
_EVENT = st.builds(an_event, event_name=_VALUE, idempotency_id=_VALUE, customer_id=_VALUE, properties=_VALUE)
_CALL = st.builds(a_document, event=_VALUE, messageId=_VALUE, userId=_VALUE, properties=_VALUE, context=_VALUE)


@several_examples
@given(some=st.lists(_EVENT | _VALUE, max_size=4), others=st.lists(_CALL | _VALUE, max_size=4))
def test_whatever_comes_each_item_has_one_outcome_and_a_replay_changes_none(
    database: Database, some: list[Any], others: list[Any]
) -> None:
    ingest = a_keyed_ingest(database)
    before = sum(balance(database).values())
    records = [
        *native(ingest, *some),
        *track(ingest, *others, beside={"sentAt": "\ud83d", "context": {"a": {"b": "\0"}}}),
    ]
    assert len(records) == len(some) + len(others)
    assert all(record.outcome for record in records)
    assert sum(balance(database).values()) == before + len(records)
    plan = replay(database, outcomes=UNMADE)
    assert plan.tally.changed == {}
