"""A metric file: what it may say, and where the error stands when it says something else."""

import json
from typing import Any

import pytest

from app.errors import MetricInvalid
from app.metrics.definition import Aggregation, MetricType, parse_metric
from app.metrics.schema import SCHEMA
from app.metrics.windows import Unit
from tests.metrics.metrics import a_metric

SUM = """\
description: Tokens by model.
metric_type: counter
event_name: tokens
usage_aggregation_type: sum
property_name: total_tokens
numeric_filters:
  - {property_name: total_tokens, operator: gt, comparison_value: "0.1"}
categorical_filters:
  - {property_name: model, operator: isnotin, comparison_value: ['it''s "free"', 1, true]}
group_by: [model]
"""


def test_a_file_says_what_is_counted() -> None:
    metric = parse_metric("tokens_used", SUM)
    assert (metric.name, metric.description, metric.event_name) == ("tokens_used", "Tokens by model.", "tokens")
    assert (metric.metric_type, metric.aggregation) == (MetricType.COUNTER, Aggregation.SUM)
    assert (metric.property_name, metric.group_by) == ("total_tokens", ("model",))
    assert metric.categorical_filters[0].comparison_value == {'it\'s "free"', "1", "true"}
    gauge = a_metric(metric_type="gauge", event_type="delta", granularity="months", proration="days")
    assert (gauge.granularity, gauge.proration, gauge.event_type) == (Unit.MONTH, Unit.DAY, "delta")
    rate = a_metric(metric_type="rate", granularity="minutes", usage_aggregation_type="count", property_name=None)
    assert (rate.granularity, rate.property_name) == (Unit.MINUTE, None)


def test_a_count_does_not_look_at_a_property() -> None:
    assert a_metric(usage_aggregation_type="count").property_name is None


def test_another_text_is_another_version_and_another_description_means_the_same() -> None:
    first = parse_metric("one", SUM)
    described = parse_metric("one", SUM.replace("Tokens by model", "All tokens"))
    changed = parse_metric("one", SUM.replace("gt", "gte"))
    assert len({first.digest, described.digest, changed.digest, parse_metric("two", SUM).digest}) == 4
    assert first.meaning == described.meaning == parse_metric("two", SUM).meaning != changed.meaning
    assert parse_metric("one", SUM).digest == first.digest
    # The order of a list of texts, and how a number is written, mean nothing.
    assert parse_metric("one", SUM.replace('"0.1"', "1e-1").replace("1, true", "true, 1")).meaning == first.meaning


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("metric_type: counter\n", "m.yaml:1:1: the key event_name is missing"),
        ("metric_type: sum\nevent_name: a\n", "m.yaml:1:14: metric_type: must be one of counter, gauge, rate"),
        ("event_name: a\nmetric_type: counter\n", "m.yaml:1:1: a counter needs the key usage_aggregation_type"),
        (SUM + "granularity: days\n", "m.yaml:11:1: granularity: belongs to a gauge or a rate, and this is a counter"),
        (SUM.replace("sum", "median"), "m.yaml:4:25: usage_aggregation_type: must be one of count, sum"),
        (SUM.replace("sum", "percentile"), "m.yaml:1:1: percentile needs the key percentile"),
        (SUM + "percentile: 50\n", "m.yaml:11:13: percentile: belongs to usage_aggregation_type: percentile"),
        (SUM.replace("sum", "percentile") + "percentile: 100.1\n", "m.yaml:11:13: percentile: must be from 0 to 100"),
        (SUM.replace("sum", "percentile") + "percentile: -1\n", "m.yaml:11:13: percentile: must be from 0 to 100"),
        (SUM.replace("sum", "percentile") + "percentile: half\n", "percentile: must be a number; this is text"),
        (SUM.replace("\nproperty_name: total_tokens", ""), "m.yaml:1:1: sum needs the key property_name"),
        (SUM.replace("gt,", "greater,"), "m.yaml:7:45: numeric_filters.0.operator: must be one of gt, gte, lt, lte"),
        (SUM.replace('"0.1"', "many"), "m.yaml:7:67: numeric_filters.0.comparison_value: must be a number;"),
        (SUM.replace('"0.1"', "[1]"), "m.yaml:7:67: numeric_filters.0.comparison_value: must be a number or text"),
        (SUM.replace('"0.1"', "1e99"), "this is out of range"),
        (SUM.replace("isnotin", "is"), "categorical_filters.0.operator: must be one of isin, isnotin"),
        (SUM.replace("['it''s \"free\"', 1, true]", "[]"), "comparison_value: must not be empty"),
        (SUM.replace("[model]", "[model, model]"), "m.yaml:10:19: group_by.1: stands here twice"),
        (SUM + "name: other\n", "m.yaml:11:7: name: must be m, as the file is called"),
        (SUM + "groupby: [a]\n", "m.yaml:11:1: groupby: there is no such key; did you mean group_by?"),
        ("metric_type: [\n", "m.yaml:2:1: "),
        ("", "m.yaml:1:1: must be a map"),
    ],
)
def test_an_error_names_file_line_and_column(text: str, error: str) -> None:
    with pytest.raises(MetricInvalid) as caught:
        parse_metric("m", text)
    assert error in caught.value.message
    assert caught.value.message.startswith("m.yaml:")
    assert caught.value.code == "metric_invalid"


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ({"metric_type": "gauge"}, "a gauge needs the key event_type"),
        ({"metric_type": "gauge", "event_type": "total", "property_name": None}, "a gauge needs the key property_name"),
        ({"metric_type": "gauge", "event_type": "total", "usage_aggregation_type": "sum"}, "the maximum of its level"),
        ({"metric_type": "gauge", "event_type": "total", "proration": "days"}, "needs the key granularity"),
        (
            {"metric_type": "gauge", "event_type": "total", "proration": "days", "granularity": "days"},
            "must be finer than granularity, which is days",
        ),
        ({"metric_type": "rate"}, "a rate needs the key granularity"),
        ({"metric_type": "rate", "granularity": "total"}, "seconds to months, not total"),
        ({"metric_type": "rate", "granularity": "days", "usage_aggregation_type": "min"}, "takes count, sum, max"),
        ({"metric_type": "rate", "granularity": "days", "usage_aggregation_type": None}, "usage_aggregation_type"),
        ({"metric_type": "rate", "granularity": "days", "proration": "hours"}, "proration: belongs to a gauge"),
        ({"event_type": "delta"}, "event_type: belongs to a gauge, and this is a counter"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(keys: dict[str, Any], error: str) -> None:
    with pytest.raises(MetricInvalid, match=error):
        a_metric(**keys)


def test_lotus_own_word_for_what_a_rate_is_billed_by_is_taken() -> None:
    rate = {"metric_type": "rate", "granularity": "minutes"}
    lotus = a_metric(**rate, billable_aggregation_type="max")
    assert lotus.meaning == a_metric(**rate).meaning
    with pytest.raises(MetricInvalid, match="a rate is billed by the most that any of its events saw: write max"):
        a_metric(**rate, billable_aggregation_type="sum")
    with pytest.raises(MetricInvalid, match="billable_aggregation_type: belongs to a rate, and this is a counter"):
        a_metric(billable_aggregation_type="max")


def test_every_granularity_is_there_for_each_finer_proration() -> None:
    spelled = ["seconds", "minutes", "hours", "days", "weeks", "months", "total"]
    for at, granularity in enumerate(spelled):
        for proration in spelled[:at]:
            a_metric(metric_type="gauge", event_type="total", granularity=granularity, proration=proration)


def test_the_schema_is_a_schema_and_names_every_key_of_the_contract() -> None:
    json.dumps(SCHEMA)
    assert set(SCHEMA["properties"]) == {
        *("name", "description", "metric_type", "event_name", "usage_aggregation_type", "property_name"),
        *("numeric_filters", "categorical_filters", "granularity", "proration", "event_type", "percentile"),
        *("group_by", "billable_aggregation_type"),
    }


@pytest.mark.parametrize(("written", "says"), [(r'"a\0"', "NUL"), (r'"a\ud83d"', r"\\ud83d")])
def test_a_text_that_no_database_keeps_is_refused_where_it_stands(written: str, says: str) -> None:
    with pytest.raises(MetricInvalid, match=rf"^one.yaml:3:13: .*{says}"):
        parse_metric("one", SUM.replace("event_name: tokens", f"event_name: {written}"))
