"""Voids, amends, undos, replays, folds, deliveries and calls in any order, one amid another: all adds up.

The judge reads tables, and recomputes each metric in plain Python from the events that are not void.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.outcome import Outcome
from app.corrections import corrector as corrector_module
from app.corrections.amendment import Amendment, parse_amendment
from app.corrections.corrector import CorrectionBusy, Corrector
from app.corrections.documents import to_tally
from app.corrections.selection import Selection
from app.errors import NotFound
from app.metrics.fold import BucketBuilder
from app.store.corrections import Attribution, Correction, CorrectionState, get_correction
from app.store.engine import Database
from app.store.schema import calls, corrected_events, corrections, events
from tests.builders import NOW, empty, rows_of, some_transforms
from tests.corrections.correcting import METRICS, a_corrector, check, counted, deliver, keep
from tests.metrics.conftest import fold_all, publish
from tests.metrics.metrics import a_metric
from tests.replay.replaying import an_order, replay, take

STEPS = 20
CUSTOMERS = ("customer-0", "customer-1", "customer-2")
TOTALS = [
    a_metric(f"totals_{aggregation}", event_name="Order", property_name="total", usage_aggregation_type=aggregation)
    for aggregation in ("sum", "max", "latest", "unique")
]
PRICED = 'match: {event: Order}\nevent: {properties: "{total: add(properties.total, `%d`)}"}\n'


class Life:
    """What people and processes do with one database."""

    def __init__(self, database: Database, chance: Random) -> None:
        self.database = database
        self.chance = chance
        self.price = 0
        self.stored = 0
        self._correctors = [a_corrector(database, tag) for tag in (41, 42)]
        self._folders = [BucketBuilder(database, holder, lambda: NOW) for holder in (1, 2)]
        self._depth = 0

    def run(self) -> None:
        self._take()
        for _ in range(STEPS):
            self._act()
            check(self.database, [*METRICS, *TOTALS])

    def _act(self) -> None:
        actions = (
            self._take,
            self._keep,
            self._void,
            self._amend,
            self._amend,
            self._undo,
            self._undo,
            self._go_on,
            self._fold,
        )
        self.chance.choice((*actions, self._fold, self._replay, self._deliver))()

    def _take(self) -> None:
        numbers = [self.chance.randint(0, self.stored + 3) for _ in range(self.chance.randint(1, 4))]
        orders = [an_order(number, userId=CUSTOMERS[number % 3]) for number in numbers]
        take(self.database, some_transforms(order=PRICED % self.price), *orders)
        self.stored = max(self.stored, *numbers)

    def _keep(self) -> None:
        """Store events that are forwarded."""
        before = len(rows_of(self.database, events, events.c.id))
        numbers = range(before, before + self.chance.randint(1, 4))
        keep(self.database, numbers, forwards=True, customer_id=self.chance.choice(CUSTOMERS))

    def _void(self) -> None:
        self._correct(self._choose(), None)

    def _choose(self) -> Selection:
        ids = rows_of(self.database, events, events.c.idempotency_id)
        return self.chance.choice(
            (
                Selection(ids=(self.chance.choice(ids)[0],)),
                Selection(customer=self.chance.choice(CUSTOMERS)),
                Selection(event_name=self.chance.choice(("Order", "api_call"))),
            )
        )

    def _amend(self) -> None:
        values = {f"properties.{name}": self.chance.randint(0, 9) for name in ("total", "tokens")}
        moved = {"customer_id": self.chance.choice(CUSTOMERS)} if self.chance.random() < 0.4 else {}
        self._correct(self._choose(), parse_amendment({**values, **moved}, ()))

    def _correct(self, selection: Selection, amendment: Amendment | None) -> None:
        corrector = self.chance.choice(self._correctors)
        try:
            preview = corrector.preview(selection, amendment)
        except NotFound:
            return
        before = set(counted(self.database))
        correction = corrector.begin(preview, Attribution(author="ann", reason="no reason"))
        is_new = not rows_of(self.database, corrections, corrections.c.cursor_event)[-1][0] >= 0
        seen = self._run(corrector, correction)
        if seen is not None and is_new:
            # Alone it does what it said before, and nothing else.
            assert to_tally(seen) == preview.tally
            gone = preview.tally.events if amendment is None else 0
            assert len(before) - len(counted(self.database)) == gone

    def _undo(self) -> None:
        states = dict(rows_of(self.database, corrections, corrections.c.id, corrections.c.state))
        undoable = [id_ for id_, state in states.items() if state != CorrectionState.UNDONE]
        if undoable:
            corrector = self.chance.choice(self._correctors)
            self._run(corrector, corrector.begin_undo(self.chance.choice(undoable), "bob", "no reason"))

    def _go_on(self) -> None:
        """Another process takes up what was stopped."""
        states = dict(rows_of(self.database, corrections, corrections.c.id, corrections.c.state))
        stopped = [id_ for id_, state in states.items() if state in {CorrectionState.RUNNING, CorrectionState.UNDOING}]
        if stopped:
            with self.database.reading() as conn:
                correction = get_correction(conn, self.chance.choice(stopped))
            self._run(self.chance.choice(self._correctors), correction)

    def _run(self, corrector: Corrector, correction: Correction) -> Correction | None:
        """Go on to the end, or stop anywhere; return it if it came to its end and nothing happened meanwhile."""
        alone = True

        def breathe(_count: int) -> None:
            nonlocal alone
            if self._depth == 0 and self.chance.random() < 0.3:
                alone, self._depth = False, 1
                self._act()
                self._depth = 0
                check(self.database, TOTALS)

        seconds = 0 if self.chance.random() < 0.2 else None
        try:
            after = corrector.run(correction, breathe, seconds)
        except CorrectionBusy:
            self._depth = 0
            return None
        return after if alone and seconds is None else None

    def _replay(self) -> None:
        left = self._void_by_people(), self._outcomes_of_void()
        self.price += self.chance.randint(0, 1)
        asked: dict[str, Any] = {"correct": True} if self.chance.random() < 0.7 else {}
        replay(self.database, some_transforms(order=PRICED % self.price), outcomes=tuple(Outcome), **asked)
        assert (self._void_by_people(), self._outcomes_of_void()) == left

    def _void_by_people(self) -> list[tuple[Any, ...]]:
        names = events.c.keys()
        at, by = names.index("voided_at"), names.index("voided_by")
        # What an undo took out again is nobody's decision any more.
        columns = corrected_events.c.replacement_id, corrected_events.c.state
        undone = {new for new, state in rows_of(self.database, corrected_events, *columns) if state == "revived"}
        void = [row for row in rows_of(self.database, events) if row[at] is not None and row[by] is None]
        return [row for row in void if row[0] not in undone]

    def _outcomes_of_void(self) -> list[tuple[Any, ...]]:
        made_by = {row[events.c.keys().index("call_id")] for row in self._void_by_people()}
        columns = (calls.c.id, calls.c.outcome, calls.c.results, calls.c.transform_digest)
        return [row for row in rows_of(self.database, calls, *columns) if row[0] in made_by]

    def _fold(self) -> None:
        folder = self.chance.choice(self._folders)
        for _ in range(self.chance.randint(1, 6)):
            folder.step(self.chance.randint(1, 10), build_events=self.chance.randint(1, 10))

    def _deliver(self) -> None:
        names = rows_of(self.database, events, events.c.idempotency_id)
        deliver(self.database, self.chance.choice(names)[0])

    def end(self) -> None:
        """Undo all, the newest first: then all counts, but what a replay replaced, or an undo left or removed."""
        self._depth = 1
        finish: Callable[[Correction], Correction] = self._correctors[0].run
        for id_, state in sorted(rows_of(self.database, corrections, corrections.c.id, corrections.c.state))[::-1]:
            if state != CorrectionState.UNDONE:
                finish(self._correctors[0].begin_undo(id_, "bob", "all of it"))
        columns = corrected_events.c.event_id, corrected_events.c.state
        ends = {"left", "removed"}
        left = {id_ for id_, state in rows_of(self.database, corrected_events, *columns) if state in ends}
        assert {row[0] for row in self._void_by_people()} <= left
        replay(self.database, some_transforms(order=PRICED % self.price), outcomes=tuple(Outcome), correct=True)
        fold_all(self.database)
        check(self.database, [*METRICS, *TOTALS])


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three events."""
    monkeypatch.setattr(corrector_module, "STEP_EVENTS", 3)
    monkeypatch.setattr(corrector_module, "_BREATH_SECONDS", 0)


@settings(
    max_examples=max(1, settings().max_examples // 8), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32))
def test_whatever_people_and_processes_do_in_whatever_order_every_number_is_right(
    database: Database, small_steps: None, seed: int
) -> None:
    empty(database)
    publish(database, *METRICS, *TOTALS)
    life = Life(database, Random(seed))  # noqa: S311  nothing is secret here
    life.run()
    life.end()
