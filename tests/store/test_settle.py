"""The second promise: once. One suite on SQLite and PostgreSQL; every commit goes through the real Writer."""

from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from app.catalog.live import Catalog
from app.core.lotus import LotusEvent
from app.core.outcome import Outcome, Reason
from app.core.pipeline import MAIN_LANE, Lane
from app.store import schema
from app.store.engine import Database
from app.store.record import Record
from tests.builders import (
    MISSING,
    NOW,
    a_document,
    a_lane,
    a_record,
    a_record_of,
    a_request,
    a_run,
    a_writer,
    an_event,
    empty,
    published,
    rows_of,
    some_transforms,
    store,
    values_of,
)

STORED, DUPLICATE, CONFLICT = Outcome.STORED, Outcome.DUPLICATE, Outcome.CONFLICT

# The database of one test serves all its examples; each example empties it first.
several_examples = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

PER_TOKEN = "match: {event: API Call}\nevent: {properties: {tokens: properties.tokens}}\n"
PER_THOUSAND = "match: {event: API Call}\nevent: {properties: {tokens: properties.tokens, unit: \"'thousand'\"}}\n"


def stored_ids(database: Database) -> list[str]:
    return sorted(values_of(rows_of(database, schema.events, schema.events.c.idempotency_id)))


def claimed_messages(database: Database) -> list[str]:
    return values_of(rows_of(database, schema.claims, schema.claims.c.message_id))


def receive(database: Database, catalog: Catalog, *documents: object) -> list[Outcome | None]:
    records = [a_record_of(document, catalog.active) for document in documents]
    return store(database, *records, map_again=catalog.map_again)


# --- The first key: idempotency_id


def test_an_idempotency_id_is_stored_once(database: Database) -> None:
    assert store(database, a_record(an_event(), message_id="m-1")) == [STORED]
    assert store(database, a_record(an_event(), message_id="m-2")) == [DUPLICATE]
    assert stored_ids(database) == ["id-1"]


def test_an_idempotency_id_is_stored_once_within_one_commit(database: Database) -> None:
    records = [a_record(an_event(), message_id=f"m-{number}") for number in range(20)]
    assert store(database, *records) == [STORED] + [DUPLICATE] * 19
    assert stored_ids(database) == ["id-1"]


def test_the_same_id_with_other_content_is_a_conflict(database: Database) -> None:
    first, second = a_record(an_event(), message_id="m-1"), a_record(an_event(customer_id="other"), message_id="m-2")
    assert store(database, first) == [STORED]
    assert store(database, second) == [CONFLICT]
    assert second.reason is Reason.CONFLICT
    assert rows_of(database, schema.events, schema.events.c.customer_id) == [("customer-1",)]


@pytest.mark.parametrize("field", [{"event_name": "x"}, {"customer_id": "x"}, {"properties": {"tokens": 11}}])
def test_event_name_customer_and_properties_are_content(database: Database, field: dict[str, Any]) -> None:
    store(database, a_record(an_event(), message_id="m-1"))
    assert store(database, a_record(an_event(**field), message_id="m-2")) == [CONFLICT]


def test_time_is_not_content(database: Database) -> None:
    store(database, a_record(an_event(time_created="2026-11-01T10:00:00.000Z")))
    later = a_record(an_event(time_created="2026-11-01T10:00:00.007Z"))
    assert store(database, later) == [DUPLICATE]
    assert later.reason is Reason.DUPLICATE


def test_key_order_is_not_content_at_any_depth(database: Database) -> None:
    store(database, a_record(an_event(properties={"a": 1, "b": {"c": [{"d": 1, "e": 2}], "f": 3}})))
    turned = an_event(properties={"b": {"f": 3, "c": [{"e": 2, "d": 1}]}, "a": 1})
    assert store(database, a_record(turned)) == [DUPLICATE]


def test_item_order_is_content(database: Database) -> None:
    store(database, a_record(an_event(properties={"items": [1, 2]})))
    assert store(database, a_record(an_event(properties={"items": [2, 1]}))) == [CONFLICT]


def test_ids_that_differ_in_case_or_in_trailing_space_are_different(database: Database) -> None:
    ids = ["order", "Order", "order ", "órder", "o\u0301rder"]
    assert store(database, *(a_record(an_event(idempotency_id=one)) for one in ids)) == [STORED] * 5


def test_a_voided_event_keeps_its_id(database: Database) -> None:
    store(database, a_record(an_event()))
    with database.writing() as conn:
        conn.execute(sa.update(schema.events).values(voided_at=NOW, void_reason="a test"))
    assert store(database, a_record(an_event(), message_id="m-2")) == [DUPLICATE]


def test_an_event_is_a_duplicate_years_later_and_after_its_raw_call_was_blanked(database: Database) -> None:
    store(database, a_record(an_event(), message_id="m-1"))
    with database.writing() as conn:
        conn.execute(sa.update(schema.calls).values(raw=None))
    for message_id in ("m-1", "m-2"):
        late = a_record(an_event(), message_id=message_id)
        late.received_at = NOW + 10 * 365 * 86_400 * 1_000_000
        assert store(database, late) == [DUPLICATE]


# --- The second key: message_id in a lane


def test_a_message_makes_its_events_once_whatever_idempotency_id_it_has_now(database: Database) -> None:
    store(database, a_record(an_event(idempotency_id="by-message"), message_id="m-1"))
    again = a_record(an_event(idempotency_id="by-order"), message_id="m-1")
    assert store(database, again) == [DUPLICATE]
    assert stored_ids(database) == ["by-message"]


def test_a_message_makes_its_events_once_within_one_commit(database: Database) -> None:
    records = [a_record(an_event(idempotency_id=f"id-{number}"), message_id="m-1") for number in range(20)]
    assert store(database, *records) == [STORED] + [DUPLICATE] * 19
    assert stored_ids(database) == ["id-0"]


def test_a_message_with_other_content_is_a_conflict(database: Database) -> None:
    store(database, a_record(an_event(), message_id="m-1"))
    other = a_record(an_event(idempotency_id="id-2", properties={"tokens": 99}), message_id="m-1")
    assert store(database, other) == [CONFLICT]
    assert stored_ids(database) == ["id-1"]


def test_without_a_message_id_only_the_idempotency_id_counts(database: Database) -> None:
    first, second = a_record(an_event(), message_id=None), a_record(an_event(idempotency_id="id-2"), message_id=None)
    assert store(database, first, second, a_record(an_event(), message_id=None)) == [STORED, STORED, DUPLICATE]
    assert claimed_messages(database) == []


def test_messages_longer_than_an_index_takes_are_told_apart_by_their_end(database: Database) -> None:
    ids = ["x" * 5000 + end for end in "abb"] + ["x" * 5000 + "\0", "x" * 5000 + "\ud83d"]
    records = [a_record(an_event(idempotency_id=f"i-{number}"), message_id=one) for number, one in enumerate(ids)]
    assert store(database, *records) == [STORED, STORED, DUPLICATE, STORED, STORED]


def test_a_duplicate_by_idempotency_id_claims_its_message(database: Database) -> None:
    store(database, a_record(an_event(), message_id="m-1"))
    store(database, a_record(an_event(), message_id="m-2"))
    assert store(database, a_record(an_event(idempotency_id="id-2"), message_id="m-2")) == [DUPLICATE]


def test_a_message_is_claimed_once_whatever_its_lanes(database: Database) -> None:
    main = a_lane(an_event())
    also = a_lane(an_event(idempotency_id="id-2"), name="also")
    assert store(database, a_record(main, message_id="m-1")) == [STORED]
    assert len(rows_of(database, schema.claims)) == 1
    later = a_record(a_run(main, also), message_id="m-1")
    assert store(database, later) == [DUPLICATE]
    assert {one.lane: one.result for one in later.results} == {"main": DUPLICATE, "also": DUPLICATE}
    assert len(rows_of(database, schema.events)) == 1


# --- Conflicts


def test_a_conflict_keeps_the_other_content_and_names_its_rival(database: Database) -> None:
    first = a_record(an_event(), message_id="m-1")
    second = a_record(an_event(properties={"tokens": 11}), message_id="m-2")
    store(database, first, second)
    [text] = values_of(rows_of(database, schema.calls, schema.calls.c.results))[1:]
    [result] = msgspec.json.decode(text)
    assert result["rival"] == first.id
    assert result["event"] == {
        "event_name": "api_call",
        "idempotency_id": "id-1",
        "customer_id": "customer-1",
        "time_created": "2026-11-01T10:00:00.000000Z",
        "properties": {"tokens": 11},
    }
    assert str(first.id) in (second.detail or "")


def test_a_conflict_does_not_claim_its_message(database: Database) -> None:
    store(database, a_record(an_event(), message_id="m-1"))
    store(database, a_record(an_event(properties={}), message_id="m-2"))
    assert claimed_messages(database) == ["m-1"]
    fixed = a_record(an_event(idempotency_id="id-2", properties={}), message_id="m-2")
    assert store(database, fixed) == [STORED]


def test_a_retry_of_a_conflict_is_a_conflict_also_within_one_commit(database: Database) -> None:
    store(database, a_record(an_event(), message_id="m-1"))
    retries = [a_record(an_event(properties={}), message_id="m-2") for _ in range(3)]
    assert store(database, *retries) == [CONFLICT] * 3
    assert store(database, a_record(an_event(properties={}), message_id="m-2")) == [CONFLICT]
    assert {result.rival for record in retries for result in record.results} == {
        rows_of(database, schema.events, schema.events.c.call_id)[0][0]
    }


def test_a_message_that_conflicted_may_still_be_stored_within_the_same_commit(database: Database) -> None:
    store(database, a_record(an_event(), message_id="m-1"))
    conflicting = a_record(an_event(properties={}), message_id="m-2")
    fixed = a_record(an_event(idempotency_id="id-2", properties={}), message_id="m-2")
    retry = a_record(an_event(idempotency_id="id-2", properties={}), message_id="m-2")
    assert store(database, conflicting, fixed, retry) == [CONFLICT, STORED, DUPLICATE]
    assert stored_ids(database) == ["id-1", "id-2"]
    assert claimed_messages(database) == ["m-1", "m-2"]


def test_a_message_that_conflicted_may_still_be_a_duplicate_within_the_same_commit(database: Database) -> None:
    store(database, a_record(an_event(), message_id="m-1"))
    conflicting = a_record(an_event(properties={}), message_id="m-2")
    equal = a_record(an_event(), message_id="m-2")
    assert store(database, conflicting, equal) == [CONFLICT, DUPLICATE]


def test_thousands_of_conflicts_of_one_message_settle_in_one_go(database: Database) -> None:
    store(database, a_record(an_event(), message_id="m-1"))
    many = [a_record(an_event(properties={"tokens": -number}), message_id="m-2") for number in range(1, 3001)]
    counting = _Counting(database)
    assert store(database, *many) == [CONFLICT] * 3000
    assert counting.selects < 100


class _Counting:
    """Counts the queries that SQLAlchemy runs."""

    def __init__(self, database: Database) -> None:
        self.selects = 0
        sa.event.listen(database.engine, "before_cursor_execute", self._count)

    def _count(self, *_arguments: object) -> None:
        self.selects += 1


# --- Several events in a call


def test_one_conflict_makes_the_call_a_conflict_while_its_new_events_are_stored(database: Database) -> None:
    store(database, a_record(an_event(), message_id="m-0"))
    lane = a_lane(an_event(idempotency_id="id-0"), an_event(properties={}), an_event(idempotency_id="id-2"))
    record = a_record(lane, message_id="m-1")
    assert store(database, record) == [CONFLICT]
    assert [one.result for one in record.results] == [STORED, CONFLICT, STORED]
    assert stored_ids(database) == ["id-0", "id-1", "id-2"]
    assert claimed_messages(database) == ["m-0", "m-1"], "it made events, so a retry must make no more"


def test_a_call_with_a_new_event_and_a_duplicate_is_stored(database: Database) -> None:
    store(database, a_record(an_event(), message_id="m-0"))
    record = a_record(a_lane(an_event(), an_event(idempotency_id="id-2")), message_id="m-1")
    assert store(database, record) == [STORED]
    assert [(one.position, one.result) for one in record.results] == [(0, DUPLICATE), (1, STORED)]


def test_a_call_with_nothing_but_duplicates_is_a_duplicate(database: Database) -> None:
    store(database, a_record(an_event()), a_record(an_event(idempotency_id="id-2")))
    record = a_record(a_lane(an_event(), an_event(idempotency_id="id-2")), message_id="m-9")
    assert store(database, record) == [DUPLICATE]


def test_a_call_of_one_event_that_was_stored_carries_no_list(database: Database) -> None:
    store(database, a_record())
    assert rows_of(database, schema.calls, schema.calls.c.results) == [(None,)]


def test_events_of_one_call_that_share_an_id_count_once(database: Database) -> None:
    same = a_record(a_lane(an_event(), an_event()), message_id="m-1")
    twins = an_event(idempotency_id="b"), an_event(idempotency_id="b", properties={})
    other = a_record(a_lane(*twins), message_id="m-2")
    assert store(database, same, other) == [STORED, CONFLICT]
    assert [one.result for one in same.results] == [STORED, DUPLICATE]
    assert [one.result for one in other.results] == [STORED, CONFLICT]
    assert [one.rival for one in other.results] == [None, other.id]


def test_lanes_of_one_call_that_share_an_id_count_once(database: Database) -> None:
    record = a_record(a_run(a_lane(an_event()), a_lane(an_event(), name="also", version="2")), message_id="m-1")
    assert store(database, record) == [STORED]
    assert [(one.lane, one.result) for one in record.results] == [("main", STORED), ("also", DUPLICATE)]


def test_a_retry_of_a_call_with_a_conflict_among_its_events_makes_nothing_new(database: Database) -> None:
    store(database, a_record(an_event(), message_id="m-0"))
    lane = a_lane(an_event(properties={}), an_event(idempotency_id="id-2"))
    assert store(database, a_record(lane, message_id="m-1"), a_record(lane, message_id="m-1")) == [CONFLICT, DUPLICATE]
    assert stored_ids(database) == ["id-1", "id-2"]


# --- Other versions of a transform


def test_a_retry_after_the_transform_changed_is_a_duplicate(database: Database) -> None:
    before = published(database, some_transforms(api_call=PER_TOKEN))
    after = published(database, some_transforms(api_call=PER_THOUSAND))
    assert receive(database, before, a_document()) == [STORED]
    assert receive(database, after, a_document()) == [DUPLICATE]


def test_a_clients_own_retry_after_the_transform_changed_is_a_duplicate(database: Database) -> None:
    by_order = "match: {event: API Call}\nevent: {idempotency_id: properties.order, properties: {t: properties.t}}"
    by_order_too = by_order.replace("{t: properties.t}", "{amount: properties.t}")
    before = published(database, some_transforms(api_call=by_order))
    after = published(database, some_transforms(api_call=by_order_too))
    order = {"order": "o-1", "t": 5}
    assert receive(database, before, a_document(properties=order)) == [STORED]
    assert receive(database, after, a_document(messageId="m-2", properties=order)) == [DUPLICATE]
    assert receive(database, after, a_document(messageId="m-3", properties={**order, "t": 6})) == [CONFLICT]


def test_a_call_with_other_content_is_a_conflict_after_the_transform_changed_too(database: Database) -> None:
    before = published(database, some_transforms(api_call=PER_TOKEN))
    after = published(database, some_transforms(api_call=PER_THOUSAND))
    receive(database, before, a_document())
    assert receive(database, after, a_document(properties={"tokens": 11})) == [CONFLICT]


def test_after_a_restart_the_old_version_is_read_from_the_database(database: Database) -> None:
    receive(database, published(database, some_transforms(api_call=PER_TOKEN)), a_document())
    restarted = published(database, some_transforms(default=_WITH_A_COMMENT, api_call=PER_THOUSAND))
    assert receive(database, restarted, a_document()) == [DUPLICATE]
    assert receive(database, restarted, a_document(properties={"tokens": 11})) == [CONFLICT]


_WITH_A_COMMENT = some_transforms().transforms[0].text + "# changed\n"


def test_a_retry_whose_transform_now_gives_another_idempotency_id_makes_no_new_event(database: Database) -> None:
    by_message = published(database, some_transforms())
    by_order = published(database, some_transforms(orders="event: {idempotency_id: properties.order}"))
    call = a_document(properties={"order": "o-1"})
    assert receive(database, by_message, call) == [STORED]
    assert receive(database, by_order, call) == [DUPLICATE]
    assert stored_ids(database) == ["message-1"]


@pytest.mark.parametrize("message", ["m-1", "m-2"])
def test_contents_are_compared_as_the_old_version_sees_them(database: Database, message: str) -> None:
    """Two calls that differ in what was counted are a conflict, even where the new transform makes them look alike."""
    counting = "event: {{idempotency_id: \"'o-1'\", properties: {{n: properties.{0}}}}}"
    of_a = published(database, some_transforms(api_call=counting.format("a")))
    of_b = published(database, some_transforms(api_call=counting.format("b")))
    assert receive(database, of_a, a_document(messageId="m-1", properties={"a": 5, "b": 1})) == [STORED]
    assert receive(database, of_b, a_document(messageId=message, properties={"a": 7, "b": 5})) == [CONFLICT]


def test_another_event_under_the_same_idempotency_id_is_a_conflict_not_a_duplicate(database: Database) -> None:
    """The other transform is no earlier version of this one: that it would map the call alike means nothing."""
    by_order = "event: {{event_name: \"'{0}'\", idempotency_id: properties.order, properties: {{n: properties.n}}}}\n"
    catalog = published(
        database,
        some_transforms(
            completed="match: {event: Completed}\n" + by_order.format("completed"),
            refunded="match: {event: Refunded}\n" + by_order.format("refunded"),
        ),
    )
    order = {"order": "o-1", "n": 1}
    completed = a_document(event="Completed", messageId="m-1", properties=order)
    refunded = a_document(event="Refunded", messageId="m-2", properties=order)
    assert receive(database, catalog, completed, refunded) == [STORED, CONFLICT]


def test_a_call_whose_event_has_a_transform_of_its_own_since_is_a_duplicate(database: Database) -> None:
    receive(database, published(database, some_transforms()), a_document())
    assert receive(database, published(database, some_transforms(api_call=PER_TOKEN)), a_document()) == [DUPLICATE]
    assert receive(database, published(database, some_transforms(api_call=PER_THOUSAND)), a_document()) == [DUPLICATE]


def test_where_the_old_version_is_unknown_contents_are_compared_as_they_are(database: Database) -> None:
    store(database, a_record(a_lane(an_event(), version="lost"), message_id="m-1"))
    same = a_record(a_lane(an_event(), version="2"), message_id="m-1")
    other = a_record(a_lane(an_event(properties={}), version="2"), message_id="m-2")
    assert store(database, same, other) == [DUPLICATE, CONFLICT]


def test_the_version_that_made_an_event_stays_on_it(database: Database) -> None:
    catalog = published(database, some_transforms(api_call=PER_TOKEN))
    receive(database, catalog, a_document())
    digest = next(one.digest for one in catalog.active.transforms if one.name == "api_call")
    for table in (schema.events, schema.calls):
        assert rows_of(database, table, table.c.transform, table.c.transform_digest) == [("api_call", digest)]
    assert rows_of(database, schema.claims, schema.claims.c.transform_digest) == [(digest,)]


# --- Every order, every cut into commits, against a model of the rules in plain Python


class Model:
    """The rules of design.md, one event after the other, in memory. Knows one version."""

    def __init__(self) -> None:
        self.claims: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.events: dict[str, tuple[int, bytes]] = {}

    def copy(self) -> "Model":
        twin = Model()
        twin.claims, twin.events = dict(self.claims), dict(self.events)
        return twin

    def take(self, record: Record) -> list[Outcome]:
        message = record.message_id
        if message is not None and (message, MAIN_LANE) in self.claims:
            return [result for lane in record.run.lanes for result in self._compare(message, lane)]
        made = [(lane, [self._insert(record, one) for one in lane.events]) for lane in record.run.lanes]
        results = [result for _, ended in made for result in ended]
        if message is not None and set(results) != {CONFLICT}:
            self.claims[message, MAIN_LANE] = (record.id, made[0][0].content)
            for lane, ended in made:
                if lane.name != MAIN_LANE and set(ended) != {CONFLICT}:
                    self.claims[message, lane.name] = (record.id, lane.content)
        return results

    def _compare(self, message: str, lane: Lane) -> list[Outcome]:
        claim = self.claims.get((message, lane.name)) or self.claims[message, MAIN_LANE]
        return [DUPLICATE if claim[1] == lane.content else CONFLICT] * len(lane.events)

    def _insert(self, record: Record, event: LotusEvent) -> Outcome:
        if event.idempotency_id not in self.events:
            self.events[event.idempotency_id] = (record.id, event.content)
            return STORED
        return DUPLICATE if self.events[event.idempotency_id][1] == event.content else CONFLICT


def of_call(results: Iterable[Outcome]) -> Outcome:
    seen = set(results)
    return CONFLICT if CONFLICT in seen else STORED if STORED in seen else DUPLICATE


def play(model: Model, records: Sequence[Record]) -> tuple[dict[int, Outcome], Model]:
    after = model.copy()
    return {record.id: of_call(after.take(record)) for record in records}, after


def state_of(database: Database) -> tuple[dict[tuple[str, str], tuple[int, bytes]], dict[str, tuple[int, bytes]]]:
    claims, events = schema.claims.c, schema.events.c
    return (
        {
            (message, lane): (call, content)
            for message, lane, call, content in rows_of(
                database, schema.claims, claims.message_id, claims.lane, claims.call_id, claims.content
            )
        },
        {
            identifier: (call, content)
            for identifier, call, content in rows_of(
                database, schema.events, events.idempotency_id, events.call_id, events.content
            )
        },
    )


messages = st.sampled_from(["m-1", "m-2", "m-3", None])
few_events = st.builds(
    lambda identifier, tokens: an_event(idempotency_id=identifier, properties={"tokens": tokens}),
    st.sampled_from(["id-1", "id-2", "id-3"]),
    st.integers(1, 2),
)


def commits_of(lanes: st.SearchStrategy[tuple[Lane, ...]], most: int) -> st.SearchStrategy[list[list[tuple[Any, Any]]]]:
    return st.lists(st.lists(st.tuples(lanes, messages), min_size=1, max_size=most), min_size=1, max_size=5)


several_lanes = st.lists(st.lists(few_events, min_size=1, max_size=3), min_size=1, max_size=2).map(
    lambda made: tuple(a_lane(*events, name=f"lane-{number}") for number, events in enumerate(made))
)


def check_against_model(database: Database, commits: list[list[tuple[tuple[Lane, ...], str | None]]]) -> None:
    empty(database)
    model = Model()
    for commit in commits:
        records = [a_record(a_run(*lanes), message_id=message) for lanes, message in commit]
        store(database, *records)
        got = {record.id: record.outcome for record in records}
        # The order they came in is the first that is tried.
        for number, order in enumerate(permutations(records)):
            expected, after = play(model, order)
            if expected == got and (after.claims, after.events) == state_of(database):
                event("in the order they came" if number == 0 else "in another order")
                model = after
                break
        else:
            pytest.fail(f"no order of the calls explains {got} with {state_of(database)}")


@several_examples
@given(commits=commits_of(few_events.map(lambda one: (a_lane(one),)), most=5))
def test_any_calls_in_any_commits_end_as_if_they_had_come_one_by_one(
    database: Database, commits: list[list[tuple[tuple[Lane, ...], str | None]]]
) -> None:
    check_against_model(database, commits)


def a_claim_released_and_taken() -> list[list[tuple[tuple[Lane, ...], str]]]:
    """Three calls: the second makes only conflicts and releases its claim; of the third the first lane conflicts."""
    first, other = (an_event(idempotency_id="id-1", properties={"tokens": tokens}) for tokens in (1, 2))
    both = (a_lane(other, name="lane-0"), a_lane(first, name="lane-1"))
    return [[((a_lane(first, name="lane-0"),), "m-2"), ((a_lane(other, name="lane-0"),), "m-1"), (both, "m-1")]]


@example(commits=a_claim_released_and_taken())
@several_examples
@given(commits=commits_of(several_lanes, most=3))
def test_calls_of_several_lanes_and_events_end_as_if_they_had_come_one_by_one(
    database: Database, commits: list[list[tuple[tuple[Lane, ...], str | None]]]
) -> None:
    check_against_model(database, commits)


@several_examples
@given(data=st.data())
def test_calls_alone_in_their_commits_follow_the_model_to_the_letter(database: Database, data: st.DataObject) -> None:
    empty(database)
    model = Model()
    for lanes, message in data.draw(st.lists(st.tuples(several_lanes, messages), min_size=1, max_size=8)):
        record = a_record(a_run(*lanes), message_id=message)
        store(database, record)
        expected, model = play(model, [record])
        assert record.outcome is expected[record.id]
        assert (model.claims, model.events) == state_of(database)
        results = {(one.lane, one.position): one.result for one in record.results}
        if results:
            assert set(results) == {(lane.name, at) for lane in lanes for at in range(len(lane.events))}
            assert of_call(results.values()) is record.outcome


@several_examples
@given(
    contents=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2)), min_size=2, max_size=10),
    orders=st.lists(st.randoms(use_true_random=False), min_size=2, max_size=3),
)
def test_order_of_arrival_changes_nothing_but_which_side_of_a_conflict_came_first(
    database: Database, contents: list[tuple[int, int]], orders: list[Any]
) -> None:
    for order in orders:
        shuffled = list(contents)
        order.shuffle(shuffled)
        cuts = sorted(order.sample(range(1, len(shuffled)), k=order.randrange(len(shuffled))))
        empty(database)
        ends: dict[tuple[int, int], list[Outcome | None]] = {}
        for begin, end in zip([0, *cuts], [*cuts, len(shuffled)], strict=True):
            commit = shuffled[begin:end]
            records = [
                a_record(an_event(idempotency_id=f"id-{name}", properties={"n": value}), message_id=f"m-{name}")
                for name, value in commit
            ]
            for content, outcome in zip(commit, store(database, *records), strict=True):
                ends.setdefault(content, []).append(outcome)
        first = dict(reversed(shuffled))
        for (name, value), outcomes in ends.items():
            if first[name] == value:
                assert outcomes == [STORED] + [DUPLICATE] * (len(outcomes) - 1)
            else:
                assert set(outcomes) == {CONFLICT}


VERSIONS = {
    "x": "event: {idempotency_id: properties.id, properties: {n: properties.x}}",
    "y": "event: {idempotency_id: properties.id, properties: {n: properties.y}}",
    "m": "event: {properties: {n: properties.x}}",
}


@several_examples
@given(
    calls=st.lists(
        st.tuples(
            st.sampled_from(sorted(VERSIONS)),
            st.fixed_dictionaries({"id": st.sampled_from("ab"), "x": st.integers(1, 2), "y": st.integers(1, 2)}),
            st.sampled_from(["m-1", "m-2", "m-3"]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_calls_under_changing_versions_are_compared_by_the_version_of_what_is_there(
    database: Database, calls: list[tuple[str, dict[str, Any], str]]
) -> None:
    empty(database)
    catalogs = {name: published(database, some_transforms(live=text)) for name, text in VERSIONS.items()}
    claims: dict[str, tuple[str, int]] = {}
    events: dict[str, tuple[str, int]] = {}
    for version, properties, message in calls:

        def counted(by: str, properties: dict[str, Any] = properties) -> int:
            return int(properties["y" if by == "y" else "x"])

        identifier = message if version == "m" else properties["id"]
        there = claims.get(message) or events.get(identifier)
        if there is None:
            expected = STORED
            events[identifier] = (version, counted(version))
        else:
            expected = DUPLICATE if counted(there[0]) == there[1] else CONFLICT
        if expected is not CONFLICT:
            claims.setdefault(message, (version, counted(version)))
        assert receive(database, catalogs[version], a_document(messageId=message, properties=properties)) == [expected]


# --- What is written


def test_what_was_stored_is_what_was_mapped(database: Database) -> None:
    made = an_event(properties={"b": "é\ud83d", "a": [1.5, None, True]}, time_created=1_793_527_200.5)
    record = a_record(made, message_id="m-1", raw=b'\xef\xbb\xbf {"any": "bytes\\u0000"} \xff')
    request = a_request(record)
    a_writer(database).append(request)
    columns = schema.events.c
    assert rows_of(
        database,
        schema.events,
        columns.idempotency_id,
        columns.call_id,
        columns.lane,
        columns.position,
        columns.event_name,
        columns.customer_id,
        columns.time_created,
        columns.properties,
        columns.content,
        columns.voided_at,
    ) == [
        (
            "id-1",
            record.id,
            "main",
            0,
            "api_call",
            "customer-1",
            1_793_527_200_500_000,
            made.properties,
            made.content,
            None,
        )
    ]
    assert rows_of(database, schema.calls, schema.calls.c.raw) == [(record.raw,)]
    assert rows_of(database, schema.requests, schema.requests.c.id) == [(request.id,)]
    assert rows_of(database, schema.calls, schema.calls.c.request_id, schema.calls.c.position) == [(request.id, 0)]


def test_a_call_that_made_no_event_is_kept_with_its_reason(database: Database) -> None:
    catalog = published(database, some_transforms())
    assert receive(database, catalog, None, a_document(type="identify"), a_document(userId=MISSING)) == [
        Outcome.REJECTED,
        Outcome.IGNORED,
        Outcome.REJECTED,
    ]
    assert [reason for (reason,) in rows_of(database, schema.calls, schema.calls.c.reason)] == [
        "not_an_object",
        "no_transform",
        "event_invalid",
    ]
    assert rows_of(database, schema.events) == []
    assert claimed_messages(database) == [], "a call that was refused can be replayed after a fix"
