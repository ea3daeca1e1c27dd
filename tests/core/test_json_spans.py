import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.json_spans import first_element, split_array, split_object
from app.core.json_text import decode
from app.errors import TooLarge, UnparsableJson

from .examples import JSON_ARRAYS, JSON_OBJECTS, JSON_VALUES, LONE, deep, often, read_or_none


class TestSplit:
    @often
    @given(JSON_ARRAYS)
    def test_the_elements_of_an_array_are_its_own_bytes_and_read_the_same(self, text: str) -> None:
        raw = text.encode()
        elements = split_array(raw)
        assert_spans_are_in_order(raw, elements)
        joined = b"[" + b",".join(elements) + b"]"
        assert read_or_none(joined) == read_or_none(raw)
        assert split_array(joined) == elements
        whole = read_or_none(raw)
        if whole is not None:
            assert [decode(element) for element in elements] == decode(raw)

    @often
    @given(JSON_OBJECTS)
    def test_the_members_of_an_object_are_its_own_bytes_and_read_the_same(self, text: str) -> None:
        raw = text.encode()
        members = split_object(raw)
        assert all(value in raw for value in members.values())
        if read_or_none(raw) is not None:
            assert {key: decode(value) for key, value in members.items()} == decode(raw)

    @often
    @given(st.lists(JSON_VALUES, max_size=4), st.booleans())
    def test_every_way_of_cutting_an_array_cuts_it_alike(self, values: list[str], surrogate: bool) -> None:
        shallow = [value.encode() for value in values if "[" * 60 not in value]
        expected = [LONE.encode(), *shallow] if surrogate else shallow
        assert split_array(b"[" + b",".join(expected) + b"]") == expected
        too_deep = deep(3000)
        assert split_array(b"[ " + b" ,\n".join([*expected, too_deep]) + b" ]") == [*expected, too_deep]

    @pytest.mark.parametrize("text", [b"[]", b" [ ] ", b"\xef\xbb\xbf[\n]"])
    def test_an_empty_array_has_no_elements(self, text: bytes) -> None:
        assert split_array(text) == []

    def test_an_element_that_is_not_utf_8_does_not_spoil_the_others(self) -> None:
        assert split_array(b'[1,"\xff",{"a":2}]') == [b"1", b'"\xff"', b'{"a":2}']

    def test_surrogates_behind_an_escaped_backslash_change_nothing(self) -> None:
        elements = [b'"\\\\ud83d"', b'"\\ud83d"', b'"\\\\\\ud83d"', b'"\\uD83D\\uDE00"', b'"\\u00e9"']
        assert split_array(b"[" + b" , ".join(elements) + b"]") == elements

    # fmt: off
    NO_ARRAYS = (
        b"", b"1", b"{}", b"[", b"[1", b"[1,]", b"[,1]", b"[1 2]", b"[1]]", b"[1}", b'["a]', b'["\\ud83d",]',
        b"[" * 100_000, b"[" * 100_000 + b"]", deep(3000) + b"]", deep(3000)[:-1] + b"}", b"[" + deep(3000) + b",]",
        b"[" + deep(3000) + b',"]', deep(3000) + b" []", b'["\\ud83d" nul]',
        b'{"a":' + deep(3000) + b"}",
    )
    NO_OBJECTS = (
        b"", b"1", b"[]", b"{", b'{"a"}', b'{"a":}', b'{"a":"\\ud83d",}', b'{"a":"\\ud83d"', b'{"\xff" 1}', b'{"a" 1}',
        b'{"a":' + deep(3000), b"{" + deep(3000) + b"}", b"{1:" + deep(3000) + b"}",
    )
    # fmt: on

    @pytest.mark.parametrize("text", NO_ARRAYS, ids=range(len(NO_ARRAYS)))
    def test_what_is_no_array_is_refused(self, text: bytes) -> None:
        with pytest.raises(UnparsableJson):
            split_array(text)

    @pytest.mark.parametrize("text", NO_OBJECTS, ids=range(len(NO_OBJECTS)))
    def test_what_is_no_object_is_refused(self, text: bytes) -> None:
        with pytest.raises(UnparsableJson):
            split_object(text)

    def test_of_a_repeated_key_the_last_one_counts_however_it_is_cut(self) -> None:
        assert split_object(b'{"a":1,"\\u0061":2}') == {"a": b"2"}
        assert split_object(b'{"a":1,"\\u0061":2,"\\ud83d":"\\ud83d"}') == {"a": b"2", "\ud83d": b'"\\ud83d"'}

    @pytest.mark.parametrize("element", [b"1", LONE.encode(), deep(3000)])
    def test_an_array_of_more_elements_than_wanted_is_too_large(self, element: bytes) -> None:
        assert split_array(b"[" + b",".join([element] * 5) + b"]", 5) == [element] * 5
        with pytest.raises(TooLarge):
            split_array(b"[" + b",".join([element] * 6) + b"]", 5)

    def test_millions_of_elements_are_refused_before_they_are_made(self) -> None:
        started = time.perf_counter()
        with pytest.raises(TooLarge):
            split_array(b"[" + b"1," * 4_000_000 + b"1]", 1000)
        assert time.perf_counter() - started < 1


class TestFirstElement:
    @often
    @given(JSON_ARRAYS, st.sampled_from(["", " ", "\n"]))
    def test_it_is_the_first_of_the_split(self, text: str, space: str) -> None:
        raw = f"{space}{text}{space}".encode()
        elements = split_array(raw)
        assert first_element(raw) == (elements[0] if elements else None)

    @often
    @given(JSON_VALUES, st.binary(max_size=20))
    def test_what_follows_it_is_not_trusted(self, text: str, rest: bytes) -> None:
        assert first_element(b"[" + text.encode() + b" ," + rest) == text.encode()

    @pytest.mark.parametrize(
        "raw", [b"", b"1", b"{}", b"[", b"[]", b"[ ]", b"[,", b"[1", b"[1x]", b"[nul]", b'["a', b"[01]"]
    )
    def test_without_a_whole_first_element_there_is_none(self, raw: bytes) -> None:
        assert first_element(raw) is None

    @pytest.mark.parametrize("size", [100, 4096, 4097, 65_536, 70_000, 1 << 20, 3_000_000])
    def test_any_size_is_found_at_the_edges_of_what_is_read_at_once_too(self, size: int) -> None:
        for length in range(size - 6, size + 2):
            element = b'"' + b"a" * (length - 4) + "ü".encode() + b'"'
            assert first_element(b"[" + element + b',{"a":"\\ud83d"}]') == element

    @pytest.mark.parametrize("levels", [201, 950, 3000, 30_000])
    def test_a_deep_first_element_is_found(self, levels: int) -> None:
        assert first_element(b"[" + deep(levels, LONE) + b',{"a":1}]') == deep(levels, LONE)

    HOSTILE = (
        b"[" * 8_000_000,
        b"[{" * 4_000_000,
        b"[[" + b"[]," * 2_600_000 + b"1]]",
        b"[" + b"[" * 2000 + b"[]," * 2_600_000,
        b'["' + b"a" * 8_000_000,
        b'["' + b'\\"' * 4_000_000,
        b'["' + b"\\" * 8_000_000,
        b'["' + b"\\ud83d" * 1_300_000,
        b"[" + b"9" * 8_000_000,
        b" " * 8_000_000 + b"[",
        b"[[" + b'"",' * 2_600_000,
        b"[{" + b'"":1,' * 1_600_000,
        b'["' + b"\xff" * 8_000_000 + b'"]',
    )

    # Measured: up to 0.06 s for these 8 MB. What grows with the square of the length would take hours, not seconds.
    @pytest.mark.timeout(20)
    @pytest.mark.parametrize("raw", HOSTILE, ids=range(len(HOSTILE)))
    def test_a_hostile_body_costs_no_more_than_its_length(self, raw: bytes) -> None:
        assert first_element(raw) is None or raw.startswith(b"[")


def assert_spans_are_in_order(raw: bytes, spans: list[bytes]) -> None:
    position = 0
    for span in spans:
        position = raw.index(span, position) + len(span)
