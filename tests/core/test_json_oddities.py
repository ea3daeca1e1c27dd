import contextlib
import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.core.json_oddities import describe, mask, mend
from app.core.json_spans import first_element, split_array
from app.core.json_text import decode
from app.core.outcome import Reason
from app.core.segment import parse_call, sketch
from app.core.segment_body import Shape, parse_body
from app.errors import CallRejected, TooLarge, UnparsableJson

from .examples import JSON_VALUES, often

GOOD = b'{"type":"track","event":"E","messageId":"m-1","userId":"u","properties":{"n":1}}'
ODD = b'{"type":"track","event":"E","messageId":"m-2","userId":"u","properties":{"items":[0,{"n":%s}]}}'
PATH = "`properties.items[1].n`"

TOKENS: tuple[tuple[bytes, str], ...] = (
    (b"NaN", "is NaN, which JSON does not have"),
    (b"Infinity", "is Infinity, which JSON does not have"),
    (b"-Infinity", "is -Infinity, which JSON does not have"),
    (b"undefined", "is undefined, which JSON does not have"),
    (b"None", "is None, which JSON does not have"),
    (b"s3cret", "is a word that JSON does not have"),
    (b"\xff", "is a word that JSON does not have"),
    (b"01", "is a number in a form that JSON does not have"),
    (b".5", "is a number in a form that JSON does not have"),
    (b"\xef\xbb\xbf", "is a byte order mark"),
    (b"\xef\xbb\xbf{}", "holds a byte order mark"),
    (b'"M\xfcller"', "holds the byte 0xfc, which is not UTF-8 there"),
    (b'"\xed\xa0\xbd"', "holds the byte 0xed, which is not UTF-8 there"),
    (b'"s3cret\\x41"', "holds the escape \\x, which JSON does not have"),
    (b'"\\u12G4"', "holds the escape \\u, which JSON does not have"),
    (b'"a\tb"', "holds the control character U+0009, unescaped"),
)
FORMS: dict[Shape, bytes] = {
    Shape.ARRAY: b"[%s , %s,\n%s]",
    Shape.EXTENSIBLE: b'[{"json":%s},{"json": %s },{"json":%s}]',
    Shape.BATCH: b'{"sentAt":"2026-11-01","batch":[%s,%s,%s],"writeKey":"k"}',
}


def reasons(body: bytes) -> list[Reason | None]:
    ends: list[Reason | None] = []
    for raw, document in parse_body(body):
        try:
            parse_call(raw, document)
            ends.append(None)
        except CallRejected as error:
            ends.append(Reason(error.reason))
    return ends


@pytest.mark.parametrize(("token", "sentence"), TOKENS, ids=[repr(token) for token, _ in TOKENS])
def test_a_token_that_is_not_json_is_named_with_its_path_and_never_its_value(token: bytes, sentence: str) -> None:
    call = ODD % token
    with pytest.raises(UnparsableJson):
        decode(call)
    ((raw, document),) = parse_body(call)
    assert raw == call
    with pytest.raises(CallRejected) as rejected:
        parse_call(raw, document)
    assert rejected.value.reason == Reason.UNSTORABLE
    assert rejected.value.message.startswith(f"{PATH} {sentence} (byte ")
    assert "s3cret" not in rejected.value.message
    assert (sketch(document).message_id, sketch(document).event, sketch(document).user_id) == ("m-2", "E", "u")


@pytest.mark.parametrize("shape", FORMS)
@pytest.mark.parametrize("token", [token for token, _ in TOKENS], ids=repr)
def test_one_call_with_such_a_token_spoils_no_other_call_of_its_batch(shape: Shape, token: bytes) -> None:
    odd = ODD % token
    body = FORMS[shape] % (GOOD, odd, GOOD)
    parsed = parse_body(body)
    assert (parsed.shape, list(parsed.items)) == (shape, [GOOD, odd, GOOD])
    assert reasons(body) == [None, Reason.UNSTORABLE, None]
    assert reasons(b'{"json":' + odd + b"}") == [Reason.UNSTORABLE]


def test_a_mark_before_a_call_of_a_batch_is_passed_over_as_one_before_a_body_is() -> None:
    mark = b"\xef\xbb\xbf"
    assert list(parse_body(b"[" + mark + GOOD + b" ," + mark + b" " + GOOD + b"]").items) == [GOOD, GOOD]
    assert reasons(b"[" + mark + b"," + GOOD + b"]") == [Reason.UNSTORABLE, None]


def test_an_odd_key_is_told_as_a_key_and_is_none_that_anything_reads() -> None:
    what = "A key of `properties` holds the byte 0xff, which is not UTF-8 there"
    assert describe(b'{"properties":{"a\xff":1}}') == (f"{what} (byte 17).", "properties", what)
    what = "A key of the call holds the escape \\q, which JSON does not have"
    assert describe(b'{"\\q":1}') == (f"{what} (byte 2).", "", what)
    assert reasons(b'{"\xff":1}') == [Reason.UNSTORABLE]
    assert mend(b'{"ty\\qe": NaN,"event" :"\xff"}') == b'{"xxxxx": null,"event" :null}'


@pytest.mark.parametrize(
    "body",
    [
        *(b'{"a":NaN', b"[NaN,]", b"[NaN NaN]", b'[{"a":NaN}', b"[{NaN}]", b"{NaN:1}", b'{"a" NaN}', b"NaN", b"\xff"),
        *(b'["\\q]', b'["\xff]', b"[NaN]]", b"[NaN}", b'{"batch":[NaN}', b"\xef\xbb\xbf{\xef\xbb\xbf", b"{'a':1}"),
    ],
)
def test_a_body_whose_structure_is_broken_is_refused_as_before(body: bytes) -> None:
    with pytest.raises(UnparsableJson):
        parse_body(body)


@pytest.mark.parametrize("token", [token for token, _ in TOKENS], ids=repr)
def test_the_first_call_of_a_batch_is_found_for_its_signature_whatever_is_in_it(token: bytes) -> None:
    odd = ODD % token
    assert first_element(b"[" + odd + b"," + GOOD + b"]") == odd
    assert first_element(b"[" + GOOD + b"," + odd + b"]") == GOOD


ODD_BYTES = st.lists(
    st.sampled_from([*(token for token, _ in TOKENS), b'"', b"\\", b",", b":", b"[", b"]", b"{", b"}", b" ", b'"a"'])
).map(b"".join)


@often
@given(ODD_BYTES | st.binary(max_size=60))
@example(b'"\\')
def test_a_masked_text_has_the_length_and_the_structure_of_the_text(text: bytes) -> None:
    masked = mask(text)
    assert len(masked) == len(text)
    assert all(new == old or old not in b'[]{}:," ' for new, old in zip(masked, text, strict=True) if new in b"[]{}:,")
    describe(text)
    mend(text)


@often
@given(JSON_VALUES)
def test_what_is_json_has_no_odd_token(value: object) -> None:
    text = json.dumps(value).encode()
    assert describe(text) is None
    assert mask(text) == mend(text) == text


@often
@given(st.lists(JSON_VALUES, min_size=1, max_size=4), st.integers(0, 4), st.sampled_from(TOKENS))
def test_every_element_is_cut_where_it_stands(values: list[object], place: int, odd: tuple[bytes, str]) -> None:
    elements = [json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass") for value in values]
    elements.insert(place, ODD % odd[0])
    assert split_array(b"[ " + b" , ".join(elements) + b" ]") == elements


@pytest.mark.parametrize(
    "body",
    [
        *(b"[" + b"[" + b"NaN," * 1_000_000 + b"1]]", b'[{"a":"' + b'\\"' * 2_000_000 + b'\xff"},NaN]'),
        *(b'[NaN,"' + b"a" * 4_000_000, b"[NaN" + b" " * 4_000_000 + b"]", b"[NaN," + b'"\xff",' * 800_000 + b"1]"),
        b'{"a":[NaN,' + b"1," * 500_000 + b"1]}",
    ],
    ids=range(6),
)
def test_the_work_is_linear_whatever_is_sent(body: bytes) -> None:
    began = time.perf_counter()
    with contextlib.suppress(UnparsableJson, TooLarge):
        reasons(body)
    assert time.perf_counter() - began < 20
