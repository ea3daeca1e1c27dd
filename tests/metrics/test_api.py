"""The JSON API of metrics over a real service."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.clock import clock
from app.metrics.fold import BucketBuilder
from tests.builders import a_document, to_raw
from tests.served import ADMIN_TOKEN, signed
from tests.sites import Site

SUM = """\
description: Tokens by model.
metric_type: counter
event_name: API Call
usage_aggregation_type: sum
property_name: tokens
group_by: [model]
"""
COUNT = "metric_type: counter\nevent_name: API Call\nusage_aggregation_type: count\n"
OCTOBER = "start=2026-10-01&end=2026-11-01"


class Asking:
    """A service with two metrics, and somebody who asks it."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def send(self, message: str, time: str, **more: Any) -> None:
        properties = more.pop("properties", {"tokens": 0.1, "model": "s"})
        body = to_raw(a_document(messageId=message, timestamp=time, properties=properties, **more))
        answer = self.site.send(body, signed(body))
        assert answer.json is not None
        assert answer.json["stored"] == 1

    def get(self, path: str, status: int = 200) -> Any:
        answer = self.site.ask(f"/api/v1{path}", ADMIN_TOKEN)
        assert answer.status_code == status, answer.get_data()
        return json.loads(answer.get_data())


@pytest.fixture
def asking(make_site: Callable[..., Site], tmp_path: Path) -> Asking:
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / "tokens.yaml").write_text(SUM)
    (folder / "calls.yaml").write_text(COUNT)
    return Asking(make_site(metrics_dir=folder))


def test_metrics_are_listed_with_their_version_and_text(asking: Asking) -> None:
    calls, tokens = asking.get("/metrics")["metrics"]
    assert (calls["name"], tokens["name"], tokens["description"]) == ("calls", "tokens", "Tokens by model.")
    assert (tokens["metric_type"], tokens["usage_aggregation_type"], tokens["group_by"]) == (
        "counter",
        "sum",
        ["model"],
    )
    assert (tokens["text"], len(tokens["version"])) == (SUM, 32)


def test_a_number_is_exact_and_leads_to_its_events(asking: Asking) -> None:
    for at in range(3):
        asking.send(f"m-{at}", f"2026-10-05T10:00:0{at}Z")
    asking.send("m-x", "2026-10-06", properties={"tokens": "many"})
    answer = asking.get(f"/metrics/tokens/usage?{OCTOBER}")
    (version,) = [one["version"] for one in asking.get("/metrics")["metrics"] if one["name"] == "tokens"]
    assert {key: answer[key] for key in ("metric", "version", "start", "end", "tz")} == {
        "metric": "tokens",
        "version": version,
        "start": "2026-10-01T00:00:00.000000Z",
        "end": "2026-11-01T00:00:00.000000Z",
        "tz": "UTC",
    }
    period = {"window_start": answer["start"], "window_end": answer["end"]}
    empty, small = answer["rows"]
    assert empty == {
        "customer_id": "customer-1",
        "group": {"model": None},
        **period,
        "value": "0",
        "events_count": 0,
        "skipped": {"text": 1},
    }
    assert small == {
        "customer_id": "customer-1",
        "group": {"model": "s"},
        **period,
        "value": "0.3",
        "events_count": 3,
        "skipped": {},
    }
    page = asking.get(f'/metrics/tokens/events?{OCTOBER}&group={{"model": "s"}}&limit=2')
    events = page["events"]
    rest = asking.get(f'/metrics/tokens/events?{OCTOBER}&group={{"model": "s"}}&limit=2&after={page["next"]}')
    assert rest["next"] is None
    events += rest["events"]
    assert [(one["idempotency_id"], one["value"], one["skipped"]) for one in events] == [
        (f"m-{at}", "0.1", None) for at in range(3)
    ]
    assert asking.get(f"/calls/{events[0]['call_id']}")["message_id"] == "m-0"
    (skipped,) = asking.get(f'/metrics/tokens/events?{OCTOBER}&group={{"model": null}}')["events"]
    assert (skipped["value"], skipped["skipped"], skipped["properties"]) == (None, "text", {"tokens": "many"})


def test_windows_customers_groups_and_zones_are_asked_for(asking: Asking) -> None:
    asking.send("m-1", "2026-10-05T18:30:00Z", userId="ann")
    asking.send("m-2", "2026-10-05T18:00:00Z", userId="ann")
    asking.send("m-3", "2026-10-05T18:00:00Z", userId="bob")
    # 18:15Z is midnight in Kathmandu; a day without a zone begins there, too.
    days = "start=2026-10-05&end=2026-10-08&window=day&tz=Asia/Kathmandu&customer_id=ann"
    rows = asking.get(f"/metrics/calls/usage?{days}")["rows"]
    assert [(row["window_start"][:16], row["value"]) for row in rows] == [
        ("2026-10-04T18:15", "1"),
        ("2026-10-05T18:15", "1"),
    ]
    filled = asking.get(f"/metrics/calls/usage?{days}&fill=zero")["rows"]
    assert [row["value"] for row in filled] == ["1", "1", "0"]
    grouped = asking.get(f"/metrics/calls/usage?{OCTOBER}&group_by=model,tokens")["rows"]
    assert [row["group"] for row in grouped] == [{"model": "s", "tokens": "0.1"}] * 2
    assert [row["group"] for row in asking.get(f"/metrics/tokens/usage?{OCTOBER}&group_by=none")["rows"]] == [{}, {}]


def test_the_future_is_not_counted_unless_it_is_asked_for(asking: Asking) -> None:
    asking.send("m-1", "2199-01-01")
    period = "start=2026-01-01&end=2199-02-01"
    assert asking.get(f"/metrics/calls/usage?{period}")["rows"] == []
    assert asking.get(f"/metrics/calls/usage?{period}&include_future=true")["rows"][0]["value"] == "1"


def test_csv_has_a_column_for_each_group(asking: Asking) -> None:
    asking.send("m-1", "2026-10-05", userId='a,"b"')
    asking.send("m-2", "2026-10-05", userId="ann", properties={"tokens": "x", "model": "s"})
    answer = asking.site.ask(f"/api/v1/metrics/tokens/usage?{OCTOBER}&format=csv", ADMIN_TOKEN)
    assert answer.content_type == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="tokens_2026-10-01_2026-11-01.csv"'
    period = ["2026-10-01T00:00:00+00:00", "2026-11-01T00:00:00+00:00"]
    assert list(csv.reader(io.StringIO(answer.get_data(as_text=True)))) == [
        ["customer_id", "model", "window_start", "window_end", "value", "events_count", "skipped"],
        ['a,"b"', "s", *period, "0.1", "1", ""],
        ["ann", "s", *period, "0", "0", "text=1"],
    ]


def test_csv_is_safe_in_a_spreadsheet_and_tells_all_groups_apart(asking: Asking) -> None:
    formulas = ["=HYPERLINK(1)", "+1", "-1", "@a", "\tx", "\rx"]
    for at, text in enumerate([*formulas, "a=b", ""]):
        asking.send(f"m-{at}", "2026-10-05", userId="=1+1", properties={"tokens": -1, "model": text})
    asking.send("m-9", "2026-10-05", userId="=1+1", properties={"tokens": -1})
    period = "start=2026-10-01&end=2026-11-01T12:30&tz=Asia/Kathmandu"
    answer = asking.site.ask(f"/api/v1/metrics/tokens/usage?{period}&format=csv", ADMIN_TOKEN)
    assert 'filename="tokens_2026-10-01_2026-11-01T123000.csv"' in answer.headers["Content-Disposition"]
    _, *lines = csv.reader(io.StringIO(answer.get_data(as_text=True), newline=""))
    assert {line[0] for line in lines} == {"'=1+1"}
    assert sorted(line[1] for line in lines) == sorted(["", '""', "a=b", *(f"'{text}" for text in formulas)])
    assert {tuple(line[2:5]) for line in lines} == {("2026-10-01T00:00:00+05:45", "2026-11-01T12:30:00+05:45", "-1")}


def test_of_a_call_it_is_told_which_metrics_counted_it(asking: Asking) -> None:
    asking.send("m-1", "2026-10-05", properties={"tokens": True})
    call_id = asking.get("/calls")["calls"][0]["id"]
    found = asking.get(f"/calls/{call_id}/metrics")["metrics"]
    assert [(one["metric"], one["verdict"], one["value"], one["why"]) for one in found] == [
        ("calls", "counted", None, None),
        ("tokens", "skipped", None, "tokens is boolean"),
    ]


@pytest.mark.parametrize(
    ("path", "status", "named"),
    [
        ("/metrics?limit=1", 400, "this takes none"),
        ("/metrics/lost/usage", 404, "there is no metric 'lost': live are calls, tokens"),
        ("/metrics/tokens/usage?window=year", 400, "window must be one of minute, hour, day, week, month"),
        ("/metrics/tokens/usage?tz=Mars", 400, "tz must be the IANA name"),
        ("/metrics/tokens/usage?start=soon", 400, "start must be a time"),
        ("/metrics/tokens/usage?start=2026-02-30", 400, "start must be a time"),
        ("/metrics/tokens/usage?start=2026-02-02&end=2026-02-01", 400, "start must be before end"),
        ("/metrics/tokens/usage?end=0001-01-01", 400, "start and end must be of the years"),
        ("/metrics/tokens/usage?end=9999-12-31T23:59:59", 400, "start and end must be of the years"),
        ("/metrics/tokens/usage?fill=one", 400, "fill must be zero"),
        ("/metrics/tokens/usage?include_future=maybe", 400, "include_future must be true or false"),
        ("/metrics/tokens/usage?group_by=,", 400, "group_by must be up to 10 names"),
        ("/metrics/tokens/usage?format=xml", 400, "format must be json or csv"),
        ("/metrics/tokens/usage?customer=ann", 400, "there is no parameter 'customer': there are customer_id"),
        ("/metrics/tokens/usage?customer_id=", 400, "customer_id is empty"),
        ("/metrics/tokens/usage?tz=UTC&tz=UTC", 400, "tz is there 2 times"),
        ("/metrics/tokens/usage?start=1990-01-01&window=minute", 400, "more than 100,000 windows"),
        ("/metrics/tokens/events?window=day", 400, "give its window_start and window_end"),
        ("/metrics/tokens/events?group=s", 400, "group must be a group as the answer gives it"),
        ('/metrics/tokens/events?group={"a": "b"}', 400, "group must say a value, or null, for model"),
        ("/metrics/tokens/events?after=1", 400, "after must be what the page before gave"),
        ("/metrics/tokens/events?limit=0", 400, "limit must be a whole number"),
        ("/calls/one/metrics", 404, "the id of a call is a number"),
        ("/calls/1/metrics", 404, "there is no call"),
        ("/calls/1/metrics?a=1", 400, "this takes none"),
    ],
)
def test_what_cannot_be_answered_says_why(asking: Asking, path: str, status: int, named: str) -> None:
    error = asking.get(path, status)
    assert error["code"] == ("bad_query" if status == 400 else "not_found")
    assert named in error["message"]


def test_verify_says_whether_raw_events_give_the_same(asking: Asking) -> None:
    asking.send("m-1", "2026-10-05T10:00:00Z")
    asking.send("m-2", "2026-10-05T10:00:00Z")
    folder = BucketBuilder(asking.site.service.database, 1, clock)
    while folder.step():
        pass
    asking.send("m-3", "2026-10-06T10:00:00Z")
    answer = asking.get(f"/metrics/tokens/usage?{OCTOBER}&verify=1")
    assert answer["verified"] is True
    assert [row["value"] for row in answer["rows"]] == ["0.3"]
    assert "verified" not in asking.get(f"/metrics/tokens/usage?{OCTOBER}")
    assert "verify" in asking.get(f"/metrics/tokens/usage?{OCTOBER}&verify=yes", 400)["message"]
