"""The words of a replay: read the same from options, a form and JSON, and written so that they read the same again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.outcome import Outcome
from app.errors import BadQuery
from app.replay.parameters import parse_bounds, parse_replay_request, to_options, to_texts
from tests.builders import NOW

WORDS: list[dict[str, str]] = [
    {},
    {"outcome": "rejected"},
    {"outcome": "ignored, rejected"},
    {"reason": "no_transform", "event": "Report Exported"},
    {"reason": "conflict"},
    {"outcome": "rejected", "reason": "event_invalid", "by": "order", "version": "0" * 32},
    {"problem": "0123456789abcdef"},
    {"problem": "0123456789abcdef", "outcome": "conflict", "reason": "conflict"},
    {"outcome": "duplicate"},
    {"reason": "duplicate"},
    {"correct": "yes"},
    {"correct": "yes", "outcome": "stored", "since": "7d", "until": "1h"},
    {"transform": "tokens"},
    {"transform": "tokens", "outcome": "stored"},
    {"id": "123"},
    {"id": "m-1"},
    {"id": "0123"},
    {"id": "9" * 19},
    {"id": "123", "correct": "yes"},
    {"limit": "5", "event": "--yes"},
    {"mapped_by": "order"},
    {"mapped_by": "tokens, order", "outcome": "rejected"},
]


@pytest.mark.parametrize("words", WORDS)
def test_what_is_written_reads_the_same_again(words: dict[str, str]) -> None:
    asked = parse_replay_request(words)
    assert parse_replay_request(to_texts(asked)) == asked


@given(event=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=50))
def test_an_event_of_any_name_is_one_option(event: str) -> None:
    options = to_options(parse_replay_request({"event": event, "correct": "yes"}))
    assert f"--event={event}" in options
    assert "--correct" in options
    assert all(option.startswith("--") for option in options)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"outcome": "stored"}, "give --correct"),
        ({"outcome": "nonsense"}, "outcome must be one of"),
        ({"reason": "nonsense"}, "reason must be one of"),
        ({"outcome": "nobody"}, "outcome must be one of"),
        ({"version": "abc"}, "32 hexadecimal digits"),
        ({"problem": "abc"}, "16 hexadecimal digits"),
        ({"id": ""}, "id is empty"),
        ({"limit": "0"}, "limit must be"),
        ({"limit": "1e9"}, "limit must be"),
        ({"transform": "a", "correct": "yes"}, "give one of them"),
        ({"transform": "a", "mapped_by": "b"}, "give one of them"),
        ({"nonsense": "1"}, "there is no parameter"),
        ({"event": "a\0b"}, "without NUL"),
        ({"event": "\ud800"}, "surrogate"),
        ({"event": "x" * 2001}, "at most 2000"),
    ],
)
def test_what_cannot_be_used_is_named(words: dict[str, str], says: str) -> None:
    with pytest.raises(BadQuery, match=says):
        parse_replay_request(words)


def test_bounds_are_times() -> None:
    assert parse_bounds(parse_replay_request({"since": "1h"}), NOW) == (NOW - 3_600_000_000, None)
    with pytest.raises(BadQuery):
        parse_bounds(parse_replay_request({"until": "soon"}), NOW)


def test_a_correction_one_call_and_a_lane_are_read_from_all_outcomes() -> None:
    assert set(parse_replay_request({"correct": "yes"}).outcomes) == set(Outcome)
    assert set(parse_replay_request({"id": "1"}).outcomes) == set(Outcome)
    assert set(parse_replay_request({"transform": "a"}).outcomes) == set(Outcome)
