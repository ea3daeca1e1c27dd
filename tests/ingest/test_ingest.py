"""What happens to a request, from its bytes to its rows: the real Ingest on both databases."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.credentials import Credentials
from app.core.outcome import REASONS_OF, Outcome, Reason
from app.errors import (
    BatchNotFullyAuthenticated,
    RequestRefused,
    SignatureMismatch,
    SignatureMissing,
    TooLarge,
    Unauthorized,
    UnparsableJson,
)
from app.ingest.ingest import Ingest, to_receipt
from app.store import schema
from app.store.engine import Database
from app.store.record import Record
from tests.builders import (
    MISSING,
    NOW,
    SECRET,
    a_document,
    a_record,
    a_rejected_run,
    an_ingest,
    balance,
    empty,
    outcomes_of,
    post,
    rows_of,
    some_transforms,
    store,
    to_raw,
    values_of,
)

STORED, DUPLICATE, CONFLICT = Outcome.STORED, Outcome.DUPLICATE, Outcome.CONFLICT
IGNORED, REJECTED = Outcome.IGNORED, Outcome.REJECTED

several_examples = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def raws_of(database: Database) -> list[bytes]:
    return values_of(rows_of(database, schema.calls, schema.calls.c.raw))


# --- From a request to its rows


def test_one_call_is_stored_with_all_that_is_known_of_it(database: Database) -> None:
    body = b' {"type": "track", "messageId":"m-1","userId":42,"event":"Sent", "timestamp":"2026-11-01"}\n'
    [record] = post(an_ingest(database), body)
    assert record.outcome is STORED
    columns = schema.calls.c
    assert rows_of(
        database,
        schema.calls,
        columns.id,
        columns.received_at,
        columns.route,
        columns.raw,
        columns.type,
        columns.message_id,
        columns.event,
        columns.customer_id,
        columns.outcome,
        columns.reason,
        columns.detail,
        columns.transform,
        columns.results,
    ) == [
        (record.id, NOW, "webhook", body.strip(), "track", "m-1", "Sent", "42", "stored", None, None, "_default", None)
    ]
    requests = schema.requests.c
    assert rows_of(database, schema.requests, requests.id, requests.auth, requests.shape, requests.envelope) == [
        (record.request_id, "signature", "single", None)
    ]


def test_each_call_of_a_batch_keeps_its_own_bytes_and_place(database: Database) -> None:
    items = [
        b'{"type":"track", "a": 1.0}',
        b"null",
        b' {"b":"\\u00e9\xc3\xa9"}'.strip(),
        b"[1, 2 ]",
        b'"\\ud83d\\u0000"',
    ]
    records = post(an_ingest(database), b"[" + b" , ".join(items) + b"]", signed=items[0])
    assert [record.raw for record in records] == items
    columns = schema.calls.c
    assert rows_of(database, schema.calls, columns.position, columns.raw) == list(enumerate(items))
    assert rows_of(database, schema.requests, schema.requests.c.auth, schema.requests.c.shape) == [
        ("first_call", "array")
    ]


def test_what_a_batch_says_outside_its_items_is_kept_once_and_without_the_write_key(database: Database) -> None:
    body = b'{"writeKey":"hush","batch":[{"type":"track"},{"type":"page"}],"sentAt": "now","context":{"a":1}}'
    post(an_ingest(database), body)
    [(envelope,)] = rows_of(database, schema.requests, schema.requests.c.envelope)
    assert json.loads(envelope) == {"sentAt": "now", "context": {"a": 1}}
    assert b"hush" not in envelope + b"".join(raws_of(database))


def test_an_unwrapped_call_keeps_the_bytes_of_what_was_wrapped(database: Database) -> None:
    inner = to_raw(a_document())
    [record] = post(an_ingest(database), b'[{"json": ' + inner + b"}]", signed=inner)
    assert (record.raw, record.outcome) == (inner, STORED)


@pytest.mark.parametrize("body", [b"", b" \n", b"[]", b'{"batch":[]}'])
def test_a_request_without_calls_leaves_no_row(database: Database, body: bytes) -> None:
    assert post(an_ingest(database), body) == []
    assert rows_of(database, schema.requests) == []
    assert balance(database) == {}


def test_a_bad_call_fails_alone_in_its_batch(database: Database) -> None:
    documents: list[object] = [
        a_document(messageId="m-1"),
        None,
        a_document(messageId="m-2", userId=MISSING),
        a_document(messageId="m-3", type="identify"),
        a_document(messageId="m-1"),
        a_document(messageId="m-1", properties={}),
        a_document(messageId="m-4"),
    ]
    records = post(an_ingest(database), to_raw(documents))
    assert outcomes_of(records) == [STORED, REJECTED, REJECTED, IGNORED, DUPLICATE, CONFLICT, STORED]
    receipt = to_receipt(records)
    assert (receipt.received, receipt.stored, receipt.duplicate) == (7, 2, 1)
    assert (receipt.conflict, receipt.ignored, receipt.rejected) == (1, 1, 2)
    assert balance(database).total() == 7


def test_a_receipt_counts_every_outcome() -> None:
    assert to_receipt([]).received == 0
    record = a_record(a_rejected_run())
    record.outcome = REJECTED
    assert to_receipt([record]).rejected == 1
    record.outcome = STORED
    assert to_receipt([record]).stored == 1


def test_a_call_of_which_little_can_be_read_keeps_what_can(database: Database) -> None:
    [record] = post(an_ingest(database), to_raw(a_document(properties=[], messageId="m-9")))
    assert record.reason is Reason.PROPERTIES_NOT_OBJECT
    columns = schema.calls.c
    assert rows_of(database, schema.calls, columns.type, columns.message_id, columns.event, columns.customer_id) == [
        ("track", "m-9", "API Call", "customer-1")
    ]


def test_a_batch_of_thousands_is_one_request(database: Database) -> None:
    documents = [a_document(messageId=f"m-{number}") for number in range(4500)]
    records = post(an_ingest(database), to_raw(documents), signed=to_raw(documents[0]))
    assert set(outcomes_of(records)) == {STORED}
    assert balance(database) == {("stored", ""): 4500}
    assert len(rows_of(database, schema.requests)) == 1


def test_the_clock_decides_when_a_call_was_received(database: Database) -> None:
    moments = iter([NOW, NOW + 5])
    ingest = an_ingest(database, clock=lambda: next(moments))
    post(ingest, to_raw(a_document()))
    post(ingest, to_raw(a_document()))
    assert rows_of(database, schema.calls, schema.calls.c.received_at) == [(NOW,), (NOW + 5,)]


# --- Who may send


def test_what_is_not_authentic_leaves_no_row(database: Database) -> None:
    ingest = an_ingest(database)
    body = to_raw(a_document())
    with pytest.raises(SignatureMissing):
        ingest.take(ingest.from_webhook(None, None), body)
    with pytest.raises(SignatureMismatch):
        ingest.take(ingest.from_webhook("0" * 40, None), body)
    with pytest.raises(Unauthorized):
        ingest.take(ingest.from_webhook(None, "Bearer x"), body)
    with pytest.raises(SignatureMismatch):
        ingest.take(ingest.from_webhook("0" * 40, None), b"not JSON")
    assert rows_of(database, schema.requests) == []


def test_a_batch_signed_on_its_first_call_is_refused_where_full_authentication_is_asked_for(
    database: Database,
) -> None:
    credentials = Credentials(shared_secrets=(SECRET,), bearer_tokens=("t",), basic_auth=("u:p",))
    ingest = an_ingest(database, require_full_auth=True, credentials=credentials)
    batch = [a_document(messageId="m-1"), a_document(messageId="m-2")]
    with pytest.raises(BatchNotFullyAuthenticated):
        post(ingest, to_raw(batch), signed=to_raw(batch[0]))
    assert rows_of(database, schema.requests) == []
    assert outcomes_of(post(ingest, to_raw(batch[:1]), signed=to_raw(batch[0]))) == [STORED]
    assert outcomes_of(post(ingest, to_raw(batch))) == [DUPLICATE, STORED]
    assert outcomes_of(ingest.take(ingest.from_webhook(None, "Bearer t"), to_raw(batch))) == [DUPLICATE] * 2
    basic = "Basic " + base64.b64encode(b"u:p").decode()
    assert outcomes_of(ingest.take(ingest.from_webhook(None, basic), to_raw(batch))) == [DUPLICATE] * 2
    assert [auth for (auth,) in rows_of(database, schema.requests, schema.requests.c.auth)] == [
        "signature",
        "signature",
        "bearer",
        "basic",
    ]


@pytest.mark.parametrize("body", [b"{", b"nothing", b'{"a":1}}', b"[1,]", b"\xff\xfe", b"NaN", b"[" * 100_000])
def test_what_is_not_json_is_refused_as_a_whole(database: Database, body: bytes) -> None:
    with pytest.raises(UnparsableJson):
        post(an_ingest(database), body)
    assert rows_of(database, schema.requests) == []


# --- Whatever comes

HOSTILE = {
    "a 5 MB string": b'{"type":"track","event":"E","messageId":"m","userId":"u","properties":{"a":"'
    + b"x" * 5_000_000
    + b'"}}',
    "a 900 kB string with NUL": b'{"type":"track","event":"' + b"\\u0000x" * 120_000 + b'"}',
    "a message id of 900 kB": b'{"type":"track","event":"E","userId":"u","timestamp":1,"messageId":"'
    + b"m" * 900_000
    + b'"}',
    "100,000 brackets": b'{"type":"track","properties":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "an integer of 100,000 digits": b'{"type":"track","event":"E","messageId":"m","userId":' + b"9" * 100_000 + b"}",
    "1e400": b'{"type":"track","event":"E","messageId":"m","userId":"u","timestamp":1,"properties":{"a":1e400}}',
    "a lone surrogate": b'{"type":"track","event":"\\ud83d","messageId":"\\udc00","userId":"u","timestamp":1}',
    "NUL in every text": b'{"type":"tr\\u0000ack","event":"\\u0000","messageId":"\\u0000","userId":"\\u0000"}',
    "an infinite number under a key of NUL": b'{"type":"track","event":"E","messageId":"m","userId":"u","timestamp":1,'
    b'"properties":{"\\u0000\\ud83d":1e400}}',
    "a NUL under a key of half a pair": b'{"type":"track","event":"E","messageId":"m","userId":"u","timestamp":1,'
    b'"properties":{"\\ud83d":"\\u0000"}}',
    "a type of 900 kB": b'{"type":"' + b"t" * 900_000 + b'"}',
    "a type of surrogates": b'{"type":"' + b"\\ud83d" * 40 + b'"}',
    "numbers for everything": b'{"type":"track","event":"E","messageId":1e300,"userId":-0.0,"timestamp":1e18}',
    "100,000 keys": b'{"type":"track","event":"E","messageId":"k","userId":"u","timestamp":1,"properties":{'
    + b",".join(b'"k%d":%d' % (number, number) for number in range(60_000))
    + b"}}",
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_call_is_kept_byte_for_byte_and_ends_in_a_listed_outcome(database: Database, name: str) -> None:
    body = HOSTILE[name]
    ingest = an_ingest(database)
    [first] = post(ingest, body)
    [second] = post(ingest, body)
    check(first)
    assert (second.outcome, second.reason) == after(first)
    assert raws_of(database) == [body, body]
    # The service goes on.
    assert outcomes_of(post(ingest, to_raw(a_document()))) == [STORED]
    assert balance(database).total() == 3


def check(record: Record) -> None:
    """Check that a record ended as the lists say."""
    assert record.outcome is not None
    if record.outcome is STORED:
        assert record.reason is None
    else:
        assert record.reason in REASONS_OF[record.outcome]
        assert record.reason is not Reason.UNSTORABLE, "cleaning is ours to do, not the database's to refuse"
        assert record.detail


def after(record: Record) -> tuple[Outcome | None, Reason | None]:
    """Return how the same call must end when it comes once more."""
    if record.outcome is STORED:
        return DUPLICATE, Reason.DUPLICATE
    return record.outcome, record.reason


texts = st.text(st.characters(exclude_categories=()), max_size=20)
scalars = st.one_of(
    st.sampled_from(
        ["null", "true", "false", "0", "-0.0", "1e400", "-1e400", "1e-400", "9" * 30, "9" * 500, '""', '"\\ud83d"']
    ),
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    texts.map(json.dumps),
    st.text(max_size=20).map(lambda text: json.dumps(text, ensure_ascii=False)),
)


def objects(members: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.lists(st.tuples(texts.map(json.dumps), members), max_size=3)
    return pairs.map(lambda made: "{" + ",".join(f"{key}: {value}" for key, value in made) + "}")


def arrays(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(items, max_size=3).map(lambda made: "[" + " ,".join(made) + "]")


json_texts = st.recursive(scalars, lambda inner: objects(inner) | arrays(inner), max_leaves=6)


def mostly(usual: Sequence[str]) -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(usual), st.sampled_from(usual), st.sampled_from(usual), json_texts)


some_properties = st.fixed_dictionaries(
    {},
    optional={"order": mostly(['"o-1"', '"o-2"']), "total": mostly(["1", "1.0", "2"]), "x": json_texts},
).map(lambda members: "{" + ",".join(f'"{key}":{value}' for key, value in members.items()) + "}")

call_texts = st.fixed_dictionaries(
    {
        "type": mostly(['"track"']),
        "messageId": mostly(['"m-1"', '"m-2"', '"m-3"']),
        "event": mostly(['"API Call"', '"Order"']),
        "userId": mostly(['"u-1"', "42", "42.0"]),
        "timestamp": mostly(['"2026-11-01T10:00:00Z"', "1793527200"]),
        "properties": st.one_of(some_properties, some_properties, json_texts),
    },
    optional={"context": json_texts, "anonymousId": json_texts},
).map(lambda members: "{" + ", ".join(f'"{key}" :{value}' for key, value in members.items()) + "}")


@dataclass(frozen=True)
class Sent:
    """A body, the part of it that is signed, and the calls that are in it."""

    body: bytes
    signed: bytes
    items: list[bytes]


def as_single(texts: list[str]) -> Sent:
    return Sent(texts[0].encode(), texts[0].encode(), [texts[0].encode()])


def as_array(texts: list[str]) -> Sent:
    body = "[" + ", ".join(texts) + "]"
    return Sent(body.encode(), texts[0].encode(), [text.encode() for text in texts])


def as_extensible(texts: list[str]) -> Sent:
    body = "[" + ",".join(f'{{"json":{text}}}' for text in texts) + "]"
    return Sent(body.encode(), texts[0].encode(), [text.encode() for text in texts])


def as_batch(texts: list[str]) -> Sent:
    body = ('{"batch": [' + ",".join(texts) + '], "sentAt": "now"}').encode()
    return Sent(body, body, [text.encode() for text in texts])


calls = call_texts | call_texts | json_texts
bodies = st.one_of(
    st.builds(as_single, st.lists(call_texts, min_size=1, max_size=1)),
    st.builds(as_array, st.lists(calls, min_size=1, max_size=5)),
    st.builds(as_extensible, st.lists(call_texts, min_size=1, max_size=5)),
    st.builds(as_batch, st.lists(calls, min_size=1, max_size=5)),
)

ORDERS = """
match: {event: Order}
event:
  idempotency_id: properties.order
  properties: {total: properties.total, many: 'length(properties.x || `[]`)'}
"""


def events_of(database: Database) -> list[tuple[Any, ...]]:
    return rows_of(database, schema.events)


@settings(several_examples, max_examples=40)
@given(sent=st.lists(bodies, min_size=1, max_size=3))
def test_storing_twice_is_storing_once(database: Database, sent: list[Sent]) -> None:
    empty(database)
    ingest = an_ingest(database, some_transforms(orders=ORDERS))
    received = 0
    before: list[list[Record]] = []
    for one in sent:
        records = post(ingest, one.body, one.signed)
        received += len(records)
        for record in records:
            check(record)
        assert [record.raw for record in records] == one.items
        before.append(records)
    stored = events_of(database)
    for one, records in zip(sent, before, strict=True):
        again = post(ingest, one.body, one.signed)
        assert [(record.outcome, record.reason) for record in again] == [after(record) for record in records]
        received += len(again)
    assert events_of(database) == stored
    assert raws_of(database) == [raw for _ in range(2) for one in sent for raw in one.items]
    assert balance(database).total() == received
    assert len(stored) == sum(record.outcome is STORED for records in before for record in records)


@settings(several_examples, max_examples=40)
@given(
    body=st.binary(max_size=200)
    | json_texts.map(str.encode)
    | st.text('{}[],:"truefalsn01e\\u', max_size=60).map(str.encode)
)
def test_any_bytes_are_taken_or_refused_as_a_whole(database: Database, body: bytes) -> None:
    empty(database)
    ingest = an_ingest(database)
    try:
        records = post(ingest, body)
    except RequestRefused as refused:
        assert isinstance(refused, UnparsableJson | TooLarge)  # noqa: PT017  what is refused, if anything is
        assert rows_of(database, schema.requests) == []
    else:
        for record in records:
            check(record)
            assert record.raw in body
        assert balance(database).total() == len(records)


def test_what_came_through_ingest_and_what_was_built_by_hand_end_alike(database: Database) -> None:
    """The builders of these tests make what Ingest makes."""
    ingest: Ingest = an_ingest(database)
    [record] = post(ingest, to_raw(a_document()))
    assert store(database, a_record(record.run, message_id="message-1")) == [DUPLICATE]


# --- When each step was done


def test_the_time_of_each_step_is_kept_with_the_request_and_with_its_calls(database: Database) -> None:
    post(an_ingest(database), to_raw([a_document(messageId="m-1"), a_document(messageId="m-2"), a_document(userId="")]))
    requests = schema.requests.c
    shared = (requests.verified_after, requests.parsed_after, requests.stored_after)
    [(verified, parsed, stored)] = rows_of(database, schema.requests, *shared)
    mapped = values_of(rows_of(database, schema.calls, schema.calls.c.mapped_after))
    assert len(mapped) == 3
    in_order = [0, verified, parsed, *mapped, stored]
    assert in_order == sorted(in_order)
    assert stored < 600_000_000, "they are microseconds after it was received, and not times of day"
