"""The definition of a metric: which events it takes and how it aggregates them.

parse_metric(name, text) -> Metric      one file of metrics/
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from hashlib import blake2b
from typing import Any, ClassVar

import jsonschema_rs
import msgspec
from jsonschema import Draft202012Validator

from app.core.lotus import DIGEST_BYTES
from app.core.transform.document import SourceText
from app.core.yaml_text import Path
from app.errors import DocumentInvalid, MetricInvalid
from app.metrics.schema import GRANULARITIES, SCHEMA
from app.metrics.values import UNREADABLE, Skip, format_number, read_number, read_text, to_text
from app.metrics.windows import Unit

# Part of every digest: raise it with a change that can change a number, which makes new versions of all metrics.
ENGINE = 2

TOTAL = "total"


class MetricType(StrEnum):
    """The kind of number."""

    COUNTER = "counter"
    GAUGE = "gauge"
    RATE = "rate"


class Aggregation(StrEnum):
    """How values become one number."""

    COUNT = "count"
    SUM = "sum"
    MAX = "max"
    MIN = "min"
    AVERAGE = "average"
    UNIQUE = "unique"
    LATEST = "latest"
    PERCENTILE = "percentile"


RATE_AGGREGATIONS = (Aggregation.COUNT, Aggregation.SUM, Aggregation.MAX)

_UNITS = {f"{unit}s": unit for unit in Unit}

# More decimal places than any percentile needs, and few enough for an exact result.
_PERCENTILE_EXPONENT = -9
_HUNDRED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class NumericFilter:
    """Compares a property with a number."""

    property_name: str
    operator: str
    comparison_value: Decimal

    def passes(self, properties: Mapping[str, Any]) -> bool:
        """Tell whether an event passes; a property that is missing or not a number does not."""
        value = read_number(properties, self.property_name)
        if isinstance(value, Skip):
            return False
        bound = self.comparison_value
        match self.operator:
            case "gt":
                return value > bound
            case "gte":
                return value >= bound
            case "lt":
                return value < bound
            case "lte":
                return value <= bound
        return value == bound


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoricalFilter:
    """Compares a property with a set of texts."""

    property_name: str
    operator: str
    comparison_value: frozenset[str]

    def passes(self, properties: Mapping[str, Any]) -> bool:
        """Tell whether an event passes; a property that is missing or null counts as the empty text."""
        is_member = (read_text(properties, self.property_name) or "") in self.comparison_value
        return is_member if self.operator == "isin" else not is_member


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One version of one metric."""

    name: str
    digest: bytes
    """The identity of this version: 16 bytes over the name, the text and the engine."""
    meaning: bytes
    """A digest that is equal for versions that compute equal numbers: the description is not part of it."""
    text: str
    description: str
    metric_type: MetricType
    event_name: str
    aggregation: Aggregation | None
    """None for a gauge."""
    property_name: str | None
    """None if events are only counted."""
    numeric_filters: tuple[NumericFilter, ...]
    categorical_filters: tuple[CategoricalFilter, ...]
    granularity: Unit | None
    """None if the file has none, and for `total`."""
    proration: Unit | None
    event_type: str | None
    """`total` or `delta` for a gauge."""
    percentile: Decimal | None
    group_by: tuple[str, ...]

    def passes(self, properties: Mapping[str, Any]) -> bool:
        """Tell whether an event with these properties passes all filters."""
        return properties is UNREADABLE or (
            all(numeric.passes(properties) for numeric in self.numeric_filters)
            and all(categorical.passes(properties) for categorical in self.categorical_filters)
        )

    def property_names(self) -> set[str]:
        """Return the names of all properties that it reads."""
        names = {self.property_name} if self.property_name is not None else set()
        names.update(numeric.property_name for numeric in self.numeric_filters)
        names.update(categorical.property_name for categorical in self.categorical_filters)
        return names.union(self.group_by)

    def spelled(self, key: str) -> str | None:
        """Return the value of `granularity` or `proration` as it is spelled in the file."""
        unit: Unit | None = getattr(self, key)
        if unit is not None:
            return f"{unit}s"
        return TOTAL if key == "granularity" and self.proration is not None else None

    def read(self, properties: Mapping[str, Any]) -> Decimal | str | Skip | None:
        """Return the value of an event: a number, a text (`unique`), None (`count`), or why it is skipped."""
        if properties is UNREADABLE:
            return Skip.UNREADABLE
        if self.property_name is None:
            return None
        if self.aggregation is not Aggregation.UNIQUE:
            return read_number(properties, self.property_name)
        if self.property_name not in properties:
            return Skip.MISSING
        text = read_text(properties, self.property_name)
        return Skip.NULL if text is None else text or Skip.EMPTY


class MetricSource(SourceText):
    """One metric file."""

    validator: ClassVar = Draft202012Validator(SCHEMA)
    quick_validator: ClassVar = jsonschema_rs.Draft202012Validator(SCHEMA)
    error: ClassVar[type[DocumentInvalid]] = MetricInvalid


def parse_metric(name: str, text: str) -> Metric:
    """Parse one metric file.

    Raises:
        MetricInvalid: with the file, line and column, and what is wrong there.

    """
    source = MetricSource(name, text)
    for error in source.list_unstorable():
        raise error
    document = source.value
    if document.get("name", name) != name:
        raise source.invalid(("name",), f"must be {name}, as the file is called, or be left out")
    kind = MetricType(document["metric_type"])
    _check_keys(source, kind)
    aggregation = _aggregation(source, kind)
    proration = _UNITS.get(document.get("proration", ""))
    meaning = {
        "metric_type": kind,
        "event_name": document["event_name"],
        "aggregation": aggregation,
        "property_name": None if aggregation is Aggregation.COUNT else _property(source, aggregation),
        "numeric_filters": tuple(
            NumericFilter(
                property_name=row["property_name"],
                operator=row["operator"],
                comparison_value=_number(source, ("numeric_filters", at, "comparison_value"), row["comparison_value"]),
            )
            for at, row in enumerate(document.get("numeric_filters", ()))
        ),
        "categorical_filters": tuple(
            CategoricalFilter(
                property_name=row["property_name"],
                operator=row["operator"],
                comparison_value=frozenset(map(to_text, row["comparison_value"])),
            )
            for row in document.get("categorical_filters", ())
        ),
        "granularity": _granularity(source, kind, proration),
        "proration": proration,
        "event_type": document.get("event_type"),
        "percentile": _percentile(source, aggregation),
        "group_by": _group_by(source),
    }
    return Metric(
        name=name,
        digest=_digest(source, {"name": name, "text": text}),
        meaning=_digest(source, _plain(meaning)),
        text=text,
        description=document.get("description", ""),
        **meaning,
    )


# The keys of each metric type, beside those that all types share.
_KEYS = {
    MetricType.COUNTER: ("usage_aggregation_type", "percentile"),
    MetricType.RATE: ("usage_aggregation_type", "billable_aggregation_type", "granularity"),
    MetricType.GAUGE: ("usage_aggregation_type", "granularity", "proration", "event_type"),
}


def _check_keys(source: MetricSource, kind: MetricType) -> None:
    for key in sorted({key for keys in _KEYS.values() for key in keys}):
        if key in source.value and key not in _KEYS[kind]:
            owners = " or ".join(f"a {owner}" for owner in MetricType if key in _KEYS[owner])
            raise source.invalid_key((key,), f"belongs to {owners}, and this is a {kind}")
    if source.value.get("billable_aggregation_type", "max") != "max":
        sentence = "a rate is billed by the most that any of its events saw: write max, or leave it out"
        raise source.invalid(("billable_aggregation_type",), sentence)
    needed = {MetricType.COUNTER: "usage_aggregation_type", MetricType.GAUGE: "event_type"}.get(kind, "granularity")
    if needed not in source.value:
        raise source.invalid((), f"a {kind} needs the key {needed}")


def _aggregation(source: MetricSource, kind: MetricType) -> Aggregation | None:
    name = source.value.get("usage_aggregation_type")
    path = ("usage_aggregation_type",)
    if kind is MetricType.GAUGE:
        if name not in {None, "max"}:
            raise source.invalid(path, "a gauge takes the maximum of its level: write max, or leave it out")
        return None
    if name is None:
        raise source.invalid((), f"a {kind} needs the key usage_aggregation_type")
    if kind is MetricType.RATE and name not in RATE_AGGREGATIONS:
        raise source.invalid(path, f"a rate takes {', '.join(RATE_AGGREGATIONS)}")
    return Aggregation(name)


def _property(source: MetricSource, aggregation: Aggregation | None) -> str:
    name: str | None = source.value.get("property_name")
    if name is None:
        raise source.invalid((), f"{aggregation or 'a gauge'} needs the key property_name")
    return name


def _granularity(source: MetricSource, kind: MetricType, proration: Unit | None) -> Unit | None:
    name = source.value.get("granularity")
    if kind is MetricType.RATE and name == TOTAL:
        raise source.invalid(("granularity",), "a rate looks back over a span of time: seconds to months, not total")
    if proration is not None:
        if name is None:
            raise source.invalid((), "a gauge with proration needs the key granularity: what is its level priced for?")
        if GRANULARITIES.index(f"{proration}s") >= GRANULARITIES.index(name):
            raise source.invalid(("proration",), f"must be finer than granularity, which is {name}")
    return _UNITS.get(name or "")


def _percentile(source: MetricSource, aggregation: Aggregation | None) -> Decimal | None:
    if aggregation is not Aggregation.PERCENTILE:
        if "percentile" in source.value:
            raise source.invalid(("percentile",), "belongs to usage_aggregation_type: percentile")
        return None
    if "percentile" not in source.value:
        raise source.invalid((), "percentile needs the key percentile: a number from 0 to 100")
    number = _number(source, ("percentile",), source.value["percentile"])
    exponent = number.as_tuple().exponent
    if not 0 <= number <= _HUNDRED or not isinstance(exponent, int) or exponent < _PERCENTILE_EXPONENT:
        raise source.invalid(("percentile",), "must be from 0 to 100, with nine digits after the point at most")
    return number


def _group_by(source: MetricSource) -> tuple[str, ...]:
    names: list[str] = source.value.get("group_by", [])
    for at, name in enumerate(names):
        if name in names[:at]:
            raise source.invalid(("group_by", at), "stands here twice")
    return tuple(names)


def _number(source: MetricSource, path: Path, written: Any) -> Decimal:
    number = read_number({"": written}, "")
    if isinstance(number, Skip):
        raise source.invalid(path, f"must be a number; this is {number.replace('_', ' ')}")
    return number


def _plain(value: Any) -> Any:
    """Return a definition as JSON values, equal for equal definitions."""
    if isinstance(value, NumericFilter | CategoricalFilter):
        return [value.property_name, value.operator, _plain(value.comparison_value)]
    if isinstance(value, Decimal):
        return format_number(value)
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _digest(source: MetricSource, parts: dict[str, Any]) -> bytes:
    try:
        encoded = msgspec.json.encode({"engine": ENGINE, "kind": "metric", **parts}, order="deterministic")
    except UnicodeEncodeError as error:
        raise source.invalid((), "it holds half of a surrogate pair, which is no text") from error
    return blake2b(encoded, digest_size=DIGEST_BYTES).digest()
