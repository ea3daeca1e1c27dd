"""Closed months: what is frozen stays, and frozen + adjustments is what is answered today. On both databases."""

import os
import signal
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from random import Random

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.clock import clock
from app.core.json_text import encode
from app.core.times import format_time
from app.corrections.corrector import Corrector
from app.errors import BadQuery, EditConflict, NotFound
from app.metrics import sql_months
from app.metrics.adjustments import MonthReport, carry_adjustments, list_changed, read_report
from app.metrics.answer import answer
from app.metrics.definition import Metric
from app.metrics.month_note import find_month_note
from app.metrics.months import Month, close_month, month_at, parse_month, reopen_month, verify_month
from app.metrics.query import MetricEvent, Row
from app.metrics.sql_months import ClosedMonth, get_closed_month, list_closed_months
from app.metrics.stream import read_from
from app.service.build import correction_hooks
from app.store import moment as moment_module
from app.store.engine import Database, connect
from app.store.schema import carried_adjustments, closed_months, closed_numbers, events
from tests import builders
from tests.builders import IDS, an_event, empty, rows_of, some_ids
from tests.corrections.correcting import void
from tests.forward.forwarding import store
from tests.metrics.conftest import publish
from tests.metrics.history import DAY, KINDS, History, LogEntry
from tests.metrics.metrics import a_metric
from tests.metrics.recomputation import compute
from tests.replay import replaying

STEPS = 8
TOKENS = a_metric("tokens", event_name="Order", property_name="total", group_by=["kind"])
HIGHEST = a_metric("highest", event_name="Order", property_name="total", usage_aggregation_type="max")
BERLIN = "Europe/Berlin"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment may be asked for as soon as it is over, and calls come now."""
    monkeypatch.setattr(moment_module, "MARGIN", 0)
    monkeypatch.setattr("app.metrics.months.MARGIN", 0)
    monkeypatch.setattr(builders, "NOW", clock())
    monkeypatch.setattr(replaying, "clock", lambda: clock() + 10_000_000)


def last_month() -> Month:
    """Return the last month that is over, in Berlin."""
    this = month_at(BERLIN, clock())
    assert this is not None
    month = month_at(BERLIN, this.start - 1)
    assert month is not None
    return month


def next_month() -> str:
    this = month_at(BERLIN, clock())
    assert this is not None
    return this.text


def a_report(database: Database, closed_id: int) -> MonthReport:
    with database.reading() as conn:
        return read_report(conn, get_closed_month(conn, closed_id))


class Judge:
    """Knows from its own log what each month that is closed must say."""

    def __init__(self, history: History, month: Month) -> None:
        self.history = history
        self.month = month
        self.closings: dict[int, LogEntry] = {}
        self.open: set[int] = set()
        self.carried: dict[int, dict[tuple[str, str], Fraction]] = {}

    def close(self, name: str) -> None:
        entry = self.history.note()
        try:
            closed = close_month(self.history.database, IDS.next, name, self.month, "ann")
        except EditConflict as error:
            assert "closed in Europe/Berlin already: by ann" in error.message  # noqa: PT017  it may also be closed
            assert name in {self.name_of(closed_id) for closed_id in self.open}
            return
        assert name not in {self.name_of(closed_id) for closed_id in self.open}
        self.closings[closed.id] = entry
        self.open.add(closed.id)
        self.carried[closed.id] = defaultdict(Fraction)

    def name_of(self, closed_id: int) -> str:
        with self.history.database.reading() as conn:
            return get_closed_month(conn, closed_id).metric

    def carry(self, closed_id: int) -> None:
        is_open = any(line.open for line in a_report(self.history.database, closed_id).lines)
        try:
            _, lines = carry_adjustments(self.history.database, IDS.next, closed_id, next_month(), "ann")
        except BadQuery:
            assert not is_open
            return
        for line in lines:
            key = line.customer_id, line.grp
            taken = self.carried[closed_id]
            taken[key] = taken.get(key, Fraction(0)) + Fraction(line.amount)
        assert not any(line.open for line in a_report(self.history.database, closed_id).lines)

    def reopen(self, closed_id: int) -> None:
        reopen_month(self.history.database, closed_id, "bob", "a mistake")
        self.open.discard(closed_id)

    def check(self, closed_id: int) -> None:
        entry, now = self.closings[closed_id], self.history.note()
        report = a_report(self.history.database, closed_id)
        name = report.closed.metric
        then_metric, metric = entry.live[name], now.live[name]
        frozen = self._numbers(then_metric, entry.counted, then_metric)
        today = self._numbers(metric, now.counted, then_metric)
        assert {(line.customer_id, line.grp) for line in report.lines} == {*frozen, *today, *self.carried[closed_id]}
        for line in report.lines:
            key = line.customer_id, line.grp
            assert (line.closed and line.closed.value, line.closed and line.closed.events_count) == frozen.get(
                key, (None, None)
            )
            assert (line.today and line.today.value) == today.get(key, (None,))[0]
            was, is_now = (Fraction(numbers.get(key, (None, 0))[0] or 0) for numbers in (frozen, today))
            assert Fraction(line.carried) == self.carried[closed_id].get(key, 0)
            assert Fraction(line.total) == is_now - was
            assert was + Fraction(line.carried) + Fraction(line.open) == is_now
        assert verify_month(self.history.database, report.closed) == []
        self._check_events(report, entry.counted, now.counted)

    def _check_events(self, report: MonthReport, then: list[MetricEvent], now: list[MetricEvent]) -> None:
        starts = [read_from(metric, self.month.query()) for metric in (report.metric, report.live)]
        first = min((start for start in starts if start is not None), default=0) if None not in starts else 0

        def relevant(counted: list[MetricEvent]) -> Counter[tuple[str, int, bytes]]:
            return Counter(
                (event.base_id, event.time_created, encode(event.properties))
                for event in counted
                if event.event_name == "Order"
                and first <= event.time_created < self.month.end
                and (report.metric.passes(event.properties) or report.live.passes(event.properties))
            )

        with self.history.database.reading() as conn:
            changes = list_changed(conn, report, limit=500).changes
        before, after = relevant(then), relevant(now)
        told = Counter((change.event.base_id, change.counts) for change in changes)
        expected = Counter((key[0], True) for key in (after - before).elements())
        expected.update((key[0], False) for key in (before - after).elements())
        # What was replaced by an equal event counts on both sides, and is in neither difference.
        assert expected <= told
        assert all(count == told[base_id, False] for (base_id, counts), count in (told - expected).items() if counts)

    def _numbers(
        self, metric: Metric, counted: list[MetricEvent], names: Metric
    ) -> dict[tuple[str, str], tuple[str | None, int]]:
        answer = compute(metric, counted, self.month.query(group_by=names.group_by), clock())
        return {(row.customer_id, _grp(row)): (row.value, row.events_count) for row in answer.rows}


def _grp(row: Row) -> str:
    return encode(list(row.group.values())).decode()


@settings(
    max_examples=max(1, settings().max_examples // 12), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32))
def test_frozen_and_adjustments_and_what_was_carried_are_what_is_answered_today(database: Database, seed: int) -> None:
    empty(database)
    chance, month = Random(seed), last_month()  # noqa: S311  nothing is secret here
    history = History(database, chance, month.start - 3 * DAY, month.end)
    judge = Judge(history, month)
    for _ in range(4):
        history.act()
    for name in chance.sample(list(KINDS), 5):
        judge.close(name)
    for _ in range(STEPS):
        history.act()
        if chance.random() < 0.3:
            judge.close(chance.choice(list(KINDS)))
        if judge.open and chance.random() < 0.3:
            judge.carry(chance.choice(sorted(judge.open)))
        if judge.open and chance.random() < 0.1:
            judge.reopen(chance.choice(sorted(judge.open)))
        judge.check(chance.choice(sorted(judge.closings)))
    for closed_id in judge.closings:
        judge.check(closed_id)


def keep(database: Database, day: int, *totals: object, customer: str = "acme", kind: str = "a") -> None:
    """Store orders of a day of last month."""
    at = format_time(last_month().start + (day - 1) * DAY + DAY // 2)
    before = len(rows_of(database, events, events.c.id))
    store(
        database,
        [
            an_event(
                event_name="Order",
                idempotency_id=f"e-{before + number}",
                customer_id=customer,
                time_created=at,
                properties={"total": total, "kind": kind},
            )
            for number, total in enumerate(totals)
        ],
    )


def close(database: Database, name: str = "tokens", month: Month | None = None) -> ClosedMonth:
    return close_month(database, IDS.next, name, month or last_month(), "ann")


def lines_of(database: Database, closed: ClosedMonth) -> list[tuple[str, str, str | None, str | None, str, str]]:
    """Return customer, group, closed, today's, carried and open of each number."""
    return [
        (
            line.customer_id,
            line.grp,
            line.closed.value if line.closed else None,
            line.today.value if line.today else None,
            str(line.carried),
            str(line.open),
        )
        for line in a_report(database, closed.id).lines
    ]


@pytest.fixture
def october(database: Database) -> Database:
    """Orders of two customers in the month that is over."""
    publish(database, TOKENS, HIGHEST)
    keep(database, 3, 10, 20)
    keep(database, 3, 5, customer="zeta", kind="b")
    return database


def test_what_comes_later_is_an_adjustment_and_is_carried_as_a_line_of_its_own(october: Database) -> None:
    closed = close(october)
    assert lines_of(october, closed) == [("acme", '["a"]', "30", "30", "0", "0"), ("zeta", '["b"]', "5", "5", "0", "0")]
    keep(october, 4, 7)
    keep(october, 4, 1, customer="new")
    void(october, "e-2", corrector=Corrector(october, IDS, clock, correction_hooks(IDS)))
    changed = [
        ("acme", '["a"]', "30", "37", "0", "7"),
        ("new", '["a"]', None, "1", "0", "1"),
        # No number counts as 0.
        ("zeta", '["b"]', "5", None, "0", "-5"),
    ]
    assert lines_of(october, closed) == changed
    names, carried = carry_adjustments(october, IDS.next, closed.id, next_month(), "bob", "acme")
    assert (names, [(line.customer_id, line.amount) for line in carried]) == (("kind",), [("acme", "7")])
    keep(october, 5, 100)
    assert lines_of(october, closed)[0] == ("acme", '["a"]', "30", "137", "7", "100")
    with october.reading() as conn:
        this = parse_month(next_month(), BERLIN)
        note = find_month_note(conn, TOKENS, this.query(), clock())
        assert note is not None
        assert [(each.origin.id, each.group, each.line.amount) for each in note.received] == [
            (closed.id, {"kind": "a"}, "7")
        ]
        # It is in no number.
        assert answer(conn, TOKENS, this.query(), clock()).rows == []
        said = find_month_note(conn, TOKENS, last_month().query(), clock())
        assert said is not None
        assert (said.closed_text, said.adjustment_text) == ("35", "103")
        # A question about anything else has nothing to say.
        assert find_month_note(conn, TOKENS, replace(last_month().query(), tz="UTC"), clock()) is None
        assert find_month_note(conn, TOKENS, last_month().query(as_of=clock()), clock()) is None
    assert verify_month(october, closed) == []


def test_a_new_definition_is_an_adjustment_too_and_a_maximum_without_a_number_counts_as_nothing(
    october: Database,
) -> None:
    closed = close(october, "highest")
    assert [line[2:] for line in lines_of(october, closed)] == [("20", "20", "0", "0"), ("5", "5", "0", "0")]
    only_b = [{"property_name": "kind", "operator": "isin", "comparison_value": ["b"]}]
    publish(
        october,
        TOKENS,
        a_metric(
            "highest",
            event_name="Order",
            property_name="total",
            usage_aggregation_type="max",
            categorical_filters=only_b,
        ),
    )
    assert [line[2:] for line in lines_of(october, closed)] == [("20", None, "0", "-20"), ("5", "5", "0", "0")]
    report = a_report(october, closed.id)
    assert report.live.digest != report.metric.digest
    assert verify_month(october, closed) == []


def test_a_month_that_is_not_over_or_closed_already_is_refused(october: Database) -> None:
    closed = close(october)
    other_zone = parse_month(last_month().text, "UTC")
    refusals: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (EditConflict, f"closed in Europe/Berlin already: by ann .* as {closed.id}", lambda: close(october)),
        (BadQuery, "is not over in Europe/Berlin", lambda: close(october, month=parse_month(next_month(), BERLIN))),
        (NotFound, "'nothing' was not live", lambda: close(october, "nothing")),
        (BadQuery, "such as 2026-10", lambda: parse_month("2026-13", BERLIN)),
        (BadQuery, "tz must be", lambda: parse_month("2026-10", "Mars/Base")),
        (
            BadQuery,
            "no adjustment .* is open",
            lambda: carry_adjustments(october, IDS.next, closed.id, next_month(), "b"),
        ),
        (BadQuery, "a later month", lambda: carry_adjustments(october, IDS.next, closed.id, last_month().text, "b")),
        (NotFound, "no closed month 7", lambda: carry_adjustments(october, IDS.next, 7, next_month(), "b")),
    ]
    for error, message, attempt in refusals:
        with pytest.raises(error, match=message):
            attempt()
    close(october, month=other_zone)
    reopen_month(october, closed.id, "bob", "wrong prices")
    again = close(october)
    with pytest.raises(EditConflict, match="was reopened by bob"):
        reopen_month(october, closed.id, "bob", "twice")
    with october.reading() as conn:
        states = {row.id: row.reopen_reason for row in list_closed_months(conn, 10)}
    assert (states[closed.id], states[again.id]) == ("wrong prices", None)


def test_what_was_carried_of_a_reopened_month_is_no_line_any_more_unless_it_is_billed(october: Database) -> None:
    before = month_at(BERLIN, last_month().start - 1)
    assert before is not None
    closed = close(october, month=before)
    at = format_time(before.start + DAY)
    store(
        october,
        [
            an_event(
                event_name="Order",
                idempotency_id="late",
                customer_id="acme",
                time_created=at,
                properties={"total": 4, "kind": "a"},
            )
        ],
    )
    carry_adjustments(october, IDS.next, closed.id, last_month().text, "bob")
    into = close(october)
    with pytest.raises(EditConflict, match="which is closed: reopen that first"):
        reopen_month(october, closed.id, "bob", "it was wrong")
    with pytest.raises(BadQuery, match=r"no adjustment .* is open|is closed, too"):
        carry_adjustments(october, IDS.next, closed.id, last_month().text, "bob")
    assert [received.line.amount for received in a_report(october, into.id).received] == ["4"]
    reopen_month(october, into.id, "bob", "to correct")
    reopen_month(october, closed.id, "bob", "it was wrong")
    assert a_report(october, into.id).received == []
    again = close(october, month=before)
    assert lines_of(october, again) == [("acme", '["a"]', "4", "4", "0", "0")]


def test_two_people_close_and_carry_and_the_second_is_told(october: Database) -> None:
    def told(attempt: Callable[[], object]) -> str:
        try:
            attempt()
        except (EditConflict, BadQuery) as error:
            return error.message
        return "done"

    with ThreadPoolExecutor(2) as pool:
        first = sorted(pool.map(told, [lambda: close(october)] * 2))
        assert len(rows_of(october, closed_months)) == 1
        keep(october, 9, 3)
        [(closed_id,)] = rows_of(october, closed_months, closed_months.c.id)

        def carry() -> object:
            return carry_adjustments(
                october, some_ids(int.from_bytes(os.urandom(1))).next, closed_id, next_month(), "b"
            )

        second = sorted(pool.map(told, [carry] * 2))
    assert first.count("done") == second.count("done") == 1
    assert rows_of(october, carried_adjustments, carried_adjustments.c.amount) == [("3",)]


def test_killed_in_the_middle_of_a_close_nothing_is_closed(october: Database, migrated_url: str) -> None:
    class Killer:
        def run(self, *_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

    process = os.fork()
    if not process:
        # The month is written, and its numbers are about to be.
        sql_months._NUMBERS = Killer()  # type: ignore[assignment]
        close(connect(migrated_url))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    assert rows_of(october, closed_months) == rows_of(october, closed_numbers) == []
    close(october)


def test_a_number_that_was_changed_behind_its_back_is_found(october: Database) -> None:
    closed = close(october)
    with october.writing() as conn:
        conn.execute(sa.update(closed_numbers).where(closed_numbers.c.customer_id == "zeta").values(value="6"))
    problems = verify_month(october, closed)
    assert ["digest" in problem for problem in problems] == [True, False]
    assert "the numbers of zeta are others" in problems[1]
