"""The change of every kind of number is exact: what the metric says after a batch, less what it said before."""

from decimal import Decimal
from random import Random
from typing import Any

import pytest

from app.core.jmespath.functions.decimals import WIDE
from app.core.times import format_time, parse_time
from app.corrections import corrector as corrector_module
from app.corrections import effects
from app.corrections.amendment import parse_amendment
from app.corrections.documents import to_tally
from app.corrections.selection import parse_selection
from app.metrics import comparison
from app.metrics.query import Query
from app.metrics.windows import Unit
from app.store.corrections import Attribution
from app.store.engine import Database
from app.store.schema import events
from app.store.tally import UNFINISHED, CorrectionTally
from tests.builders import NOW, an_event, rows_of
from tests.corrections.correcting import METRICS, a_corrector, keep, to_metric_events, undo, void
from tests.forward.forwarding import store
from tests.metrics.conftest import publish
from tests.metrics.metrics import a_metric
from tests.metrics.recomputation import compute

Numbers = dict[tuple[str, str, str], Decimal]

COUNTERS = ("count", "sum", "max", "min", "average", "unique", "latest")
KINDS: list[Any] = [
    *(
        a_metric(
            f"n_{name}", usage_aggregation_type=name, property_name=None if name == "count" else "n", group_by=["team"]
        )
        for name in COUNTERS
    ),
    a_metric("n_median", usage_aggregation_type="percentile", percentile=50),
    a_metric("n_rate", metric_type="rate", granularity="days"),
    a_metric("n_peak_rate", metric_type="rate", granularity="months", usage_aggregation_type="max"),
    a_metric("n_level", metric_type="gauge", event_type="total", group_by=["team"]),
    a_metric("n_change", metric_type="gauge", event_type="delta"),
    a_metric("n_prorated", metric_type="gauge", event_type="delta", granularity="months", proration="days"),
    a_metric(
        "n_large", numeric_filters=[{"property_name": "n", "operator": "gt", "comparison_value": 4}], property_name="n"
    ),
]


TODAY = parse_time("2026-11-20")
TIMES = ("2026-08-03T07:00:00Z", "2026-08-31T23:59:50Z", "2026-09-01T00:00:10Z", "2026-10-20", "2026-11-02T10:00:00Z")


def numbers(database: Database) -> Numbers:
    """Return each number of each month, by the independent recomputation."""
    stored = to_metric_events(rows_of(database, events))
    query = Query(
        start=parse_time("2026-07-01"),
        end=parse_time("2026-12-01"),
        window=Unit.MONTH,
        group_by=(),
        include_future=True,
    )
    return {
        (metric.name, row.customer_id, format_time(row.window_start)[:7]): Decimal(row.value)
        for metric in KINDS
        for row in compute(metric, stored, query, TODAY).rows
        if row.value is not None
    }


def differences(before: Numbers, after: Numbers) -> Numbers:
    """Return by how much each number changed that did."""
    zero = Decimal(0)
    changes = {key: WIDE.subtract(after.get(key, zero), before.get(key, zero)) for key in before.keys() | after.keys()}
    return {key: change for key, change in changes.items() if change}


def said(tally: CorrectionTally) -> Numbers:
    """Return the changes that a batch names."""
    assert all(effect.why is None for effect in tally.effects)
    changes = {(row.metric, str(row.customer_id), row.month): Decimal(str(row.change)) for row in tally.effects}
    return {key: change for key, change in changes.items() if change}


@pytest.fixture
def used(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Events of three customers over four months, among them some that share a moment, and one without a number."""
    monkeypatch.setattr(effects, "read_clock", lambda _conn: TODAY)
    monkeypatch.setattr(corrector_module, "STEP_EVENTS", 4)
    monkeypatch.setattr(corrector_module, "_BREATH_SECONDS", 0)
    chance = Random(7)  # noqa: S311  nothing is secret here
    publish(database, *KINDS)
    store(
        database,
        [
            an_event(
                event_name="use",
                idempotency_id=f"u-{number}",
                customer_id=f"c-{number % 3}",
                time_created=chance.choice(TIMES),
                properties={"n": chance.choice([1, 4, 4, 7, -2, "x"]), "team": chance.choice(["a", "b"])},
            )
            for number in range(40)
        ],
        forwards=False,
    )
    return database


BATCHES: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    ({"customer": "c-1"}, None),
    ({"event_name": "use", "since": "2026-08-31", "until": "2026-09-02"}, None),
    ({"ids": ["u-3", "u-4", "u-5"]}, None),
    ({"event_name": "use"}, {"properties.n": 5}),
    ({"customer": "c-0"}, {"customer_id": "c-9", "properties.n": "2.5"}),
    ({"customer": "c-2"}, {"time_created": "2026-09-15T12:00:00Z"}),
    ({"customer": "c-0", "until": "2026-09-01"}, {"event_name": "other"}),
    ({"customer": "c-1"}, {"properties.n": None, "properties.team": "c"}),
]


def test_each_change_is_what_the_metric_says_after_less_what_it_said_before_in_preview_and_run(used: Database) -> None:
    corrector = a_corrector(used)
    before = numbers(used)
    for members, values in BATCHES:
        amendment = None if values is None else parse_amendment(values, ())
        preview = corrector.preview(parse_selection(members, NOW), amendment)
        correction = corrector.run(corrector.begin(preview, Attribution(author="ann", reason="wrong")))
        tally = to_tally(correction)
        assert said(tally) == differences(before, numbers(used)) != {}
        # In many steps, each of which sees what the others did.
        assert tally == preview.tally
        assert undo(used, correction).left == 0
        assert numbers(used) == before


def test_what_is_too_much_to_be_read_is_null_with_the_reason(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(database, METRICS[2], METRICS[0])
    keep(database, [1, 2, 3])
    keep(database, [4], customer_id="small")
    selection = parse_selection({"event_name": "api_call"}, NOW)

    def changes() -> list[tuple[str, str | None, str | None, str]]:
        preview = a_corrector(database).preview(selection)
        return [(row.metric, row.customer_id, row.change, row.why or "") for row in preview.tally.effects]

    monkeypatch.setattr(comparison, "COMPARED_EVENTS", 2)
    large, small, *sums = changes()
    assert (large[:3], large[3].startswith("too many events"), small) == (
        ("longest", "customer-1", None),
        True,
        ("longest", "small", "-4", ""),
    )
    assert [row[2] for row in sums] == ["-6", "-4"]
    monkeypatch.setattr(comparison, "CUSTOMER_EVENTS", 0)
    assert [row[2] for row in changes()] == [None, None, "-6", "-4"]
    monkeypatch.setattr(effects, "COMPARED_EVENTS", 3)
    foreseen, done = changes(), to_tally(void(database, event_name="api_call"))
    assert [row[3].startswith("the batch has more than") for row in foreseen] == [True, True, False, False]
    assert [(row.metric, row.customer_id, row.change, row.why or "") for row in done.effects] == foreseen


def test_until_a_batch_is_at_its_end_such_a_change_is_not_known(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corrector_module, "STEP_EVENTS", 1)
    publish(database, METRICS[2])
    keep(database, [1, 2])
    corrector = a_corrector(database)
    begun = corrector.begin(
        corrector.preview(parse_selection({"event_name": "api_call"}, NOW)), Attribution(author="ann", reason="wrong")
    )
    [effect] = to_tally(corrector.run(begun, seconds=0)).effects
    assert (effect.change, effect.why) == (None, UNFINISHED)
