"""From a call to its outcome, without a database: what webhook, preview and replay have in common."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.outcome import REASONS_OF, Outcome, Reason
from app.core.pipeline import MAIN_LANE, Run, explain, map_call, run
from app.core.segment import MAX_CALL_BYTES, Unread, read
from app.core.transform.transform import TransformSet
from tests.builders import MISSING, NOW, a_call, a_document, a_transform, some_transforms, to_raw

STOPPING = {
    "failing": "match: {event: Failing}\nevent: {properties: {n: 'sum(properties.items)'}}",
    "off": "match: {event: Off}\nenabled: false",
    "paid": "match: {event: Paid}\nwhen: properties.paid",
    "strict": "match: {event: Strict}\ninput_schema: {properties: {properties: {required: [amount]}}}",
}


def run_of(document: object, transforms: TransformSet | None = None) -> Run:
    raw = document if isinstance(document, bytes) else to_raw(document)
    return run(raw, read(raw), transforms or some_transforms(**STOPPING), NOW)


def steps_of(done: Run) -> list[tuple[str, bool]]:
    return [(step.name, step.passed) for step in explain(done)]


def test_a_mapped_call_has_no_outcome_yet_and_one_lane() -> None:
    done = run_of(a_document())
    assert (done.outcome, done.reason, done.detail) == (None, None, None)
    [lane] = done.lanes
    assert (lane.name, lane.transform, lane.digest) == (MAIN_LANE, done.transform, done.digest)
    assert lane.content == lane.events[0].content
    assert steps_of(done) == [("parsed", True), ("transform", True), ("mapped", True), ("checked", True)]


STOPS = {
    "not_an_object": (["a list"], Outcome.REJECTED, [("parsed", False)]),
    "type_missing": ({"event": "x"}, Outcome.REJECTED, [("parsed", False)]),
    "event_missing": (a_document(event=MISSING), Outcome.REJECTED, [("parsed", False)]),
    "event_not_string": (a_document(event=1), Outcome.REJECTED, [("parsed", False)]),
    "properties_not_object": (a_document(properties=[]), Outcome.REJECTED, [("parsed", False)]),
    "call_too_large": (b'"' + b"x" * MAX_CALL_BYTES + b'"', Outcome.REJECTED, [("parsed", False)]),
    "no_transform": (a_document(type="identify"), Outcome.IGNORED, [("parsed", True), ("transform", False)]),
    "unsupported_type": (a_document(type="purchase"), Outcome.IGNORED, [("parsed", True), ("transform", False)]),
    "disabled": (
        a_document(event="Off"),
        Outcome.IGNORED,
        [("parsed", True), ("transform", True), ("mapped", False)],
    ),
    "filtered": (
        a_document(event="Paid"),
        Outcome.IGNORED,
        [("parsed", True), ("transform", True), ("mapped", False)],
    ),
    "input_schema": (
        a_document(event="Strict"),
        Outcome.REJECTED,
        [("parsed", True), ("transform", True), ("mapped", False)],
    ),
    "transform_error": (
        a_document(event="Failing"),
        Outcome.REJECTED,
        [("parsed", True), ("transform", True), ("mapped", False)],
    ),
    "event_invalid": (
        a_document(userId=None),
        Outcome.REJECTED,
        [("parsed", True), ("transform", True), ("mapped", True), ("checked", False)],
    ),
}


@pytest.mark.parametrize("reason", sorted(STOPS))
def test_every_stop_has_its_reason_and_its_steps(reason: str) -> None:
    document, outcome, steps = STOPS[reason]
    done = run_of(document)
    assert (done.outcome, done.reason) == (outcome, Reason(reason))
    assert done.reason in REASONS_OF[outcome]
    assert done.detail
    assert steps_of(done) == steps
    assert explain(done)[-1].sentence == done.detail
    assert done.lanes == ()


def test_every_reason_belongs_to_one_outcome() -> None:
    reasons = [reason for outcome in Outcome for reason in REASONS_OF[outcome]]
    assert sorted(reasons) == sorted(Reason)


def test_a_stop_before_the_choice_names_no_transform_and_one_after_it_does() -> None:
    assert run_of(a_document(type="identify")).transform is None
    failed = run_of(a_document(event="Failing"))
    assert failed.transform == "failing"
    assert failed.digest
    assert failed.digest.hex()[:12] in explain(failed)[1].sentence


def test_what_was_not_read_is_told_as_what_it_is() -> None:
    for unread in Unread:
        done = run(b"{}", unread, some_transforms(), NOW)
        assert done.outcome is Outcome.REJECTED
        assert done.call is None


def test_the_same_call_gives_the_same_run() -> None:
    transforms = some_transforms()
    assert run_of(a_document(), transforms) == run_of(a_document(), transforms)


def test_the_content_of_a_lane_is_the_contents_of_its_events() -> None:
    lane = map_call(a_call(), a_transform("event: {properties: {n: properties.tokens}}"), NOW)
    assert lane.content == lane.events[0].content
    assert (
        map_call(a_call(timestamp=10**9), a_transform("event: {properties: {n: properties.tokens}}"), NOW).content
        == lane.content
    )


MARK = "SECRET-7f3a"

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.just(10**600)
    | st.text(st.characters(exclude_categories=()))
    | st.just(MARK)
    | st.just(MARK + "\0\ud83d"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner, max_size=3)
    ),
    max_leaves=6,
)
GREEDY = """
match: {event: Greedy}
event:
  event_name: "join('-', properties.names)"
  idempotency_id: properties.id
  customer_id: to_string(properties.customer)
  time_created: properties.when
  properties: {sum: 'sum(properties.numbers)', max: 'max_by(properties.items, &size)', all: properties}
"""


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["track", "page"]) | anything,
            "event": st.sampled_from(["API Call", "Greedy"]) | anything,
            "messageId": anything,
            "userId": anything,
            "timestamp": anything,
            "properties": st.dictionaries(
                st.sampled_from(["names", "id", "customer", "when", "numbers", "items"]), anything, max_size=6
            )
            | anything,
        },
    )
)
def test_any_call_ends_in_a_listed_outcome_and_no_sentence_tells_a_property(document: dict[str, Any]) -> None:
    done = run(b"{}", document, some_transforms(greedy=GREEDY), NOW)
    if done.outcome is None:
        assert done.lanes
        assert json.loads(done.lanes[0].events[0].properties) is not None
    else:
        assert done.reason in REASONS_OF[done.outcome]
    steps = explain(done)
    assert all(step.sentence for step in steps)
    if (
        isinstance(document.get("type"), str)
        and MARK not in str(document["type"])
        and MARK not in str(document.get("event"))
    ):
        assert not any(MARK in step.sentence for step in steps)
