"""An answer as of a moment is what was answered then: exactly, and whatever happens later. On both databases."""

import time
from random import Random

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.clock import clock
from app.errors import BadQuery, Unavailable
from app.metrics import answer_from_buckets as answer_from_buckets_module
from app.metrics.answer import answer, answer_raw
from app.metrics.answer_from_buckets import answer_from_buckets
from app.metrics.catalog import get_metric
from app.metrics.query import Query
from app.metrics.windows import Unit
from app.store import moment as moment_module
from app.store.clock import read_clock
from app.store.engine import Database, connect
from app.store.ids import micros_of
from app.store.moment import reading_at
from app.store.schema import calls, events, sightings
from tests import builders
from tests.builders import NOW, an_event, empty, rows_of
from tests.forward.forwarding import store
from tests.metrics.conftest import fold_all, publish
from tests.metrics.history import CUSTOMERS, DAY, KINDS, History, LogEntry
from tests.metrics.metrics import a_metric
from tests.metrics.recomputation import compute
from tests.replay import replaying

STEPS = 8


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment may be asked for as soon as it is over, and calls come now."""
    monkeypatch.setattr(moment_module, "MARGIN", 0)
    monkeypatch.setattr(builders, "NOW", clock())
    # After all nodes have the versions that were published just now.
    monkeypatch.setattr(replaying, "clock", lambda: clock() + 10_000_000)


@settings(
    max_examples=max(1, settings().max_examples // 12), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32))
def test_an_answer_as_of_a_moment_never_changes(database: Database, at_once: None, seed: int) -> None:
    empty(database)
    chance, now = Random(seed), clock()  # noqa: S311  nothing is secret here
    history = History(database, chance, now - 33 * DAY, now + 50_000)
    for _ in range(STEPS):
        history.act()
        history.note()
        check(history, chance.choice(history.log), chance.sample(list(KINDS), 3), chance)
    for entry in chance.sample(history.log, 4):
        check(history, entry, list(KINDS), chance)


def check(history: History, entry: LogEntry, names: list[str], chance: Random) -> None:
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
        for name in names:
            metric = get_metric(conn, name, as_of=entry.moment)
            assert metric.text == entry.live[name].text
            expected = compute(metric, entry.counted, query, entry.moment)
            assert answer(conn, metric, query, now).rows == expected.rows, name
            assert answer_raw(conn, metric, query, now).rows == expected.rows, name


def test_a_moment_that_can_still_change_is_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with database.reading() as conn:
        now = read_clock(conn)
    with pytest.raises(BadQuery, match=r"as_of must be at least 30 s ago, .* at most"), reading_at(database, now):
        pass
    with reading_at(database, now - 31_000_000):
        pass
    monkeypatch.setattr(builders, "NOW", clock())
    store(database, [an_event(idempotency_id="ahead")])
    with database.writing() as conn:
        conn.execute(sa.update(events).values(stored_at=now + 3_600_000_000))
    with pytest.raises(Unavailable, match="the clock is behind"), reading_at(database, now - 31_000_000):
        pass


def test_what_is_still_being_written_by_a_moment_is_waited_for_or_refused(
    database: Database, at_once: None, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.engine.WAIT_SECONDS", 0.2)
    other = connect(migrated_url)
    with other.writing() as conn:
        read_clock(conn)
        moment = clock()
        # A server tells that it writes. A file has one writer: the question waits for its turn.
        why = "is still being stored: ask again" if database.file is None else "another process holds it"
        with pytest.raises(Unavailable, match=why), reading_at(database, moment):
            pass
    other.close()
    with reading_at(database, moment):
        pass


def test_a_commit_is_before_a_moment_or_after_it_and_never_in_the_middle(database: Database, at_once: None) -> None:
    store(database, [an_event(idempotency_id=f"e-{number}") for number in range(20)])
    assert len(set(rows_of(database, events, events.c.stored_at))) == 1
    with database.writing() as conn:
        now = read_clock(conn)
        time.sleep(0.002)
        assert read_clock(conn) == now
    with database.writing() as conn:
        assert read_clock(conn) > now


def test_events_of_before_the_times_of_storing_count_from_when_their_calls_arrived(
    database: Database, at_once: None
) -> None:
    metric = a_metric("tokens", event_name="API Call", property_name="tokens")
    publish(database, metric)
    store(database, [an_event(event_name="API Call", idempotency_id="1", properties={"tokens": 5})])
    with database.writing() as conn:
        # As an older version of the program left it.
        conn.execute(sa.update(events).values(stored_at=None))
        conn.execute(sa.delete(sightings))
        conn.execute(sa.insert(sightings).values(name="stored_at", seen_at=clock()))
    [(arrived,)] = rows_of(database, calls, calls.c.id)
    # The event says of itself that it happened on the first of November.
    values = []
    for moment in (micros_of(arrived) - 1, micros_of(arrived), clock()):
        with reading_at(database, moment) as conn:
            query = Query(start=NOW - DAY, end=NOW + DAY, as_of=moment)
            result = answer(conn, metric, query, moment)
            values.append((sum(int(row.value or 0) for row in result.rows), result.by_arrival))
    assert values == [(0, True), (5, True), (5, False)]


def test_few_changes_are_taken_from_buckets_and_many_from_raw_events(
    database: Database, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = a_metric("tokens", event_name="API Call", property_name="tokens")
    publish(database, metric)
    first = [an_event(event_name="API Call", idempotency_id=f"a-{n}", properties={"tokens": n}) for n in range(5)]
    store(database, first)
    fold_all(database)
    with database.reading() as conn:
        moment = read_clock(conn)
    more = [an_event(event_name="API Call", idempotency_id=f"b-{n}", properties={"tokens": 100}) for n in range(5)]
    store(database, more)
    query = Query(start=NOW - DAY, end=NOW + DAY, as_of=moment)
    with reading_at(database, moment) as conn:
        quick = answer_from_buckets(conn, metric, query, moment)
        assert quick is not None
        assert [(row.value, row.events_count) for row in quick.rows] == [("10", 5)]
        assert quick.rows == answer_raw(conn, metric, query, moment).rows
        monkeypatch.setattr(answer_from_buckets_module, "_CHANGES_MAX", 3)
        assert answer_from_buckets(conn, metric, query, moment) is None
