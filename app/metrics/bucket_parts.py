"""Conversion between parts and bucket rows: exact decimals and groups as text."""

from decimal import Decimal
from typing import Any

import msgspec

from app.metrics.definition import Metric
from app.metrics.parts import LEVELS, Part
from app.metrics.query import Group, MetricEvent
from app.metrics.sql_buckets import Key, Values
from app.metrics.sql_events import UsageValue
from app.metrics.sql_tail import FoldEvent
from app.metrics.values import read_properties, read_text

# Together with the customer id, the key still fits into an index of PostgreSQL.
_GROUP_BYTES = 1000

_decode_group = msgspec.json.Decoder(tuple[str | None, ...]).decode
_decode_skipped = msgspec.json.Decoder(dict[str, int]).decode


def to_event(stored: FoldEvent) -> MetricEvent:
    """Convert a stored event to the form that metrics read."""
    return MetricEvent(
        stored.base_id, stored.event_name, stored.customer_id, stored.time_created, read_properties(stored.properties)
    )


def to_metric_event(metric: Metric, stored: UsageValue) -> MetricEvent:
    """Convert a stored event that has the metric's event name."""
    properties = read_properties(stored.properties)
    return MetricEvent(stored.base_id, metric.event_name, stored.customer_id, stored.time_created, properties)


def find_group(metric: Metric, event: MetricEvent) -> str | None:
    """Return the group of an event as JSON text, or None if it is too long for a key."""
    if not metric.group_by:
        return "[]"
    encoded = msgspec.json.encode([read_text(event.properties, name) for name in metric.group_by])
    return encoded.decode().replace("\0", "\\u0000") if len(encoded) <= _GROUP_BYTES else None


def read_group(text: str) -> Group:
    """Parse the text that `find_group` returns."""
    return _decode_group(text)


def to_keys(metric: int, event: MetricEvent, group: str) -> list[Key]:
    """Return the keys of the buckets that an event belongs to, the finest level first."""
    return [(metric, level, event.time_created // size, event.customer_id, group) for level, size in enumerate(LEVELS)]


def to_part(values: Any) -> Part:
    """Convert the columns of a bucket (Values, as the database returns them) to a part."""
    count, value, best_at, skipped, first, last, best_base_id = values
    return Part(
        count=count,
        value=None if value is None else Decimal(value),
        best_at=best_at,
        best_base_id=best_base_id,
        skipped=_decode_skipped(skipped) if skipped else {},
        first_call=first,
        last_call=last,
    )


def to_values(part: Part) -> Values:
    """Convert a part to the columns of a bucket; the inverse of `to_part`."""
    return (
        part.count,
        None if part.value is None else str(part.value),
        part.best_at,
        msgspec.json.encode(part.skipped).decode() if part.skipped else None,
        part.first_call,
        part.last_call,
        part.best_base_id,
    )
