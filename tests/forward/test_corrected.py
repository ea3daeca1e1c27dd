"""Corrections while two workers forward, Lotus fails, and workers are killed: every event is where its state says.

The judge knows the tables and the ids that Lotus got, and nothing of the code that moves deliveries.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from app.clock import clock
from app.core.json_text import decode
from app.core.outcome import Outcome
from app.core.times import format_time
from app.errors import Unavailable
from app.forward.fake_lotus.faults import InjectedFault, PlannedFault
from app.forward.fake_lotus.server import FakeLotus
from app.forward.lotus import Lotus
from app.forward.reconcile import Reconciliation
from app.forward.retry import try_now
from app.forward.sql_deliveries import mark_as_surplus
from app.metrics.effect import measure_values
from app.store import ledger
from app.store.engine import Database
from app.store.schema import corrections, deliveries, differences, events
from tests.builders import IDS, rows_of, some_transforms
from tests.forward.amending import billed, correct, owed, undo
from tests.forward.forwarding import (
    HOUR,
    KEY,
    MADE,
    SECOND,
    Clock,
    a_recent,
    a_worker,
    balanced,
    states_of,
    store,
    work,
)
from tests.forward.test_process import start
from tests.metrics.conftest import publish
from tests.metrics.metrics import a_metric
from tests.replay.replaying import an_order, replay, take
from tests.served import wait_until

CUSTOMERS = {"ann": "difference", "bob": "hold", "eve": "send"}
ROUNDS = 12
PRICED = 'match: {event: Order}\nevent: {properties: "{total: add(properties.total, `%d`)}"}\n'
FAULTS = [InjectedFault.SLOW, InjectedFault.ERROR, InjectedFault.PARTIAL, InjectedFault.BROKER_DOWN, InjectedFault.BUSY]


class Billing:
    """What people and senders do with one database while it is forwarded."""

    def __init__(self, database: Database, chance: Random) -> None:
        self.database = database
        self.chance = chance
        self.stored = 0
        self.price = 0

    def act(self) -> None:
        """Do one thing."""
        self.chance.choice((self._store, self._store, self._amend, self._amend, self._undo, self._take, self._replay))()

    def act_on_arrival(self, lotus: FakeLotus, kill: Callable[[], None]) -> None:
        """Kill a worker when Lotus gets something, at best before it knows, and correct what was under way."""
        lotus.faults.plan([PlannedFault(InjectedFault.SLOW)])
        received = len(lotus.events)
        self._store()
        # A pause after the faults before would last for minutes.
        wait_until(lambda: len(lotus.events) > received or try_now(self.database) is None, 30)
        time.sleep(self.chance.random() * 0.003)
        kill()
        changes: dict[str, dict[str, None]] = defaultdict(dict)
        for key in list(lotus.events)[-20:]:
            if not key.startswith(("correction", "order")) and "~" not in key:
                changes[lotus.events[key]["customer_id"]][key] = None
        for customer, keys in changes.items():
            correct(self.database, keys, CUSTOMERS[customer])

    def _store(self) -> None:
        first, self.stored = self.stored, self.stored + self.chance.randint(20, 120)
        made = []
        for number in range(first, self.stored):
            customer = self.chance.choice(list(CUSTOMERS))
            made.append(
                a_recent(f"{customer}-{number}", event_name="use", customer_id=customer, properties={"n": number})
            )
        store(self.database, made)

    def _amend(self) -> None:
        columns = (events.c.idempotency_id, events.c.customer_id, events.c.voided_at, events.c.event_name)
        live: dict[str, list[str]] = defaultdict(list)
        for key, customer, voided_at, name in rows_of(self.database, events, *columns):
            if voided_at is None and name == "use":
                live[customer].append(key)
        for customer in self.chance.sample(sorted(live), min(2, len(live))):
            keys = self.chance.sample(live[customer], min(len(live[customer]), self.chance.randint(1, 15)))
            changes = {
                key: None if self.chance.random() < 0.4 else {"properties": {"n": self.chance.randint(0, 500)}}
                for key in keys
            }
            correct(self.database, changes, CUSTOMERS[customer])

    def _undo(self) -> None:
        rows = rows_of(self.database, corrections, corrections.c.id, corrections.c.state)
        # The last of an event's corrections first: what another one corrected since is left.
        undoable = [id_ for id_, state in rows if state == "finished"]
        if undoable:
            undo(self.database, self.chance.choice(undoable[-3:]))

    def _take(self) -> None:
        orders = [
            an_order(self.chance.randint(0, 10**6), userId="zoe", timestamp=format_time(clock())) for _ in range(10)
        ]
        take(self.database, some_transforms(order=PRICED % self.price), *orders)
        with self.database.writing() as conn:
            _queue_all(conn)

    def _replay(self) -> None:
        self.price += 1
        replay(self.database, some_transforms(order=PRICED % self.price), outcomes=tuple(Outcome), correct=True)


def _queue_all(conn: object) -> None:
    from app.forward.sql_deliveries import count_waiting, request_later  # noqa: PLC0415

    count, _ = request_later(conn, 0, (1 << 63) - 1, clock())  # type: ignore[arg-type]
    ledger.append(conn, IDS.tag, clock(), count_waiting(count))  # type: ignore[arg-type]


@pytest.mark.survival
@pytest.mark.parametrize("seed", [1])
def test_corrections_while_workers_are_killed_and_lotus_fails_leave_every_event_where_its_state_says(
    database: Database, migrated_url: str, lotus: FakeLotus, address: str, tmp_path: Path, seed: int
) -> None:
    publish(database, a_metric("total"))
    chance = Random(seed)  # noqa: S311  nothing is secret here
    life = Billing(database, chance)
    life._store()
    lotus.slow_seconds = 0.05
    workers = [start(tmp_path / name, migrated_url, address, lease="1") for name in ("one", "two")]
    kills = 0
    try:
        for number in range(ROUNDS):
            lotus.faults.plan(
                [PlannedFault(chance.choice(FAULTS), chance.choice([0.2, 0.5, 1.0]), chance.randint(1, 3))]
            )
            life.act()
            if number % 4 == 3:
                victim = chance.randrange(2)
                life.act_on_arrival(lotus, workers[victim].kill)
                workers[victim].join(10)
                kills += 1
                workers[victim] = start(tmp_path / f"again-{number}", migrated_url, address, lease="1")
            time.sleep(chance.random() * 0.05)
        lotus.faults.plan([])
        for process in workers:
            process.terminate()
            process.join(20)
    finally:
        for process in workers:
            process.kill()
    assert kills == ROUNDS // 4
    wait_until(lambda: not lotus.open_connections)
    # What Lotus was in trouble with waits for minutes, and leases of the killed have to end.
    time_ahead = Clock()
    time_ahead.ahead = 10 * SECOND
    work(a_worker(database, address, time_ahead), time_ahead, leap=HOUR)
    unknown = _reconcile(database, address)
    found = states_of(database)
    print(f"{kills} kills, {len(lotus.repeats)} sent again, {unknown} void ones found in Lotus; {dict(found)}")  # noqa: T201
    assert {"delivered", "surplus", "credited", "held", "voided"} <= set(found), "too little happened"
    assert rows_of(database, differences)
    judge(database, lotus)


def _reconcile(database: Database, address: str) -> int:
    """Find what was killed between Lotus's answer and its record, and is void since."""
    MADE.append(Lotus(address, KEY))
    report = Reconciliation(database, MADE[-1], measure_values, clock).run(0)
    assert report.missing == []
    with database.writing() as conn:
        unknown = [event.event_id for event in report.unknown]
        ledger.append(conn, IDS.tag, clock(), mark_as_surplus(conn, unknown, clock()))
    try:
        again = Reconciliation(database, MADE[-1], measure_values, clock).run(0)
    except Unavailable as error:
        raise AssertionError(error.message) from error
    assert (again.missing, again.unknown) == ([], [])
    return len(unknown)


def judge(database: Database, lotus: FakeLotus) -> None:
    """Compare states with what Lotus has, and the chains of `ann` with their numbers."""
    assert lotus.violations == []
    balanced(database)
    columns = (events.c.id, events.c.idempotency_id, events.c.voided_at, events.c.properties)
    rows = {id_: (key, void, decode(text.encode())) for id_, key, void, text in rows_of(database, events, *columns)}
    further = {row[0]: row for row in rows_of(database, differences)}
    outbox = rows_of(database, deliveries, deliveries.c.event_id, deliveries.c.state, deliveries.c.held_for)
    states = {id_: state for id_, state, _ in outbox}
    for id_, state in states.items():
        key = rows[id_][0] if id_ in rows else further[id_][3]
        is_void = id_ in rows and rows[id_][1] is not None
        has = key in lotus.events
        expected = {
            (True, True): {"surplus", "credited"},
            (True, False): {"voided"},
            (False, True): {"delivered"},
            (False, False): {"held"} if id_ in rows else {"voided"},
        }[is_void, has]
        assert state in expected, (key, state, is_void, has)
    assert len(further) == len({row[3] for row in further.values()})
    # What Lotus adds up for an event that it has: itself, and the differences since.
    sums = {id_: Decimal(rows[id_][2]["n"]) for id_ in rows if "n" in rows[id_][2]}
    told: dict[int, Decimal] = defaultdict(Decimal)
    for row in further.values():
        if states[row[0]] == "delivered":
            told[row[2]] += Decimal(str(decode(row[7].encode())["n"]))
    live_of = {root: id_ for id_, state, root in outbox if root is not None and state == "held"}
    notes = dict(rows_of(database, deliveries, deliveries.c.event_id, deliveries.c.note))
    for id_, state in states.items():
        if state == "delivered" and id_ in sums:
            assert told[id_] == 0
        elif state == "credited":
            assert "correction" in notes[id_]
            replacement = live_of.get(id_)
            assert sums[id_] + told[id_] == (0 if replacement is None else sums[replacement]), rows[id_]
    assert set(billed(lotus)) <= {*CUSTOMERS}
    assert set(owed(database)) <= {*CUSTOMERS}
