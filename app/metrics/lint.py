"""Hints about metrics that are valid but look wrong."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from app.core.jmespath.closures import path_of
from app.core.transform.transform import DEFAULT, Transform, TransformSet
from app.core.yaml_text import Path
from app.errors import DocumentInvalid
from app.metrics.definition import Metric, MetricSource


def lint_metrics(metrics: Iterable[Metric], transforms: TransformSet | None) -> Iterator[tuple[str, DocumentInvalid]]:
    """Yield (metric name, hint with file, line and column).

    `transforms` are those that make the events; None if they are not known.
    """
    names = _list_event_names(transforms) if transforms else None
    for metric in metrics:
        source = MetricSource(metric.name, metric.text)
        for path, sentence in (*_percentile(metric), *_event_name(metric, names), *_nested(source.value)):
            yield metric.name, source.invalid(path, sentence)


def _percentile(metric: Metric) -> Iterator[tuple[Path, str]]:
    percentile = metric.percentile
    if percentile is not None and 0 < percentile <= 1:
        percent = format(percentile.scaleb(2).normalize(), "f")
        yield ("percentile",), f"goes from 0 to 100; if {percent} is meant, write {percent}"


def _event_name(metric: Metric, names: set[str] | None) -> Iterator[tuple[Path, str]]:
    if not names or metric.event_name in names:
        return
    near = difflib.get_close_matches(metric.event_name, sorted(names), n=1)
    suggestion = f"; did you mean {near[0]}?" if near else ""
    yield ("event_name",), f"no transform but {DEFAULT} could make an event of this name{suggestion}"


def _nested(document: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    places: list[tuple[Path, str]] = [(("property_name",), document.get("property_name", ""))]
    places += [(("group_by", at), name) for at, name in enumerate(document.get("group_by", ()))]
    for key in ("numeric_filters", "categorical_filters"):
        places += [
            ((key, at, "property_name"), entry["property_name"]) for at, entry in enumerate(document.get(key, ()))
        ]
    for path, name in places:
        if "." in name.strip(".") or "[" in name:
            yield path, "is read as one key; of a nested value the transform makes a property of its own"


def _list_event_names(transforms: TransformSet) -> set[str] | None:
    """Return the event names that transforms other than `_default` can make; None if one of them may make any name."""
    names: set[str] = set()
    for transform in transforms.transforms:
        if transform.name != DEFAULT:
            event_names = _find_event_names(transform)
            if event_names is None:
                return None
            names |= event_names
    return names


def _find_event_names(transform: Transform) -> set[str] | None:
    if transform.fields.whole is not None:
        return None
    event = transform.source.value.get("event", {})
    constant = event.get("event_name")
    if isinstance(constant, dict):
        return {constant["const"]} if isinstance(constant.get("const"), str) else None
    expression = transform.fields.parts[0].expression
    if expression is None:
        return None
    if expression.tree["type"] == "literal" and isinstance(expression.tree["value"], str):
        return {expression.tree["value"]}
    # The event takes the name of the call.
    return (
        set(transform.match.events) if path_of(expression.tree) == ("event",) and not transform.match.patterns else None
    )
