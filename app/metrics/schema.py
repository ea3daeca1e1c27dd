"""The JSON Schema of metric files, for completion in editors and validation by `parse_metric`."""

from typing import Any

METRIC_TYPES = ("counter", "gauge", "rate")
AGGREGATIONS = ("count", "sum", "max", "min", "average", "unique", "latest", "percentile")
NUMERIC_OPERATORS = ("gt", "gte", "lt", "lte", "eq")
CATEGORICAL_OPERATORS = ("isin", "isnotin")
GRANULARITIES = ("seconds", "minutes", "hours", "days", "weeks", "months", "total")
PRORATIONS = GRANULARITIES[:-1]
EVENT_TYPES = ("total", "delta")

MAX_GROUPS = 10
MAX_FILTERS = 50
MAX_CHOICES = 1000

_PROPERTY = {"type": "string", "minLength": 1, "maxLength": 255, "description": "The name of a property of the event."}


def _filters(operators: tuple[str, ...], value: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "array",
        "maxItems": MAX_FILTERS,
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": ["property_name", "operator", "comparison_value"],
            "properties": {
                "property_name": _PROPERTY,
                "operator": {"enum": list(operators)},
                "comparison_value": value,
            },
        },
    }


SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A Segment-Lotus metric",
    "description": "What is counted of which events. One file per metric.",
    "type": "object",
    "additionalProperties": False,
    "required": ["metric_type", "event_name"],
    "properties": {
        "name": {"type": "string", "description": "The name of the file, without .yaml; it may be left out."},
        "description": {"type": "string", "description": "What it says, in a sentence."},
        "metric_type": {
            "enum": list(METRIC_TYPES),
            "description": "counter: adds events up. gauge: a level that stays. rate: the most within a span of time.",
        },
        "event_name": {"type": "string", "minLength": 1, "maxLength": 100, "description": "Which events it takes."},
        "usage_aggregation_type": {
            "enum": list(AGGREGATIONS),
            "description": "How a counter adds up (any of these), or what a rate adds up (count, sum, max).",
        },
        "billable_aggregation_type": {
            "type": "string",
            "description": "rate, as Lotus's API gives it: always max, and it may be left out.",
        },
        "property_name": {**_PROPERTY, "description": "The property that holds the value; count needs none."},
        "numeric_filters": {
            **_filters(
                NUMERIC_OPERATORS,
                {"type": ["number", "string"], "description": "A number, or a number as text, which is exact."},
            ),
            "description": "Only events that pass all of these. A value that is missing or no number does not pass.",
        },
        "categorical_filters": {
            **_filters(
                CATEGORICAL_OPERATORS,
                {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": MAX_CHOICES,
                    "items": {"type": ["string", "number", "boolean"]},
                    "description": "Compared as text; a property that is missing or null is the empty text.",
                },
            ),
            "description": "Only events that pass all of these.",
        },
        "granularity": {
            "enum": list(GRANULARITIES),
            "description": "rate: how far each event looks back. gauge with proration: what a level is priced for.",
        },
        "proration": {
            "enum": list(PRORATIONS),
            "description": "gauge: time is cut into these, finer than granularity. Left out: the peak is the result.",
        },
        "event_type": {
            "enum": list(EVENT_TYPES),
            "description": "gauge: an event says the new level (total), or the change of it (delta).",
        },
        "percentile": {"type": ["number", "string"], "description": "percentile: from 0 to 100, such as 95 or 99.9."},
        "group_by": {
            "type": "array",
            "maxItems": MAX_GROUPS,
            "items": _PROPERTY,
            "description": "A number of its own for each value of these properties.",
        },
    },
}
