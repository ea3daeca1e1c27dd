"""Whatever goes wrong: exactly the stored, forwardable events arrive."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.lotus import LotusEvent
from app.forward.fake_lotus.faults import Faults, InjectedFault, PlannedFault
from app.forward.fake_lotus.server import FakeLotus, running
from app.store.engine import Database, connect
from app.store.schema import attempts
from tests.builders import empty, rows_of
from tests.forward.forwarding import DAY, KEY, MADE, Clock, a_recent, a_worker, balanced, states_of, store

# Answers whose batch Lotus has taken although we cannot know.
_TAKES_UNHEARD = {InjectedFault.HANG_UP_AFTER, InjectedFault.NOT_JSON}
_FAULTS = [fault for fault in InjectedFault if fault is not InjectedFault.ENDLESS]
_planned = st.lists(
    st.builds(PlannedFault, st.sampled_from(_FAULTS), st.sampled_from([0.2, 0.5, 1.0]), st.integers(1, 4)), max_size=5
)
_ages = st.lists(st.sampled_from([0, 0, 0, 0, DAY, 20 * DAY, 31 * DAY, 400 * DAY, -DAY // 2]), min_size=1, max_size=250)


@pytest.fixture
def kept(migrated_url: str) -> Iterator[Database]:
    database = connect(migrated_url)
    yield database
    database.close()


@given(ages=_ages, faults=_planned, large=st.booleans(), restarts=st.integers(0, 3))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_exactly_the_stored_forwardable_events_arrive(
    kept: Database, ages: list[int], faults: list[PlannedFault], large: bool, restarts: int
) -> None:
    empty(kept)
    time = Clock()
    planned = Faults([PlannedFault(one.fault, one.share, one.left) for one in faults], seed=1)
    lotus = FakeLotus(KEY, faults=planned, clock=time, slow_seconds=0.01)
    made = [_an_event(number, age, large=large) for number, age in enumerate(ages)]
    forwardable = [event.idempotency_id for event, age in zip(made, ages, strict=True) if age < 30 * DAY]
    store(kept, made)
    with running(lotus) as address:
        worker = a_worker(kept, address, time)
        for step in range(5000):
            if worker.step():
                time.ahead += 60_000_000
            if step < restarts:
                worker = a_worker(kept, address, time, tag=40 + step)
            if not states_of(kept)["waiting"]:
                break
        while MADE:
            MADE.pop().close()
    assert set(lotus.events) == set(forwardable)
    assert balanced(kept) == {
        state: count
        for state, count in (("delivered", len(forwardable)), ("unforwardable", len(made) - len(forwardable)))
        if count
    }
    assert lotus.violations == []
    # Only what was taken unheard came again.
    unheard = sum(events for events, status in lotus.requests if status in {0, 201})
    assert len(lotus.repeats) <= unheard - len(forwardable)
    assert not lotus.repeats or any(one.fault in _TAKES_UNHEARD for one in faults)
    # A kept connection that was closed is opened again at once, which is not an attempt of its own.
    assert len(rows_of(kept, attempts)) <= len(lotus.requests)


def _an_event(number: int, age: int, *, large: bool) -> LotusEvent:
    text = "x" * (20_000 if large and number % 3 == 0 else 10)
    return a_recent(f"id-{number:03}", age, customer_id=f"c-{number % 5}", properties={"text": text})
