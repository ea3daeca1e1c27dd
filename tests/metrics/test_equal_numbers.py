"""Equal numbers are equal everywhere, and the order of arrival decides nothing: on both databases."""

import json
import random
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.json_text import decode
from app.core.lotus import former_content
from app.core.outcome import Outcome
from app.metrics.answer import answer, answer_raw
from app.metrics.definition import Metric
from app.store.engine import Database
from app.store.schema import claims, events
from tests.builders import a_document, a_record_of, empty, rows_of, some_transforms, store
from tests.metrics.conftest import fold_all, publish
from tests.metrics.metrics import LATER, a_metric, a_query

COPY = some_transforms(
    use="""
match: {event: use}
event: {event_name: {const: use}, idempotency_id: "coalesce(properties.id, messageId)", properties: properties}
"""
)

METRICS = [
    *(
        a_metric(f"by_{aggregation}", usage_aggregation_type=aggregation, group_by=["k"])
        for aggregation in ("count", "sum", "max", "min", "average", "unique", "latest")
    ),
    a_metric("median", usage_aggregation_type="percentile", percentile=50),
    a_metric("only", categorical_filters=[{"property_name": "k", "operator": "isin", "comparison_value": [2, 1e22]}]),
    a_metric("rate", metric_type="rate", granularity="minutes"),
    a_metric("seats", metric_type="gauge", event_type="delta"),
    a_metric("level", metric_type="gauge", event_type="total", group_by=["k"]),
    a_metric("storage", metric_type="gauge", event_type="total", granularity="months", proration="days"),
]
QUERIES = [a_query(), a_query(group_by=())]

SPELLINGS = {
    "2": ("2", "2.0", "2e0", "0.2e1"),
    "0": ("0", "0.0", "-0.0"),
    "0.5": ("0.5", "5e-1", "0.50"),
    "1e22": ("1e22", "1" + "0" * 22, "10e21"),
    "-3": ("-3", "-3.0"),
}

NUMBERS = st.sampled_from(sorted(SPELLINGS))
CALLS = st.lists(st.tuples(st.integers(0, 3), NUMBERS, NUMBERS), min_size=1, max_size=8)


def a_text(place: int, instant: int, number: str, group: str, chance: random.Random) -> bytes:
    """Return a call as a sender writes it, its numbers in any of their spellings."""
    n, k = (chance.choice(SPELLINGS[one]) for one in (number, group))
    members = {"messageId": f"m-{place}", "timestamp": f"2026-10-05T10:00:0{instant}Z"}
    document = json.dumps(a_document(event="use", **members, properties="PROPERTIES"))
    return document.replace('"PROPERTIES"', f'{{"n": {n}, "k": {k}, "deep": [{{"n": {n}}}]}}').encode()


def keep(database: Database, *texts: bytes) -> list[Outcome | None]:
    return store(database, *(a_record_of(decode(text), COPY) for text in texts))


def ask(database: Database) -> list[Any]:
    with database.reading() as conn:
        found = [(answer(conn, one, query, LATER), answer_raw(conn, one, query, LATER)) for one, query in asked()]
    assert all(said == raw for said, raw in found)
    return [said for said, _ in found]


def asked() -> list[tuple[Metric, Any]]:
    return [(metric, query) for metric in METRICS for query in QUERIES]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=CALLS, seed=st.integers(0, 2**32))
def test_numbers_spelled_otherwise_in_another_order_give_the_same_answers(
    database: Database, told: list[tuple[int, str, str]], seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    answers = []
    for _ in range(2):
        empty(database)
        publish(database, *METRICS)
        texts = [a_text(place, *one, chance) for place, one in enumerate(told)]
        chance.shuffle(texts)
        half = len(texts) // 2
        assert set(keep(database, *texts[:half], *texts[half:])) == {Outcome.STORED}
        fold_all(database)
        # A retry, spelled anew.
        again = [a_text(place, *one, chance) for place, one in enumerate(told)]
        assert set(keep(database, *again)) == {Outcome.DUPLICATE}
        answers.append(ask(database))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(("first", "second"), [("9007199254740993", "9007199254740992"), ("2", '"2"'), ("2", "2.5")])
def test_numbers_that_differ_are_a_conflict(database: Database, first: str, second: str) -> None:
    text = json.dumps(a_document(event="use", properties={"n": "N"}))
    told = [text.replace('"N"', number).encode() for number in (first, second)]
    assert [keep(database, one)[0] for one in told] == [Outcome.STORED, Outcome.CONFLICT]


def test_what_is_stored_keeps_its_spelling(database: Database) -> None:
    keep(database, json.dumps(a_document(event="use", properties={"n": 2.0})).encode())
    assert rows_of(database, events, events.c.properties) == [('{"n":2.0}',)]


@pytest.mark.parametrize("message_id", ["message-1", "another"])
def test_a_retry_of_what_an_older_program_stored_is_a_duplicate(database: Database, message_id: str) -> None:
    properties = {"id": "e-1", "n": 2.0, "huge": 10**22, "deep": [{"x": 1e22}]}
    record = a_record_of(a_document(event="use", properties=properties), COPY)
    (lane,) = record.run.lanes
    former = former_content(lane.events[0])
    assert former != lane.content
    store(database, record)
    # As it was stored before equal numbers were one: each spelling had a digest of its own.
    with database.writing() as conn:
        conn.execute(sa.update(events).values(content=former))
        conn.execute(sa.update(claims).values(content=former))
    again = a_document(event="use", messageId=message_id, properties=properties)
    assert store(database, a_record_of(again, COPY)) == [Outcome.DUPLICATE]


def test_a_correction_does_not_turn_the_latest_of_one_instant_round(database: Database) -> None:
    metric = a_metric(usage_aggregation_type="latest")
    publish(database, metric)
    for base_id, n in (("a", 1), ("\u00e9", 3), ("z", 2)):
        keep(database, json.dumps(a_document(messageId=base_id, event="use", properties={"n": n})).encode())
    # What stands for `a` has a later row and an id behind all others; its base id is what counts.
    with database.writing() as conn:
        corrected = {"idempotency_id": "\uffff~2", "base_id": "a", "revision": 2}
        conn.execute(sa.update(events).where(events.c.idempotency_id == "a").values(corrected))
    fold_all(database)
    with database.reading() as conn:
        query = a_query("2026-11-01", "2026-12-01")
        for found in (answer(conn, metric, query, LATER), answer_raw(conn, metric, query, LATER)):
            assert [row.value for row in found.rows] == ["3"]
