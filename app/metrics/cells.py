"""Accumulators of one number of a counter, which takes its events in any order."""

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import NamedTuple, Protocol

from app.metrics.definition import Aggregation, Metric
from app.metrics.parts import Part
from app.metrics.values import ZERO, add, divide, interpolate, subtract


class Number(NamedTuple):
    """The result of one window."""

    value: Decimal | None
    events_count: int
    """How many events of the window the value is made of."""
    below_zero_at: int | None = None
    """When the level of a gauge first was below zero."""


class Cell(Protocol):
    """Accumulates one number of a counter. Events may come in any order."""

    count: int

    def add(self, time_created: int, base_id: str, value: Decimal | str | None) -> int:
        """Add an event; return how many more values are held in memory."""

    def absorb(self, part: Part) -> None:
        """Add a pre-aggregated part; only for metrics that `is_addable` accepts."""

    def remove(self, value: Decimal | str | None) -> None:
        """Take back an event that was added; only for metrics that `is_removable` accepts."""

    def value(self) -> Decimal | None:
        """Return the current number."""


class _Count:
    def __init__(self) -> None:
        self.count = 0

    def add(self, _time_created: int, _base_id: str, _value: object) -> int:
        self.count += 1
        return 0

    def absorb(self, part: Part) -> None:
        self.count += part.count

    def remove(self, _value: object) -> None:
        self.count -= 1

    def value(self) -> Decimal | None:
        return Decimal(self.count)


class _Sum(_Count):
    def __init__(self) -> None:
        super().__init__()
        self.total = ZERO

    def add(self, _time_created: int, _base_id: str, value: object) -> int:
        self.count += 1
        assert isinstance(value, Decimal)  # noqa: S101  the metric reads numbers
        self.total = add(self.total, value)
        return 0

    def absorb(self, part: Part) -> None:
        self.count += part.count
        if part.value is not None:
            self.total = add(self.total, part.value)

    def remove(self, value: object) -> None:
        super().remove(value)
        assert isinstance(value, Decimal)  # noqa: S101  the metric reads numbers
        self.total = subtract(self.total, value)

    def value(self) -> Decimal | None:
        return self.total


class _Average(_Sum):
    def value(self) -> Decimal | None:
        return divide(self.total, self.count)


class _Best(_Count):
    """Keeps the value with the best rank: the largest, the smallest or the latest."""

    def __init__(self, rank: Callable[[int, str, Decimal], tuple[object, ...]]) -> None:
        super().__init__()
        self._rank = rank
        self._best: tuple[tuple[object, ...], Decimal] | None = None

    def add(self, time_created: int, base_id: str, value: object) -> int:
        self.count += 1
        assert isinstance(value, Decimal)  # noqa: S101  the metric reads numbers
        rank = self._rank(time_created, base_id, value)
        if self._best is None or rank > self._best[0]:
            self._best = rank, value
        return 0

    def absorb(self, part: Part) -> None:
        if part.value is not None:
            self.add(part.best_at or 0, part.best_base_id or "", part.value)
            self.count += part.count - 1

    def value(self) -> Decimal | None:
        return self._best[1] if self._best else None


class _Unique(_Count):
    def __init__(self) -> None:
        super().__init__()
        self._seen: set[object] = set()

    def add(self, _time_created: int, _base_id: str, value: object) -> int:
        self.count += 1
        before = len(self._seen)
        self._seen.add(value)
        return len(self._seen) - before

    def value(self) -> Decimal | None:
        return Decimal(len(self._seen))


class _Percentile(_Count):
    def __init__(self, percentile: Decimal) -> None:
        super().__init__()
        self._percentile = percentile
        self._seen: list[Decimal] = []

    def add(self, _time_created: int, _base_id: str, value: object) -> int:
        self.count += 1
        assert isinstance(value, Decimal)  # noqa: S101  the metric reads numbers
        self._seen.append(value)
        return 1

    def value(self) -> Decimal | None:
        return interpolate(sorted(self._seen), self._percentile)


_CELLS: dict[Aggregation, Callable[[], Cell]] = {
    Aggregation.COUNT: _Count,
    Aggregation.SUM: _Sum,
    Aggregation.AVERAGE: _Average,
    # Not `-value`: the unary minus would round to 28 digits.
    Aggregation.MAX: partial(_Best, lambda _time, _id, value: (value,)),
    Aggregation.MIN: partial(_Best, lambda _time, _id, value: (value.copy_negate(),)),
    Aggregation.LATEST: partial(_Best, lambda time, base_id, _value: (time, base_id)),
    Aggregation.UNIQUE: _Unique,
}


def to_cell(metric: Metric) -> Cell:
    """Return an empty cell for a counter."""
    if metric.percentile is not None:
        return _Percentile(metric.percentile)
    assert metric.aggregation is not None  # noqa: S101  parse_metric requires it
    return _CELLS[metric.aggregation]()
