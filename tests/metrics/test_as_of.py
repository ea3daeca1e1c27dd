"""An answer as of a moment is what was answered then: exactly, and whatever happens later. On both databases."""

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.clock import clock
from app.metrics.answer import answer, answer_raw
from app.metrics.catalog import get_metric
from app.metrics.query import Query
from app.metrics.windows import Unit
from app.store import moment as moment_module
from app.store.engine import Database
from app.store.moment import reading_at
from tests import builders
from tests.builders import empty
from tests.metrics.history import CUSTOMERS, DAY, KINDS, History, LogEntry
from tests.metrics.recomputation import compute
from tests.replay import replaying

STEPS = 12


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment may be asked for as soon as it is over, and calls come now."""
    monkeypatch.setattr(moment_module, "MARGIN", 0)
    monkeypatch.setattr(builders, "NOW", clock())
    # After all nodes have the versions that were published just now.
    monkeypatch.setattr(replaying, "clock", lambda: clock() + 10_000_000)


@settings(
    max_examples=max(1, settings().max_examples // 8), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32))
def test_an_answer_as_of_a_moment_never_changes(database: Database, at_once: None, seed: int) -> None:
    empty(database)
    chance, now = Random(seed), clock()  # noqa: S311  nothing is secret here
    history = History(database, chance, now - 33 * DAY, now + 50_000)
    for _ in range(STEPS):
        history.act()
        history.note()
        check(history, chance.choice(history.log), chance)
    for entry in history.log:
        check(history, entry, chance)


def check(history: History, entry: LogEntry, chance: Random) -> None:
    """Compare what is answered as of a moment with what counted then."""
    window, customer = chance.choice((None, Unit.DAY)), chance.choice((None, *CUSTOMERS))
    now = clock()
    query = Query(
        start=now // DAY * DAY - 33 * DAY,
        end=now + DAY,
        as_of=entry.moment,
        window=window,
        customer_id=customer,
        tz=chance.choice(("UTC", "Europe/Berlin")),
    )
    with reading_at(history.database, entry.moment) as conn:
        for name in KINDS:
            metric = get_metric(conn, name, as_of=entry.moment)
            assert metric.text == entry.live[name].text
            expected = compute(metric, entry.counted, query, entry.moment)
            assert answer(conn, metric, query, now).rows == expected.rows, name
            assert answer_raw(conn, metric, query, now).rows == expected.rows, name
