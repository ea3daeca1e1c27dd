"""One event that cannot be read ends no fold, no build and no answer: it is skipped, counted and shown."""

import pytest
import sqlalchemy as sa

from app.errors import MetricInvalid
from app.metrics.answer import answer, answer_raw
from app.metrics.explain import explain, explain_call
from app.metrics.sql_tail import has_named_event, list_events_after, list_events_between, list_named_events
from app.store.engine import Database
from app.store.schema import events, usage_tail
from tests.builders import rows_of
from tests.metrics.conftest import Keep, fold_all, make_void, publish
from tests.metrics.metrics import LATER, a_metric, a_query, some_events

DAMAGED = ("", "{", "[]", "7", '{"a":' * 300 + "1" + "}" * 300, '{"n": "half')

METRICS = (
    a_metric("added"),
    a_metric("counted", usage_aggregation_type="count", property_name=None),
    a_metric("grouped", group_by=["region"]),
    a_metric("filtered", numeric_filters=[{"property_name": "n", "operator": "gt", "comparison_value": 0}]),
    a_metric("latest", usage_aggregation_type="latest"),
    a_metric("different", usage_aggregation_type="unique"),
    a_metric("level", metric_type="gauge", event_type="delta", granularity="months"),
    a_metric("rate", metric_type="rate", granularity="hours"),
)


def damage(database: Database, idempotency_id: str, properties: str) -> None:
    with database.writing() as conn:
        conn.execute(sa.update(events).where(events.c.idempotency_id == idempotency_id).values(properties=properties))


@pytest.mark.parametrize("built", [True, False], ids=["built before", "built after"])
def test_it_ends_no_fold_and_is_counted_as_skipped(database: Database, keep: Keep, *, built: bool) -> None:
    if built:
        publish(database, *METRICS)
        fold_all(database)
    keep(some_events(("2026-10-05T10:00", 1), ("2026-10-05T10:20", 2), ("2026-10-06", 4), ("2026-10-07", 8)))
    for properties in DAMAGED:
        damage(database, "e-2", properties)
    if not built:
        publish(database, *METRICS)
    fold_all(database)
    assert rows_of(database, usage_tail) == []
    check_answers(database, {"unreadable": 1})
    make_void(database, ["e-2", "e-4"])
    fold_all(database)
    check_answers(database, {})


def check_answers(database: Database, skipped: dict[str, int]) -> None:
    """Hold each answer against raw events, and look at what it is made of."""
    for metric in METRICS:
        with database.reading() as conn:
            found = answer(conn, metric, a_query(), LATER)
            assert found == answer_raw(conn, metric, a_query(), LATER)
            total: dict[str, int] = {}
            for row in found.rows:
                for reason, count in row.skipped.items():
                    total[reason] = total.get(reason, 0) + count
            assert total == skipped
            shares = explain(conn, metric, a_query(), LATER).shares
            assert [share.skipped for share in shares if share.skipped] == list(skipped)


def test_it_is_shown_where_its_call_is(database: Database, keep: Keep) -> None:
    keep(some_events(("2026-10-05T10:00", 1)))
    damage(database, "e-1", "{")
    call_id = rows_of(database, events, events.c.call_id)[0][0]
    with database.reading() as conn:
        judgements = explain_call(conn, METRICS, call_id, LATER)
    assert {(one.verdict, one.why) for one in judgements} == {("skipped", "its properties cannot be read")}
    assert len(judgements) == len(METRICS)


def test_a_metric_of_a_name_that_no_event_can_have_is_refused() -> None:
    with pytest.raises(MetricInvalid, match="this holds a NUL character"):
        a_metric(event_name="a\0b")


def test_a_name_that_no_event_can_have_ends_no_query(database: Database, keep: Keep) -> None:
    keep(some_events(("2026-10-05T10:00", 1)))
    ids = [row[0] for row in rows_of(database, events, events.c.id)]
    for name in ("a\0b", "\ud83d", "x" * 300):
        with database.reading() as conn:
            assert [event.event_name for event in list_named_events(conn, ids, [name, "use"])] == ["use"]
            assert not has_named_event(conn, ids, name)
            assert len(list_events_after(conn, 0, ids[0], 10, [name, "use"])[0]) == 1
            assert list_events_between(conn, (0, 1 << 62), (0, 1 << 62), name) == []
