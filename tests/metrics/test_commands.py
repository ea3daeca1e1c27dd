"""Metrics from the command line, in this process and on both databases."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from app.catalog.files import read_folder
from app.core.times import parse_time
from app.metrics.catalog import publish_new_metrics
from app.metrics.query import MetricEvent
from app.metrics.schema import SCHEMA
from app.service import commands
from app.settings import SETTINGS
from app.store.engine import Database, connect
from app.store.schema import calls, usage_buckets
from tests.builders import IDS, NOW, rows_of
from tests.metrics.conftest import keep_events
from tests.metrics.metrics import some_events

ROOT = Path(__file__).parent.parent.parent

SUM = """\
description: What was used, by kind.
metric_type: counter
event_name: use
usage_aggregation_type: sum
property_name: n
group_by: [kind]
"""
OCTOBER = ("--start", "2026-10-01", "--end", "2026-11-01")


class Desk:
    """A folder in which somebody types commands."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self.database = database

    def __call__(self, *words: str) -> Result:
        """Type a command."""
        return CliRunner().invoke(commands.main, words)

    def write(self, **texts: str) -> None:
        for name, text in texts.items():
            (self.folder / "metrics" / f"{name}.yaml").write_text(text)

    def run_service(self) -> None:
        publish_new_metrics(self.database, read_folder(self.folder / "metrics"), IDS.next, lambda: NOW)


@pytest.fixture
def type_(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    folder = tmp_path / "desk"
    (folder / "metrics").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DATABASE_URL", migrated_url)
    database = connect(migrated_url)
    desk = Desk(folder, database)
    desk.write(used=SUM)
    desk.run_service()
    keep_events(database, some_events(*TOLD))
    yield desk
    database.close()


TOLD: list[tuple[str, Any]] = [
    ("2026-10-05T10:00:00Z", {"n": 0.1, "kind": "a"}),
    ("2026-10-05T22:30:00Z", {"n": "0.2", "kind": "a"}),
    ("2026-10-06T10:00:00Z", {"n": "much"}),
]


def said(result: Result, exit_code: int = 0) -> str:
    assert result.exit_code == exit_code, result.output
    return result.output if exit_code else result.stdout


def test_metrics_are_listed_with_their_state(type_: Desk) -> None:
    type_.write(used=SUM.replace("sum", "max"), broken="metric_type: [\n", coming=SUM)
    lines = said(type_("metrics", "list")).splitlines()
    assert lines[0].split() == ["NAME", "STATE", "LIVE", "WHAT"]
    assert [line.split()[:2] for line in lines[1:4]] == [["broken", "broken"], ["coming", "new"], ["used", "new"]]
    assert "What was used, by kind. (publishes itself when the service runs)" in lines[3]
    assert "broken.yaml:2:1:" in "\n".join(lines[4:])
    documents = [json.loads(line) for line in said(type_("metrics", "list", "--json")).splitlines()]
    assert [one["state"] for one in documents] == ["broken", "new", "new"]
    assert [one["live"] is None for one in documents] == [True, True, False]


def test_check_needs_no_database_and_names_file_line_and_column(type_: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///nowhere/at/all.db")
    assert said(type_("metrics", "check")) == "1 metric: all is well.\n"
    type_.write(broken=SUM.replace("sum", "summ"))
    output = said(type_("metrics", "check"), 1)
    assert "error: metrics/broken.yaml:4:25: usage_aggregation_type: must be one of count, sum" in output
    assert output.endswith("2 metrics: 1 file cannot be published.\n")
    assert said(type_("metrics", "check", "lost"), 1) == "error: there is no folder lost\n"
    assert said(type_("metrics", "check", str(ROOT / "metrics"))).endswith("all is well.\n")


def test_check_asks_about_what_is_suspicious(type_: Desk) -> None:
    (type_.folder / "transforms").mkdir()
    for name in ("_default", "tokens"):
        text = (ROOT / "transforms" / f"{name}.yaml").read_text()
        (type_.folder / "transforms" / f"{name}.yaml").write_text(text)
    type_.write(
        used=SUM.replace("event_name: use", "event_name: token"),
        p95=SUM.replace("event_name: use", "event_name: tokens").replace("sum", "percentile") + "percentile: 0.95\n",
        nested=SUM.replace("event_name: use", "event_name: tokens").replace(
            "property_name: n", "property_name: usage.n"
        ),
    )
    output = said(type_("metrics", "check"))
    assert "hint: metrics/used.yaml:3:13: event_name: no transform but _default could make" in output
    assert "did you mean tokens?" in output
    assert "hint: metrics/p95.yaml:7:13: percentile: goes from 0 to 100; if 95 is meant, write 95" in output
    assert "hint: metrics/nested.yaml:5:16: property_name: is read as one key" in output
    assert output.endswith("3 metrics: can be published, with 3 hints.\n")


def test_the_published_schema_is_current(type_: Desk) -> None:
    text = said(type_("schema", "--metric"))
    assert json.loads(text) == SCHEMA
    assert (ROOT / "docs" / "metric.schema.json").read_text() == text, (
        "run `segment-lotus schema --metric > docs/metric.schema.json`"
    )


def test_show_gives_the_live_text(type_: Desk) -> None:
    type_.write(used=SUM.replace("sum", "max"))
    assert said(type_("metrics", "show", "used")) == SUM
    assert json.loads(said(type_("metrics", "show", "used", "--json")))["usage_aggregation_type"] == "sum"
    assert "there is no metric 'lost': live are used" in said(type_("metrics", "show", "lost"), 1)


def test_a_person_publishes_and_takes_out(type_: Desk) -> None:
    type_.write(used=SUM.replace("sum", "max"))
    assert "used is live at version" in said(type_("metrics", "publish", "used"))
    assert "usage_aggregation_type: max" in said(type_("metrics", "show", "used"))
    (type_.folder / "metrics" / "used.yaml").unlink()
    assert said(type_("metrics", "publish", "used")) == "used is taken out.\n"
    assert "none is live" in said(type_("metrics", "show", "used"), 1)


def test_usage_is_a_table(type_: Desk) -> None:
    result = type_("usage", "used", *OCTOBER)
    lines = said(result).splitlines()
    assert [line.split() for line in lines] == [
        ["customer", "kind", "value", "events", "skipped"],
        ["ann", "-", "0", "0", "text=1"],
        ["ann", "a", "0.3", "2"],
    ]
    assert "2026-10-01 00:00:00+00:00 to 2026-11-01 00:00:00+00:00, UTC" in result.stderr


def test_the_ends_of_a_period_have_two_names(type_: Desk) -> None:
    table = type_("usage", "used", *OCTOBER)
    assert type_("usage", "used", "--since", "2026-10-01", "--until", "2026-11-01").output == table.output
    assert type_("usage", "used", "--since", "2026-10-01", "--end", "2026-11-01").output == table.output
    for words in (("--since", "7d"), ("--start", "7d"), ("--until", "1d")):
        result = type_("usage", "used", *OCTOBER, *words)
        assert result.exit_code == 2
        assert "name the same end of the period: give it once." in result.stderr
    assert "--start and --since name" in type_("usage", "used", *OCTOBER, "--since", "7d").stderr


def test_windows_are_told_in_their_zone(type_: Desk) -> None:
    words = ("usage", "used", *OCTOBER, "--window", "day", "--tz", "Europe/Berlin", "--group-by", "none")
    lines = said(type_(*words)).splitlines()
    # 22:30Z on the 5th is 00:30 on the 6th in Berlin.
    assert [line.split()[1:4] for line in lines[1:]] == [
        ["2026-10-05", "00:00:00+02:00", "0.1"],
        ["2026-10-06", "00:00:00+02:00", "0.2"],
    ]
    filled = said(type_(*words, "--fill", "zero", "--customer", "ann"))
    assert len(filled.splitlines()) == 1 + 31


def test_days_are_those_of_time_zone_unless_another_is_asked_for(type_: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("usage", "used", *OCTOBER, "--window", "day", "--group-by", "none", "--customer", "ann")
    utc, berlin = said(type_(*words)), said(type_(*words, "--tz", "Europe/Berlin"))
    assert utc != berlin
    monkeypatch.setenv("TIME_ZONE", "Europe/Berlin")
    assert said(type_(*words)) == berlin
    assert said(type_(*words, "--tz", "UTC")) == utc


def test_usage_is_csv_and_json(type_: Desk) -> None:
    lines = said(type_("usage", "used", *OCTOBER, "--format", "csv")).splitlines()
    assert lines[0] == "customer_id,kind,window_start,window_end,value,events_count,skipped"
    assert lines[2].endswith(",0.3,2,")
    answer = json.loads(said(type_("usage", "used", *OCTOBER, "--format", "json")))
    assert [row["value"] for row in answer["rows"]] == ["0", "0.3"]


def test_explain_lists_the_events_of_a_number(type_: Desk) -> None:
    lines = said(type_("usage", "used", *OCTOBER, "--explain")).splitlines()
    assert ["0.1" in lines[0], "0.2" in lines[1], "skipped: text" in lines[2]] == [True] * 3
    events = said(type_("usage", "used", *OCTOBER, "--explain", "--group", '{"kind": "a"}', "--format", "json"))
    assert [json.loads(line)["value"] for line in events.splitlines()] == ["0.1", "0.2"]
    rows = list(csv.DictReader(said(type_("usage", "used", *OCTOBER, "--explain", "--format", "csv")).splitlines()))
    assert [(row["value"], row["standing"]) for row in rows] == [
        ("0.1", "counted"),
        ("0.2", "counted"),
        ("", "skipped"),
    ]
    for words, named in (
        (("--explain", "--window", "day"), "give its window as --start and --end"),
        (("--group", "{}"), "--group belongs to --explain"),
        (("--tz", "Mars"), "tz must be the IANA name"),
    ):
        assert named in said(type_("usage", "used", *OCTOBER, *words), 1)


def test_of_a_call_it_is_said_which_metrics_counted_it(type_: Desk) -> None:
    first, _, last = (str(one) for (one,) in rows_of(type_.database, calls, calls.c.id))
    assert said(type_("metrics", "explain", first)).split() == ["used", "counted", "0.1", "(e-1)"]
    assert "used" in said(type_("metrics", "explain", last))
    assert "skipped: n is text" in said(type_("metrics", "explain", last))
    (document,) = said(type_("metrics", "explain", last, "--json")).splitlines()
    assert json.loads(document)["verdict"] == "skipped"
    assert "there is no call" in said(type_("metrics", "explain", "1"), 1)
    # As `show` does: by the id of the message, or of the event.
    for id_ in ("m-e-1", "e-1"):
        assert said(type_("metrics", "explain", id_)) == said(type_("metrics", "explain", first))


def test_a_level_below_zero_is_told(type_: Desk) -> None:
    type_.write(level="metric_type: gauge\nevent_name: use\nevent_type: delta\nproperty_name: change\n")
    type_.run_service()
    fall = MetricEvent("e-9", "use", "ann", parse_time("2026-10-07T10:00:00Z"), {"change": -5})
    keep_events(type_.database, [fall])
    hint = "hint: the level was below zero in 1 number, first of ann since 2026-10-07 10:00:00+00:00"
    assert hint in type_("usage", "level", *OCTOBER).stderr
    answer = json.loads(said(type_("usage", "level", *OCTOBER, "--format", "json")))
    assert [row.get("below_zero_at") for row in answer["rows"]] == ["2026-10-07T10:00:00.000000Z"]
    lines = said(type_("usage", "level", *OCTOBER, "--format", "csv")).splitlines()
    assert [lines[0].split(",")[-1], lines[1].split(",")[-1]] == ["below_zero_at", "2026-10-07T10:00:00+00:00"]


def test_build_adds_up_and_verify_says_whether_raw_events_agree(type_: Desk) -> None:
    type_.write(few="metric_type: counter\nevent_name: use\nusage_aggregation_type: unique\nproperty_name: kind\n")
    type_.run_service()
    assert rows_of(type_.database, usage_buckets) == []
    before = said(type_("usage", "used", *OCTOBER))
    output = said(type_("metrics", "build"))
    assert "few is always computed from raw events: unique cannot be pre-aggregated." in output
    # Three events in three quarter hours of two days; the third is of another group.
    assert len(rows_of(type_.database, usage_buckets)) == 3 + 2
    result = type_("usage", "used", *OCTOBER, "--verify")
    assert said(result) == before
    assert "Raw events give the same numbers." in result.stderr
    # Somebody changed a bucket by hand.
    with type_.database.writing() as conn:
        conn.execute(sa.update(usage_buckets).values(value="9", count=7))
    assert "raw events give other numbers" in said(type_("usage", "used", *OCTOBER, "--verify"), 1)
    assert json.loads(type_("usage", "used", *OCTOBER, "--verify", "--format", "json").stdout)["verified"] is False
    said(type_("metrics", "build", "used", "--anew"))
    assert said(type_("usage", "used", *OCTOBER, "--verify")) == before


def test_verify_is_about_numbers(type_: Desk) -> None:
    assert "give one of them" in said(type_("usage", "used", "--verify", "--explain"), 1)
