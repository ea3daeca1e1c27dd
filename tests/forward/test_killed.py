"""A worker that is killed at each of its points in turn: at each statement, commit, request and look at the clock.

What it had begun is undone as a kill undoes it: the open transaction is rolled back, and nothing is given back.
The same with a real process and a real signal, at whatever point it is then: tests/forward/test_process.py.
"""

from typing import Any

import pytest
import sqlalchemy as sa

from app.forward.fake_lotus.faults import InjectedFault, PlannedFault
from app.forward.fake_lotus.server import FakeLotus
from app.forward.verdict import LotusAnswer
from app.forward.worker import LEASE_SECONDS, ForwardWorker
from app.store.engine import Database
from tests.builders import empty
from tests.forward.forwarding import SECOND, Clock, a_recent, a_worker, balanced, store, work

EVENTS = 130


class Killed(BaseException):
    """No `except Exception` gets in its way."""


class Trap:
    """Kills at one of the points that it is called at, once."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, *_arguments: Any) -> None:
        self.left -= 1
        if self.left == -1:
            raise Killed


def drive_into(trap: Trap, worker: ForwardWorker, database: Database, time: Clock, steps: int) -> bool:
    """Let a worker run into a trap; False where it came to its end before."""
    ask, tell_time = worker._lotus.track, worker._clock

    def track(body: bytes) -> LotusAnswer:
        trap()
        answer = ask(body)
        trap()
        return answer

    def look() -> int:
        trap()
        return tell_time()

    worker._lotus.track = track  # type: ignore[method-assign]
    worker._clock = look
    listeners = [(name, lambda *_: trap()) for name in ("before_cursor_execute", "commit")]
    for name, listener in listeners:
        sa.event.listen(database.engine, name, listener)
    try:
        for _ in range(steps):
            if worker.step():
                time.ahead += 10 * SECOND
    except Killed:
        return True
    finally:
        for name, listener in listeners:
            sa.event.remove(database.engine, name, listener)
    return False


@pytest.mark.survival
@pytest.mark.parametrize(("fault", "steps", "stride"), [(None, 1, 1), (InjectedFault.PARTIAL, 4, 3)])
def test_killed_at_each_point_every_event_arrives_and_only_the_batch_under_way_again(
    database: Database, lotus: FakeLotus, address: str, fault: InjectedFault | None, steps: int, stride: int
) -> None:
    points = 0
    while True:
        empty(database)
        lotus.forget()
        lotus.faults.plan([PlannedFault(fault, left=1)] if fault else [])
        store(database, [a_recent(f"id-{number:03}") for number in range(EVENTS)])
        time = Clock()
        was_killed = drive_into(Trap(points), a_worker(database, address, time), database, time, steps)
        lotus.faults.plan([])
        time.ahead += int(LEASE_SECONDS + 1) * SECOND
        another = a_worker(database, address, time, tag=22)
        another.begin()
        work(another, time)
        assert set(lotus.events) == {f"id-{number:03}" for number in range(EVENTS)}, points
        assert balanced(database) == {"delivered": EVENTS}, points
        assert len(lotus.repeats) <= 100, points
        assert len(lotus.repeats) == len(set(lotus.repeats)), points
        assert lotus.violations == []
        if not was_killed:
            break
        points += stride
    assert points > 15
