"""Events get other values on purpose: a new row beside the old one, which is void. On both databases."""

from typing import Any

import pytest

from app.core.json_text import decode
from app.core.outcome import Outcome
from app.corrections import corrector as corrector_module
from app.corrections.amendment import parse_amendment, parse_assignments, to_assignment
from app.corrections.documents import to_tally
from app.corrections.selection import parse_selection
from app.errors import BadQuery, EditConflict
from app.replay.decide import VOIDED
from app.store.corrections import (
    BACKFILL,
    Attribution,
    CorrectedEvent,
    Correction,
    CorrectionState,
    EventState,
    append_corrected,
    append_correction,
    get_correction,
)
from app.store.engine import Database
from app.store.schema import corrected_events, corrections, events
from tests.builders import NOW, a_lane, a_record, an_event, rows_of, some_transforms, store
from tests.corrections.correcting import (
    METRICS,
    a_corrector,
    amend,
    check,
    clock,
    counted,
    deliver,
    keep,
    states,
    undo,
    void,
)
from tests.metrics.conftest import fold_all, publish
from tests.replay.replaying import RIGHT, an_order, made, outcomes, replay, take

DOUBLED = 'match: {event: Order}\nevent: {properties: "{total: add(properties.total, properties.total)}"}\n'


def tokens(database: Database) -> dict[str, Any]:
    """Return the tokens of each event that counts, by idempotency id."""
    rows = rows_of(database, events, events.c.idempotency_id, events.c.properties, events.c.voided_at)
    return {id_: decode(properties.encode()).get("tokens") for id_, properties, at in rows if at is None}


def batch_rows(database: Database) -> list[tuple[str, bool]]:
    """Return the state of each event of all batches, and whether something stands for it."""
    columns = corrected_events.c.event_id, corrected_events.c.state, corrected_events.c.replacement_id
    return [(state, new is not None) for _, state, new in sorted(rows_of(database, corrected_events, *columns))]


def test_an_amended_event_is_a_new_row_beside_the_old_one_and_its_undo_brings_the_old_one_back(
    database: Database,
) -> None:
    publish(database, *METRICS)
    fold_all(database)
    keep(database, [1, 2, 3])
    before = {row[1]: row for row in rows_of(database, events)}
    correction = amend(database, "e-1", "e-2", values={"properties.tokens": 7, "customer_id": "other"})
    check(database)
    names = events.c.keys()
    after = {row[1]: dict(zip(names, row, strict=True)) for row in rows_of(database, events)}
    old, new = after["e-1"], after["e-1~2"]
    assert tuple({**old, "voided_at": None, "void_reason": None}.values()) == before["e-1"]
    assert (old["void_reason"], old["voided_by"]) == ("a mistake", None)
    same = ("call_id", "lane", "position", "event_name", "time_created", "transform", "transform_digest")
    assert {name: new[name] for name in same} == {name: old[name] for name in same}
    assert (new["base_id"], new["revision"], new["customer_id"], new["properties"]) == (
        "e-1",
        2,
        "other",
        '{"tokens":7}',
    )
    # As of any moment one of the two counts.
    assert new["stored_at"] == old["voided_at"]
    tally = to_tally(correction)
    assert (tally.events, tally.by_customer) == (2, [("customer-1", 2), ("other", 2)])
    changes = {(row.metric, row.customer_id): (row.events, row.added, row.change) for row in tally.effects}
    assert changes["tokens", "customer-1"] == (2, 0, "-3")
    assert changes["tokens", "other"] == (0, 2, "14")
    assert changes["longest", "customer-1"] == (2, 0, "0")
    assert tokens(database) == {"e-1~2": 7, "e-2~2": 7, "e-3": 3}
    fold_all(database)
    check(database)
    undone = undo(database, correction)
    assert (undone.revived, undone.removed, undone.left) == (2, 2, 0)
    assert tokens(database) == {"e-1": 1, "e-2": 2, "e-3": 3}
    assert batch_rows(database) == [("revived", True)] * 2
    check(database)
    fold_all(database)
    check(database)


def test_what_changes_nothing_is_left_and_counted_as_unchanged(database: Database) -> None:
    keep(database, [1, 2])
    tally = to_tally(amend(database, customer="customer-1", values={"properties.tokens": 2.0}))
    assert (tally.events, tally.unchanged) == (1, 1)
    assert tokens(database) == {"e-1~2": 2, "e-2": 2}
    again = a_corrector(database).preview(
        parse_selection({"customer": "customer-1"}, NOW), parse_amendment({"properties.tokens": 2}, ())
    )
    assert (again.tally.events, again.tally.unchanged, again.tally.already_void) == (0, 2, 0)


def test_the_run_does_not_take_its_own_events_for_events_of_the_selection(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corrector_module, "STEP_EVENTS", 1)
    several = a_lane(*(an_event(idempotency_id=f"one-{number}") for number in range(3)))
    store(database, a_record(several, message_id="m"))
    tally = to_tally(amend(database, customer="customer-1", values={"properties.tokens": 1}))
    assert (tally.events, tally.unchanged) == (3, 0)
    assert sorted(tokens(database)) == ["one-0~2", "one-1~2", "one-2~2"]


def test_an_amended_event_is_amended_again_and_the_next_free_revision_is_taken(database: Database) -> None:
    publish(database, *METRICS)
    keep(database, [1])
    # A transform may make an id of this form by itself.
    store(database, a_record(a_lane(an_event(idempotency_id="e-1~3", customer_id="odd"))))
    first = amend(database, "e-1", values={"properties.tokens": 5})
    second = amend(database, "e-1", values={"properties.tokens": 6})
    assert tokens(database) == {"e-1~4": 6, "e-1~3": 10}
    check(database)
    # The older batch is undone: what was corrected since is left.
    assert (undo(database, first).left, tokens(database)["e-1~4"]) == (1, 6)
    assert undo(database, second).revived == 1
    assert tokens(database) == {"e-1~2": 5, "e-1~3": 10}
    void(database, "e-1")
    assert tokens(database) == {"e-1~3": 10}
    check(database)


def test_an_undo_leaves_what_somebody_else_made_void_since(database: Database) -> None:
    keep(database, [1, 2])
    first = amend(database, "e-1", "e-2", values={"properties.tokens": 5})
    second = void(database, "e-1")
    undone = undo(database, first)
    assert (undone.revived, undone.removed, undone.left) == (1, 1, 1)
    assert tokens(database) == {"e-2": 2}
    assert undo(database, second).revived == 1
    assert tokens(database) == {"e-1~2": 5, "e-2": 2}
    check(database, [])


def test_properties_are_set_and_removed_and_names_and_times_too(database: Database) -> None:
    keep(database, [1])
    amend(
        database,
        "e-1",
        values={"event_name": "export", "time_created": "2026-10-02T03:04:05.5Z", "properties.a.b": {"c": [1]}},
        unset=["properties.tokens", "properties.none"],
    )
    [row] = [row for row in rows_of(database, events) if row[1] == "e-1~2"]
    new = dict(zip(events.c.keys(), row, strict=True))
    assert (new["event_name"], new["properties"]) == ("export", '{"a.b":{"c":[1]}}')
    assert new["content"] == an_event(event_name="export", properties={"a.b": {"c": [1]}}).content
    assert new["time_created"] == an_event(time_created="2026-10-02T03:04:05.5Z").time_created


def test_an_event_without_room_for_a_revision_is_refused_and_the_others_are_amended(database: Database) -> None:
    long = "i" * 254
    keep(database, [1])
    store(database, a_record(a_lane(an_event(idempotency_id=long))))
    tally = to_tally(amend(database, customer="customer-1", values={"properties.tokens": 5}))
    assert (tally.events, tally.refused, tally.refused_why) == (
        1,
        1,
        "an idempotency id of 254 characters leaves no room for a revision",
    )
    assert tokens(database) == {"e-1~2": 5, long: 10}


WRONG: list[tuple[dict[str, Any], list[Any], str]] = [
    ({}, [], "set 1 to 50 values"),
    ({f"properties.p{number}": 1 for number in range(51)}, [], "set 1 to 50 values"),
    ({"idempotency_id": "x"}, [], "cannot be set"),
    ({"properties.": 1}, [], "cannot be set"),
    ({}, [7], "cannot be set"),
    ({}, ["customer_id"], "cannot be removed"),
    ({"properties.a": 1}, ["properties.a"], "is set and removed"),
    ({"customer_id": ""}, [], "customer_id is empty"),
    ({"customer_id": "c" * 51}, [], "Lotus takes at most 50"),
    ({"event_name": 7}, [], "it must be text"),
    ({"time_created": "soon"}, [], "no event can have these values"),
    ({"time_created": "1999-01-01"}, [], "earlier than 2000"),
    ({"properties.a": "x" * 10_001}, [], "10,000 at most"),
    ({"properties.a": "a\0b"}, [], "NUL"),
    ({"properties.a": float("inf")}, [], "no event can have these values"),
]


@pytest.mark.parametrize(("values", "unset", "sentence"), WRONG)
def test_values_that_no_event_can_have_are_refused_before(
    values: dict[str, Any], unset: list[Any], sentence: str
) -> None:
    with pytest.raises(BadQuery, match=sentence):
        parse_amendment(values, unset)


def test_a_value_is_json_where_it_can_be_read_as_json_and_else_text() -> None:
    texts = ["a=12", "b=007", 'c="12"', "d=a=b", "e=null", "f=", 'g={"x": [1]}', "h= 7 "]
    values = {"a": 12, "b": "007", "c": "12", "d": "a=b", "e": None, "f": "", "g": {"x": [1]}, "h": 7}
    assert parse_assignments(texts) == values
    assert parse_assignments(to_assignment(name, value) for name, value in values.items()) == values
    for wrong in (["a"], ["a=1", "a=2"]):
        with pytest.raises(BadQuery):
            parse_assignments(wrong)


# --- Replays, retries, Lotus


@pytest.mark.parametrize("asked", [{}, {"correct": True, "outcomes": tuple(Outcome)}, {"outcomes": tuple(Outcome)}])
def test_a_replay_leaves_what_a_person_amended_and_a_retry_is_a_duplicate(
    database: Database, asked: dict[str, Any]
) -> None:
    take(database, some_transforms(order=RIGHT), an_order(1), an_order(2))
    correction = amend(database, "order-1", values={"properties.total": 50})
    plan = replay(database, some_transforms(order=DOUBLED), **asked)
    assert counted(database) == ["order-1~2", "order-2~2" if asked.get("correct") else "order-2"]
    assert plan.tally.left.get(VOIDED, 0) == (1 if asked else 0)
    assert outcomes(database) == ["stored", "stored"]
    assert take(database, some_transforms(order=DOUBLED), an_order(1)) == ["duplicate"]
    assert take(database, some_transforms(order=RIGHT), an_order(1)) == ["duplicate"]
    check(database, [])
    undo(database, correction)
    replay(database, some_transforms(order=DOUBLED), correct=True, outcomes=tuple(Outcome))
    assert counted(database) == ["order-1~3", "order-2~2"]
    assert {id_ for id_, *_ in made(database)} == {"order-1~3", "order-2~2"}
    check(database, [])


def test_what_waits_is_sent_with_its_new_values_and_what_lotus_has_is_said(database: Database) -> None:
    keep(database, [1, 2], forwards=True)
    deliver(database, "e-1")
    correction = amend(database, customer="customer-1", values={"properties.tokens": 5})
    tally = to_tally(correction)
    assert (tally.events, tally.delivered, tally.withdrawn) == (2, 1, 1)
    assert states(database)["e-2"] == "voided"
    assert states(database)["e-2~2"] == "waiting"
    assert (correction.lotus, correction.kind) == ("hold", "amend")
    check(database, [])
    assert undo(database, correction).queued == 1
    assert states(database)["e-2"] == "waiting"
    assert states(database)["e-2~2"] == "voided"
    check(database, [])


# --- Two people, and processes that die


def test_the_second_of_two_people_is_told_and_does_not_write_over_the_first(database: Database) -> None:
    keep(database, [1, 2])
    first, second = a_corrector(database, 41), a_corrector(database, 42)
    by_customer = parse_selection({"customer": "customer-1"}, NOW)
    seen = second.preview(by_customer, parse_amendment({"properties.tokens": 8}, ()))
    amend(database, "e-1", values={"properties.tokens": 5}, corrector=first)
    # Counted anew for the same look, as the page does it before it starts.
    again = second.preview(by_customer, seen.amendment, seen.counted_at)
    assert (again.tally.events, again.tally.overtaken, again.counted_at) == (1, 1, seen.counted_at)
    tally = to_tally(second.run(second.begin(seen, Attribution(author="bob", reason="again"))))
    assert (tally.events, tally.overtaken) == (1, 1)
    assert tokens(database) == {"e-1~2": 5, "e-2~2": 8}
    check(database, [])


def test_a_batch_and_its_undo_go_on_after_any_step_with_the_numbers_of_the_preview(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corrector_module, "STEP_EVENTS", 2)
    publish(database, *METRICS)
    keep(database, range(7))
    selection, amendment = (
        parse_selection({"customer": "customer-1"}, NOW),
        parse_amendment({"properties.tokens": 9}, ()),
    )
    preview = a_corrector(database).preview(selection, amendment)
    for _ in range(4):
        one = a_corrector(database)
        correction = one.run(
            one.begin(one.preview(selection, amendment), Attribution(author="ann", reason="wrong")), seconds=0
        )
        check(database)
    assert len(rows_of(database, corrections)) == 1
    assert (correction.state, to_tally(correction)) == (CorrectionState.FINISHED, preview.tally)
    # Other values are another batch.
    other = one.begin(
        one.preview(selection, parse_amendment({"properties.tokens": 1}, ())), Attribution(author="ann", reason="wrong")
    )
    assert other.id != correction.id
    undo_begun = a_corrector(database).begin_undo(correction.id, "bob", "no")
    for _ in range(4):
        undo_begun = a_corrector(database).run(undo_begun, seconds=0)
        check(database)
    assert undo_begun.state == CorrectionState.UNDONE
    assert tokens(database) == {f"e-{number}": number for number in range(7)}


# --- Batches of others


def test_what_a_batch_added_is_removed_by_its_undo_unless_it_was_corrected_since(database: Database) -> None:
    keep(database, [1, 2, 3])
    ids = dict(rows_of(database, events, events.c.idempotency_id, events.c.id))
    batch = Correction(
        id=7,
        kind=BACKFILL,
        author="ann",
        reason="old files",
        selection='{"file": "x"}',
        state="running",
        started_at=NOW,
    )
    with database.writing() as conn:
        append_correction(conn, batch)
        append_corrected(conn, 7, [CorrectedEvent(id_, None, EventState.ADDED) for id_ in ids.values()])
    with pytest.raises(EditConflict, match="is a backfill"):
        a_corrector(database).run(batch)
    void(database, "e-1")
    undone = undo(database, batch)
    assert (undone.removed, undone.left, undone.revived) == (2, 1, 0)
    assert counted(database) == []
    check(database, [])
    with database.reading() as conn:
        assert to_tally(get_correction(conn, 7)).removed == 2


def test_a_selection_by_what_their_calls_say(database: Database) -> None:
    take(database, some_transforms(order=RIGHT), an_order(1))
    keep(database, [1])
    for members, expected in (
        ({"call_event": "Order"}, 1),
        ({"transform": "order"}, 1),
        ({"call_event": "Order", "route": "webhook"}, 1),
        ({"customer": "customer-1", "received_since": "2020-01-01"}, 2),
    ):
        assert a_corrector(database).preview(parse_selection(members, clock())).tally.events == expected
    for members in ({"call_event": "Order", "route": "batch"}, {"transform": "order", "received_until": "2026-01-01"}):
        with pytest.raises(Exception, match="no event fits"):
            a_corrector(database).preview(parse_selection(members, clock()))
