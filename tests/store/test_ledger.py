"""The third promise: nothing silent. received = stored + duplicate + conflict + ignored + rejected, at any moment."""

from collections import Counter
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.outcome import REASONS_OF, Outcome, Reason
from app.core.pipeline import Run
from app.store import ledger, schema
from app.store.engine import Database
from app.store.ledger_total import LedgerTotal
from app.store.record import Record
from app.store.settle import settle
from tests.builders import (
    IDS,
    NOW,
    a_lane,
    a_record,
    a_rejected_run,
    a_request,
    a_run,
    a_writer,
    an_event,
    balance,
    empty,
    know_no_version,
    rows_of,
    some_ids,
    store,
)

MINUTE = ledger.MINUTE


def event_counts(database: Database) -> dict[str, int]:
    with database.reading() as conn:
        summed = ledger.sum_counts(conn)
    return {outcome: total for (subject, outcome, _), total in summed.items() if subject == ledger.EVENT}


def an_unmapped_record(outcome: Outcome, reason: Reason) -> Record:
    return a_record(Run.ended(outcome, reason, "a sentence"))


def test_every_outcome_and_reason_is_counted(database: Database) -> None:
    unmapped = [(outcome, reason) for outcome in (Outcome.IGNORED, Outcome.REJECTED) for reason in REASONS_OF[outcome]]
    records = [an_unmapped_record(outcome, reason) for outcome, reason in unmapped]
    records += [a_record(), a_record(), a_record(an_event(properties={}), message_id="m-2")]
    store(database, *records)
    assert balance(database) == {
        **{(str(outcome), str(reason)): 1 for outcome, reason in unmapped},
        ("stored", ""): 1,
        ("duplicate", "duplicate"): 1,
        ("conflict", "conflict"): 1,
    }
    assert balance(database).total() == len(records)


def test_events_have_a_ledger_of_their_own(database: Database) -> None:
    store(database, a_record(an_event(), message_id="m-0"))
    several = a_lane(an_event(), an_event(properties={}), an_event(idempotency_id="b"), an_event(idempotency_id="c"))
    store(database, a_record(several, message_id="m-1"), a_record(a_rejected_run()))
    assert event_counts(database) == {"stored": 3, "duplicate": 1, "conflict": 1}
    assert balance(database) == {
        ("stored", ""): 1,
        ("conflict", "conflict"): 1,
        ("rejected", "not_an_object"): 1,
    }


def test_a_transaction_that_is_broken_off_leaves_nothing_at_all(database: Database) -> None:
    store(database, a_record())
    before = {table.name: rows_of(database, table) for table in schema.METADATA.sorted_tables}
    records = [a_record(an_event(idempotency_id=f"id-{number}")) for number in range(2, 5)]

    def break_off() -> None:
        with database.writing() as conn:
            settle(conn, records, know_no_version, IDS.next)
            ledger.append(conn, 1, NOW, ledger.count_records(records))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert {table.name: rows_of(database, table) for table in schema.METADATA.sorted_tables} == before


some_calls = st.lists(
    st.one_of(
        st.builds(
            lambda name, tokens, message: a_record(
                an_event(idempotency_id=name, properties={"tokens": tokens}), message_id=message
            ),
            st.sampled_from(["a", "b", "c"]),
            st.integers(0, 1),
            st.sampled_from(["m-1", "m-2", None]),
        ),
        st.builds(
            lambda names: a_record(a_lane(*(an_event(idempotency_id=name) for name in names)), message_id=None),
            st.lists(st.sampled_from(["a", "b", "c"]), min_size=2, max_size=4),
        ),
        st.sampled_from([Reason.NO_TRANSFORM, Reason.DISABLED]).map(
            lambda reason: an_unmapped_record(Outcome.IGNORED, reason)
        ),
        st.sampled_from(REASONS_OF[Outcome.REJECTED]).map(lambda reason: an_unmapped_record(Outcome.REJECTED, reason)),
    ),
    min_size=1,
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commits=st.lists(some_calls, min_size=1, max_size=4))
def test_the_ledger_balances_after_every_commit(database: Database, commits: Sequence[list[Record]]) -> None:
    empty(database)
    received = 0
    for records in commits:
        store(database, *records)
        received += len(records)
        assert balance(database).total() == received


def test_minutes_are_summed_apart(database: Database) -> None:
    for minute, count in [(0, 1), (1, 2), (2, 4)]:
        for number in range(count):
            record = a_record(an_event(idempotency_id=f"{minute}-{number}"))
            record.received_at = NOW + minute * MINUTE
            a_writer(database).append(a_request(record))

    def stored(since: int | None, until: int | None) -> int:
        with database.reading() as conn:
            return ledger.sum_counts(conn, since, until)["call", "stored", ""]

    assert NOW % MINUTE == 0
    assert stored(None, None) == 7
    assert stored(NOW, NOW + MINUTE) == 1
    assert stored(NOW + MINUTE, NOW + 3 * MINUTE) == 6
    assert stored(NOW + MINUTE + 59_999_999, None) == 6, "cut to the minute"
    assert stored(None, NOW) == 0


def test_each_process_writes_rows_of_its_own_that_are_summed_together(database: Database) -> None:
    for tag in (1, 2):
        ids = some_ids(tag)
        for number in range(tag * 2):
            record = a_record(an_event(idempotency_id=f"{tag}-{number}"))
            a_writer(database, ids=ids).append(a_request(record))
    columns = schema.ledger.c
    assert rows_of(database, schema.ledger, columns.node, columns.subject, columns["count"]) == [
        (1, "call", 2),
        (1, "event", 2),
        (2, "call", 4),
        (2, "event", 4),
    ]
    assert balance(database) == {("stored", ""): 6}


def test_a_call_that_gets_another_outcome_is_counted_down_and_up(database: Database) -> None:
    store(database, a_record(a_rejected_run()))
    with database.writing() as conn:
        ledger.append(conn, 7, NOW, Counter({("call", "rejected", "not_an_object"): -1, ("call", "stored", ""): 1}))
    with database.reading() as conn:
        summed = ledger.sum_counts(conn)
    assert +summed == {("call", "stored", ""): 1}


def test_retention_of_raw_bytes_changes_no_count(database: Database) -> None:
    store(database, a_record(), a_record(a_rejected_run()))
    before = balance(database)
    with database.writing() as conn:
        conn.execute(sa.update(schema.calls).values(raw=None))
    assert balance(database) == before


def test_counts_beyond_32_bits_are_exact(database: Database) -> None:
    with database.writing() as conn:
        for _ in range(3):
            ledger.append(conn, 1, NOW, Counter({("call", "stored", ""): 2**40 + 1}))
    with database.reading() as conn:
        assert ledger.sum_counts(conn)["call", "stored", ""] == 3 * (2**40 + 1)


def test_a_call_counts_once_however_many_lanes_it_has(database: Database) -> None:
    lanes = [a_lane(an_event(idempotency_id=f"id-{name}"), name=name) for name in ("main", "also", "too")]
    store(database, a_record(a_run(*lanes)))
    assert balance(database) == {("stored", ""): 1}
    assert event_counts(database) == {"stored": 3}


def test_a_remembered_sum_forgets_nothing_that_another_clock_counted_down_earlier(database: Database) -> None:
    """A node whose clock runs ahead stores, another one delivers: the remembered part may end between the two."""
    waiting = ("delivery", "waiting", "")
    with database.writing() as conn:
        ledger.append(conn, 1, NOW + MINUTE, Counter({waiting: 1}))
        ledger.append(conn, 2, NOW, Counter({waiting: -1}))
    total, a_day = LedgerTotal(), 86_400_000_000
    with database.reading() as conn:
        for later in (MINUTE, 2 * MINUTE, 3 * MINUTE):
            assert total.read(conn, NOW + a_day + later)[waiting] == 0
