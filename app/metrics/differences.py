"""Differences: which further event makes the sums of Lotus right where it has an event that was corrected here.

Such an event has the property that the sum metrics of its name read, as a difference, and what their filters and groups
need. Whether it works is not assumed, but tried with each live metric of that name: one that would count it, or that
counts the corrected event otherwise than before, is an obstacle.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from app.core.json_text import decode
from app.core.lotus import LotusEvent
from app.metrics.catalog import read_live_metrics
from app.metrics.definition import Aggregation, Metric, MetricType
from app.metrics.values import (
    UNREADABLE,
    ZERO,
    Skip,
    add,
    format_number,
    read_number,
    read_properties,
    read_text,
    subtract,
)
from app.store.differences import LotusShare, SumDifference
from app.store.engine import Connection

_Properties = Mapping[str, Any]


def find_differences(conn: Connection, pairs: Sequence[tuple[LotusShare, LotusEvent | None]]) -> list[SumDifference]:
    """Return the difference of each pair: what Lotus has, and the event that counts in its place, if any."""
    by_name: dict[str, list[Metric]] = {}
    for metric in read_live_metrics(conn).values():
        by_name.setdefault(metric.event_name, []).append(metric)
    return [_find(by_name.get(share.event.event_name, []), share, event) for share, event in pairs]


def _find(metrics: Sequence[Metric], share: LotusShare, event: LotusEvent | None) -> SumDifference:
    old = read_properties(share.event.properties)
    new = None if event is None else read_properties(event.properties)
    sums = [metric for metric in metrics if _is_sum(metric)]
    if not sums:
        return SumDifference(obstacle=f"no metric is a sum of events named {share.event.event_name[:100]}")
    if old is UNREADABLE or new is UNREADABLE:
        return SumDifference(obstacle="its properties cannot be read")
    moves = event is not None and new is not None and _moves(sums, (share.event, old), (event, new))
    right = [new] if new is not None and not moves else []
    sent = [old, *map(read_properties, share.differences)]
    difference = _to_difference(sums, old, sent, right)
    for metric in metrics:
        if not _corrects(metric, difference, sent, right):
            kind = metric.aggregation or metric.metric_type
            return SumDifference(
                obstacle=f"the metric {metric.name} ({kind}) takes events named {metric.event_name}, too, "
                "and no difference corrects it"
            )
    text = None if difference is None else msgspec.json.encode(difference, order="sorted").decode()
    return SumDifference(properties=text, moves=moves)


def _is_sum(metric: Metric) -> bool:
    return metric.metric_type is MetricType.COUNTER and metric.aggregation is Aggregation.SUM


def _named(sums: Sequence[Metric]) -> list[str]:
    """Return the properties that filters and groups of these metrics need, and that none of them adds up."""
    names = {
        name
        for metric in sums
        for name in (
            *metric.group_by,
            *(numeric.property_name for numeric in metric.numeric_filters),
            *(categorical.property_name for categorical in metric.categorical_filters),
        )
    }
    return sorted(names.difference(_summed(sums)))


def _moves(
    sums: Sequence[Metric], before: tuple[LotusEvent, _Properties], after: tuple[LotusEvent, _Properties]
) -> bool:
    """Tell whether an event counts for another customer, time, name or group than the one that it replaces."""
    (old, had), (new, has) = before, after
    if (old.customer_id, old.event_name, old.time_created) != (new.customer_id, new.event_name, new.time_created):
        return True
    return any(read_text(had, name) != read_text(has, name) for name in _named(sums))


def _to_difference(
    sums: Sequence[Metric], old: _Properties, sent: Sequence[_Properties], right: Sequence[_Properties]
) -> _Properties | None:
    counting = [metric for metric in sums if any(_amount(metric, event) is not None for event in (*sent, *right))]
    amounts = {name: subtract(_total(name, right), _total(name, sent)) for name in _summed(counting)}
    if not any(amounts.values()):
        return None
    kept = {name: old[name] for name in _named(sums) if name in old}
    return kept | {name: _to_json(amount) for name, amount in amounts.items() if amount}


def _summed(sums: Sequence[Metric]) -> list[str]:
    return sorted({metric.property_name for metric in sums if metric.property_name is not None})


def _total(name: str, events: Iterable[_Properties]) -> Decimal:
    total = ZERO
    for properties in events:
        number = read_number(properties, name)
        total = total if isinstance(number, Skip) else add(total, number)
    return total


def _to_json(amount: Decimal) -> Any:
    """Return an amount as the value of a property that is read as exactly this amount."""
    text = format_number(amount)
    value = decode(text.encode())
    return value if read_number({"": value}, "") == amount else text


def _corrects(
    metric: Metric, difference: _Properties | None, sent: Sequence[_Properties], right: Sequence[_Properties]
) -> bool:
    """Tell whether a metric has the right number once Lotus has the difference beside what it was sent."""
    further = [] if difference is None else [difference]
    if metric.metric_type is MetricType.COUNTER and metric.aggregation in {Aggregation.SUM, Aggregation.COUNT}:
        return _add_up(metric, [*sent, *further]) == _add_up(metric, right)
    return not any(_amount(metric, properties) is not None for properties in (*sent, *further, *right))


def _add_up(metric: Metric, events: Iterable[_Properties]) -> dict[tuple[str | None, ...], Decimal]:
    """Return the numbers of a metric by group, without zeros."""
    numbers: dict[tuple[str | None, ...], Decimal] = {}
    for properties in events:
        amount = _amount(metric, properties)
        if amount is not None:
            group = tuple(read_text(properties, name) for name in metric.group_by)
            numbers[group] = add(numbers.get(group, ZERO), amount)
    return {group: number for group, number in numbers.items() if number}


def _amount(metric: Metric, properties: _Properties) -> Decimal | None:
    """Return what an event adds to a metric, 1 where it is no number; None: it is not counted."""
    value = metric.read(properties)
    if isinstance(value, Skip) or not metric.passes(properties):
        return None
    return value if isinstance(value, Decimal) else Decimal(1)
