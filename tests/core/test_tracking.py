"""What the tracking API adds to a call: from what is kept of it, and nothing else."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.json_text import decode, encode_canonical
from app.core.segment import Unread, read
from app.core.times import format_time, parse_time
from app.core.tracking import (
    HIDDEN,
    MAX_CALL_BYTES,
    complete,
    describe_completion,
    find_write_key,
    hide_write_key,
    read_envelope,
)
from app.errors import UnparsableJson
from tests.builders import NOW

SECOND = 1_000_000
DAY = 86_400 * SECOND


def completed(document: Any, route: str = "/v1/track", **beside: Any) -> Any:
    envelope = json.dumps(beside).encode() if beside else None
    raw = json.dumps(document).encode()
    return complete(
        raw,
        copy.deepcopy(document),
        route=route,
        envelope=read_envelope(envelope),
        received_at=NOW,
        message_id="made-1",
    )


def at(offset: int) -> str:
    return format_time(NOW + offset)


# --- Times


@pytest.mark.parametrize("skew", [0, -3600 * SECOND, 3600 * SECOND, -DAY, 400 * DAY])
def test_a_time_is_moved_from_the_senders_clock_to_ours(skew: int) -> None:
    sent_at, timestamp = at(skew), at(skew - 90 * SECOND)
    for done in (
        completed({"timestamp": timestamp, "sentAt": sent_at}),
        completed({"timestamp": timestamp}, sentAt=sent_at),
    ):
        assert parse_time(done["timestamp"]) == NOW - 90 * SECOND
        assert done["originalTimestamp"] == timestamp
        assert (done["sentAt"], parse_time(done["receivedAt"])) == (sent_at, NOW)


def test_the_batchs_time_of_sending_goes_before_the_items_own() -> None:
    done = completed({"timestamp": at(0), "sentAt": at(-50 * SECOND)}, sentAt=at(-10 * SECOND))
    assert parse_time(done["timestamp"]) == NOW + 10 * SECOND
    assert done["sentAt"] == at(-50 * SECOND)


@pytest.mark.parametrize("missing", [{}, {"timestamp": None}, {"timestamp": ""}])
def test_without_a_time_it_is_when_it_came(missing: dict[str, Any]) -> None:
    done = completed({**missing, "sentAt": at(-DAY)})
    assert parse_time(done["timestamp"]) == NOW
    assert "originalTimestamp" not in done


@pytest.mark.parametrize("sent_at", [None, "", "yesterday", {}, [], True, 1e300])
def test_without_a_time_of_sending_the_time_stays_as_it_was_written(sent_at: Any) -> None:
    done = completed({"timestamp": "2026-11-01", "sentAt": sent_at})
    assert done["timestamp"] == done["originalTimestamp"] == "2026-11-01"


@pytest.mark.parametrize("timestamp", ["never", {"a": 1}, False, "9999-99-99"])
def test_what_is_no_time_stays_for_the_transform_to_judge(timestamp: Any) -> None:
    assert completed({"timestamp": timestamp, "sentAt": at(0)})["timestamp"] == timestamp


def test_a_time_of_sending_that_cannot_be_right_moves_nothing() -> None:
    for sent_at in (0, "1970-01-01", "2090-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        done = completed({"timestamp": at(-SECOND), "sentAt": sent_at})
        assert parse_time(done["timestamp"]) == NOW - SECOND
    old = completed({"timestamp": "2019-05-05T00:00:00Z", "sentAt": at(-2 * DAY)})
    assert parse_time(old["timestamp"]) == parse_time("2019-05-05T00:00:00Z")


@pytest.mark.parametrize("age", [DAY + SECOND, 3 * DAY, 29 * DAY, 400 * DAY])
@pytest.mark.parametrize("unsent", [0, 90 * SECOND, 5 * DAY])
def test_an_old_call_is_never_made_new(age: int, unsent: int) -> None:
    # A backfill sends each call with its own time, or with that of the end of its file.
    timestamp = at(-age - unsent)
    assert completed({"timestamp": timestamp}, "/v1/batch", sentAt=at(-age))["timestamp"] == timestamp


@pytest.mark.parametrize("ahead", [2 * DAY, 20 * DAY])
def test_a_new_call_is_never_made_old(ahead: int) -> None:
    assert completed({"timestamp": at(-SECOND), "sentAt": at(ahead)})["timestamp"] == at(-SECOND)


@pytest.mark.parametrize(
    ("timestamp", "sent_at", "says"),
    [
        (at(-SECOND), at(-10 * SECOND), "corrected from the sender's clock to ours, is 2026-"),
        ("2026-11-01T10:00:00Z", at(0), ""),
        (at(-9 * DAY), at(-9 * DAY), "so its timestamp is not corrected"),
        ("yesterday", at(-9 * DAY), ""),
        (None, at(0), "it had no timestamp"),
    ],
)
def test_what_was_done_to_its_time_is_told(timestamp: Any, sent_at: Any, says: str) -> None:
    told = describe_completion("/v1/track", completed({"timestamp": timestamp, "sentAt": sent_at}))
    assert told is not None
    assert says in told if says else told.startswith("it was received at ") and ";" not in told


@pytest.mark.parametrize("unset", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z", 0])
def test_a_time_that_means_not_set_stays_for_the_event_to_refuse(unset: Any) -> None:
    for sent_at in (at(0), unset, None):
        done = completed({"timestamp": unset}, "/v1/batch", sentAt=sent_at)
        assert parse_time(done["timestamp"]) < parse_time("1970-01-02")


@pytest.mark.parametrize("empty", ["", None])
def test_where_the_batch_gives_no_time_of_sending_the_items_own_counts(empty: Any) -> None:
    done = completed({"timestamp": at(0), "sentAt": at(-10 * SECOND)}, sentAt=empty)
    assert parse_time(done["timestamp"]) == NOW + 10 * SECOND
    assert completed({"timestamp": at(0), "sentAt": empty}, sentAt=at(0))["sentAt"] == at(0)


def test_what_is_imported_from_long_ago_is_moved_by_no_more_than_the_clocks_differ() -> None:
    done = completed({"timestamp": "2019-05-05T00:00:00Z", "sentAt": at(-3 * SECOND)}, "/v1/import")
    assert done["timestamp"] == "2019-05-05T00:00:03.000000Z"


def test_nobody_else_says_when_it_came() -> None:
    assert parse_time(completed({"receivedAt": "1999-01-01"})["receivedAt"]) == NOW


# --- Batches


def test_what_the_batch_says_stands_below_what_the_item_says_at_every_depth() -> None:
    done = completed(
        {"context": {"ip": "1", "app": {"name": "a"}, "os": None}, "integrations": {"All": False}},
        context={"ip": "2", "app": {"name": "b", "build": 7}, "os": {"name": "x"}, "locale": "de"},
        integrations={"All": True, "Lotus": {"x": 1}},
    )
    assert done["context"] == {"ip": "1", "app": {"name": "a", "build": 7}, "os": None, "locale": "de"}
    assert done["integrations"] == {"All": False, "Lotus": {"x": 1}}


@pytest.mark.parametrize("own", [{}, {"context": None}, {"context": {}}])
def test_an_item_without_a_context_has_the_batchs(own: dict[str, Any]) -> None:
    assert completed(own, context={"a": 1})["context"] == {"a": 1}


def test_what_is_no_object_is_not_merged() -> None:
    assert completed({"context": "mine"}, context={"a": 1})["context"] == "mine"
    assert completed({"context": {"b": 2}}, context=[1])["context"] == {"b": 2}
    assert "integrations" not in completed({}, integrations="x")


def test_items_of_one_batch_do_not_see_each_other() -> None:
    beside = read_envelope(b'{"context":{"app":{"name":"a"}}}')
    for number in range(3):
        document = {"context": {"app": {str(number): 1}}}
        done = complete(b"{}", document, route="/v1/b", envelope=beside, received_at=NOW, message_id=None)
        assert done["context"]["app"] == {"name": "a", str(number): 1}
    assert beside.context == {"app": {"name": "a"}}


# --- Types, ids, limits


@pytest.mark.parametrize("given_type", [{}, {"type": None}, {"type": ""}])
def test_a_call_has_the_type_of_its_path_where_it_says_none(given_type: dict[str, Any]) -> None:
    assert completed(given_type, "/v1/i")["type"] == "identify"
    assert completed({"type": 7}, "/v1/i")["type"] == 7
    assert not completed(given_type, "/v1/batch").get("type")


def test_a_message_id_is_given_only_where_there_is_none() -> None:
    without: tuple[Any, ...] = ({}, {"messageId": None}, {"messageId": ""})
    for document in without:
        assert completed(document)["messageId"] == "made-1"
    kept: tuple[Any, ...] = ("mine", 0, False, {})
    for own in kept:
        assert completed({"messageId": own})["messageId"] == own


@pytest.mark.parametrize("value", [None, 7, "text", [1], True, 1.5])
def test_what_is_no_object_stays_what_it_is(value: Any) -> None:
    assert completed(value) == value


def test_a_call_above_segments_limit_is_not_read() -> None:
    assert completed({"x": "x" * MAX_CALL_BYTES}) is Unread.OVER_TRACKING_LIMIT


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_MEMBERS = ("type", "messageId", "timestamp", "sentAt", "context", "integrations", "writeKey", "properties")


@given(
    document=st.dictionaries(st.sampled_from(_MEMBERS), _JSON),
    beside=st.dictionaries(st.sampled_from(_MEMBERS), _JSON),
    route=st.sampled_from(("/v1/track", "/v1/batch")),
)
def test_the_same_bytes_are_read_alike_each_time(document: Any, beside: Any, route: str) -> None:
    raw = encode_canonical(document)
    first, again = (
        complete(
            raw,
            read(raw),
            route=route,
            envelope=read_envelope(encode_canonical(beside)),
            received_at=NOW,
            message_id="kept",
        )
        for _ in range(2)
    )
    assert encode_canonical(first) == encode_canonical(again)


# --- Write keys


@pytest.mark.parametrize(
    ("raw", "hidden"),
    [
        (b'{"writeKey":"k"}', b'{"writeKey":"(hidden)"}'),
        (b'{ "a" : 1.0, "writeKey" :\n"k" ,"b":[1, 2]}', b'{ "a" : 1.0, "writeKey" :\n"(hidden)" ,"b":[1, 2]}'),
        (
            b'{"writeKey":"k","x":{"writeKey":"y"},"write\\u004bey":"k"}',
            b'{"writeKey":"(hidden)","x":{"writeKey":"y"},"write\\u004bey":"(hidden)"}',
        ),
        (
            b'{"writeKey":{"a":"k,}"},"b":"\\"writeKey\\":\\"k\\""}',
            b'{"writeKey":"(hidden)","b":"\\"writeKey\\":\\"k\\""}',
        ),
        (b'{"writeKey":"\\ud83d"}', b'{"writeKey":"(hidden)"}'),
        (b'{"a":1}', b'{"a":1}'),
        (b"[]", b"[]"),
    ],
)
def test_only_the_write_key_is_taken_out_of_a_calls_bytes(raw: bytes, hidden: bytes) -> None:
    document = read(raw)
    assert hide_write_key(raw, document) == (hidden, read(hidden))


@pytest.mark.parametrize(
    "raw", [b'{"writeKey":"k"', b'{"writeKey":"k', b'{"writeKey" : "k\\"k"]', b'\xff{"writeKey":"k"}']
)
def test_a_write_key_is_hidden_in_what_is_no_json(raw: bytes) -> None:
    hidden, _ = hide_write_key(raw, read(raw))
    assert b'"k' not in hidden
    assert HIDDEN.encode() in hidden


@given(
    document=st.dictionaries(st.sampled_from(("writeKey", "a", "b,c", 'd"')), _JSON), indent=st.sampled_from((None, 1))
)
def test_hiding_a_write_key_changes_nothing_else(document: dict[str, Any], indent: int | None) -> None:
    raw = json.dumps(document, indent=indent).encode()
    seen = read(raw)
    expected = {**document, "writeKey": HIDDEN} if "writeKey" in document else document
    hidden, hidden_document = hide_write_key(raw, seen)
    assert decode(hidden) == expected == hidden_document


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"writeKey":"k","batch":[]}', "k"),
        (b' {"batch":[{"writeKey":"inner"}]}', None),
        (b'{"writeKey":"a","writeKey":"b"}', "b"),
        (b'{"writeKey":7}', None),
        (b'{"writeKey":""}', None),
        (b"[]", None),
        (b"", None),
        (b'{"batch":["\\ud83d"],"writeKey":"k"}', "k"),
    ],
)
def test_the_write_key_of_a_body_is_its_own(body: bytes, key: str | None) -> None:
    assert find_write_key(body) == key


def test_a_body_that_is_no_json_has_no_write_key() -> None:
    with pytest.raises(UnparsableJson):
        find_write_key(b'{"writeKey":')
