"""What a batch of corrections does, or would do: events, customers, metrics, deliveries; and what its undo did."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from app.core.jmespath.functions.decimals import WIDE

ROWS_MAX = 1000
"""Customers that are told one by one, and rows of effects: what is beyond is summed up as OTHERS."""

OTHERS = None
"""In place of a customer."""

Measure = Mapping[tuple[str, str, str], tuple[int, Decimal | None]]
"""By metric, customer and month: how many events count no more, and by how much the number gets smaller."""


class Effect(msgspec.Struct, kw_only=True):
    """How the number of a metric changes for one customer in one month (UTC)."""

    metric: str
    customer_id: str | None
    month: str
    events: int
    """How many events it is about."""
    change: str | None
    """An exact decimal; None where it depends on other events: such a metric is only named."""

    def add(self, events: int, amount: Decimal | None) -> None:
        """Take out more events, which add `amount` to the number."""
        self.events += events
        if self.change is None or amount is None:
            self.change = None
        else:
            self.change = exact_text(WIDE.subtract(Decimal(self.change), amount))


class CorrectionTally(msgspec.Struct, kw_only=True):
    """Counts of a batch."""

    events: int = 0
    """Events that counted, and are void by it."""
    already_void: int = 0
    """Events of the selection that a person had made void before."""
    delivered: int = 0
    """How many of the events Lotus has, as far as is known here, and keeps."""
    withdrawn: int = 0
    """How many of them were taken out of the outbox."""
    customers: int = 0
    by_customer: list[tuple[str | None, int]] = []
    by_name: list[tuple[str | None, int]] = []
    effects: list[Effect] = []
    revived: int = 0
    """Events that count again by the undo."""
    queued: int = 0
    """How many of those wait for Lotus again."""
    left: int = 0
    """Events that the undo left as they are: something else corrected them in between."""

    def add_events(self, events: Sequence[tuple[str, str]], measure: Measure) -> None:
        """Add events, as (customer, event name), and their effect."""
        self.events += len(events)
        self.by_customer = _counted(self.by_customer, (customer for customer, _ in events))
        self.by_name = _counted(self.by_name, (name for _, name in events))
        self.customers = sum(customer is not OTHERS for customer, _ in self.by_customer)
        effects = {(effect.metric, effect.customer_id, effect.month): effect for effect in self.effects}
        for (metric, customer, month), (count, amount) in sorted(measure.items()):
            key: tuple[str, str | None, str] = (metric, customer, month)
            if key not in effects and len(effects) >= ROWS_MAX:
                key = (metric, OTHERS, month)
            if key not in effects:
                effects[key] = Effect(metric=metric, customer_id=key[1], month=month, events=0, change="0")
            effects[key].add(count, amount)
        self.effects = list(effects.values())

    def copy(self) -> "CorrectionTally":
        """Return a tally with the same counts."""
        return msgspec.json.decode(msgspec.json.encode(self), type=CorrectionTally)

    def to_values(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "events": self.events,
            "already_void": self.already_void,
            "delivered": self.delivered,
            "withdrawn": self.withdrawn,
            "customers": [{"customer_id": customer, "events": count} for customer, count in self.by_customer],
            "event_names": [{"event_name": name, "events": count} for name, count in self.by_name],
            "metrics": self.effects,
            "revived": self.revived,
            "queued": self.queued,
            "left": self.left,
        }


def _counted(counts: list[tuple[str | None, int]], names: Iterable[str]) -> list[tuple[str | None, int]]:
    totals: dict[str | None, int] = dict(counts)
    for name in names:
        key = name if name in totals or len(totals) < ROWS_MAX else OTHERS
        totals[key] = totals.get(key, 0) + 1
    return list(totals.items())


def add_exactly(left: Decimal, right: Decimal) -> Decimal:
    """Return the exact sum of two amounts."""
    return WIDE.add(left, right)


def exact_difference(left: str | None, right: str | None) -> str | None:
    """Return `left` less `right`, two exact decimals; None where one of them is."""
    if left is None or right is None:
        return None
    return exact_text(WIDE.subtract(Decimal(left), Decimal(right)))


def exact_text(number: Decimal) -> str:
    """Return an amount as text, without an exponent or trailing zeros."""
    return format(number.normalize(WIDE), "f") if number else "0"
