"""The outbox: written with its event, claimed by one, settled once, and counted in the ledger."""

from collections import Counter

import pytest

from app.forward.sql_claims import Attempt, DeliveryResult, claim, record_results, release
from app.forward.sql_deliveries import DeliveryState, find_next_due, request_later, retry, send_again, void_deliveries
from app.forward.sql_destination import Destination, pause, probe_now, read_destination, resume, take_probe
from app.service.build import event_hooks
from app.store import ledger
from app.store.commit import Committer
from app.store.engine import Database
from app.store.schema import attempted, deliveries, events
from app.store.writer import Writer
from tests.builders import IDS, NOW, a_record, a_request, an_event, know_no_version, rows_of, values_of, watch_nothing

SECOND = 1_000_000
MINE, OTHERS = 1, 2


def store(database: Database, *ids: str, forwards: bool = True) -> list[int]:
    """Store an event for each id in one commit; return the ids of the new ones."""
    before = set(values_of(rows_of(database, events, events.c.id)))
    writer = Writer(Committer(database, IDS, know_no_version, event_hooks(IDS, forwards=forwards)), watch_nothing)
    writer.append(a_request(*(a_record(an_event(idempotency_id=id_)) for id_ in ids)))
    return sorted(set(values_of(rows_of(database, events, events.c.id))) - before)


def states(database: Database) -> list[str]:
    return values_of(rows_of(database, deliveries, deliveries.c.state))


def take(database: Database, token: int = MINE, now: int = NOW, limit: int = 100) -> list[int]:
    with database.writing() as conn:
        return [one.event_id for one in claim(conn, token, now, now + 60 * SECOND, limit)]


def end(database: Database, token: int, *settled: DeliveryResult, attempt: Attempt | None = None) -> None:
    with database.writing() as conn:
        ledger.append(conn, 7, NOW, record_results(conn, token, NOW, attempt, settled))


def balanced(database: Database) -> Counter[str]:
    """Return deliveries by state, after checking that the ledger says the same."""
    with database.reading() as conn:
        summed = ledger.sum_counts(conn)
    counted = Counter(states(database))
    assert {entry[1]: count for entry, count in summed.items() if count and entry[0] == ledger.DELIVERY} == counted
    return counted


def test_each_new_event_gets_a_delivery_in_its_own_transaction_and_a_duplicate_none(database: Database) -> None:
    first = store(database, "a", "b")
    second = store(database, "b", "c")
    assert len(second) == 1
    assert values_of(rows_of(database, deliveries, deliveries.c.event_id)) == first + second
    assert balanced(database) == {"waiting": 3}


def test_without_a_key_nothing_is_queued_and_later_it_can_be(database: Database) -> None:
    ids = store(database, "a", "b", "c", forwards=False)
    assert states(database) == []
    with database.writing() as conn:
        assert request_later(conn, ids[0], ids[-1], NOW) == (2, ids[-1])
        assert request_later(conn, 0, ids[-1], NOW) == (1, ids[-1])
        assert request_later(conn, ids[-1], ids[-1], NOW) == (0, None)
    assert states(database) == ["waiting"] * 3


def test_what_one_worker_has_at_hand_no_other_gets_until_its_time_is_up(database: Database) -> None:
    ids = store(database, "a", "b", "c")
    assert take(database, MINE, limit=2) == ids[:2]
    assert take(database, OTHERS) == ids[2:]
    assert take(database, OTHERS) == []
    assert take(database, OTHERS, NOW + 61 * SECOND) == ids


def test_what_is_given_back_is_next_again_in_the_old_order(database: Database) -> None:
    ids = store(database, "a", "b")
    with database.writing() as conn:
        held = claim(conn, MINE, NOW, NOW + SECOND, 10)
        release(conn, OTHERS, held)
    assert take(database, OTHERS) == []
    with database.writing() as conn:
        release(conn, MINE, held)
    assert take(database, OTHERS) == ids


def test_an_end_is_written_with_its_attempt_and_counted(database: Database) -> None:
    ids = store(database, "a", "b", "c", "d")
    assert take(database) == ids
    attempt = Attempt(9, NOW, 12, 3, 201, "{}")
    end(
        database,
        MINE,
        DeliveryResult(ids[0], DeliveryState.DELIVERED, NOW, 0, 9),
        DeliveryResult(ids[1], DeliveryState.FAILED, NOW, 1, 9, "No customer_id provided"),
        DeliveryResult(ids[2], DeliveryState.WAITING, NOW + 5 * SECOND, 1, 9, "later"),
        DeliveryResult(ids[3], DeliveryState.UNFORWARDABLE, NOW, 0, None, "too old"),
        attempt=attempt,
    )
    assert states(database) == ["delivered", "failed", "waiting", "unforwardable"]
    assert rows_of(database, attempted) == [(ids[1], 9), (ids[2], 9)]
    assert balanced(database) == {"delivered": 1, "failed": 1, "waiting": 1, "unforwardable": 1}
    with database.reading() as conn:
        assert find_next_due(conn) == NOW + 5 * SECOND
    assert take(database) == []
    assert take(database, now=NOW + 5 * SECOND) == [ids[2]]


def test_an_end_counts_once_whoever_else_had_it(database: Database) -> None:
    [id_] = store(database, "a")
    take(database, MINE)
    take(database, OTHERS, NOW + 61 * SECOND)
    end(database, MINE, DeliveryResult(id_, DeliveryState.FAILED, NOW, 1))
    assert states(database) == ["waiting"]
    end(database, OTHERS, DeliveryResult(id_, DeliveryState.DELIVERED, NOW, 0))
    end(database, OTHERS, DeliveryResult(id_, DeliveryState.DELIVERED, NOW, 0))
    assert balanced(database) == {"delivered": 1}


def test_a_void_event_is_taken_out_and_is_surplus_if_it_was_delivered(database: Database) -> None:
    ids = store(database, "a", "b", "c", "d")
    take(database, limit=3)
    end(
        database,
        MINE,
        DeliveryResult(ids[0], DeliveryState.DELIVERED, NOW, 0),
        DeliveryResult(ids[1], DeliveryState.FAILED, NOW, 0),
    )
    with database.writing() as conn:
        ledger.append(conn, 7, NOW, void_deliveries(conn, ids, NOW))
    assert states(database) == ["surplus", "voided", "voided", "voided"]
    # It was under way, and Lotus took it.
    end(database, MINE, DeliveryResult(ids[2], DeliveryState.DELIVERED, NOW, 0))
    assert balanced(database) == {"surplus": 2, "voided": 2}
    assert take(database, now=NOW + 100 * SECOND) == []


def test_what_failed_can_wait_again_and_so_can_what_lotus_lost(database: Database) -> None:
    ids = store(database, "a", "b", "c")
    take(database)
    states_of = (DeliveryState.FAILED, DeliveryState.FAILED, DeliveryState.DELIVERED)
    end(database, MINE, *(DeliveryResult(id_, state, NOW, 3) for id_, state in zip(ids, states_of, strict=True)))
    with database.writing() as conn:
        ledger.append(conn, 7, NOW, retry(conn, ids, NOW + 1))
    assert balanced(database) == {"waiting": 2, "delivered": 1}
    with database.writing() as conn:
        ledger.append(conn, 7, NOW, send_again(conn, ids, NOW + 2))
    assert balanced(database) == {"waiting": 3}
    assert take(database, now=NOW + 2) == ids


def test_a_pause_is_said_once_and_one_worker_tries_again(database: Database) -> None:
    well = Destination()
    with database.writing() as conn:
        assert read_destination(conn) == well
        assert pause(conn, well, "key", "no", now=NOW, probe_at=NOW + 5)
        assert not pause(conn, well, "server", "no", now=NOW, probe_at=NOW + 9)
        paused = read_destination(conn)
        assert paused == Destination("key", "no", 1, NOW, NOW + 5)
        assert take_probe(conn, paused, NOW + 50)
        assert not take_probe(conn, paused, NOW + 50)
        assert pause(conn, paused, "key", "still no", now=NOW + 7, probe_at=NOW + 60)
        assert read_destination(conn) == Destination("key", "still no", 2, NOW, NOW + 60)
        probe_now(conn)
        assert read_destination(conn).probe_at == 0
        resume(conn)
        assert read_destination(conn) == well


@pytest.mark.parametrize("waiting", [5])
def test_a_claim_reads_the_index_of_what_waits(database: Database, waiting: int) -> None:
    import sqlalchemy as sa  # noqa: PLC0415

    from app.forward.sql_deliveries import IS_WAITING  # noqa: PLC0415

    store(database, *(str(one) for one in range(waiting)))
    query = sa.select(deliveries.c.event_id).where(IS_WAITING, deliveries.c.due_at <= NOW)
    query = query.order_by(deliveries.c.due_at, deliveries.c.event_id).limit(1)
    text = str(query.compile(database.engine, compile_kwargs={"literal_binds": True}))
    explain = "EXPLAIN QUERY PLAN " if database.file else "EXPLAIN "
    with database.reading() as conn:
        if not database.file:
            conn.execute(sa.text("SET LOCAL enable_seqscan = off"))
        plan = " ".join(str(row) for row in conn.execute(sa.text(explain + text)))
    assert "deliveries_waiting" in plan
