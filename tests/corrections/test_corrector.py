"""Events are made void on purpose, as one batch that can be undone: all else follows. On both databases."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from app.core.outcome import Outcome
from app.corrections import corrector as corrector_module
from app.corrections.corrector import CorrectionBusy
from app.corrections.documents import to_tally
from app.corrections.selection import Selection, parse_selection
from app.errors import BadQuery, EditConflict, NotFound
from app.metrics.answer_from_buckets import answer_from_buckets
from app.metrics.query import Query
from app.replay.decide import VOIDED
from app.store.corrections import Attribution, CorrectionState, get_correction
from app.store.engine import Database
from app.store.review import CallFilters, list_call_ids
from app.store.schema import corrected_events, corrections, events
from app.store.tally import CorrectionTally
from tests.builders import NOW, a_lane, a_record, an_event, rows_of, some_transforms, store
from tests.corrections.correcting import METRICS, a_corrector, check, clock, counted, deliver, keep, states, undo, void
from tests.metrics.conftest import fold_all, publish
from tests.metrics.metrics import LATER
from tests.replay.replaying import RIGHT, an_order, made, outcomes, replay, take

DOUBLED = 'match: {event: Order}\nevent: {properties: "{total: add(properties.total, properties.total)}"}\n'


def call_of(database: Database, id_: str) -> str:
    with database.reading() as conn:
        [call_id] = list_call_ids(conn, CallFilters(id=id_), limit=2)
    return str(call_id)


@pytest.fixture
def october(database: Database) -> Database:
    """Events of two customers and two names, in two months."""
    publish(database, *METRICS)
    keep(database, [1, 2, 3])
    keep(database, [4], customer_id="other")
    keep(database, [5], event_name="export")
    keep(database, [6], time_created="2026-10-05T10:00:00Z")
    return database


SELECTIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({"ids": ["e-2"]}, ["e-2"]),
    ({"ids": ["e-2", "e-4", "e-2"]}, ["e-2", "e-4"]),
    ({"message": "e-3"}, ["e-3"]),
    ({"customer": "customer-1"}, ["e-1", "e-2", "e-3", "e-5", "e-6"]),
    ({"customer": "customer-1", "event_name": "export"}, ["e-5"]),
    ({"event_name": "api_call"}, ["e-1", "e-2", "e-3", "e-4", "e-6"]),
    ({"customer": "customer-1", "since": "2026-11-01"}, ["e-1", "e-2", "e-3", "e-5"]),
    ({"customer": "customer-1", "since": "2026-10-01", "until": "2026-11-01"}, ["e-6"]),
    ({"customer": "customer-1", "ids": ["e-1"]}, ["e-1"]),
]


def test_a_selection_is_all_that_fits_each_of_its_members_and_an_undo_brings_all_of_it_back(october: Database) -> None:
    everything = counted(october)
    for members, expected in SELECTIONS:
        filters = {name: value for name, value in members.items() if name != "ids"}
        correction = void(october, *members.get("ids", ()), **filters)
        assert sorted(set(everything) - set(counted(october))) == expected
        assert to_tally(correction).events == len(expected)
        check(october)
        tally = undo(october, correction)
        assert (tally.revived, tally.left) == (len(expected), 0)
        assert counted(october) == everything
        check(october)


def test_the_events_of_one_call_are_named_by_its_id(october: Database) -> None:
    store(october, a_record(a_lane(an_event(idempotency_id="two-a"), an_event(idempotency_id="two-b")), message_id="m"))
    void(october, call=call_of(october, "m"))
    assert not {"two-a", "two-b"} & set(counted(october))
    check(october)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "name the events"),
    ({"since": "2026-10-01"}, "name the events"),
    ({"customer": ""}, "customer must be a text"),
    ({"customer": 7}, "customer must be a text"),
    ({"ids": "e-1"}, "ids must be a list"),
    ({"ids": [1]}, "ids must be a list"),
    ({"ids": [f"e-{number}" for number in range(10_001)]}, "10,000 at most"),
    ({"ids": ["a\0b"]}, "without NUL"),
    ({"call": "x"}, "call must be an id"),
    ({"customer": "c", "since": "soon"}, "since must be a time"),
    ({"customer": "c", "since": "2026-10-02", "until": "2026-10-01"}, "since must be before until"),
    ({"person": "c"}, "there is no 'person'"),
]


@pytest.mark.parametrize(("members", "sentence"), WRONG)
def test_a_selection_that_says_nothing_or_something_unknown_is_refused(members: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadQuery, match=sentence):
        parse_selection(members, NOW)


def test_what_no_event_has_is_not_found_and_nothing_is_void(october: Database) -> None:
    for members in ({"ids": ["e-1", "nobody"]}, {"customer": "nobody"}, {"call": "7"}, {"message": "nobody"}):
        with pytest.raises(NotFound):
            a_corrector(october).preview(parse_selection(members, NOW))
    assert len(counted(october)) == 6


def test_the_dry_run_gives_the_very_numbers_of_the_run(october: Database) -> None:
    void(october, "e-1")
    preview = a_corrector(october).preview(parse_selection({"customer": "customer-1"}, NOW))
    tally = preview.tally
    assert (tally.events, tally.already_void, tally.customers) == (4, 1, 1)
    changes = [(effect.metric, effect.month, effect.events, effect.change) for effect in tally.effects]
    assert changes == [
        ("api_calls", "2026-10", 1, "-1"),
        ("api_calls", "2026-11", 2, "-2"),
        ("longest", "2026-10", 1, "-6"),
        ("longest", "2026-11", 2, "-3"),
        ("tokens", "2026-10", 1, "-6"),
        ("tokens", "2026-11", 2, "-5"),
    ]
    assert len(rows_of(october, corrections)) == 1
    assert to_tally(void(october, customer="customer-1")) == tally


def test_exact_decimals_are_summed_exactly_over_steps(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrector_module, "STEP_EVENTS", 1)
    publish(database, *METRICS)
    for number, tokens in enumerate(["0.1", "0.2", "1e-30", "100000000000000000000"]):
        store(database, a_record(an_event(idempotency_id=f"d-{number}", properties={"tokens": tokens})))
    [effect] = [
        effect for effect in to_tally(void(database, customer="customer-1")).effects if effect.metric == "tokens"
    ]
    assert effect.change == "-100000000000000000000.300000000000000000000000000001"


def test_beyond_a_thousand_customers_the_rest_is_summed_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.store.tally.ROWS_MAX", 2)
    publish(database, *METRICS[:1])
    for customer in "abcd":
        store(database, a_record(an_event(idempotency_id=customer, customer_id=customer)))
    tally = to_tally(void(database, event_name="api_call"))
    assert tally.by_customer == [("a", 1), ("b", 1), (None, 2)]
    assert [(effect.customer_id, effect.change) for effect in tally.effects] == [
        ("a", "-10"),
        ("b", "-10"),
        (None, "-20"),
    ]


# --- Two people, and processes that die


def test_the_second_of_two_people_is_told_and_nothing_counts_twice(october: Database) -> None:
    first = a_corrector(october, 41)
    second = a_corrector(october, 42)
    a, b = (
        one.preview(parse_selection(members, NOW))
        for one, members in (
            (first, {"customer": "customer-1"}),
            (second, {"event_name": "api_call"}),
        )
    )
    done = second.begin(b, Attribution(author="bob", reason="again"))
    first.run(first.begin(a, Attribution(author="ann", reason="internal")))
    tally = to_tally(second.run(done))
    assert (b.tally.events, tally.events, tally.already_void) == (5, 1, 4)
    check(october)
    # What the first made void the second does not bring back.
    assert undo(october, done).revived == 1
    assert counted(october) == ["e-4"]
    check(october)


def test_a_batch_and_its_undo_go_on_after_any_step(october: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrector_module, "STEP_EVENTS", 2)
    selection = parse_selection({"customer": "customer-1"}, NOW)
    one = a_corrector(october, 41)
    correction = one.run(one.begin(one.preview(selection), Attribution(author="ann", reason="internal")), seconds=0)
    assert (correction.state, len(counted(october))) == (CorrectionState.RUNNING, 4)
    check(october)
    other = a_corrector(october, 42)
    again = other.begin(other.preview(selection), Attribution(author="bob", reason="another reason"))
    assert (again.id, again.author) == (correction.id, "ann")
    assert other.run(again).state == CorrectionState.FINISHED
    assert counted(october) == ["e-4"]
    with pytest.raises(CorrectionBusy):
        one.run(correction)
    undoing = one.run(one.begin_undo(correction.id, "bob", "why not"), seconds=0)
    assert (undoing.state, len(counted(october))) == (CorrectionState.UNDOING, 3)
    check(october)
    assert to_tally(other.run(other.begin_undo(correction.id, "cleo", "later"))).revived == 5
    with october.reading() as conn:
        undone = get_correction(conn, correction.id)
    assert (undone.state, undone.undo_author) == (CorrectionState.UNDONE, "bob")
    with pytest.raises(EditConflict, match="undone already, by bob"):
        one.begin_undo(correction.id, "ann", "twice")
    check(october)


def test_a_batch_that_is_not_finished_is_undone_as_far_as_it_came(
    october: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corrector_module, "STEP_EVENTS", 2)
    one = a_corrector(october)
    preview = one.preview(parse_selection({"customer": "customer-1"}, NOW))
    correction = one.run(one.begin(preview, Attribution(author="ann", reason="internal")), seconds=0)
    assert undo(october, correction).revived == 2
    with pytest.raises(CorrectionBusy):
        one.run(correction)
    assert len(counted(october)) == 6
    check(october)


def test_an_undo_leaves_what_something_else_made_void_in_between(october: Database) -> None:
    correction = void(october, "e-1", "e-2")
    with october.writing() as conn:
        changed = {"voided_at": clock(), "void_reason": "something else"}
        conn.execute(sa.update(events).where(events.c.idempotency_id == "e-1").values(**changed))
    tally = undo(october, correction)
    assert (tally.revived, tally.left) == (1, 1)
    assert "e-1" not in counted(october)
    assert sorted(rows_of(october, corrected_events, corrected_events.c.state)) == [("left",), ("revived",)]


def test_events_can_be_made_void_again_after_an_undo(october: Database) -> None:
    for _ in range(3):
        correction = void(october, "e-1", "e-2")
        assert to_tally(correction).events == 2
        assert undo(october, correction).revived == 2
    check(october)
    assert len(rows_of(october, corrections)) == 3


def test_a_call_that_comes_after_the_question_is_not_part_of_the_batch(october: Database) -> None:
    one = a_corrector(october)
    preview = one.preview(parse_selection({"customer": "customer-1"}, NOW))
    keep(october, [9])
    one.run(one.begin(preview, Attribution(author="ann", reason="internal")))
    assert counted(october) == ["e-4", "e-9"]


# --- Metrics, whatever is folded


def test_numbers_follow_whatever_is_in_the_buckets(database: Database) -> None:
    """An event that a fold passed by while it was void has to get into a bucket when it counts again."""
    publish(database, *METRICS)
    fold_all(database)
    for folded in range(8):
        keep(database, [10 * folded + 1], customer_id=f"c-{folded}")
        if folded & 1:
            fold_all(database)
        keep(database, [10 * folded + 7], customer_id=f"c-{folded}")
        correction = void(database, f"e-{10 * folded + 7}")
        if folded & 2:
            fold_all(database)
        check(database)
        undo(database, correction)
        check(database)
        if folded & 4:
            fold_all(database)
            check(database)
    fold_all(database)
    check(database)
    query = Query(start=NOW - 86_400_000_000, end=NOW + 86_400_000_000)
    with database.reading() as conn:
        for metric in METRICS:
            answer = answer_from_buckets(conn, metric, query, LATER)
            assert answer is not None
            assert [row.events_count for row in answer.rows] == [2] * 8


# --- The outbox


def test_what_waits_is_taken_out_and_queued_again_and_what_lotus_has_is_said(database: Database) -> None:
    keep(database, [1, 2, 3], forwards=True)
    keep(database, [4])
    deliver(database, "e-1")
    preview = a_corrector(database).preview(parse_selection({"customer": "customer-1"}, NOW))
    correction = void(database, customer="customer-1")
    tally = to_tally(correction)
    assert tally == preview.tally
    assert (tally.events, tally.delivered, tally.withdrawn) == (4, 1, 2)
    assert states(database) == {"e-1": "surplus", "e-2": "voided", "e-3": "voided"}
    check(database, [])
    undone = undo(database, correction)
    assert (undone.revived, undone.queued) == (4, 2)
    assert states(database) == {"e-1": "delivered", "e-2": "waiting", "e-3": "waiting"}
    check(database, [])


# --- Replays leave it


@pytest.mark.parametrize("asked", [{}, {"correct": True, "outcomes": tuple(Outcome)}, {"outcomes": tuple(Outcome)}])
def test_a_replay_leaves_what_a_person_made_void(database: Database, asked: dict[str, Any]) -> None:
    take(database, some_transforms(order=RIGHT), an_order(1), an_order(2))
    correction = void(database, "order-1")
    plan = replay(database, some_transforms(order=DOUBLED), **asked)
    assert counted(database) == (["order-2~2"] if asked.get("correct") else ["order-2"])
    assert plan.tally.left.get(VOIDED, 0) == (1 if asked else 0)
    assert outcomes(database) == ["stored", "stored"]
    check(database, [])
    # The message that is sent again stays a duplicate.
    assert take(database, some_transforms(order=DOUBLED), an_order(1)) == ["duplicate"]
    assert undo(database, correction).revived == 1
    check(database, [])
    replay(database, correct=True, outcomes=tuple(Outcome))
    assert {id_ for id_, *_ in made(database)} == {"order-1~2", "order-2~2"}


def test_a_lane_is_not_filled_for_a_call_of_which_a_person_made_an_event_void(database: Database) -> None:
    take(database, some_transforms(order=RIGHT), an_order(1), an_order(2))
    void(database, "order-1")
    more = """match: {event: Order}\nalso: true\nevent: {idempotency_id: "join('-', ['more', messageId])"}\n"""
    replay(database, some_transforms(order=RIGHT, more=more), transform="more", outcomes=tuple(Outcome))
    assert counted(database) == ["more-order-2", "order-2"]


def test_an_event_that_a_replay_corrected_is_made_void_by_its_first_id(database: Database) -> None:
    take(database, some_transforms(order=RIGHT), an_order(1))
    replay(database, some_transforms(order=DOUBLED), correct=True, outcomes=tuple(Outcome))
    correction = void(database, "order-1")
    assert (to_tally(correction).events, to_tally(correction).already_void) == (1, 0)
    assert counted(database) == []
    assert undo(database, correction).revived == 1
    assert counted(database) == ["order-1~2"]
    check(database, [])


def test_a_replay_that_replaces_an_event_before_a_step_has_its_replacement_made_void(database: Database) -> None:
    take(database, some_transforms(order=RIGHT), an_order(1))
    one = a_corrector(database)
    correction = one.begin(one.preview(Selection(customer="customer-1")), Attribution(author="ann", reason="internal"))
    replay(database, some_transforms(order=DOUBLED), correct=True, outcomes=tuple(Outcome))
    assert counted(database) == ["order-1~2"]
    assert to_tally(one.run(correction)).events == 1
    assert counted(database) == []
    check(database, [])


def test_the_events_of_one_step_are_a_thousand_at_most(database: Database) -> None:
    keep(database, range(1500))
    steps: list[int] = []
    one = a_corrector(database)
    one.run(
        one.begin(one.preview(Selection(event_name="api_call")), Attribution(author="ann", reason="internal")),
        steps.append,
    )
    assert steps == [1000, 500]
    assert msgspec.json.decode(rows_of(database, corrections, corrections.c.counts)[0][0])["events"] == 1500


def test_two_people_and_a_replay_at_once_take_each_event_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corrector_module, "STEP_EVENTS", 5)
    monkeypatch.setattr(corrector_module, "_BREATH_SECONDS", 0.001)
    take(database, some_transforms(order=RIGHT), *map(an_order, range(40)))
    begun = threading.Barrier(3)

    def void_all(selection: Selection, tag: int) -> CorrectionTally:
        one = a_corrector(database, tag)
        correction = one.begin(one.preview(selection), Attribution(author="ann", reason="internal"))
        begun.wait(10)
        return to_tally(one.run(correction))

    def correct() -> None:
        begun.wait(10)
        replay(database, some_transforms(order=DOUBLED), correct=True, outcomes=tuple(Outcome))

    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(void_all, Selection(customer="customer-1"), 41)
        second = threads.submit(void_all, Selection(event_name="Order"), 42)
        threads.submit(correct).result(60)
    tallies = first.result(), second.result()
    assert sum(tally.events for tally in tallies) == 40
    assert counted(database) == []
    check(database, [])
