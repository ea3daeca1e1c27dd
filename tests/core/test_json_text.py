import json
import math
import time
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from app.core.json_numbers import NotFinite, with_numbers_by_value
from app.core.json_text import MAX_DEPTH, MAX_INTEGER_DIGITS, TooDeep, contains_nul, decode, encode, encode_canonical
from app.errors import UnparsableJson

from .examples import DOCUMENTS, JSON_VALUES, LONE, deep, often, read_or_none

ANY_NUMBER = st.one_of(
    st.integers(-20, 20),
    st.integers(-20, 20).map(float),
    st.floats(allow_nan=False, allow_infinity=False),
    st.builds(lambda digits, exponent: digits * 10**exponent, st.integers(-99, 99), st.integers(0, 40)),
    st.builds(lambda digits, exponent: float(f"{digits}e{exponent}"), st.integers(-99, 99), st.integers(0, 40)),
)


class TestDecode:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            (b"\xef\xbb\xbf[1]", [1]),
            (b' \r\n\t{"a":1} ', {"a": 1}),
            (b'"\\ud83d"', "\ud83d"),
            (b'"\\uDC00\\ud83d"', "\udc00\ud83d"),
            (b'"\\ud83d\\ude00"', "😀"),
            (b'"\\u0000"', "\0"),
            (b"1e400", math.inf),
            (b"-1e400", -math.inf),
            (b"9007199254740993", 9007199254740993),
            (b"123456789012345678901234567890", 123456789012345678901234567890),
            (b'{"a":1,"a":2}', {"a": 2}),
            (b"1.0", 1.0),
        ],
    )
    def test_what_segment_or_a_lenient_sender_prints_is_read(self, text: bytes, value: Any) -> None:
        assert decode(text) == value

    @pytest.mark.parametrize("beside", ["", ', "\\ud83d"', ", 1e400"], ids=["fast", "surrogate", "overflow"])
    def test_integers_are_exact_up_to_a_limit_and_infinite_beyond_on_both_paths(self, beside: str) -> None:
        longest, too_long = "9" * MAX_INTEGER_DIGITS, "9" * (MAX_INTEGER_DIGITS + 1)
        for shift in range(0, 120, 7):
            padding = " " * shift
            document = decode(f"[{padding}{longest}, -{longest}, {too_long}, -{too_long}{beside}]".encode())
            assert document[:4] == [int(longest), -int(longest), math.inf, -math.inf]
            assert decode(f"[{padding}-{too_long}{beside}]".encode())[0] == -math.inf
            assert decode(f"[{padding}{longest}{beside}]".encode())[0] == int(longest)

    def test_many_digits_in_text_or_after_the_point_are_no_integer(self) -> None:
        assert decode(b'["' + b"7" * 5000 + b'",0.' + b"1" * 5000 + b"]") == ["7" * 5000, float("0." + "1" * 5000)]

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            (b"", "expecting value at line 1, column 1 (byte 0)"),
            (b"{", "line 1, column 2 (byte 1)"),
            (b'{"a":\n  tru}', "expecting value at line 2, column 3 (byte 8)"),
            (b'["\xc3\xbc" x]', "line 1, column 6 (byte 6)"),
            (b'["a\x01b"]', "invalid control character at line 1, column 4 (byte 3)"),
            (b"[1] x", "extra data at line 1, column 5 (byte 4)"),
            (b'{"a":"NaN",\n"b":NaN}', "NaN or Infinity at line 2, column 5 (byte 16)"),
            (b"[-Infinity]", "NaN or Infinity at line 1, column 2 (byte 1)"),
            (b'[\n"a\xff"]', "it is not UTF-8 at line 2, column 3 (byte 4)"),
            (b"[01]", "line 1, column 3 (byte 2)"),
            (b'["\\ud83d", nul]', "line 1, column 12 (byte 11)"),
            (b"\xef\xbb\xbf\xef\xbb\xbf1", "expecting value"),
            ("[1]".encode("utf-16"), "not UTF-8"),
            (b"a=1&b=2", "expecting value at line 1, column 1 (byte 0)"),
        ],
    )
    def test_what_is_no_json_is_refused_with_the_place_and_the_fault(self, text: bytes, sentence: str) -> None:
        with pytest.raises(UnparsableJson) as refused:
            decode(text)
        assert sentence in refused.value.message
        assert refused.value.message.startswith("The body is not JSON: ")

    @pytest.mark.parametrize("beside", ["", LONE], ids=["fast", "tolerant"])
    def test_the_limit_of_nesting_is_the_same_on_both_paths(self, beside: str) -> None:
        assert decode(deep(MAX_DEPTH, beside))
        for levels in (MAX_DEPTH + 1, 500, 2000, 100_000):
            with pytest.raises(TooDeep):
                decode(deep(levels, beside))
        objects = '{"a":' * (MAX_DEPTH + 1) + (beside or "1") + "}" * (MAX_DEPTH + 1)
        with pytest.raises(TooDeep):
            decode(objects.encode())

    def test_the_limit_of_nesting_does_not_depend_on_the_stack(self) -> None:
        def far_down(frames: int) -> Any:
            return far_down(frames - 1) if frames else (decode(deep(MAX_DEPTH)), decode(deep(MAX_DEPTH, LONE)))

        assert far_down(600) == far_down(0)

    def test_brackets_beside_each_other_or_in_text_do_not_count_as_nesting(self) -> None:
        text = b"[" + b'{"a":[]},' * 1000 + b'"' + b"[" * 1000 + b'"]'
        assert len(decode(text)) == 1001

    @often
    @given(JSON_VALUES)
    def test_it_reads_what_the_standard_library_reads(self, text: str) -> None:
        try:
            expected = json.loads(text, parse_int=lambda digits: float(digits) if len(digits) > 401 else int(digits))
        except RecursionError:
            expected = None
        value = read_or_none(text.encode())
        assume(expected is not None and "9" * 401 not in text)
        assert value in (repr(expected), None)
        assert value is not None or "[" * 60 in text

    @often
    @given(st.binary(max_size=60) | JSON_VALUES.map(lambda text: text.encode()[:-1]))
    def test_it_refuses_or_reads_any_bytes_and_does_nothing_else(self, raw: bytes) -> None:
        read_or_none(raw)


class TestEncode:
    @often
    @given(DOCUMENTS)
    def test_what_was_written_reads_as_it_was(self, document: Any) -> None:
        assert repr_sorted(decode(encode_canonical(document))) == repr_sorted(document)

    @often
    @given(st.dictionaries(st.text(), DOCUMENTS, max_size=5), st.randoms(use_true_random=False))
    def test_the_order_of_keys_does_not_matter(self, document: dict[str, Any], random: Any) -> None:
        shuffled = list(document.items())
        random.shuffle(shuffled)
        again = {"outer": [dict(shuffled)]}
        assert encode_canonical(again) == encode_canonical({"outer": [document]})

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ({"b": 1, "a": {"d": None, "c": [True, 0.1]}}, b'{"a":{"c":[true,0.1],"d":null},"b":1}'),
            ({"ü": "日", "z": 1}, '{"z":1,"ü":"日"}'.encode()),
            ({"b": "\ud83d", "a": 1.5}, b'{"a":1.5,"b":"\\ud83d"}'),
            ({"\ud83d": 1}, b'{"\\ud83d":1}'),
            (10**399, b"1" + b"0" * 399),
            ("a\0b", b'"a\\u0000b"'),
        ],
    )
    def test_text_is_compact_and_sorted(self, value: Any, text: bytes) -> None:
        assert encode_canonical(value) == text

    @pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
    @pytest.mark.parametrize(
        ("wrap", "path"),
        [
            (lambda number: number, ""),
            (lambda number: {"a": [None, {"b c": number}]}, "a[1].b c"),
            (lambda number: ["\ud83d", number], "[1]"),
            (lambda number: {"null": "null", "x": {"y": number}}, "x.y"),
        ],
    )
    def test_an_infinite_number_is_refused_with_its_place(self, number: float, wrap: Any, path: str) -> None:
        with pytest.raises(NotFinite) as refused:
            encode_canonical(wrap(number))
        assert refused.value.path == path

    @often
    @given(st.lists(ANY_NUMBER, min_size=2, max_size=2))
    @example([2, 2.0])
    @example([0, -0.0])
    @example([10**23, 1e23])
    @example([9007199254740993, 9007199254740992.0])
    @example([10**19, 1e19])
    @example([10**300, 1e300])
    @example([10**400, 10**400 + 1])
    def test_numbers_have_one_form_by_value_exactly_where_they_are_equal_as_written(self, numbers: list[Any]) -> None:
        first, second = (encode_canonical(with_numbers_by_value({"a": [number]})) for number in numbers)
        assert (first == second) is (Decimal(repr(numbers[0])) == Decimal(repr(numbers[1])))

    def test_what_has_one_form_already_is_the_same_object(self) -> None:
        values: list[Any] = [{"a": [1, 1.5, "2.0", None, True, 2**63]}, [], "2.0", 1e300, 0]
        for value in values:
            assert with_numbers_by_value(value) is value

    def test_null_itself_is_fine(self) -> None:
        assert encode_canonical([None, {"a": None, "b": [None, 1.5]}]) == b'[null,{"a":null,"b":[null,1.5]}]'

    @often
    @given(st.text(st.sampled_from(["\0", "\\", "u", "0", "a", '"', "\ud83d"]), max_size=12))
    def test_nul_is_told_from_an_escaped_backslash(self, text: str) -> None:
        assert contains_nul(encode_canonical({"a": [text]})) == ("\0" in text)

    def test_a_run_of_backslashes_takes_linear_time(self) -> None:
        started = time.process_time()
        assert not contains_nul(b'"' + b"\\" * 2_000_000 + b'\\\\u0000"')
        assert time.process_time() - started < 1


def repr_sorted(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


class _Inner(msgspec.Struct, omit_defaults=True, tag_field="kind", tag="inner"):
    text: str
    raw: msgspec.Raw
    left_out: int | None = None


WRITTEN: dict[str, Any] = {
    "text": "half \ud83d of a pair",
    "a key": {"\ude00": 1},
    "deep": [{"a": [("\ud83d", 1, 2.5, None, True)]}],
    "raw beside it": _Inner("\ud83d", msgspec.Raw(b'{"n": 1e400, "x": "\\ud83d", "m": 2.0}')),
    "raw that is no ASCII": {"\ud83d": msgspec.Raw('"\u00fc\U0001f600"'.encode())},
    "raw with a surrogate as bytes": {"\ud83d": msgspec.Raw(b'"\xed\xa0\xbd"')},
    "no number": {"\ud83d": float("nan"), "inf": float("inf")},
    "a number of many digits": ["\ud83d", 10**300],
    "a decimal": ["\ud83d", Decimal("1.50")],
}


@pytest.mark.parametrize("name", WRITTEN)
def test_anything_that_was_read_can_be_written_for_others(name: str) -> None:
    written = encode(WRITTEN[name])
    assert json.loads(written.decode("ascii"))
    assert decode(written) is not None


def test_what_is_written_with_half_a_pair_is_what_is_written_without() -> None:
    for value in ({"a": [1, 2.0, "x"], "b": None}, _Inner("t", msgspec.Raw(b'{"n": 2.0}')), [True, Decimal("0.10")]):
        plain = msgspec.json.encode(value)
        assert encode(value) == plain
        assert encode([value, "\ud83d"]) == b"[" + plain + b',"\\ud83d"]'


def test_a_key_of_a_sender_is_never_taken_for_raw_json() -> None:
    for document in ({"raw JSON of 200": "}{"}, [{"raw JSON of 200": "1"}, {"\0": "1"}]):
        assert decode(encode([document, "\ud83d"])) == [document, "\ud83d"]
        assert decode(encode([decode(encode(document)), "\ud83d"])) == [document, "\ud83d"]
