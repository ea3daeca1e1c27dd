"""An evidence file gives the number to whoever reads it, and holds nothing else of the customer."""

import json
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from app.core.csv_text import to_plain
from app.core.times import format_time, parse_time
from app.errors import BadQuery, NotFound, Unavailable
from app.metrics.definition import Metric
from app.metrics.query import MetricEvent, Query
from app.store.engine import Database
from app.store.schema import evidence, signing_keys, usage_buckets
from tests.builders import a_digest, a_lane, a_record, a_run, an_event, empty, rows_of, store
from tests.evidence.proving import MOMENT, make, problems, public_key, read_rows, unpack
from tests.metrics.conftest import fold_all, keep_events, make_void, publish
from tests.metrics.metrics import a_metric, some_events
from tests.metrics.random_metrics import cases
from tests.metrics.recomputation import compute

OCTOBER = Query(start=parse_time("2026-10-01"), end=parse_time("2026-11-01"), customer_id="ann")

KINDS: dict[str, dict[str, Any]] = {
    "sum": {"group_by": ["kind"]},
    "count": {"usage_aggregation_type": "count", "property_name": None},
    "unique": {"usage_aggregation_type": "unique", "property_name": "kind"},
    "percentile": {"usage_aggregation_type": "percentile", "percentile": 95},
    "rate": {"metric_type": "rate", "granularity": "minutes"},
    "total": {"metric_type": "gauge", "event_type": "total", "granularity": "months", "proration": "days"},
    "delta": {"metric_type": "gauge", "event_type": "delta"},
    "filtered": {"numeric_filters": [{"property_name": "m", "operator": "gt", "comparison_value": 1}]},
}

EVENTS = some_events(
    ("2026-09-01T10:00:00Z", {"n": 6, "kind": "a", "m": 2, "secret": "s-1"}),
    ("2026-09-30T23:59:40Z", {"n": 4, "kind": "b", "m": 2, "secret": "s-2"}),
    ("2026-10-01T00:00:10Z", {"n": "1.50", "kind": "a", "m": 2, "secret": "s-3"}),
    ("2026-10-05T10:00:00Z", {"n": 2, "kind": "=1+1", "m": 1, "secret": {"deep": "s-4"}}),
    ("2026-10-05T10:00:00Z", {"n": "many", "kind": 'quo"te,\n', "m": "3", "secret": "s-5"}),
    ("2026-10-06T10:00:00Z", {"n": -3, "kind": None, "m": 7}),
    ("2026-10-07T10:00:00Z", {"n": 40, "kind": "void", "m": 7}),
    ("2026-11-01T00:00:00Z", {"n": 50, "kind": "later", "m": 7, "secret": "s-6"}),
)


def kept(database: Database, metric: Metric) -> None:
    publish(database, metric)
    keep_events(database, EVENTS)
    make_void(database, ["e-7"])


def reference(metric: Metric) -> list[Any]:
    live = [msgspec.structs.replace(event, voided=event.base_id == "e-7") for event in EVENTS]
    return compute(metric, live, OCTOBER, MOMENT).rows


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_has_the_number_and_all_that_it_is_made_of(database: Database, tmp_path: Path, kind: str) -> None:
    metric = a_metric(**KINDS[kind])
    kept(database, metric)
    fold_all(database)
    record = make(database, tmp_path / "e.zip")
    files = unpack(tmp_path / "e.zip")
    expected = reference(metric)
    assert [row["value"] for row in json.loads(files["number.json"])["rows"]] == [row.value for row in expected]
    assert problems(tmp_path / "e.zip", public_key(database)) == []
    assert files["metric.yaml"].decode() == metric.text
    [row] = rows_of(database, evidence)
    assert (row[0], bytes(row[5])) == (record.id, record.manifest_digest)
    # No property that the metric does not read, and no private key.
    everything = b"".join(files.values())
    assert b"secret" not in everything
    assert not [number for number in range(1, 7) if f"s-{number}".encode() in everything]
    private_key = bytes(rows_of(database, signing_keys, signing_keys.c.private_key)[0][0])
    assert private_key not in everything
    assert private_key.hex().encode() not in everything


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(case=cases())
def test_any_number_can_be_computed_again_from_its_file(
    sqlite_database: Database, tmp_path: Path, case: tuple[Metric, list[MetricEvent], Query, int]
) -> None:
    metric, events, query, now = case
    now = max(now, parse_time("2026-10-02"))
    empty(sqlite_database)
    publish(sqlite_database, metric)
    keep_events(sqlite_database, events)
    make(sqlite_database, tmp_path / "e.zip", now=now, tz=query.tz)
    assert problems(tmp_path / "e.zip", public_key(sqlite_database)) == []


def test_a_sum_is_the_sum_of_the_cells_for_whoever_adds_them_up(database: Database, tmp_path: Path) -> None:
    metric = a_metric()
    kept(database, metric)
    make(database, tmp_path / "e.zip", tz="America/New_York")
    files = unpack(tmp_path / "e.zip")
    rows = read_rows(files["events.csv"])
    assert {row["standing"]: row["skipped"] for row in rows} == {"counted": "", "skipped": "text", "voided": ""}
    # In New York, October begins and ends four hours later.
    assert [row["time"][-6:] for row in rows] == ["-04:00"] * len(rows)
    total = sum(Decimal(row["value"]) for row in rows if row["standing"] == "counted")
    assert [str(total)] == [row["value"] for row in json.loads(files["number.json"])["rows"]] == ["49"]
    assert all(json.loads(row["properties"]).keys() <= {"n"} for row in rows)


def test_a_text_that_a_spreadsheet_would_run_is_harmless_and_read_back(database: Database, tmp_path: Path) -> None:
    kept(database, a_metric(group_by=["kind"]))
    make(database, tmp_path / "e.zip")
    rows = read_rows(unpack(tmp_path / "e.zip")["events.csv"])
    assert "'=1+1" in [row["kind"] for row in rows]
    assert not [
        cell for row in rows for name, cell in row.items() if name != "value" and cell[:1] in {*"=+@-"} and cell
    ]
    assert {to_plain(row["kind"]) for row in rows} >= {"=1+1", 'quo"te,\n'}


def test_it_says_what_was_not_counted_and_why(database: Database, tmp_path: Path) -> None:
    metric = a_metric(**KINDS["filtered"])
    kept(database, metric)
    again = an_event(
        event_name="use", idempotency_id="e-4", customer_id="ann", time_created="2026-10-05", properties={}
    )
    other = an_event(event_name="other", idempotency_id="x-1", customer_id="ann", properties={"secret": "s-9"})
    store(database, a_record(other))
    # A conflict and a duplicate of this metric's events, and one of others'.
    store(database, a_record(again, message_id="m-again"), a_record(other, message_id="m-other"))
    make(database, tmp_path / "e.zip", month="2026-11")
    files = unpack(tmp_path / "e.zip")
    calls = read_rows(files["calls_not_counted.csv"])
    assert [(row["outcome"], row["idempotency_ids"]) for row in calls] == [("conflict", "e-4")]
    assert calls[0]["counted_call_ids"]
    make(database, tmp_path / "e.zip")
    rows = read_rows(unpack(tmp_path / "e.zip")["events.csv"])
    standings = {row["idempotency_id"]: row["standing"] for row in rows}
    assert standings == {"e-3": "counted", "e-4": "filtered", "e-5": "skipped", "e-6": "counted", "e-7": "voided"}
    assert next(row["voided_at"] for row in rows if row["standing"] == "voided")


def test_it_has_the_definitions_that_were_live_and_the_transforms_of_its_events(
    database: Database, tmp_path: Path
) -> None:
    first, second = a_metric(description="one"), a_metric(description="two", group_by=["kind"])
    publish(database, first)
    publish(database, second)
    keep_events(database, EVENTS)
    make(database, tmp_path / "e.zip", version=first.digest.hex()[:8])
    files = unpack(tmp_path / "e.zip")
    versions = json.loads(files["metric_versions.json"])
    assert [(row["version"], row["text"]) for row in versions] == [
        (metric.digest.hex(), metric.text) for metric in (first, second)
    ]
    assert json.loads(files["manifest.json"])["version"] == first.digest.hex()
    assert {row["transform_version"] for row in read_rows(files["events.csv"])} == {a_digest().hex()}
    assert problems(tmp_path / "e.zip", public_key(database)) == []


def test_two_files_of_one_state_differ_only_in_the_moment(database: Database, tmp_path: Path) -> None:
    kept(database, a_metric())
    first, second, third = (
        make(database, tmp_path / f"{number}.zip", now=now)
        for number, now in ((1, MOMENT), (2, MOMENT), (3, MOMENT + 1))
    )
    assert first.manifest_digest == second.manifest_digest != third.manifest_digest
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    files, later = unpack(tmp_path / "1.zip"), unpack(tmp_path / "3.zip")
    assert {name for name in files if files[name] != later[name]} == {"manifest.json", "signature.json"}
    before, after = (json.loads(each["manifest.json"]) for each in (files, later))
    assert {name for name in before if before[name] != after[name]} == {"moment"}


def test_a_month_that_goes_on_ends_at_the_moment(database: Database, tmp_path: Path) -> None:
    kept(database, a_metric())
    now = parse_time("2026-10-05T10:00:00Z")
    make(database, tmp_path / "e.zip", now=now)
    files = unpack(tmp_path / "e.zip")
    assert json.loads(files["manifest.json"])["end"] == format_time(now)
    assert [row["idempotency_id"] for row in read_rows(files["events.csv"])] == ["e-3"]
    assert problems(tmp_path / "e.zip", public_key(database)) == []


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"metric": "none"}, NotFound),
        ({"version": "ffffffff"}, NotFound),
        ({"month": "2026-13"}, BadQuery),
        ({"month": "2026-1"}, BadQuery),
        ({"month": "2027-01"}, BadQuery),
        ({"tz": "Mars"}, BadQuery),
    ],
)
def test_what_cannot_be_proven_is_refused_and_not_recorded(
    sqlite_database: Database, tmp_path: Path, members: dict[str, Any], error: type[Exception]
) -> None:
    publish(sqlite_database, a_metric())
    with pytest.raises(error):
        make(sqlite_database, tmp_path / "e.zip", **members)
    assert rows_of(sqlite_database, evidence) == []


def test_a_number_that_raw_events_do_not_give_is_not_signed(sqlite_database: Database, tmp_path: Path) -> None:
    kept(sqlite_database, a_metric())
    fold_all(sqlite_database)
    with sqlite_database.writing() as conn:
        conn.execute(usage_buckets.update().values(count=usage_buckets.c.count + 1))
    with pytest.raises(Unavailable, match="metrics build a_metric --anew"):
        make(sqlite_database, tmp_path / "e.zip")
    assert rows_of(sqlite_database, evidence) == []


def test_memory_holds_a_piece_and_not_the_file(sqlite_database: Database, tmp_path: Path) -> None:
    publish(sqlite_database, a_metric())

    def keep(numbers: range) -> None:
        many = [
            an_event(event_name="use", customer_id="ann", idempotency_id=f"m-{number}", properties={"n": 1})
            for number in numbers
        ]
        store(sqlite_database, a_record(a_run(a_lane(*many)), message_id=f"many-{numbers.start}"))

    def peak() -> int:
        tracemalloc.start()
        make(sqlite_database, tmp_path / "e.zip", month="2026-11")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    keep(range(2000))
    peak()
    few = peak()
    keep(range(2000, 6000))
    assert peak() < 1.5 * few
    assert len(read_rows(unpack(tmp_path / "e.zip")["events.csv"])) == 6000
