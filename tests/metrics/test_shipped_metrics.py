"""The metrics that are shipped fit the transforms that are shipped: what one makes, the other counts."""

from pathlib import Path
from typing import Any

import pytest

from app.catalog.files import read_folder
from app.core.times import parse_time
from app.core.transform.transform import DEFAULT, Transform, parse_transform
from app.metrics.catalog import check_metrics
from app.metrics.definition import Metric
from app.metrics.query import MetricEvent, Query
from tests.metrics.recomputation import compute

ROOT = Path(__file__).parent.parent.parent
METRICS = check_metrics(read_folder(ROOT / "metrics"))


def made_events() -> list[dict[str, Any]]:
    """The events that the examples of the shipped transforms expect."""
    texts = read_folder(ROOT / "transforms").texts
    default = parse_transform(DEFAULT, texts.pop(DEFAULT), None)
    found: list[dict[str, Any]] = []
    for name, text in texts.items():
        transform: Transform = parse_transform(name, text, default)
        said = transform.source.value
        constant = said["event"].get("event_name")
        for example in said.get("examples", ()):
            expected = example["expect"]
            for event in expected if isinstance(expected, list) else [expected]:
                if isinstance(event, dict):
                    named = constant["const"] if isinstance(constant, dict) else None
                    found.append({"event_name": named, **event})
    return found


EVENTS = made_events()


def test_all_of_them_can_be_used_and_say_in_a_sentence_what_they_count() -> None:
    assert METRICS.problems == {}
    assert len(METRICS.metrics) >= 6
    for metric in METRICS.metrics.values():
        assert metric.description.endswith(".")
    assert {one.metric_type for one in METRICS.metrics.values()} == {"counter", "gauge", "rate"}


@pytest.mark.parametrize("metric", METRICS.metrics.values(), ids=METRICS.metrics)
def test_a_transform_makes_what_it_counts(metric: Metric) -> None:
    made = [event for event in EVENTS if event["event_name"] == metric.event_name]
    assert made
    wanted = {*metric.group_by, *([metric.property_name] if metric.property_name else [])}
    assert any(wanted <= event["properties"].keys() for event in made)
    events = [
        MetricEvent(f"e-{at}", metric.event_name, "acme", parse_time("2026-10-05"), event["properties"])
        for at, event in enumerate(made)
    ]
    query = Query(start=parse_time("2026-10-01"), end=parse_time("2026-11-01"))
    for row in compute(metric, events, query, parse_time("2027-01-01")).rows:
        assert not row.skipped
