"""The ledger over time: each count stands in its step, and all of them are there."""

from collections import Counter

from app.core.outcome import Outcome, Reason
from app.service.sql_series import count_calls_by_step, last_steps
from app.store import ledger
from app.store.engine import Database
from app.store.ledger import CALL, EVENT, MINUTE
from tests.builders import NOW

ENTRIES = (
    (NOW - 61 * MINUTE, Outcome.STORED, "", 1),
    (NOW - 60 * MINUTE, Outcome.STORED, "", 2),
    (NOW - 31 * MINUTE, Outcome.REJECTED, Reason.EVENT_INVALID.value, 3),
    (NOW - 30 * MINUTE, Outcome.REJECTED, Reason.INPUT_SCHEMA.value, 4),
    (NOW, Outcome.STORED, "", 5),
)


def test_each_count_stands_in_the_step_of_its_minute(database: Database) -> None:
    with database.writing() as conn:
        for node, (micros, outcome, reason, count) in enumerate(ENTRIES):
            counts = Counter({(CALL, outcome.value, reason): count, (EVENT, "stored", ""): 1000})
            ledger.append(conn, node, micros, counts)
            ledger.append(conn, node + 10, micros, counts)
    # NOW is ten o'clock sharp: the last step begins with it.
    span = last_steps(NOW, steps=3, step_minutes=30)
    assert list(span.starts) == [NOW - 60 * MINUTE, NOW - 30 * MINUTE, NOW]
    with database.reading() as conn:
        steps = count_calls_by_step(conn, span)
        finest = count_calls_by_step(conn, last_steps(NOW, steps=62, step_minutes=1))
        assert steps == [Counter(stored=4, rejected=6), Counter(rejected=8), Counter(stored=10)]
        assert sum(finest, Counter()) == Counter(stored=16, rejected=14)
        whole = ledger.sum_counts(conn, span.since, span.until)
    assert sum(sum(steps, Counter()).values()) == sum(count for entry, count in whole.items() if entry[0] == CALL)


def test_an_empty_ledger_is_steps_without_counts(database: Database) -> None:
    with database.reading() as conn:
        assert count_calls_by_step(conn, last_steps(NOW, steps=4, step_minutes=180)) == [Counter()] * 4


def test_what_a_replay_takes_from_an_outcome_is_counted_below_zero(database: Database) -> None:
    with database.writing() as conn:
        ledger.append(conn, 1, NOW, Counter({(CALL, "rejected", "event_invalid"): -2, (CALL, "stored", ""): 2}))
    with database.reading() as conn:
        [step] = count_calls_by_step(conn, last_steps(NOW, steps=1, step_minutes=1))
    assert step == {"rejected": -2, "stored": 2}
