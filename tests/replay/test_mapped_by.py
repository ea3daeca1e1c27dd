"""Replaying the calls that a transform maps now, whoever decided then. On both databases."""

from app.replay.decide import NOT_MAPPED
from app.store.engine import Database
from tests.builders import a_document, balance, some_transforms
from tests.replay.replaying import RIGHT, WRONG, a_replayer, an_order, outcomes, replay, take

BIG = "match: {event: Order}\npriority: 10\nevent: {customer_id: properties.account}\n"
WHO = "match: {type: identify}\nevent: {event_name: {const: who}}\n"


def test_calls_that_others_rejected_or_that_none_took_are_replayed_and_no_others(database: Database) -> None:
    """One was rejected by its own transform, one by another, one was taken by none; another event stays rejected."""
    take(database, some_transforms(order=WRONG), an_order(1))
    take(database, some_transforms(big=BIG), an_order(2), a_document(type="identify", messageId="who-1"))
    take(database, some_transforms(), a_document(event="Refund", userId=None, messageId="refund-1"))
    assert outcomes(database) == ["rejected", "rejected", "ignored", "rejected"]
    fixed = some_transforms(order=RIGHT, big=BIG.replace("Order", "Other"), who=WHO)
    tried = replay(database, fixed, mapped_by=("order", "who"), dry=True)
    plan = replay(database, mapped_by=("order", "who"))
    assert tried.tally == plan.tally
    assert plan.tally.changed == {"rejected > stored": 2, "ignored > stored": 1}
    assert plan.replay.total == 3, "the calls of other events are not read"
    assert outcomes(database) == ["stored", "stored", "stored", "rejected"]
    balance(database)


def test_calls_of_its_events_that_it_does_not_map_stay_and_are_not_offered(database: Database) -> None:
    take(database, some_transforms(order=WRONG), an_order(1), an_order(2, userId=None), a_document(type="identify"))
    fixed = some_transforms(order="match: {event: 'O*'}\nevent: {customer_id: userId}\n")
    plan = replay(database, fixed, mapped_by=("order",), dry=True)
    assert plan.tally.left == {NOT_MAPPED: 1}
    replayer = a_replayer(database)
    assert replayer.count_mapped(replayer.plan(plan.request, (None, None)), 5) == (1, 2)
    replay(database, mapped_by=("order",))
    assert outcomes(database) == ["stored", "rejected", "ignored"]
