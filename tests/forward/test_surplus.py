"""What Lotus has too much: surplus, what is held back, differences. On both databases; tables of cases on one."""

from typing import Any

import pytest
import sqlalchemy as sa

from app.clock import clock
from app.errors import BadQuery
from app.forward.fake_lotus.server import FakeLotus
from app.forward.retry import move_matching
from app.forward.settlement import count_release, credit_with, of_state
from app.forward.sql_claims import DeliveryResult, claim, record_results
from app.forward.sql_deliveries import DeliveryState
from app.forward.sql_differences import release_held
from app.forward.sql_search import DeliveryFilters
from app.forward.timing import LOOKS_BACK
from app.store.engine import Database
from app.store.schema import deliveries, differences
from tests.builders import rows_of
from tests.forward.amending import billed, correct, follower, ids_of, owed, states, undo
from tests.forward.forwarding import DAY, Clock, a_recent, a_worker, balanced, store, work
from tests.metrics.conftest import publish
from tests.metrics.metrics import a_metric

SUM = a_metric(
    "total",
    group_by=["model"],
    categorical_filters=[{"property_name": "plan", "operator": "isnotin", "comparison_value": ["free"]}],
)
COUNT = a_metric("calls", usage_aggregation_type="count", property_name=None)


def use(id_: str, n: object = 5, customer: str = "ann", age: int = 0, **properties: object) -> Any:
    return a_recent(
        id_, age, event_name="use", customer_id=customer, properties={"n": n, "model": "m", "note": "x", **properties}
    )


def n(value: object, **properties: object) -> dict[str, Any]:
    return {"properties": {"n": value, "model": "m", "note": "x", **properties}}


def deliver(database: Database, address: str) -> None:
    time = Clock()
    work(a_worker(database, address, time), time)


def move(database: Database, what: str, **fields: Any) -> tuple[int, int]:
    """Credit or release what matches; return how many, and how many stay."""
    act, state = {
        "credit": (credit_with("credit note 114", "bob"), DeliveryState.SURPLUS),
        "release": (release_held, DeliveryState.HELD),
    }[what]
    filters = of_state(DeliveryFilters(**fields), state)
    result = move_matching(database, act, filters, clock, seconds=10)
    return result.count, result.left


def test_what_lotus_has_is_surplus_when_it_is_void_and_delivered_when_it_counts_again(
    database: Database, lotus: FakeLotus, address: str
) -> None:
    store(database, [use("a"), use("b")])
    deliver(database, address)
    correction = correct(database, {"a": None})
    assert states(database) == {"a": "surplus", "b": "delivered"}
    undo(database, correction.id)
    assert states(database) == {"a": "delivered", "b": "delivered"}
    assert balanced(database) == {"delivered": 2}
    deliver(database, address)
    assert lotus.repeats == []


@pytest.mark.parametrize(("choice", "state"), [("hold", "held"), ("send", "waiting")])
def test_what_replaces_a_delivered_event_is_held_back_or_sent_and_the_rest_as_ever(
    database: Database, lotus: FakeLotus, address: str, choice: str, state: str
) -> None:
    store(database, [use("a")])
    deliver(database, address)
    store(database, [use("b")])
    store(database, [use("c")], forwards=False)
    correction = correct(database, {"a": n(1), "b": n(2), "c": n(3)}, choice)
    expected = {"a": "surplus", "b": "voided", "a~2": state, "b~2": "waiting", "c~2": "waiting"}
    assert states(database) == expected
    deliver(database, address)
    assert billed(lotus) == {"ann": 5 + 2 + 3 + (1 if choice == "send" else 0)}
    undo(database, correction.id)
    removed = {"a~2": "surplus" if choice == "send" else "voided", "b~2": "surplus", "c~2": "surplus"}
    assert states(database) == {"a": "delivered", "b": "waiting", **removed}
    assert balanced(database)


def test_an_amended_event_that_is_amended_again_stays_held_and_a_release_sends_the_last(
    database: Database, lotus: FakeLotus, address: str
) -> None:
    store(database, [use("a")])
    deliver(database, address)
    correct(database, {"a": n(1)})
    last = correct(database, {"a~2": n(2)})
    assert states(database) == {"a": "surplus", "a~2": "voided", "a~3": "held"}
    undo(database, last.id)
    assert states(database) == {"a": "surplus", "a~2": "held", "a~3": "voided"}
    with database.reading() as conn:
        assert count_release(conn, DeliveryFilters(state=DeliveryState.HELD)).doubled == 1
    assert move(database, "credit", customer="nobody") == (0, 0)
    assert move(database, "credit", id="a") == (1, 0)
    with database.reading() as conn:
        assert count_release(conn, DeliveryFilters(state=DeliveryState.HELD)).doubled == 0
    assert move(database, "release") == (1, 0)
    deliver(database, address)
    assert states(database) == {"a": "credited", "a~2": "delivered", "a~3": "voided"}
    [note] = rows_of(database, deliveries, deliveries.c.note, deliveries.c.note_author, deliveries.c.noted_at)[:1]
    assert note[:2] == ("credit note 114", "bob")
    assert note[2] > clock() - DAY
    assert balanced(database) == {"credited": 1, "voided": 1, "delivered": 1}


def test_the_undo_of_what_was_credited_counts_again_and_keeps_the_note(
    database: Database, address: str, lotus: FakeLotus
) -> None:
    store(database, [use("a")])
    deliver(database, address)
    correction = correct(database, {"a": None})
    move(database, "credit")
    undo(database, correction.id)
    assert states(database) == {"a": "delivered"}
    assert rows_of(database, deliveries, deliveries.c.note) == [("credit note 114",)]
    correct(database, {"a": None})
    # Whether the credit was taken back meanwhile only a person knows.
    assert states(database) == {"a": "surplus"}


CASES: list[tuple[dict[str, Any], dict[str, Any] | None, dict[str, object]]] = [
    # The event, its change (None: void), and the differences by state.
    ({"n": 5}, None, {"n": -5}),
    ({"n": 5}, n(2), {"n": -3}),
    ({"n": 0.1}, n(0.3), {"n": 0.2}),
    ({"n": "7.50"}, n(10), {"n": 2.5}),
    ({"n": 2**60}, n("1.5"), {"n": "-1152921504606846998.5"}),
    ({"n": "not a number"}, n(4), {"n": 4}),
    ({"n": 5}, n(5, note="y"), {}),
    ({"n": 5}, {**n(8), "customer_id": "bob"}, {"n": -5}),
    ({"n": 5}, n(8, model="other"), {"n": -5}),
    ({"n": 5, "plan": "free"}, n(8), {}),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_difference_makes_the_sum_of_lotus_right_and_its_undo_makes_it_as_before(
    sqlite_database: Database, lotus: FakeLotus, address: str, case: int
) -> None:
    database = sqlite_database
    publish(database, SUM)
    made, change, expected = CASES[case]
    store(database, [use("a", **made)])
    deliver(database, address)
    correction = correct(database, {"a": change}, "difference")
    deliver(database, address)
    sent = {id_: event for id_, event in lotus.events.items() if id_.startswith("correction-")}
    assert list(sent) == ([f"correction-{correction.id}-{ids_of(database)['a']}"] if expected else [])
    for event in sent.values():
        assert event["properties"] == {"model": "m", **expected}
        assert (event["customer_id"], event["time_created"]) == ("ann", lotus.events["a"]["time_created"])
    assert billed(lotus) == owed(database)
    assert states(database)["a"] == "credited"
    undo(database, correction.id)
    deliver(database, address)
    assert states(database)["a"] == "delivered"
    assert len([id_ for id_ in lotus.events if id_.endswith("-undo")]) == len(sent)
    # What Lotus got itself, and counts elsewhere, is surplus again.
    surplus = sum(state == "surplus" for state in states(database).values())
    assert surplus == (change is not None and "a~2" in lotus.events)
    if not surplus:
        assert billed(lotus) == owed(database)
    balanced(database)


def test_differences_of_one_event_add_up_and_each_undo_takes_back_its_own(
    database: Database, lotus: FakeLotus, address: str
) -> None:
    publish(database, SUM)
    store(database, [use("a", 5)])
    deliver(database, address)
    first = correct(database, {"a": n(7)}, "difference")
    deliver(database, address)
    second = correct(database, {"a~2": n(20)}, "difference")
    deliver(database, address)
    assert billed(lotus) == owed(database) == {"ann": 20}
    undo(database, second.id)
    deliver(database, address)
    assert billed(lotus) == owed(database) == {"ann": 7}
    assert move(database, "release") == (0, 1)
    # What was not sent yet is withdrawn.
    third = correct(database, {"a~2": None}, "difference")
    undo(database, third.id)
    assert "undo of a" not in {key for key, state in states(database).items() if state == "waiting"}
    deliver(database, address)
    assert billed(lotus) == owed(database) == {"ann": 7}
    undo(database, first.id)
    deliver(database, address)
    assert billed(lotus) == owed(database) == {"ann": 5}
    assert len(lotus.repeats) == 0
    assert balanced(database)


def test_a_difference_after_a_hold_catches_up(database: Database, lotus: FakeLotus, address: str) -> None:
    publish(database, SUM)
    store(database, [use("a", 5)])
    deliver(database, address)
    correct(database, {"a": n(7)}, "hold")
    correction = correct(database, {"a~2": n(9)}, "difference")
    deliver(database, address)
    assert billed(lotus) == owed(database) == {"ann": 9}
    undo(database, correction.id)
    deliver(database, address)
    assert billed(lotus) == {"ann": 5}
    assert owed(database) == {"ann": 7}
    assert states(database)["a"] == "surplus"


OBSTACLES = [
    ([], 5, None, 0, "no metric is a sum of events named use"),
    ([SUM, COUNT], 5, None, 0, "the metric calls (count) takes events named use, too"),
    ([SUM, a_metric("most", usage_aggregation_type="max")], 5, n(6), 0, "the metric most (max)"),
    ([SUM, a_metric("kinds", usage_aggregation_type="unique", property_name="note")], 5, None, 0, "kinds (unique)"),
    ([a_metric("level", metric_type="gauge", event_type="delta"), SUM], 5, None, 0, "the metric level (gauge)"),
    (
        [a_metric("large", numeric_filters=[{"property_name": "n", "operator": "gt", "comparison_value": 3}])],
        5,
        None,
        0,
        "the metric large (sum)",
    ),
    ([SUM], 5, None, LOOKS_BACK - 5_000_000, "more than 30 days old"),
]


@pytest.mark.parametrize("case", range(len(OBSTACLES)))
def test_a_difference_that_would_be_wrong_is_refused_before_and_never_sent(
    sqlite_database: Database, lotus: FakeLotus, address: str, case: int
) -> None:
    database = sqlite_database
    metrics, value, change, age, why = OBSTACLES[case]
    publish(database, *metrics)
    store(database, [use("a", value, age=age)])
    deliver(database, address)
    later = clock() + 10_000_000
    id_ = ids_of(database)["a"]
    with database.reading() as conn:
        replacements = None if change is None else {id_: use("a~2", change["properties"]["n"])}
        for choice in ("hold", "send"):
            follower().check(conn, [id_], choice, later, replacements)
        with pytest.raises(BadQuery) as raised:
            follower().check(conn, [id_], "difference", later, replacements)
    assert why in raised.value.message
    assert "choose hold" in raised.value.message
    if age:
        return
    # Where a metric came to live after the question, nothing is sent, and a person has to settle it.
    correct(database, {"a": change}, "difference")
    deliver(database, address)
    assert states(database) == {"a": "surplus", **({} if change is None else {"a~2": "held"})}
    assert list(lotus.events) == ["a"]


def test_other_metrics_do_not_stand_in_the_way_if_they_count_neither_the_event_nor_the_difference(
    database: Database, lotus: FakeLotus, address: str
) -> None:
    large = [{"property_name": "n", "operator": "gte", "comparison_value": 100}]
    publish(database, SUM, a_metric("large", usage_aggregation_type="count", numeric_filters=large))
    store(database, [use("a", 5), use("b", 200), use("c", 200)])
    deliver(database, address)
    # A large one that stays large is one large one, and its difference none.
    correct(database, {"a": n(7), "b": n(150), "c": n(30)}, "difference")
    deliver(database, address)
    assert {key: state for key, state in states(database).items() if "~" not in key} == {
        "a": "credited",
        "b": "credited",
        "c": "surplus",
        "difference of a": "delivered",
        "difference of b": "delivered",
    }


def test_a_number_that_lotus_has_as_a_difference_is_not_sent_beside_it(
    database: Database, lotus: FakeLotus, address: str
) -> None:
    publish(database, SUM)
    store(database, [use("a", 5)])
    deliver(database, address)
    correct(database, {"a": n(7)}, "difference")
    deliver(database, address)
    with database.reading() as conn, pytest.raises(BadQuery, match="reached Lotus as a difference"):
        follower().check(conn, [ids_of(database)["a~2"]], "send", clock())
    correct(database, {"a~2": n(9)}, "send")
    deliver(database, address)
    assert states(database)["a~3"] == "held"
    assert billed(lotus) == {"ann": 7}


def test_a_correction_that_was_settled_by_a_note_gets_no_difference(
    database: Database, lotus: FakeLotus, address: str
) -> None:
    publish(database, SUM)
    store(database, [use("a", 5)])
    deliver(database, address)
    correct(database, {"a": n(7)})
    move(database, "credit")
    with database.reading() as conn, pytest.raises(BadQuery, match=r"settled already \(credit note 114\)"):
        follower().check(conn, [ids_of(database)["a~2"]], "difference", clock())


def test_what_replaces_an_event_under_way_waits_until_somebody_knows(database: Database, lotus: FakeLotus) -> None:
    store(database, [use("a")])
    now = clock()
    with database.writing() as conn:
        [due] = claim(conn, 7, now, now + 60_000_000, 10)
    correct(database, {"a": n(1)}, "hold")
    assert states(database) == {"a": "voided", "a~2": "held"}
    with database.writing() as conn:
        record_results(conn, 7, now, None, [DeliveryResult(due.event_id, DeliveryState.DELIVERED, now, 0)])
    assert states(database) == {"a": "surplus", "a~2": "held"}


def test_a_difference_that_fails_is_seen_in_the_lists(database: Database, lotus: FakeLotus, address: str) -> None:
    publish(database, SUM)
    store(database, [use("a", 5)])
    deliver(database, address)
    correct(database, {"a": n(7)}, "difference")
    time = Clock()
    time.ahead = 31 * DAY
    a_worker(database, address, time).step()
    assert states(database)["difference of a"] == "unforwardable"
    with database.reading() as conn:
        kinds = conn.execute(sa.select(differences.c.customer_id)).scalars().all()
    assert kinds == ["ann"]
