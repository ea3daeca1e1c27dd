"""Replay: calls a second time, by today's transforms. On both databases."""

import threading
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.calls.sql_retention import RAW, blank
from app.catalog.live import Catalog
from app.core import lotus
from app.core.outcome import Outcome
from app.errors import NotFound, TransformInvalid, Unavailable
from app.metrics.sql_tail import list_tail
from app.replay import reader as reading
from app.replay.exchange import TAKEN
from app.replay.plan import ReplayRequest
from app.replay.replayer import Replayer
from app.service.build import replay_hooks
from app.store import ledger
from app.store.engine import Database
from app.store.history import list_outcome_changes
from app.store.review import CallFilters, list_call_ids
from app.store.schema import METADATA, calls, claims, events, outcome_changes, replays, voids
from app.store.schema import ledger as ledger_table
from tests.builders import (
    NOW,
    a_document,
    a_record_of,
    an_ingest,
    balance,
    empty,
    post,
    published,
    rows_of,
    some_ids,
    some_transforms,
    store,
    to_raw,
)
from tests.replay.replaying import RIGHT, UNMADE, WRONG, a_replayer, an_order, events_of, made, outcomes, replay, take

wrong = some_transforms(order=WRONG)
right = some_transforms(order=RIGHT)

STORED = (*UNMADE, Outcome.STORED)


def dump(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return everything but the replays and their batches themselves, and the ledger as its sums."""
    left_out = {"replays", "corrections", "ledger"}
    found = {one.name: rows_of(database, one) for one in METADATA.sorted_tables if one.name not in left_out}
    with database.reading() as conn:
        return {**found, "sums": sorted(ledger.sum_counts(conn).items())}


def found_by_message(database: Database, message_id: str) -> list[int]:
    with database.reading() as conn:
        return list_call_ids(conn, CallFilters(id=message_id), limit=10)


def voided(database: Database) -> int:
    with database.reading() as conn:
        return ledger.sum_counts(conn)[ledger.EVENT, ledger.VOIDED, ""]


def test_a_rejected_call_becomes_a_stored_event_once_its_transform_is_fixed(database: Database) -> None:
    assert take(database, wrong, an_order(1), an_order(2)) == ["rejected", "rejected"]
    plan = replay(database, right)
    assert plan.tally.changed == {"rejected > stored": 2}
    assert balance(database) == {("stored", ""): 2}
    assert made(database) == [("order-1", "customer-1", {"total": 1}), ("order-2", "customer-1", {"total": 2})]
    [row] = rows_of(database, calls, calls.c.reason, calls.c.detail, calls.c.transform, calls.c.customer_id)[:1]
    assert row == (None, None, "order", "customer-1")


def test_an_ignored_call_becomes_an_event_once_a_transform_takes_it(database: Database) -> None:
    assert take(database, wrong, a_document(type="identify", messageId="i-1")) == ["ignored"]
    replay(database, some_transforms(order=RIGHT, who="match: {type: identify}\nevent: {event_name: {const: who}}\n"))
    assert balance(database) == {("stored", ""): 1}


def test_the_event_is_the_same_as_if_the_transform_had_been_there_when_the_call_came(database: Database) -> None:
    """Also where it depends on when the call came."""
    timed = RIGHT + "event: {time_created: received_at()}\n"
    take(database, wrong, an_order(1))
    replay(database, some_transforms(order=timed))
    columns = [one for one in events.c if one.name not in {"id", "call_id", "transform_digest", "stored_at"}]
    replayed = rows_of(database, events, *columns)
    empty(database)
    take(database, some_transforms(order=timed), an_order(1))
    assert replayed == rows_of(database, events, *columns)
    assert rows_of(database, events, events.c.time_created) == [(NOW,)]


def test_replaying_twice_changes_nothing_more(database: Database) -> None:
    take(database, wrong, an_order(1), an_order(1), an_order(2, messageId=None), a_document(type="page"))
    replay(database, right)
    once = dump(database)
    plan = replay(database)
    assert plan.tally.changed == {}
    assert dump(database) == once


def test_the_ledger_counts_down_what_was_and_up_what_is_in_the_minute_of_the_replay(database: Database) -> None:
    take(database, wrong, an_order(1))
    replay(database, right)
    columns = ledger_table.c
    assert sorted(rows_of(database, ledger_table, columns.subject, columns.outcome, columns.count)) == [
        ("call", "rejected", -1),
        ("call", "rejected", 1),
        ("call", "stored", 1),
        ("event", "stored", 1),
    ]


def test_history_says_when_and_by_which_version_an_outcome_changed(database: Database) -> None:
    take(database, wrong, an_order(1))
    plan = replay(database, right)
    [(call_id,)] = rows_of(database, calls, calls.c.id)
    with database.reading() as conn:
        [change] = list_outcome_changes(conn, call_id)
    by_name = {one.name: one.digest for one in (*wrong.transforms, *right.transforms) if one.name == "order"}
    assert (change.from_outcome, change.from_reason, change.to_outcome, change.to_reason) == (
        "rejected",
        "event_invalid",
        "stored",
        None,
    )
    assert change.replay_id == plan.replay.id
    assert change.to_digest == by_name["order"]
    assert change.from_digest == next(one.digest for one in wrong.transforms if one.name == "order")
    assert plan.replay.started_at < change.changed_at


def test_duplicates_are_decided_as_when_calls_come(database: Database) -> None:
    """The same message twice, and another message with the same event."""
    same_event = RIGHT + "event: {idempotency_id: properties.key}\n"
    documents = [
        an_order(1, properties={"key": "a"}),
        an_order(1, properties={"key": "a"}),
        an_order(2, properties={"key": "a"}),
        an_order(3, properties={"key": "a", "more": 1}),
    ]
    take(database, wrong, *documents)
    replay(database, some_transforms(order=same_event))
    assert outcomes(database) == ["stored", "duplicate", "duplicate", "conflict"]
    balance(database)


@pytest.mark.parametrize("rivals", [False, True], ids=["all new", "with rivals"])
def test_a_large_batch_ends_as_if_its_calls_had_come_one_by_one(database: Database, rivals: bool) -> None:
    """A server stores it while it is made ready for the case that all is new; what is not must be made ready anew."""
    same_event = some_transforms(order=RIGHT + "event: {idempotency_id: properties.key}\n")
    orders = [an_order(number, properties={"key": f"key-{number}", "total": number}) for number in range(260)]
    if rivals:
        # The same message; another message with the same event; and one with the same id and other content.
        orders += [
            orders[7],
            an_order(300, properties=orders[8]["properties"]),
            an_order(301, properties={"key": "key-9"}),
        ]
        orders += [orders[9], an_order(301, properties={"key": "key-9"}), an_order(302, properties={"key": "new"})]
    take(database, wrong, *orders)
    plan = replay(database, same_event)
    assert plan.tally.read == len(orders)
    replayed = outcomes(database), made(database), balance(database)
    empty(database)
    take(database, same_event, *orders)
    assert replayed == (outcomes(database), made(database), balance(database))
    assert balance(database)["stored", ""] == 260 + rivals


def test_a_call_that_a_replay_stored_is_found_by_its_message_once(database: Database) -> None:
    take(database, wrong, an_order(1), an_order(2))
    before = found_by_message(database, "order-1")
    assert len(before) == 1
    replay(database, right)
    assert found_by_message(database, "order-1") == before


def test_a_retry_that_was_stored_meanwhile_makes_the_first_call_its_duplicate(database: Database) -> None:
    take(database, wrong, an_order(1))
    take(database, right, an_order(1))
    replay(database)
    assert outcomes(database) == ["duplicate", "stored"]
    assert len(made(database)) == 1
    balance(database)


def test_a_conflict_is_tried_again_when_asked_for(database: Database) -> None:
    by_key = some_transforms(order="match: {event: Order}\nevent: {idempotency_id: properties.key}\n")
    documents = [an_order(number, properties={"key": "a", "total": number}) for number in (1, 2)]
    assert take(database, by_key, *documents) == ["stored", "conflict"]
    replay(database, right)
    assert outcomes(database) == ["stored", "conflict"]
    replay(database, outcomes=(Outcome.CONFLICT,))
    assert balance(database) == {("stored", ""): 2}
    assert [key for key, _, _ in made(database)] == ["a", "order-2"]


def test_what_was_stored_in_part_is_completed_and_never_made_twice(database: Database) -> None:
    each = "match: {event: Order}\neach: properties.items\nevent: {idempotency_id: item.id, properties: item}\n"
    first = an_order(1, properties={"items": [{"id": "a", "n": 1}]})
    second = an_order(2, properties={"items": [{"id": "b", "n": 1}, {"id": "a", "n": 2}]})
    lane = "also: true\nmatch: {event: Order}\nevent: {event_name: {const: lane}}\n"
    assert take(database, some_transforms(order=each), first, second) == ["stored", "conflict"]
    for _ in range(2):
        replay(database, some_transforms(order=each, lane=lane), outcomes=(Outcome.CONFLICT,))
        assert outcomes(database) == ["stored", "conflict"]
        assert len(made(database)) == 3
        balance(database)


def test_a_call_that_made_its_events_stays_what_it_is(database: Database) -> None:
    take(database, right, an_order(1), an_order(2))
    before = dump(database)
    other = some_transforms(order=RIGHT + "event: {event_name: {const: other}}\n")
    plan = replay(database, other, outcomes=tuple(Outcome))
    after = dump(database)
    for name in ("calls", "events", "claims", "sums"):
        assert after[name] == before[name]
    assert plan.tally.left == {"it already made its events": 2}


def test_calls_whose_bytes_are_gone_are_skipped_and_counted(database: Database) -> None:
    take(database, wrong, an_order(1), an_order(2))
    [(first,), _] = rows_of(database, calls, calls.c.id)
    with database.writing() as conn:
        blank(conn, RAW, [first])
    plan = replay(database, right)
    assert plan.tally.removed == 1
    assert outcomes(database) == ["rejected", "stored"]
    balance(database)


def batches_of(calls_: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BATCH", "BATCH_IN_FILE"):
        monkeypatch.setattr(reading, name, calls_)


@pytest.mark.parametrize("asked", [{"event": "Order"}, {"limit": 1}, {"outcomes": (Outcome.REJECTED,)}])
def test_only_what_is_asked_for_is_replayed(database: Database, asked: dict[str, Any]) -> None:
    take(database, wrong, an_order(1), a_document(type="identify", messageId="i", event=None))
    transforms = some_transforms(order=RIGHT, who="match: {type: identify}\nevent: {event_name: {const: who}}\n")
    plan = replay(database, transforms, **asked)
    assert plan.tally.read == plan.replay.total == 1
    assert outcomes(database) == ["stored", "ignored"]


def test_one_call_can_be_replayed_alone(database: Database) -> None:
    take(database, wrong, an_order(1), an_order(2))
    [_, (second,)] = rows_of(database, calls, calls.c.id)
    replay(database, right, call_id=second)
    assert outcomes(database) == ["rejected", "stored"]


def test_a_dry_run_writes_nothing_and_counts_what_would_become_of_them(database: Database) -> None:
    take(database, wrong, an_order(1), an_order(2), a_document(type="identify"))
    take(database, right, an_order(2))
    before = dump(database)
    plan = replay(database, dry=True)
    assert dump(database) == before
    assert rows_of(database, replays) == []
    assert plan.tally.changed == {"rejected > stored": 1, "rejected > duplicate": 1}
    assert plan.tally.same == 1


# --correct


def test_correct_voids_what_differs_and_stores_the_new_event_beside_it(database: Database) -> None:
    take(database, right, an_order(1), an_order(2, properties={"total": 2, "cents": 200}))
    fixed = some_transforms(order=RIGHT + "event: {properties: {total: properties.cents || properties.total}}\n")
    plan = replay(database, fixed, outcomes=STORED, correct=True)
    assert (plan.tally.corrected, plan.tally.voided) == (1, 1)
    old, new = events_of(database, "order-2")
    assert (old.idempotency_id, old.voided_at is not None, old.void_reason) == (
        "order-2",
        True,
        "corrected by a replay: other properties",
    )
    assert old.voided_by == new.transform_digest == next(one.digest for one in fixed.transforms if one.name == "order")
    assert (new.idempotency_id, new.properties, new.voided_at) == ("order-2~2", '{"total":200}', None)
    assert made(database) == [("order-1", "customer-1", {"total": 1}), ("order-2~2", "customer-1", {"total": 200})]
    assert balance(database) == {("stored", ""): 2}
    assert voided(database) == 1
    assert a_replayer(database).list_voids(plan) == ["order-2"]
    [(content,)] = [row for row in rows_of(database, claims, claims.c.content) if row[0] == new.content]
    assert content == new.content


def test_a_number_that_is_only_spelled_otherwise_is_not_corrected(database: Database) -> None:
    take(database, right, an_order(1, properties={"total": 2.0}), an_order(2, properties={"total": 1e22}))
    fixed = some_transforms(order=RIGHT + "event: {properties: {total: floor(properties.total)}}\n")
    plan = replay(database, fixed, outcomes=STORED, correct=True)
    assert (plan.tally.corrected, plan.tally.voided) == (0, 0)
    assert [event[2] for event in made(database)] == [{"total": 2.0}, {"total": 1e22}]


def test_the_tail_tells_folds_what_a_replay_stored_and_what_it_made_void(database: Database) -> None:
    take(database, right, an_order(1))
    fixed = some_transforms(order=RIGHT + "event: {properties: {total: '`7`'}}\n")
    replay(database, fixed, outcomes=STORED, correct=True)
    old, new = events_of(database, "order-1")
    with database.reading() as conn:
        # The replay is another process, whose clock is another: its row may stand before the one of the commit.
        first, second = sorted(list_tail(conn), key=lambda row: bool(row.voids))
    assert (first.events, first.voids) == ((old.id,), ())
    assert (second.events, second.voids) == ((new.id,), (old.id,))
    assert second.first_call == first.first_call == new.call_id


def test_a_correction_can_be_corrected_and_is_made_once(database: Database) -> None:
    take(database, right, an_order(1))
    for version, name in enumerate(("one", "two", "one"), start=2):
        transforms = some_transforms(order=RIGHT + f"event: {{event_name: {{const: {name}}}}}\n")
        for _ in range(2):
            replay(database, transforms, outcomes=STORED, correct=True)
        assert [key for key, _, _ in made(database)] == [f"order-1~{version}"]
        balance(database)
    assert voided(database) == 3
    assert len(rows_of(database, outcome_changes)) == 3
    assert values(rows_of(database, voids, voids.c.idempotency_id)) == ["order-1", "order-1~2", "order-1~3"]


def values(rows: list[tuple[Any, ...]]) -> list[Any]:
    return [row[0] for row in rows]


def test_a_retry_of_a_corrected_call_is_its_duplicate(database: Database) -> None:
    """Of the same message; of another message that makes the same event; and one that was told otherwise."""
    by_key = RIGHT + "event: {idempotency_id: properties.key, event_name: {const: %s}}\n"
    order = an_order(1, properties={"key": "a"})
    take(database, some_transforms(order=by_key % "buy"), order)
    fixed = some_transforms(order=by_key % "sale")
    replay(database, fixed, outcomes=STORED, correct=True)
    again = [order, {**order, "messageId": "order-2"}, an_order(3, properties={"key": "a", "n": 1})]
    assert take(database, fixed, *again) == ["duplicate", "duplicate", "conflict"]
    assert [key for key, _, _ in made(database)] == ["a~2"]
    balance(database)


def test_an_event_of_which_only_the_time_or_the_id_was_wrong_is_corrected_too(database: Database) -> None:
    take(database, right, an_order(1))
    timed = RIGHT + "event: {time_created: received_at()}\n"
    replay(database, some_transforms(order=timed), outcomes=STORED, correct=True)
    assert [key for key, _, _ in made(database)] == ["order-1~2"]
    other_id = RIGHT + "event: {time_created: received_at(), idempotency_id: \"join('-', ['x', messageId])\"}\n"
    replay(database, some_transforms(order=other_id), outcomes=STORED, correct=True)
    assert [key for key, _, _ in made(database)] == ["x-order-1"]
    balance(database)


@pytest.mark.parametrize("text", [WRONG, RIGHT + "when: '`false`'\n", RIGHT + "enabled: false\n"])
def test_an_event_that_today_would_not_be_made_is_reported_and_not_made_void(database: Database, text: str) -> None:
    take(database, right, an_order(1))
    plan = replay(database, some_transforms(order=text), outcomes=STORED, correct=True)
    [(why, count)] = plan.tally.left.items()
    assert why.startswith("cannot be corrected: today it would be")
    assert count == 1
    assert plan.tally.samples[why] == str(rows_of(database, calls, calls.c.id)[0][0])
    assert voided(database) == 0
    assert len(made(database)) == 1
    balance(database)


def test_each_event_of_a_call_is_corrected_by_itself(database: Database) -> None:
    each = "match: {event: Order}\neach: properties.items\nevent: {properties: %s}\n"
    order = an_order(1, properties={"items": [{"n": 1}, {"n": 2, "m": 20}]})
    take(database, some_transforms(order=each % "{n: item.n}"), order)
    replay(database, some_transforms(order=each % "{n: item.m || item.n}"), outcomes=STORED, correct=True)
    assert [(key, properties) for key, _, properties in made(database)] == [
        ("order-1:0", {"n": 1}),
        ("order-1:1~2", {"n": 20}),
    ]
    balance(database)
    fewer = each.replace("properties.items", "properties.items[:1]") % "{n: item.n}"
    plan = replay(database, some_transforms(order=fewer), outcomes=STORED, correct=True)
    assert plan.tally.left == {"cannot be corrected: today there would be fewer events than are stored": 1}
    more = each.replace("properties.items", "properties.items[].[@, @][]") % "{n: item.n}"
    replay(database, some_transforms(order=more), outcomes=STORED, correct=True)
    assert len(made(database)) == 4
    balance(database)


def test_the_id_of_a_correction_that_a_transform_makes_by_itself_is_passed_over(database: Database) -> None:
    take(database, right, an_order(1), an_order(2, messageId="order-1~2"))
    fixed = some_transforms(order=RIGHT + "event: {event_name: {const: sale}}\n")
    for _ in range(2):
        plan = replay(database, fixed, outcomes=STORED, correct=True)
        assert [key for key, _, _ in made(database)] == ["order-1~2~2", "order-1~3"]
    assert plan.tally.corrected == 0
    balance(database)


def test_an_id_that_another_call_has_keeps_an_event_from_being_corrected(database: Database) -> None:
    take(database, right, an_order(1), an_order(2))
    fixed = some_transforms(order=RIGHT + "event: {idempotency_id: \"'order-2'\"}\n")
    plan = replay(database, fixed, outcomes=STORED, correct=True)
    assert plan.tally.left[TAKEN] == 1
    assert [key for key, _, _ in made(database)] == ["order-1", "order-2"]
    balance(database)


def test_a_dry_run_says_what_the_run_then_does(database: Database) -> None:
    """Replaced, moved and shared events, an id that is another's, copies of one message, and what cannot be mapped."""
    each = "match: {event: Order}\neach: properties.items\nevent: {idempotency_id: %s, properties: {n: item.%s}}\n"
    calls_ = [items(1, "a", "b"), items(2, "b", "c"), items(3, "d"), items(4, "d"), items(3, "d"), an_order(5)]
    take(database, some_transforms(order=each % ("item.id", "n")), *calls_)
    fixed = some_transforms(order=each % ("\"item.id == 'd' && messageId || item.id\"", "m"))
    tried = replay(database, fixed, outcomes=tuple(Outcome), correct=True, dry=True)
    before = dump(database)
    done = replay(database, outcomes=tuple(Outcome), correct=True)
    assert dump(database) != before
    assert (tried.tally.corrected, tried.tally.voided) == (3, 4)
    assert tried.tally == done.tally
    assert [key for key, _, _ in made(database)] == ["a~2", "b~2", "c~2", "order-3", "order-4"]
    balance(database)


# The faults that an audit found in corrections, each with its kind


EACH = "match: {event: Order}\neach: properties.items\nevent: {idempotency_id: item.id, properties: %s}\n"


def items(number: int, *ids: str) -> dict[str, Any]:
    return an_order(number, properties={"items": [{"id": id_, "n": 1, "m": 2} for id_ in ids]})


def test_a_call_that_shares_an_event_with_another_stays_stored_and_is_corrected_again(database: Database) -> None:
    """It was a conflict from the first correction on, and passed over by the next; it has the event elsewhere."""
    take(database, some_transforms(order=EACH % "{id: item.id, n: item.n}"), items(1, "a", "b"), items(2, "b", "c"))
    for version, name in enumerate(("m", "n", "m"), start=2):
        fixed = some_transforms(order=EACH % f"{{id: item.id, {name}: item.{name}}}")
        replay(database, fixed, outcomes=tuple(Outcome), correct=True)
        assert outcomes(database) == ["stored", "stored"]
        assert made(database) == [
            (f"{id_}~{version}", "customer-1", {"id": id_, name: {"n": 1, "m": 2}[name]}) for id_ in ("a", "b", "c")
        ]
        balance(database)


def test_an_event_at_another_place_of_another_call_is_compared_by_the_version_that_made_it(database: Database) -> None:
    before, after = (some_transforms(order=EACH % f"{{id: item.id, n: item.{name}}}") for name in "nm")
    assert take(database, before, items(1, "a", "b")) == ["stored"]
    assert take(database, after, items(2, "b", "c"), items(3, "b")) == ["stored", "duplicate"]
    balance(database)


def test_a_conflict_with_events_of_its_own_is_corrected(database: Database) -> None:
    first, second = items(1, "a"), items(2, "a", "b")
    second["properties"]["items"][0]["n"] = 7
    assert take(database, some_transforms(order=EACH % "{n: item.n}"), first, second) == ["stored", "conflict"]
    fixed = some_transforms(order=EACH % "{n: item.n, m: item.m}")
    replay(database, fixed, outcomes=tuple(Outcome), correct=True)
    assert outcomes(database) == ["stored", "conflict"]
    assert [(key, properties) for key, _, properties in made(database)] == [
        ("a~2", {"n": 1, "m": 2}),
        ("b~2", {"n": 1, "m": 2}),
    ]
    balance(database)


def test_ids_that_end_like_a_correction_by_themselves_are_left_alone(database: Database) -> None:
    """A transform whose own ids end in ~1, unchanged: it went from two events to three."""
    own = EACH.replace("item.id", "\"join('~', [messageId, item.id])\"") % "{n: item.n}"
    take(database, some_transforms(order=own), items(1, "1", "2"))
    before = dump(database)
    plan = replay(database, outcomes=tuple(Outcome), correct=True)
    assert dump(database) == before
    assert plan.tally.corrected == 0
    assert [key for key, _, _ in made(database)] == ["order-1~1", "order-1~2"]
    balance(database)


@pytest.mark.parametrize("call", [items(2, "b", "c"), items(2, "a", "b")], ids=["one is new", "none is new"])
def test_with_nothing_changed_a_correction_writes_nothing(database: Database, call: dict[str, Any]) -> None:
    transforms = some_transforms(order=EACH % "{n: item.n}")
    take(database, transforms, items(1, "a", "b"), call, an_order(3, properties={"items": []}))
    before = dump(database)
    for _ in range(2):
        plan = replay(database, outcomes=tuple(Outcome), correct=True)
        assert (plan.tally.corrected, plan.tally.voided, plan.tally.changed) == (0, 0, {})
        assert dump(database) == before


def test_a_wrong_idempotency_id_is_mended_for_all_calls_that_it_hid(database: Database) -> None:
    """Three calls under one id are stored, duplicate, duplicate: after the fix each is billed, and the id is free."""
    by = RIGHT + "event: {idempotency_id: %s}\n"
    wrong_id, right_id = (some_transforms(order=by % text) for text in ("\"'same'\"", "messageId"))
    orders = [an_order(number, properties={}) for number in (1, 2, 3)]
    assert take(database, wrong_id, *orders, orders[1]) == ["stored", "duplicate", "duplicate", "duplicate"]
    replay(database, right_id, outcomes=tuple(Outcome), correct=True)
    assert outcomes(database) == ["stored", "stored", "stored", "duplicate"]
    assert [key for key, _, _ in made(database)] == ["order-1", "order-2", "order-3"]
    balance(database)
    [old, _] = events_of(database, "order-1")
    assert (old.idempotency_id, old.voided_at is not None) == ("same", True)
    assert found_by_message(database, "same") == found_by_message(database, "order-1")
    # Somebody's own event may be called so now.
    assert take(database, right_id, an_order(4, messageId="same")) == ["stored"]
    # A retry of what was moved is its duplicate, whatever transforms there are.
    assert take(database, wrong_id, orders[0]) == ["duplicate"]
    assert take(database, right_id, orders[0]) == ["duplicate"]
    balance(database)


def test_duplicates_of_another_message_can_be_replayed_without_a_correction(database: Database) -> None:
    by = RIGHT + "event: {idempotency_id: %s}\n"
    wrong_id, right_id = (some_transforms(order=by % text) for text in ("\"'same'\"", "messageId"))
    orders = [an_order(number, properties={}) for number in (1, 2)]
    assert take(database, wrong_id, *orders, orders[0]) == ["stored", "duplicate", "duplicate"]
    plan = replay(database, right_id, outcomes=(Outcome.DUPLICATE,))
    assert plan.tally.changed == {"duplicate > stored": 1}
    assert outcomes(database) == ["stored", "stored", "duplicate"]
    assert [key for key, _, _ in made(database)] == ["order-2", "same"]
    balance(database)


def test_a_duplicate_whose_transform_says_no_today_stays_one(database: Database) -> None:
    take(database, right, an_order(1), an_order(1))
    plan = replay(database, some_transforms(order=RIGHT + "when: '`false`'\n"), outcomes=(Outcome.DUPLICATE,))
    assert plan.tally.left == {"stays duplicate: today it would be ignored (filtered)": 1}
    assert outcomes(database) == ["stored", "duplicate"]


def test_an_id_moves_there_and_back(database: Database) -> None:
    by = RIGHT + "event: {idempotency_id: %s}\n"
    there, back = (some_transforms(order=by % text) for text in ("\"join('-', ['x', messageId])\"", "messageId"))
    take(database, back, an_order(1))
    for transforms, expected in ((there, "x-order-1"), (back, "order-1~2"), (there, "x-order-1~2")):
        replay(database, transforms, outcomes=tuple(Outcome), correct=True)
        assert [key for key, _, _ in made(database)] == [expected]
        balance(database)
    assert [event.idempotency_id for event in events_of(database, "order-1")] == [
        "order-1",
        "x-order-1",
        "order-1~2",
        "x-order-1~2",
    ]


def test_what_other_nodes_map_by_the_version_before_is_corrected_too(database: Database) -> None:
    """For two seconds after a publication; and a commit that becomes visible late was passed over."""
    before = some_transforms(order=RIGHT)
    fixed = some_transforms(order=RIGHT + "event: {event_name: {const: sale}}\n")
    moment = NOW
    # Made on another node, whose clock is a little behind, and visible only when the correction has passed it.
    late = an_order(9)

    def sleep(seconds: float) -> None:
        nonlocal moment
        moment += round(seconds * 1_000_000)
        if len(rows_of(database, calls)) < 4:
            take_at(moment - 3_000_000, late)
            take_at(moment, an_order(3))

    def take_at(at: int, order: dict[str, Any]) -> None:
        record = a_record_of(order, before)
        record.received_at, record.id = at, late_ids.next(at)
        store(database, record)

    late_ids = some_ids(21)
    take(database, before, an_order(1), an_order(2))
    published(database, fixed, some_ids(12))
    replayer = Replayer(
        database=database,
        catalog=Catalog(),
        ids=some_ids(11),
        clock=lambda: moment,
        hooks=replay_hooks(some_ids(11), forwards=False),
        sleep=sleep,
    )
    plan = replayer.plan(ReplayRequest(outcomes=tuple(Outcome), correct=True), (None, None))
    replayer.run(plan, lambda _count: None)
    assert [key for key, _, _ in made(database)] == [f"order-{number}~2" for number in (1, 2, 3, 9)]
    assert (plan.tally.read, plan.tally.corrected, plan.replay.total) == (4, 4, 4)
    assert moment - NOW == 15_000_000
    balance(database)
    # Later there is nothing to wait for.
    replayer.run(replayer.plan(ReplayRequest(outcomes=tuple(Outcome), correct=True), (None, None)), lambda _count: None)
    assert moment - NOW == 15_000_000


def test_what_a_call_has_beside_what_is_corrected_stays(database: Database) -> None:
    """A lane of its own that was a duplicate: its result was dropped, and the events' ledger with it."""
    once = "also: true\nevent: {idempotency_id: userId, event_name: {const: once}, properties: {}}\n"
    take(database, some_transforms(order=RIGHT, once=once), an_order(1), an_order(2))
    fixed = some_transforms(order=RIGHT + "event: {event_name: {const: sale}}\n", once=once)
    replay(database, fixed, outcomes=tuple(Outcome), correct=True)
    with database.reading() as conn:
        counts = ledger.sum_counts(conn)
    assert counts[ledger.EVENT, Outcome.DUPLICATE, ""] == 1
    assert [key for key, _, _ in made(database)] == ["customer-1", "order-1~2", "order-2~2"]
    balance(database)


# --transform


ALSO = "also: true\nmatch: {event: Order}\nevent: {event_name: {const: sum}}\n"


def test_a_new_lane_is_filled_from_old_calls_whatever_became_of_them(database: Database) -> None:
    with_lane = some_transforms(order=RIGHT, sums=ALSO)
    take(database, right, an_order(1), an_order(1), an_order(2))
    before = rows_of(database, events)
    plan = replay(database, with_lane, outcomes=tuple(Outcome), transform="sums")
    assert [row for row in rows_of(database, events) if row[0] in {one[0] for one in before}] == before
    assert [key for key, _, _ in made(database)] == ["order-1", "order-1:sums", "order-2", "order-2:sums"]
    assert outcomes(database) == ["stored", "duplicate", "stored"]
    balance(database)
    once = dump(database)
    plan = replay(database, outcomes=tuple(Outcome), transform="sums")
    assert dump(database) == once
    assert plan.tally.left["the lane is filled"] == 2


def test_an_ignored_call_that_only_the_lane_takes_is_stored(database: Database) -> None:
    who = "also: true\nmatch: {type: identify}\nevent: {event_name: {const: who}}\n"
    assert take(database, right, a_document(type="identify", messageId="i")) == ["ignored"]
    replay(database, some_transforms(order=RIGHT, who=who), outcomes=tuple(Outcome), transform="who")
    assert [key for key, _, _ in made(database)] == ["i:who"]
    assert balance(database) == {("stored", ""): 1}


def test_a_call_is_all_or_nothing_when_a_lane_is_filled(database: Database) -> None:
    """Rejected by its main transform, then and today: nothing of it is stored. Fixed since: replayed as a whole."""
    take(database, wrong, an_order(1))
    for order in (WRONG, RIGHT):
        plan = replay(database, some_transforms(order=order, sums=ALSO), outcomes=tuple(Outcome), transform="sums")
        assert plan.tally.changed == {}
        assert sum(plan.tally.left.values()) == 1
    replay(database)
    assert [key for key, _, _ in made(database)] == ["order-1", "order-1:sums"]
    balance(database)


def test_a_call_that_the_lane_cannot_map_stays_and_is_counted(database: Database) -> None:
    take(database, right, an_order(1))
    bad = "also: true\nmatch: {event: Order}\nevent: {event_name: {const: sum}, customer_id: properties.nobody}\n"
    plan = replay(database, some_transforms(order=RIGHT, sums=bad), outcomes=tuple(Outcome), transform="sums")
    assert plan.tally.left == {"stays stored: today it would be rejected (event_invalid)": 1}
    assert balance(database) == {("stored", ""): 1}


def test_an_event_with_a_time_that_means_not_set_stays_where_it_was_stored_before(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older program took year 1 and 1970 for times: such events count, and a correction says that it left them."""
    unset = [a_document(messageId=year, timestamp=f"{year}-01-01T00:00:00Z") for year in ("0001", "1970")]
    with monkeypatch.context() as before:
        before.setattr(lotus, "FIRST_MICROS", 2 * -(10**17))
        assert take(database, right, *unset) == ["stored", "stored"]
    assert take(database, right, unset[0] | {"messageId": "new"}) == ["rejected"]
    plan = replay(database, right, outcomes=tuple(Outcome), correct=True)
    assert plan.tally.left == {"cannot be corrected: today it would be rejected (event_invalid)": 2}
    assert (plan.tally.corrected, [key for key, _, _ in made(database)]) == (0, ["0001", "1970"])
    balance(database)


def test_only_an_also_transform_that_is_live_has_a_lane_to_fill(database: Database) -> None:
    take(database, right)
    with pytest.raises(TransformInvalid, match="no lane of its own"):
        replay(database, transform="order")
    with pytest.raises(NotFound, match="no transform nobody is live"):
        replay(database, transform="nobody")


# Stopping, and others at work


class Stop(Exception):
    """Somebody pressed Ctrl-C."""


def stop_after(batches: int) -> Any:
    left = iter(range(batches))

    def advance(_count: int) -> None:
        if next(left, None) is None:
            raise Stop

    return advance


def test_the_same_words_go_on_where_a_replay_was_stopped(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    batches_of(2, monkeypatch)
    take(database, wrong, *map(an_order, range(9)))
    take(database, right)
    asked = ReplayRequest(outcomes=UNMADE)
    replayer = a_replayer(database)
    with pytest.raises(Stop):
        replayer.run(replayer.plan(asked, (None, None)), stop_after(1))
    assert outcomes(database).count("stored") == 4
    balance(database)
    plan = replayer.plan(asked, (None, None))
    assert (plan.resumed, plan.tally.read, plan.left) == (True, 4, 5)
    replayer.run(plan, lambda _count: None)
    assert plan.tally.changed == {"rejected > stored": 9}
    assert balance(database) == {("stored", ""): 9}
    assert not replayer.plan(asked, (None, None)).resumed


def test_other_words_other_transforms_and_again_start_over(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    batches_of(1, monkeypatch)
    take(database, wrong, *map(an_order, range(3)))
    replayer = a_replayer(database)
    asked = ReplayRequest(outcomes=UNMADE)
    with pytest.raises(Stop):
        replayer.run(replayer.plan(asked, (None, None)), stop_after(0))
    assert replayer.plan(asked, (None, None)).resumed
    assert not replayer.plan(asked, (None, None), again=True).resumed
    assert not replayer.plan(msgspec.structs.replace(asked, event="Order"), (None, None)).resumed
    take(database, right)
    assert not replayer.plan(asked, (None, None)).resumed


def test_two_processes_cannot_go_on_with_the_same_replay(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    batches_of(1, monkeypatch)
    take(database, wrong, *map(an_order, range(4)))
    take(database, right)
    asked = ReplayRequest(outcomes=UNMADE)
    one, other = a_replayer(database), a_replayer(database, tag=13)
    with pytest.raises(Stop):
        one.run(one.plan(asked, (None, None)), stop_after(0))
    plans = [each.plan(asked, (None, None)) for each in (one, other)]
    with pytest.raises(Stop):
        one.run(plans[0], stop_after(0))
    with pytest.raises(Unavailable, match="another process"):
        other.run(plans[1], lambda _count: None)
    balance(database)


def test_replays_at_once_with_calls_that_come_in_count_nothing_twice(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches_of(7, monkeypatch)
    take(database, wrong, *(an_order(number // 2) for number in range(120)))
    ingest = an_ingest(database, right)
    trouble: list[BaseException] = []

    def work(task: Any, *words: Any) -> None:
        try:
            task(*words)
        except BaseException as error:  # noqa: BLE001  it is asserted below
            trouble.append(error)

    def come_in() -> None:
        for number in range(0, 90, 3):
            post(ingest, to_raw(an_order(number)))

    def run_again(tag: int) -> None:
        replayer = a_replayer(database, tag)
        asked = ReplayRequest(outcomes=UNMADE if tag == 21 else (*UNMADE, Outcome.CONFLICT))
        replayer.run(replayer.plan(asked, (None, None)), lambda _count: None)

    threads = [threading.Thread(target=work, args=words) for words in ((come_in,), (run_again, 21), (run_again, 22))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trouble == []
    counted = balance(database)
    numbers = {*range(60), *range(0, 90, 3)}
    assert counted == {("stored", ""): len(numbers), ("duplicate", "duplicate"): 150 - len(numbers)}
    assert {key for key, _, _ in made(database)} == {f"order-{number}" for number in numbers}


_REFUSE_ON_SQLITE = """
CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.idempotency_id = 'order-2'
BEGIN SELECT RAISE(ABORT, 'refused'); END"""
_REFUSE_ON_POSTGRESQL = "ALTER TABLE events ADD CONSTRAINT refuse CHECK (idempotency_id <> 'order-2')"


@pytest.mark.parametrize("count", [3, 250])
def test_a_call_that_the_database_refuses_is_rejected_alone(database: Database, count: int) -> None:
    take(database, wrong, *(an_order(number) for number in range(1, count + 1)))
    with database.writing() as conn:
        conn.execute(sa.text(_REFUSE_ON_SQLITE if database.file else _REFUSE_ON_POSTGRESQL))
    plan = replay(database, right)
    assert outcomes(database) == ["stored", "rejected", *["stored"] * (count - 2)]
    assert balance(database)["rejected", "unstorable"] == 1
    assert plan.tally.read == plan.replay.total == count


# As if it had always been so


several = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])

_ORDERS = st.lists(
    st.builds(
        lambda number, total, user, kind: an_order(number, userId=user, properties={"total": total}, type=kind),
        st.integers(0, 6),
        st.integers(0, 2),
        st.sampled_from(["customer-1", None]),
        st.sampled_from(["track", "track", "identify"]),
    ),
    max_size=12,
)


@several
@given(orders=_ORDERS)
def test_calls_that_made_no_event_end_as_if_todays_transforms_had_been_there(
    database: Database, orders: list[dict[str, Any]]
) -> None:
    today = some_transforms(order=RIGHT, sums=ALSO, who="match: {type: identify}\nevent: {event_name: {const: who}}\n")
    never = some_transforms(order=WRONG)

    def seen() -> Any:
        rows = rows_of(database, calls, calls.c.outcome, calls.c.reason, calls.c.transform, calls.c.customer_id)
        return rows, made(database), balance(database)

    empty(database)
    take(database, never, *orders)
    replay(database, today)
    replayed = seen()
    empty(database)
    take(database, today, *orders)
    assert replayed == seen()
