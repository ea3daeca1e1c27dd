"""Public bug reports as data, in field.yaml: each through the real ingest, or the real catalog and usage."""

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ruamel.yaml import YAML

from app.catalog.check import check
from app.catalog.files import read_folder
from app.core.times import format_time
from app.metrics.answer import answer, answer_raw
from app.metrics.definition import parse_metric
from app.metrics.documents import to_answer_document, to_csv
from app.metrics.lint import lint_metrics
from app.metrics.parameters import USAGE_PARAMETERS, parse_usage_query
from app.store.engine import Database
from app.store.schema import calls, events
from tests.builders import DEFAULT_TEXT, a_record, an_event, an_ingest, post, rows_of, some_transforms, store
from tests.metrics.conftest import fold_all, publish
from tests.metrics.metrics import LATER

# Backticks around text, which jmespath.py takes with a warning.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated string literal syntax:PendingDeprecationWarning")

CASES = YAML(typ="safe").load(Path(__file__).with_name("field.yaml"))["cases"]
SHIPPED = Path(__file__).parents[2] / "transforms"

Case = dict[str, Any]


def cases(kind: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in CASES if case["kind"] == kind]


def test_every_case_is_run() -> None:
    assert len(CASES) == 41
    assert {case["kind"] for case in CASES} == {"transform", "webhook", "metric"}
    known = {
        *("outcome", "events", "problems_contain", "receipt", "customers", "reason", "values", "rows", "note"),
        *("check_warns", "csv_unique_keys", "csv_no_formula", "below_zero"),
    }
    assert {key for case in CASES for key in case["expect"]} == known


@pytest.mark.parametrize("case", cases("transform"))
def test_a_transform(sqlite_database: Database, case: Case) -> None:
    expect, text = case["expect"], case["input"]["transform"]
    if "problems_contain" in expect:
        problems = check({"_default": DEFAULT_TEXT, "field": text}).problems
        assert any(expect["problems_contain"] in one.sentence for one in problems if "example" not in one.sentence)
        return
    ingest = an_ingest(sqlite_database, some_transforms(field=text))
    (record,) = post(ingest, json.dumps(case["input"]["call"]).encode())
    assert record.outcome == expect["outcome"], record.detail
    columns = (events.c.idempotency_id, events.c.time_created, events.c.properties)
    rows = rows_of(sqlite_database, events, *columns)
    for (idempotency_id, time_created, properties), wanted in zip(rows, expect["events"], strict=True):
        assert idempotency_id == wanted.get("idempotency_id", idempotency_id)
        assert format_time(time_created) == wanted.get("time_created", format_time(time_created))
        made = json.loads(properties)
        assert {name: made[name] for name in wanted.get("properties", ())} == wanted.get("properties", {})


@pytest.mark.parametrize("case", cases("webhook"))
def test_calls(sqlite_database: Database, case: Case) -> None:
    expect = case["expect"]
    texts = read_folder(SHIPPED).texts
    ingest = an_ingest(sqlite_database, some_transforms(texts.pop("_default"), **texts))
    told = case["input"].get("raw") or [json.dumps(call) for call in case["input"]["calls"]]
    # As one array, unless the case says that they come one after the other.
    apart = "raw" in case["input"] or case["input"].get("separately")
    bodies = told if apart else [f"[{','.join(told)}]"]
    records = [record for body in bodies for record in post(ingest, body.replace("$ID", "id").encode())]
    receipt = Counter(str(record.outcome) for record in records)
    assert {name: receipt[name] for name in expect.get("receipt", ())} == expect.get("receipt", {})
    customers = {f"$ID{row[0].removeprefix('id')}": row[1] for row in messages(sqlite_database, calls.c.customer_id)}
    assert {name: customers[name] for name in expect.get("customers", ())} == expect.get("customers", {})
    reasons = {f"$ID{row[0].removeprefix('id')}": row[1] for row in messages(sqlite_database, calls.c.reason)}
    assert {name: reasons[name] for name in expect.get("reason", ())} == expect.get("reason", {})
    # Whatever is to come of it, somebody has to be told.
    assert expect.keys() != {"note"}


def messages(database: Database, column: sa.Column[Any]) -> list[tuple[Any, ...]]:
    return rows_of(database, calls, calls.c.message_id, column)


@pytest.mark.parametrize("case", cases("metric"))
def test_a_metric(database: Database, case: Case) -> None:
    expect = case["expect"]
    metric = parse_metric("field", case["input"]["metric"].replace("$EVENT", "field_event"))
    publish(database, metric)
    records = [
        a_record(
            an_event(
                event_name=metric.event_name,
                idempotency_id=f"e-{at}",
                customer_id=event["customer"],
                time_created=event["time"],
                properties=event["properties"],
            )
        )
        for at, event in enumerate(case["input"]["events"])
    ]
    store(database, *records)
    fold_all(database)
    texts = {name: str(text) for name, text in case["input"]["query"].items() if name in USAGE_PARAMETERS}
    query = parse_usage_query(texts, LATER)
    with database.reading() as conn:
        found = answer(conn, metric, query, LATER)
        assert found == answer_raw(conn, metric, query, LATER)
    document = to_answer_document(found)
    if "values" in expect:
        assert [row.value for row in document.rows] == expect["values"]
    for row, wanted in zip(document.rows, expect.get("rows", document.rows), strict=True):
        assert not isinstance(wanted, dict) or {name: getattr(row, name) for name in wanted} == wanted
    assert any(row.below_zero_at is not None for row in found.rows) is expect.get("below_zero", False)
    assert bool(list(lint_metrics([metric], None))) is expect.get("check_warns", False)
    lines = list(csv.reader(io.StringIO("".join(to_csv(found, metric, query.groups(metric))))))[1:]
    if expect.get("csv_unique_keys"):
        keys = [tuple(line[: 1 + len(query.groups(metric))]) for line in lines]
        assert len(set(keys)) == len(keys) > 1
    if expect.get("csv_no_formula"):
        assert not any(line[0].startswith(("=", "+", "-", "@", "\t", "\r")) for line in lines)
