import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.core.json_text import MAX_DEPTH, decode
from app.core.outcome import Reason
from app.core.segment import MAX_CALL_BYTES, Call, Sketch, Unparsed, Unread, parse_call, read, sketch
from app.core.segment_body import MAX_CALLS, Body, Shape, parse_body
from app.errors import CallRejected, TooLarge, UnparsableJson

from .examples import JSON_ARRAYS, JSON_OBJECTS, JSON_VALUES, SDK_BATCHES, WRITTEN_OVER_BODY, a_request, often

TRACK = b'{"type":"track","event":"API Call","messageId":"m-1","userId":"u-1","properties":{"n":1}}'
DEEP = b'{"type":"track","event":"e","x":' + b"[" * 3000 + b"]" * 3000 + b"}"


def a_call(**fields: Any) -> dict[str, Any]:
    return {"type": "track", "event": "API Call", "messageId": "m-1", "userId": "u-1", **fields}


def parsed(document: Any) -> Call:
    raw = json.dumps(document).encode()
    return parse_call(raw, read(raw))


def reasons(body: Body) -> list[str | None]:
    """What becomes of each call: None for a good one, else the reason it is rejected for."""
    ends: list[str | None] = []
    for raw, document in body:
        try:
            parse_call(raw, document)
        except CallRejected as rejected:
            sketch(document)
            ends.append(Reason(rejected.reason))
        else:
            ends.append(None)
    assert len(ends) == len(body.items)
    return ends


class TestCapturedRequests:
    @pytest.mark.parametrize("name", WRITTEN_OVER_BODY)
    def test_a_single_call_is_the_body(self, name: str) -> None:
        body = parse_body(a_request(name).body)
        assert (body.shape, body.items, body.envelope) == (Shape.SINGLE, (a_request(name).body,), None)
        assert reasons(body) == [None]

    @pytest.mark.parametrize(("name", "shape"), [("array-batch", Shape.ARRAY), ("extensible-array", Shape.EXTENSIBLE)])
    def test_the_calls_of_an_array_are_those_that_were_sent_alone(self, name: str, shape: Shape) -> None:
        body = parse_body(a_request(name).body)
        assert body.shape is shape
        singles = [a_request(single).body for single in ("single-track", "single-order", "single-identify")]
        assert body.items == singles
        assert reasons(body) == [None, None, None]

    @pytest.mark.parametrize(("name", "count"), [("sdk-node-batch", 8), ("sdk-python-batch-gzip", 9)])
    def test_a_batch_of_an_sdk_has_calls_and_an_envelope_without_the_write_key(self, name: str, count: int) -> None:
        whole = json.loads(a_request(name).body)
        body = parse_body(a_request(name).body)
        assert body.shape is Shape.BATCH
        assert [decode(item) for item in body.items] == whole["batch"]
        assert len(body.items) == count
        assert body.envelope is not None
        assert json.loads(body.envelope) == {k: v for k, v in whole.items() if k not in ("batch", "writeKey")}
        assert "sentAt" in json.loads(body.envelope)
        assert reasons(body) == [None] * count

    def test_a_call_says_what_an_index_needs(self) -> None:
        [(raw, document)] = parse_body(a_request("single-track").body)
        call = parse_call(raw, document)
        assert (call.type, call.message_id, call.event, call.user_id) == ("track", "cap-0001", "API Call", "user-7")
        assert call.document == json.loads(a_request("single-track").body)


class TestShapes:
    @pytest.mark.parametrize(
        "raw", [b"", b" \r\n", b"\xef\xbb\xbf", b"[]", b"[ ]", b'{"batch":[]}', b'{"batch": [ ] }']
    )
    def test_nothing_is_received_of_an_empty_body(self, raw: bytes) -> None:
        assert list(parse_body(raw)) == []
        assert len(parse_body(raw).items) == 0

    # fmt: off
    NO_OBJECTS: tuple[tuple[bytes, int], ...] = (
        (b"null", 1), (b"1", 1), (b'"x"', 1), (b'"\\ud83d"', 1), (b"[null]", 1), (b'[1,"x",true,[],1e400]', 5),
        (b'[[{"type":"track"}]]', 1), (b'{"json":null}', 1), (b'[{"json":null},null]', 2), (b'{"batch":[null,1]}', 2),
    )
    NO_JSON = (
        b"{", b"[", b"nul", b"\xff", b'{"a" "\xff"}', b"[1,]", b"{} {}", b"a=b", b"[1]2", b'{"batch":[1,]}', b'"a',
        b"NaN", b'{"batch":[{]}', b'{"json":{"a":NaN]}', b'{"batch":[],"context":{"a":NaN}', b"{" + DEEP,
        DEEP[:-2], b"[" * 100_000, b'{"a":' * 100_000, b'{"batch":[' * 50_000, b"[" * 100_000 + b"}" * 100_000,
        b'{"batch":[],"context":' + b"[" * 3000 + b"]" * 3000 + b"}", b'{"a":"' + b" " * 2_000_000,
    )
    # fmt: on

    @pytest.mark.parametrize(("raw", "count"), NO_OBJECTS)
    def test_what_is_no_object_is_a_call_that_is_rejected(self, raw: bytes, count: int) -> None:
        assert reasons(parse_body(raw)) == [Reason.NOT_AN_OBJECT] * count

    @pytest.mark.parametrize("before", [b"", b" \n", b"\xef\xbb\xbf"])
    def test_what_stands_around_a_body_does_not_belong_to_its_call(self, before: bytes) -> None:
        for raw in (TRACK, b"[ " + TRACK + b" ]", b'{"json" : ' + TRACK + b"}", b'{ "batch" : [ ' + TRACK + b" ]}"):
            assert list(parse_body(before + raw + b" \n")) == [(TRACK, decode(TRACK))]

    @pytest.mark.parametrize(
        ("raw", "shape", "items"),
        [
            (b'{"batch":[1],"type":"track"}', Shape.SINGLE, None),
            (b'{"batch":[1],"type":null}', Shape.BATCH, [b"1"]),
            (b'{"batch":[1],"type":7}', Shape.BATCH, [b"1"]),
            (b'{"batch":{"a":1}}', Shape.SINGLE, None),
            (b'{"batch":null}', Shape.SINGLE, None),
            (b'{"batch":[0],"batch":[{"json":{}}]}', Shape.BATCH, [b'{"json":{}}']),
            (b'{"json":{"a":1}}', Shape.EXTENSIBLE, [b'{"a":1}']),
            (b'{"json":{"a":1},"more":2}', Shape.EXTENSIBLE, [b'{"a":1}']),
            (b'{"json":1}', Shape.SINGLE, None),
            (b'{"json":{},"type":null}', Shape.SINGLE, None),
            (b'{"a":1,"json":{}}', Shape.SINGLE, None),
            (b'[{"json":{"json":{"a":1}}}]', Shape.EXTENSIBLE, [b'{"json":{"a":1}}']),
            (
                b'[{"json":{"a":1}},{"b":2},3,{"json":4}]',
                Shape.EXTENSIBLE,
                [b'{"a":1}', b'{"b":2}', b"3", b'{"json":4}'],
            ),
            (b'[{"json":{},"type":"track"}]', Shape.ARRAY, [b'{"json":{},"type":"track"}']),
            (b'[{ "json" :{"a":"\\ud83d"}}]', Shape.EXTENSIBLE, [b'{"a":"\\ud83d"}']),
            (b'{"json":{"a":"\\ud83d"}}', Shape.EXTENSIBLE, [b'{"a":"\\ud83d"}']),
            (b'{"batch":[{"a":"\\ud83d"},2]}', Shape.BATCH, [b'{"a":"\\ud83d"}', b"2"]),
        ],
    )
    @pytest.mark.parametrize("size", [0, 40_000, MAX_CALL_BYTES], ids=["ordinary", "large", "not decoded as a whole"])
    def test_the_shape_is_told_by_its_keys_whatever_the_size(
        self, raw: bytes, shape: Shape, items: list[bytes] | None, size: int
    ) -> None:
        place = raw.rindex(b"]") if shape is Shape.BATCH else len(raw) - 1
        padded = raw[:place] + b" " * size + raw[place:]
        body = parse_body(padded)
        assert body.shape is shape
        assert list(body.items) == (items if items is not None else [padded])
        assert [document for _, document in body] == [read(item) for item in body.items]

    def test_the_envelope_keeps_what_was_sent_as_it_was_sent(self) -> None:
        raw = b'{"sentAt":1.0,"batch":[1], "writeKey":"secret","context":{"n": 1e2,"x":"\\ud83d"},"\\u00fc":[1e400]}'
        assert parse_body(raw).envelope == '{"sentAt":1.0,"context":{"n": 1e2,"x":"\\ud83d"},"ü":[1e400]}'.encode()
        assert parse_body(b'{"batch":[]}').envelope == b"{}"

    def test_a_write_key_is_not_kept_however_it_is_written(self) -> None:
        body = parse_body(b'{"batch":[],"write\\u004bey":"secret","a":"\\ud83d"}')
        assert body.envelope == b'{"a":"\\ud83d"}'

    @pytest.mark.parametrize("raw", NO_JSON, ids=range(len(NO_JSON)))
    def test_a_body_that_is_no_json_is_refused(self, raw: bytes) -> None:
        with pytest.raises(UnparsableJson):
            parse_body(raw)

    def test_more_calls_than_any_sender_sends_are_too_large(self) -> None:
        assert len(parse_body(b"[" + b",".join([b"1"] * MAX_CALLS) + b"]").items) == MAX_CALLS
        for raw in (b"[" + b"1," * MAX_CALLS + b"1]", b'{"batch":[' + b"1," * MAX_CALLS + b"1]}"):
            with pytest.raises(TooLarge):
                parse_body(raw)

    def test_too_much_beside_a_batch_is_too_large(self) -> None:
        with pytest.raises(TooLarge):
            parse_body(b'{"batch":[],"context":"' + b"a" * MAX_CALL_BYTES + b'"}')


class TestOneBadCallDoesNotSpoilTheOthers:
    BAD = (
        (DEEP, Reason.CALL_TOO_LARGE),
        (b'{"type":"track","event":"e","x":"' + b"a" * 5_000_000 + b'"}', Reason.CALL_TOO_LARGE),
        (b'{"type":"track","event":"\xff"}', Reason.UNSTORABLE),
        (b'{"type":"track","event":"e","x":NaN}', Reason.UNSTORABLE),
        (b"null", Reason.NOT_AN_OBJECT),
        (b"{}", Reason.TYPE_MISSING),
        (b'{"type":"track"}', Reason.EVENT_MISSING),
        (b'{"type":"track","event":1e400}', Reason.EVENT_NOT_STRING),
        (b'{"type":"track","event":"e","properties":[1]}', Reason.PROPERTIES_NOT_OBJECT),
        (b'{"type":"track","event":"\\ud83d","x":[\n]}', None),
        (b'{"type":"track","event":"\\u0000","x":' + b"7" * 100_000 + b"}", None),
    )

    @pytest.mark.parametrize(("bad", "reason"), BAD, ids=range(len(BAD)))
    @pytest.mark.parametrize("form", [b"[%s]", b'{"batch":[%s],"sentAt":"x"}', b'[{"json":%s}]'])
    def test_in_every_form_of_batch(self, bad: bytes, reason: Reason | None, form: bytes) -> None:
        between = b'},{"json":' if b"json" in form else b","
        body = parse_body(form % between.join([TRACK, bad, TRACK]))
        assert list(body.items) == [TRACK, bad, TRACK]
        assert reasons(body) == [None, reason, None]

    def test_alone_it_is_one_rejected_call(self) -> None:
        long = b'"' + b"a" * 5_000_000 + b'"'
        for raw in (DEEP, b'{"json":' + DEEP + b"}", long, b'{"x":' + long + b"}", b"[" + long + b"]"):
            assert reasons(parse_body(raw)) == [Reason.CALL_TOO_LARGE]

    @pytest.mark.parametrize("levels", [MAX_DEPTH - 2, MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1])
    def test_how_deep_a_call_may_nest_does_not_depend_on_what_it_is_sent_in(self, levels: int) -> None:
        nested = b"[" * levels + b"]" * levels
        call = b'{"type":"track","event":"e","x":' + nested + b"}"
        ends = [reasons(parse_body(form % call)) for form in (b"%s", b"[%s]", b'{"json":%s}', b'{"batch":[%s]}')]
        assert ends == [[None if levels < MAX_DEPTH else Reason.CALL_TOO_LARGE]] * 4

    def test_a_hundred_thousand_brackets_are_one_rejected_call(self) -> None:
        assert reasons(parse_body(b"[" * 100_000 + b"]" * 100_000)) == [Reason.CALL_TOO_LARGE]


class TestCall:
    @pytest.mark.parametrize(
        ("fields", "reason", "sentence"),
        [
            ({"type": None}, Reason.TYPE_MISSING, "`type` must be text, such as track; it is null."),
            ({"type": ""}, Reason.TYPE_MISSING, "`type` must be text, such as track; it is empty."),
            ({"type": 7}, Reason.TYPE_MISSING, "`type` must be text, such as track; it is a number."),
            ({"type": ["track"]}, Reason.TYPE_MISSING, "`type` must be text, such as track; it is an array."),
            ({"event": None}, Reason.EVENT_MISSING, "`event` of a track call must be text; it is null."),
            ({"event": ""}, Reason.EVENT_MISSING, "`event` of a track call must be text; it is empty."),
            ({"event": 0}, Reason.EVENT_NOT_STRING, "`event` of a track call must be text; it is a number."),
            ({"event": False}, Reason.EVENT_NOT_STRING, "`event` of a track call must be text; it is true or false."),
            ({"event": {}}, Reason.EVENT_NOT_STRING, "`event` of a track call must be text; it is an object."),
            ({"properties": []}, Reason.PROPERTIES_NOT_OBJECT, "`properties` must be an object; it is an array."),
            ({"properties": ""}, Reason.PROPERTIES_NOT_OBJECT, "`properties` must be an object; it is empty."),
            ({"properties": "s3cret"}, Reason.PROPERTIES_NOT_OBJECT, "`properties` must be an object; it is text."),
            ({"properties": 0}, Reason.PROPERTIES_NOT_OBJECT, "`properties` must be an object; it is a number."),
        ],
    )
    def test_it_is_rejected_in_a_sentence_that_names_the_field(
        self, fields: dict[str, Any], reason: Reason, sentence: str
    ) -> None:
        with pytest.raises(CallRejected) as rejected:
            parsed(a_call(**fields))
        assert (rejected.value.reason, rejected.value.message) == (reason, sentence)

    def test_missing_fields_are_said_to_be_missing(self) -> None:
        with pytest.raises(CallRejected, match="`type` must be text, such as track; it is missing"):
            parsed({})
        with pytest.raises(CallRejected, match="`event` of a track call must be text; it is missing"):
            parsed({"type": "track"})

    def test_only_a_track_call_needs_an_event(self) -> None:
        for kind in ("identify", "page", "screen", "group", "alias", "delete", "unheard of", "Track"):
            call = parsed({"type": kind, "event": 7, "properties": 7})
            assert (call.type, call.event, call.message_id, call.user_id) == (kind, None, None, None)

    @pytest.mark.parametrize("properties", [None, {}, {"a": 1}])
    def test_properties_may_be_an_object_or_null_or_absent(self, properties: Any) -> None:
        assert parsed(a_call(properties=properties)).event == "API Call"
        assert parsed(a_call()).event == "API Call"

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("m", "m"),
            ("", None),
            (None, None),
            (42, "42"),
            (42.0, "42"),
            (-0.0, "0"),
            (1.5, "1.5"),
            (1e21, "1000000000000000000000"),
            (10**30, str(10**30)),
            (True, None),
            ([], None),
            ({}, None),
            ("\0\ud83d", "\0\ud83d"),
        ],
    )
    def test_ids_are_text_and_whole_numbers_have_no_point(self, value: Any, text: str | None) -> None:
        call = parsed(a_call(messageId=value, userId=value))
        assert (call.message_id, call.user_id) == (text, text)
        assert sketch(a_call(messageId=value, userId=value)).message_id == text

    def test_an_infinite_id_is_none(self) -> None:
        assert read(b'{"userId":1e400}') == {"userId": float("inf")}
        assert sketch(read(b'{"userId":1e400}')).user_id is None

    def test_a_call_is_too_large_by_its_bytes_whatever_its_document(self) -> None:
        raw = TRACK[:-1] + b" " * (MAX_CALL_BYTES - len(TRACK)) + b"}"
        assert len(raw) == MAX_CALL_BYTES
        assert parse_call(raw, read(raw)).event == "API Call"
        with pytest.raises(CallRejected, match="larger than 1048576 bytes"):
            parse_call(raw + b" ", {"type": "track", "event": "e"})

    def test_a_sketch_tells_what_can_be_read(self) -> None:
        whole = Sketch(type="track", message_id="m-1", event="API Call", user_id="u-1")
        assert sketch(a_call(properties=[])) == whole
        assert sketch(a_call(event=[], type={})) == Sketch(message_id="m-1", user_id="u-1")

    @pytest.mark.parametrize("document", [None, 1, "x", [], True, 1.5, *Unread])
    def test_a_sketch_of_no_object_is_empty(self, document: Any) -> None:
        assert sketch(document) == Sketch()

    def test_a_kept_call_that_cannot_be_read_is_not_an_error(self) -> None:
        assert read(DEEP) is Unread.TOO_DEEP
        assert read(b" " * (MAX_CALL_BYTES + 1)) is Unread.TOO_LARGE
        assert read(b"") == Unparsed(
            "The call is not JSON: expecting value at line 1, column 1 (byte 0).", "", "The call is not JSON"
        )


class TestAnything:
    def end(self, raw: bytes) -> None:
        try:
            body = parse_body(raw)
        except UnparsableJson:
            return
        assert all(item in raw for item in body.items)
        reasons(body)
        if body.envelope is not None:
            assert isinstance(decode(body.envelope), dict)

    @often
    @given(st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")))
    @example(b"\xef\xbb\xbf")
    @example(b"[" * 100_000)
    def test_bytes_are_refused_or_rejected_or_taken(self, raw: bytes) -> None:
        self.end(raw)

    @often
    @given(JSON_VALUES | JSON_ARRAYS | JSON_OBJECTS)
    def test_json_is_always_taken_apart(self, text: str) -> None:
        self.end(text.encode())

    @often
    @given(JSON_ARRAYS, st.sampled_from(['{"batch":%s}', '{"batch":%s,"context":{}}', '[{"json":%s},{"json":{}}]']))
    def test_json_in_every_form_is_always_taken_apart(self, text: str, form: str) -> None:
        self.end((form % text).encode())

    @often
    @given(JSON_ARRAYS | JSON_OBJECTS, st.integers(0, 200), st.binary(max_size=2))
    def test_damaged_json_is_refused_or_rejected_or_taken(self, text: str, position: int, damage: bytes) -> None:
        raw = text.encode()
        self.end(raw[:position] + damage + raw[position + 1 :])

    @often
    @given(JSON_ARRAYS)
    def test_an_array_and_a_batch_have_the_same_calls(self, text: str) -> None:
        batch = parse_body(b'{"batch":' + text.encode() + b"}")
        array = parse_body(text.encode())
        if array.shape is Shape.ARRAY:
            assert list(batch.items) == list(array.items)
            assert reasons(batch) == reasons(array)


def test_a_thousand_calls_take_a_few_microseconds_each() -> None:
    raw = b"[" + b",".join([a_request("single-track").body] * 1000) + b"]"
    started = time.process_time()
    assert reasons(parse_body(raw)) == [None] * 1000
    assert time.process_time() - started < 0.1  # measured: 5 ms


@pytest.mark.parametrize("name", SDK_BATCHES)
def test_a_call_of_a_batch_is_decoded_once_and_the_same_as_alone(name: str) -> None:
    body = parse_body(a_request(name).body)
    assert [document for _, document in body] == [read(raw) for raw in body.items]
