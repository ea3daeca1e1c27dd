"""YAML is JSON in other clothes: nothing turns into something that its writer did not write."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.yaml_text import MAX_DEPTH, MAX_VALUES, YamlInvalid, parse_yaml


def refusal_of(text: str) -> YamlInvalid:
    with pytest.raises(YamlInvalid) as raised:
        parse_yaml(text)
    return raised.value


@pytest.mark.parametrize(
    "written",
    [
        "on",
        "off",
        "yes",
        "no",
        "y",
        "n",
        "On",
        "NO",
        "2026-11-01",
        "2026-11-01T10:00:00Z",
        "2026-11-01 10:00:00",
        "12:30:45",
        "1:30",
        "nul",
        "=",
        "<<",
        "properties.total",
        "'quoted",
    ][:-1],
)
@pytest.mark.parametrize("directive", ["", "%YAML 1.1\n---\n"])
def test_text_stays_text(written: str, directive: str) -> None:
    if directive and written in {"12:30:45", "1:30"}:
        # YAML 1.1 takes it for a number to the base of 60; better refused than 45045.
        assert "put quotes around it" in str(refusal_of(f"{directive}key: {written}"))
    else:
        assert parse_yaml(f"{directive}key: {written}").value == {"key": written}


@pytest.mark.parametrize("key", ["on", "no", "true", "null", "1", "1.5", "2026-11-01", "~", "<<"])
def test_a_key_is_always_text(key: str) -> None:
    assert parse_yaml(f"{key}: 1").value == {key: 1}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("0o17", 15),
        ("0xff", 255),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("'12'", "12"),
        ('"true"', "true"),
        ("'null'", "null"),
        ("|\n  a\n  b\n", "a\nb\n"),
        (">-\n  a\n  b\n", "a b"),
        ("[1, two, [3]]", [1, "two", [3]]),
        ("{a: 1, b: {c: d}}", {"a": 1, "b": {"c": "d"}}),
        ("&anchor text", "text"),
        ("!custom text", "text"),
        ("!!binary aGk=", "aGk="),
    ],
)
def test_what_is_no_text_is_what_json_would_have(written: str, value: object) -> None:
    parsed = parse_yaml(f"key: {written}").value
    assert parsed == {"key": value}
    assert type(parsed["key"]) is type(value)


def test_an_alias_stands_for_what_it_names() -> None:
    assert parse_yaml("a: &x {b: 1}\nc: *x").value == {"a": {"b": 1}, "c": {"b": 1}}


def test_a_merge_key_merges_nothing() -> None:
    assert parse_yaml("a: &x {b: 1}\nc:\n  <<: *x\n").value == {"a": {"b": 1}, "c": {"<<": {"b": 1}}}


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "\n\n"])
def test_an_empty_document_is_null(text: str) -> None:
    assert parse_yaml(text).value is None


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("a: 1\na: 2\n", 2, 1, "twice"),
        ("a:\n  b: 1\n  'b': 2\n", 3, 3, "twice"),
        ("1: a\n'1': b\n", 2, 1, "twice"),
        ("a: [1, 2\nb: 3\n", 2, 2, ""),
        ("a: *nowhere\n", 1, 4, "alias"),
        ("a: 'open\n", 2, 1, ""),
        ("a: 1\n---\nb: 2\n", 2, 1, "another document"),
        ("a:\n\t- b\n", 2, 1, ""),
        ("? [a]\n: 1\n", 1, 3, "a key must be text"),
        ("a: .nan\n", 1, 4, "is no number"),
        ("a:\n  - .inf\n", 2, 5, "is no number"),
        ("a: !!int twelve\n", 1, 4, "is no number"),
        ("a: " + "9" * 5000, 1, 4, "is no number"),
        ("a: \x01\n", 1, 4, "U+0001"),
    ],
)
def test_a_mistake_is_refused_with_its_place(text: str, line: int, column: int, says: str) -> None:
    refused = refusal_of(text)
    assert (refused.line, refused.column) == (line, column)
    assert says in str(refused)


def test_an_alias_bomb_is_refused_at_once() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 12):
        bomb += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    assert "more than" in str(refusal_of(bomb))


def test_an_alias_inside_itself_is_refused() -> None:
    assert "deeper" in str(refusal_of("a: &a [*a]"))
    assert "deeper" in str(refusal_of("a: &a {b: *a}"))


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_nesting_has_an_end(opening: str, closing: str) -> None:
    fits = opening * (MAX_DEPTH - 1) + "1" + closing * (MAX_DEPTH - 1)
    parse_yaml(f"a: {fits}")
    assert "deeper" in str(refusal_of(f"a: {opening}{opening}{fits}{closing}{closing}"))


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000, "? " * 5000, "[" * 5000 + "]" * 5000])
def test_bottomless_nesting_is_refused_and_does_not_crash(text: str) -> None:
    assert "deeper" in str(refusal_of(text))


def test_values_have_a_number_that_is_enough() -> None:
    parse_yaml("\n".join(f"k{number}: v" for number in range(2000)))
    assert str(MAX_VALUES) in str(refusal_of("a: [" + "1," * (MAX_VALUES + 1) + "]"))


def test_every_part_knows_where_it_begins() -> None:
    document = parse_yaml("match:\n  event:\n    - A\n    - B\nevent: {properties: {x: y}}\n")
    assert document.place(("match", "event", 1)) == (4, 7)
    assert document.place(("event", "properties", "x")) == (5, 25)
    assert document.place(("match",)) == (2, 3)
    assert document.place(()) == (1, 1)


def test_what_is_not_there_begins_where_its_nearest_parent_does() -> None:
    document = parse_yaml("a:\n  b: 1\n")
    assert document.place(("a", "c", "d")) == document.place(("a",)) == (2, 3)
    assert document.place(("z",)) == (1, 1)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz 019:-", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(plain)
def test_what_json_says_yaml_says_too(value: Any) -> None:
    assert parse_yaml(json.dumps(value)).value == value


@given(st.text(max_size=60) | st.text("abc:-[]{}&*!|>'\"%@`#?,\n\t 01", max_size=40))
def test_any_text_is_a_document_or_is_refused_with_a_place(text: str) -> None:
    try:
        document = parse_yaml(text)
    except YamlInvalid as refused:
        assert refused.line >= 1  # noqa: PT017
        assert refused.column >= 1  # noqa: PT017
    else:
        assert document.place(()) is not None


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ('a: "x\\ud83d"', (1, 4), "\\ud83d"),
        ('a:\n  - {"b": "\\ude00\\ud83d"}', (2, 11), "\\ude00"),
        ('"\\ud83d": 1', (1, 1), "\\ud83d"),
        ('a: "\\0"', (1, 4), "NUL"),
        ('a:\n  b: >-\n    c\n  "d\\x00": 1', (4, 3), "NUL"),
    ],
)
def test_what_no_database_keeps_is_noted_with_its_place(text: str, place: tuple[int, int], says: str) -> None:
    [(line, column, sentence)] = parse_yaml(text).unstorable
    assert (line, column) == place
    assert says in sentence


def test_a_pair_of_surrogates_is_one_character_as_in_json() -> None:
    document = parse_yaml(r'a: "\ud83d\ude00 \U0001F600"')
    assert document.value == {"a": "\U0001f600 \U0001f600"}
    assert document.unstorable == []


@pytest.mark.parametrize(("character", "name"), [("\0", "U+0000"), ("\ud83d", "U+D83D"), ("\x07", "U+0007")])
def test_a_character_that_yaml_does_not_have_is_refused_where_it_stands(character: str, name: str) -> None:
    refused = refusal_of(f"a: 1\nb: [2,{character}]")
    assert (refused.line, refused.column) == (2, 7)
    assert name in str(refused)
