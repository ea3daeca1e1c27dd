"""What the store answers is what the reference says, on both databases."""

from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.metrics.answer import answer
from app.metrics.definition import Metric
from app.metrics.query import Answer, MetricEvent, Query
from app.metrics.sql_events import list_customers
from app.metrics.windows import Unit
from app.store.engine import Database
from tests.builders import empty
from tests.metrics.conftest import Keep, keep_events
from tests.metrics.metrics import LATER, a_metric, a_query, some_events
from tests.metrics.random_metrics import cases
from tests.metrics.recomputation import compute


def ask(database: Database, metric: Metric, query: Query, now: int = LATER) -> Answer:
    with database.reading() as conn:
        return answer(conn, metric, query, now)


def first_of_each(events: Sequence[MetricEvent], ids: Sequence[str]) -> list[MetricEvent]:
    """The events that are kept: the first of each idempotency id, void if any that was to be void has that id."""
    void = {name for one, name in zip(events, ids, strict=True) if one.voided}
    kept: dict[str, MetricEvent] = {}
    for one, name in zip(events, ids, strict=True):
        kept.setdefault(
            name,
            MetricEvent(name, one.event_name, one.customer_id, one.time_created, one.properties, name in void),
        )
    return list(kept.values())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases(), data=st.data())
def test_the_store_says_what_the_reference_says(
    database: Database, case: tuple[Metric, list[MetricEvent], Query, int], data: st.DataObject
) -> None:
    metric, events, query, now = case
    # Some ids come twice: a retry, or a conflict. Events of any time come in any order: late ones are the rule here.
    ids = [f"e-{data.draw(st.integers(0, 2 * len(events)))}" for _ in events]
    empty(database)
    keep_events(database, events, ids, group=data.draw(st.integers(1, 30)))
    assert ask(database, metric, query, now) == compute(metric, first_of_each(events, ids), query, now)


def test_a_tenth_three_times_is_three_tenths(database: Database, keep: Keep) -> None:
    keep(some_events(*[("2026-10-05", 0.1)] * 3))
    (row,) = ask(database, a_metric(), a_query()).rows
    assert row.value == "0.3"


def test_thirty_digits_survive(database: Database, keep: Keep) -> None:
    keep(some_events(("2026-10-05", "123456789012345678901234567890"), ("2026-10-05", "1e-30")))
    (row,) = ask(database, a_metric(), a_query()).rows
    assert row.value == "123456789012345678901234567890.000000000000000000000000000001"


def test_an_event_that_comes_late_counts_at_once(database: Database, keep: Keep) -> None:
    keep(some_events(("2026-10-05", 1)))
    assert [row.value for row in ask(database, a_metric(), a_query()).rows] == ["1"]
    late = MetricEvent("e-0099", "use", "ann", some_events(("2026-10-01", 0))[0].time_created, {"n": 4})
    keep([late])
    assert [row.value for row in ask(database, a_metric(), a_query()).rows] == ["5"]


def test_more_events_than_are_read_at_a_time(database: Database) -> None:
    told = [("2026-10-05", at) for at in range(4500)]
    keep_events(database, some_events(*told), group=1000)
    # 0 + 1 + ... + 4499 = 4499 * 4500 / 2
    (row,) = ask(database, a_metric(), a_query()).rows
    assert (row.value, row.events_count) == ("10122750", 4500)
    (peak,) = ask(database, a_metric(metric_type="gauge", event_type="delta"), a_query(window=Unit.MONTH)).rows
    assert peak.value == "10122750"


def test_names_with_quotes_are_only_names(database: Database) -> None:
    nasty = "'; DROP TABLE events; --"
    events = [
        MetricEvent("e-0001", nasty, nasty, some_events(("2026-10-05", 1))[0].time_created, {nasty: "2", "k": nasty}),
    ]
    keep_events(database, events)
    metric = a_metric(event_name=nasty, property_name=nasty, group_by=["k"])
    (row,) = ask(database, metric, a_query(customer_id=nasty)).rows
    assert (row.customer_id, row.group, row.value) == (nasty, {"k": nasty}, "2")


def test_customers_are_listed_without_looking_at_every_event(database: Database, keep: Keep) -> None:
    for place, customer in enumerate(("bob", "ann", "bob", "\u00e9ve")):
        event = some_events(("2026-10-05", 1), customer=customer)[0]
        keep([MetricEvent(f"e-{customer}-{place}", "use", customer, event.time_created, {})])
    with database.reading() as conn:
        assert set(list_customers(conn)) == {"ann", "bob", "\u00e9ve"}


def test_every_customer_of_any_spelling_has_its_level(database: Database) -> None:
    names = ["a", "A", "b", "B1", "\u00e9", "z", "_", "~", " a", "\U0001f600"]
    events = [
        MetricEvent(f"e-{at}", "use", name, some_events(("2026-10-05", 1))[0].time_created, {"n": at})
        for at, name in enumerate(names, start=1)
    ]
    keep_events(database, events)
    gauge = a_metric(metric_type="gauge", event_type="total")
    assert {row.customer_id: row.value for row in ask(database, gauge, a_query()).rows} == {
        name: str(at) for at, name in enumerate(names, start=1)
    }
