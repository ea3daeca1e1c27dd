"""How calls that go wrong in one way become one problem."""

import pytest

from app.calls.problems import to_groups
from app.calls.sql_problems import ProblemRow
from app.core.outcome import Outcome, Reason
from app.core.problem import ProblemKind, parse_problem
from tests.builders import a_digest

DIGEST = a_digest()


def a_row(detail: str | None, count: int = 1, last_id: int = 9, **changes: object) -> ProblemRow:
    fields: dict[str, object] = {
        "outcome": "rejected",
        "reason": "event_invalid",
        "transform": "order",
        "transform_digest": DIGEST,
        "detail": detail,
        "count": count,
        "first_id": 4,
        "last_id": last_id,
        **changes,
    }
    return ProblemRow(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reason", "detail", "path"),
    [
        ("event_invalid", "customer_id is null: `userId` is not in this call (_default.yaml)", "customer_id"),
        ("event_invalid", "customer_id has 63 characters; Lotus takes at most 50", "customer_id"),
        ("event_invalid", "idempotency_id is empty (index 3)", "idempotency_id"),
        ("event_invalid", "properties.items[3].name holds a NUL character, which", "properties.items[*].name"),
        ("event_invalid", "a key of properties.a b holds a NUL character, which", "properties.a b"),
        ("event_invalid", "properties: a number is not finite", "properties"),
        ("event_invalid", "properties nest too deep", "properties"),
        ("transform_error", "event.properties.tokens: add() takes a number as argument 2", "event.properties.tokens"),
        ("transform_error", "when: contains() takes a string as argument 1", "when"),
        ("transform_error", "each: gives 2000 items, and 1000 is the most", "each"),
        ("input_schema", "properties.items.3.price breaks input_schema: type number", "properties.items.*.price"),
        ("input_schema", "properties breaks input_schema: `tokens` is required", "properties.tokens"),
        ("input_schema", "the call breaks input_schema: `userId` is required", "userId"),
        ("type_missing", "`type` must be text, such as track; it is missing.", "type"),
        ("not_an_object", "A call must be an object; this is null.", ""),
        ("unstorable", None, ""),
        ("no such reason", "`a` and `b` differ", "a"),
    ],
)
def test_the_place_is_read_from_the_sentence(reason: str, detail: str | None, path: str) -> None:
    assert parse_problem(reason, detail).path == path


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "customer_id has 63 characters; Lotus takes at most 50",
            "customer_id has 1,024 characters; Lotus takes at most 50",
        ),
        ("customer_id is empty (index 3)", "customer_id is empty (index 12)"),
        ("event: gives 'total', which is no field", 'event: gives "it\'s", which is no field'),
        ("properties.a[0].b holds a NUL", "properties.a[17].b holds a NUL"),
    ],
)
def test_values_and_numbers_make_no_other_problem(one: str, other: str) -> None:
    for reason in (Reason.EVENT_INVALID, Reason.TRANSFORM_ERROR):
        assert parse_problem(reason, one) == parse_problem(reason, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "customer_id is null: `userId` is not in this call",
            "customer_id is null: `properties.id2` is not in this call",
        ),
        ("x: add() takes a number as argument 1", "x: add() takes a number as argument 2"),
        ("time_created is null; it must be a time", "time_created is text that is no time"),
    ],
)
def test_paths_arguments_and_rules_do(one: str, other: str) -> None:
    assert parse_problem(Reason.EVENT_INVALID, one) != parse_problem(Reason.EVENT_INVALID, other)


def test_the_numbers_of_a_schema_stay_and_so_do_apostrophes_in_words() -> None:
    kept = "properties.n breaks input_schema: maximum 10"
    assert parse_problem("input_schema", kept) == ProblemKind("properties.n", kept)
    assert (
        "Lotus's fields" in parse_problem("transform_error", "event: must give an object with Lotus's fields").sentence
    )


def test_two_conflicts_are_one_problem_whatever_their_ids() -> None:
    rows = [a_row(None, 2, outcome="conflict", reason="conflict"), a_row("x", 1, outcome="conflict", reason="conflict")]
    [group] = to_groups(rows, set())
    assert (group.count, group.words["outcome"]) == (3, "conflict")


def test_a_group_counts_its_calls_and_shows_the_newest() -> None:
    rows = [
        a_row("customer_id has 63 characters", 2, last_id=5 << 12),
        a_row("customer_id has 70 characters", 3, last_id=8 << 12),
        a_row("customer_id has 70 characters", 9, transform_digest=a_digest("2")),
    ]
    first, second = to_groups(rows, {DIGEST})
    assert (first.count, first.is_live, first.sentence) == (9, False, "customer_id has 70 characters")
    assert (second.count, second.is_live, second.sample) == (5, True, str(8 << 12))
    assert second.sentence == "customer_id has \N{HORIZONTAL ELLIPSIS} characters"
    assert second.last_at > second.first_at
    assert second.words == {
        "outcome": Outcome.REJECTED,
        "reason": "event_invalid",
        "by": "order",
        "version": DIGEST.hex(),
        "problem": second.key,
    }
    assert first.key != second.key


def test_a_sentence_of_any_length_and_kind_is_read() -> None:
    for detail in ("`" * 9999, "'" * 9999, "1" * 9999, "event." * 2000, '"' + "\\" * 9999, "a " * 5000 + "breaks"):
        for reason in Reason:
            parse_problem(reason, detail)
    [group] = to_groups([a_row("x" * 9999)], set())
    assert len(group.sentence) < 500
