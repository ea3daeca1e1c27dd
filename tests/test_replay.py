"""Replay: calls a second time, by today's transforms. On both databases."""

import threading
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.outcome import Outcome
from app.errors import NotFound, TransformInvalid, Unavailable
from app.replay import reading
from app.replay.planning import Asked
from app.store import ledger
from app.store.engine import Database
from app.store.history import list_outcome_changes
from app.store.retention import RAW, blank
from app.store.review import CallFilters, list_call_ids
from app.store.schema import METADATA, calls, claims, events, outcome_changes, replays, voids
from app.store.schema import ledger as ledger_table
from app.store.usage_tail import list_tail
from tests.builders import NOW, a_document, an_ingest, balance, empty, post, rows_of, some_transforms, to_raw
from tests.replaying import RIGHT, UNMADE, WRONG, a_replayer, an_order, events_of, made, outcomes, replay, take

wrong = some_transforms(order=WRONG)
right = some_transforms(order=RIGHT)

STORED = (*UNMADE, Outcome.STORED)


def dump(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return everything but the replays themselves, and the ledger as its sums."""
    left_out = {"replays", "ledger"}
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
    columns = [one for one in events.c if one.name not in {"id", "call_id", "transform_digest"}]
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
    assert plan.tally.changed == {"rejected > stored": 1, "rejected > duplicate or conflict": 1}
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


def test_an_id_that_another_call_has_keeps_an_event_from_being_corrected(database: Database) -> None:
    take(database, right, an_order(1), an_order(2, messageId="order-1~2"))
    fixed = some_transforms(order=RIGHT + "event: {event_name: {const: sale}}\n")
    plan = replay(database, fixed, outcomes=STORED, correct=True)
    assert plan.tally.left == {"cannot be corrected: another call has the idempotency id of its event": 1}
    assert [key for key, _, _ in made(database)] == ["order-1", "order-1~2~2"]
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
    asked = Asked(outcomes=UNMADE)
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
    asked = Asked(outcomes=UNMADE)
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
    asked = Asked(outcomes=UNMADE)
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
        asked = Asked(outcomes=UNMADE if tag == 21 else (*UNMADE, Outcome.CONFLICT))
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
