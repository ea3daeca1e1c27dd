"""A replay queues what it stores, and takes out what it makes void before it was sent. On both databases."""

import pytest

from app.catalog.live import Catalog
from app.clock import clock as wall_clock
from app.core.outcome import Outcome
from app.forward.sql_claims import DeliveryResult, claim, record_results
from app.forward.sql_deliveries import DeliveryState
from app.replay.plan import ReplayRequest
from app.replay.replayer import Replayer
from app.service.build import replay_hooks
from app.store import ledger
from app.store.engine import Database
from app.store.schema import deliveries, events
from tests.builders import NOW, published, rows_of, some_ids, some_transforms
from tests.forward.forwarding import balanced
from tests.replay.replaying import RIGHT, UNMADE, WRONG, an_order, clock, take

DOUBLED = 'match: {event: Order}\nevent: {properties: "{total: add(properties.total, properties.total)}"}\n'


def replay(database: Database, text: str, *, correct: bool = False, forwards: bool = True) -> None:
    published(database, some_transforms(order=text), some_ids(12))
    replayer = Replayer(
        database=database,
        catalog=Catalog(),
        ids=(ids := some_ids(11)),
        clock=clock,
        hooks=replay_hooks(ids, forwards=forwards),
    )
    outcomes = (*UNMADE, Outcome.STORED) if correct else UNMADE
    plan = replayer.plan(ReplayRequest(outcomes=outcomes, correct=correct), (None, None), again=True)
    replayer.run(plan, lambda _count: None)


def states(database: Database) -> dict[str, str]:
    ids = dict(rows_of(database, events, events.c.id, events.c.idempotency_id))
    return {ids[id_]: state for id_, state in rows_of(database, deliveries, deliveries.c.event_id, deliveries.c.state)}


@pytest.mark.parametrize("forwards", [True, False])
def test_what_a_replay_stores_is_queued_where_there_is_a_key(database: Database, forwards: bool) -> None:
    assert take(database, some_transforms(order=WRONG), an_order(1), an_order(2)) == ["rejected", "rejected"]
    replay(database, RIGHT, forwards=forwards)
    assert states(database) == ({"order-1": "waiting", "order-2": "waiting"} if forwards else {})
    replay(database, RIGHT, forwards=True)
    assert balanced(database) == ({"waiting": 2} if forwards else {})


def test_a_shell_that_does_not_know_the_key_queues_what_stands_for_what_it_takes_out(database: Database) -> None:
    take(database, some_transforms(order=WRONG), an_order(1))
    replay(database, RIGHT)
    replay(database, DOUBLED, correct=True, forwards=False)
    assert states(database) == {"order-1": "voided", "order-1~2": "waiting"}
    assert balanced(database) == {"voided": 1, "waiting": 1}


def test_a_correction_holds_back_what_stands_for_an_event_that_lotus_has_or_may_get(database: Database) -> None:
    take(database, some_transforms(order=WRONG), an_order(1), an_order(2), an_order(3))
    replay(database, RIGHT)
    with database.writing() as conn:
        held = claim(conn, 1, NOW * 2, wall_clock() + 60_000_000, 2)
        [first] = [one for one in held if one.idempotency_id == "order-1"]
        ledger.append(
            conn,
            1,
            NOW,
            record_results(conn, 1, NOW, None, [DeliveryResult(first.event_id, DeliveryState.DELIVERED, NOW, 0)]),
        )
    replay(database, DOUBLED, correct=True)
    assert states(database) == {
        "order-1": "surplus",
        "order-2": "voided",
        "order-3": "voided",
        "order-1~2": "held",
        "order-2~2": "held",
        "order-3~2": "waiting",
    }
    assert balanced(database) == {"surplus": 1, "voided": 2, "held": 2, "waiting": 1}
