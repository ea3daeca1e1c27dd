"""What a batch of corrections does, or would do: events, customers, metrics, deliveries; and what its undo did."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from app.core.jmespath.functions.decimals import WIDE
from app.store.events import EventValues

ROWS_MAX = 1000
"""Customers that are told one by one, and rows of effects: what is beyond is summed up as OTHERS."""

OTHERS = None
"""In place of a customer."""

UNFINISHED = "it is computed when the batch is at its end"
SUMMED_UP = f"there are more than {ROWS_MAX:,} rows"

NumberKey = tuple[str, str, str]
"""Metric, customer and month (UTC): one number of a month."""

Measure = Mapping[NumberKey, tuple[int, Decimal | None]]
"""How many events count in a number, and how much they add to it; None: that depends on other events."""

Comparison = Mapping[NumberKey, Decimal | str]
"""By how much a number changes, or why that cannot be said."""


class Swap(NamedTuple):
    """What differs from the events that count now."""

    without: Sequence[EventValues]
    """Events that count now, and are left out."""
    instead: Sequence[EventValues]
    """Events that do not count now, and are taken in."""


class Effect(msgspec.Struct, kw_only=True):
    """How the number of a metric changes for one customer in one month (UTC)."""

    metric: str
    customer_id: str | None
    month: str
    events: int
    """How many events that counted in it do so no more."""
    added: int = 0
    """How many events that the batch stored count in it now."""
    change: str | None
    """An exact decimal; None: see `why`."""
    why: str | None = None
    """Why the change is not known."""

    def add(self, amount: Decimal | None) -> None:
        """Add to the change; None: it depends on other events."""
        if self.change is None or amount is None:
            self.change, self.why = None, SUMMED_UP if self.customer_id is OTHERS else UNFINISHED
        else:
            self.change = exact_text(WIDE.add(Decimal(self.change), amount))


class CorrectionTally(msgspec.Struct, kw_only=True):
    """Counts of a batch."""

    events: int = 0
    """Events that counted, and are void by it, or have another one in their place; of a backfill: events it added."""
    added: int = 0
    """Events that it stored and that stand for no other."""
    already_void: int = 0
    """Events of the selection that a person had made void before."""
    unchanged: int = 0
    """Events of the selection that have the values already."""
    refused: int = 0
    """Events of the selection that cannot have the values; `refused_why` says why for the first of them."""
    refused_why: str | None = None
    overtaken: int = 0
    """Events of the selection that somebody else corrected after they were counted."""
    delivered: int = 0
    """How many of the events Lotus has, as far as is known here, and keeps."""
    withdrawn: int = 0
    """How many of them were taken out of the outbox."""
    customers: int = 0
    by_customer: list[tuple[str | None, int]] = []
    """How many events, by customer: one that moves counts for both."""
    by_name: list[tuple[str | None, int]] = []
    effects: list[Effect] = []
    revived: int = 0
    """Events that count again by the undo."""
    removed: int = 0
    """Events of the batch that count no more by the undo."""
    queued: int = 0
    """How many of the revived ones wait for Lotus again."""
    left: int = 0
    """Events that the undo left as they are: something else corrected them in between."""
    calls: dict[str, int] = {}
    """Of a backfill: calls by outcome."""
    lines: dict[str, list[int]] = {}
    """Of a backfill: the first lines of its file by outcome, but for `stored`."""
    same_ids: int = 0
    """Of its dry run: events counted as stored whose idempotency id an earlier line makes, too."""

    def add_events(self, events: Sequence[tuple[str, str]], measure: Measure) -> None:
        """Take out events, as (customer, event name), and what they add to the numbers."""
        self.events += len(events)
        self._list(events)
        for effect, count, amount in self._effects_of(measure):
            effect.events += count
            effect.add(None if amount is None else WIDE.minus(amount))

    def add_replacements(self, moved: Sequence[tuple[str, str]], measure: Measure) -> None:
        """Take in what stands for them; `moved` are those of another customer or name than before."""
        self._list(moved)
        for effect, count, amount in self._effects_of(measure):
            effect.added += count
            effect.add(amount)

    def add_new(self, events: Sequence[tuple[str, str]], measure: Measure) -> None:
        """Take in events that stand for no others, as (customer, event name), and what they add to the numbers."""
        self.events += len(events)
        self.add_replacements(events, measure)

    def list_unknown(self) -> list[NumberKey]:
        """Return the numbers whose change depends on other events."""
        return [
            (effect.metric, effect.customer_id, effect.month)
            for effect in self.effects
            if effect.change is None and effect.customer_id is not OTHERS
        ]

    def compare(self, comparison: Comparison) -> None:
        """Set the changes that depend on other events; those of further months are added if they have any."""
        effects = {(effect.metric, effect.customer_id, effect.month): effect for effect in self.effects}
        for key, change in sorted(comparison.items()):
            effect = effects.get(key)
            if effect is None:
                if not change or len(self.effects) >= ROWS_MAX:
                    continue
                effect = Effect(metric=key[0], customer_id=key[1], month=key[2], events=0, change=None)
                self.effects.append(effect)
            effect.change = exact_text(change) if isinstance(change, Decimal) else None
            effect.why = None if isinstance(change, Decimal) else change

    def copy(self) -> "CorrectionTally":
        """Return a tally with the same counts."""
        return msgspec.json.decode(msgspec.json.encode(self), type=CorrectionTally)

    def to_values(self) -> dict[str, Any]:
        """Return it as JSON values."""
        counts = msgspec.structs.asdict(self)
        effects = counts.pop("effects")
        customers, names = counts.pop("by_customer"), counts.pop("by_name")
        counts["customers"] = [{"customer_id": customer, "events": count} for customer, count in customers]
        counts["event_names"] = [{"event_name": name, "events": count} for name, count in names]
        return {**counts, "metrics": sorted(effects, key=lambda row: (row.metric, row.customer_id or "", row.month))}

    def _list(self, events: Sequence[tuple[str, str]]) -> None:
        self.by_customer = _counted(self.by_customer, (customer for customer, _ in events))
        self.by_name = _counted(self.by_name, (name for _, name in events))
        self.customers = sum(customer is not OTHERS for customer, _ in self.by_customer)

    def _effects_of(self, measure: Measure) -> list[tuple[Effect, int, Decimal | None]]:
        """Return the effect of each number, with what is measured of it."""
        effects = {(effect.metric, effect.customer_id, effect.month): effect for effect in self.effects}
        touched = []
        for (metric, customer, month), (count, amount) in sorted(measure.items()):
            key: tuple[str, str | None, str] = (metric, customer, month)
            if key not in effects and len(effects) >= ROWS_MAX:
                key = (metric, OTHERS, month)
            if key not in effects:
                effects[key] = Effect(metric=metric, customer_id=key[1], month=month, events=0, change="0")
            touched.append((effects[key], count, amount))
        self.effects = list(effects.values())
        return touched


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
