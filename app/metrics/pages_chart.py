"""The chart of an answer: the ten largest series and all others as one, stacked if their numbers add up, else as lines.

Positions are floats, which is precise enough for drawing; every number shown as text is exact.
"""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from math import ceil, floor, log10

import msgspec

from app.metrics.definition import Metric, MetricType
from app.metrics.parts import adds_up
from app.metrics.query import Row
from app.metrics.values import ZERO, add, format_number
from app.metrics.windows import Window

TOP = 10
OTHER = 0
"""The number of the series that sums up all but the top."""

STEPS_MAX = 200
"""Bars side by side: with more windows, neighbours are merged into one step."""

_STEP_WIDTH = 10
_BAR_WIDTH = 8
_HEIGHT = 200
_TICKS = 4

_Key = tuple[str, tuple[str | None, ...]]


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One customer and group; or all others together."""

    number: int
    """From 1, by size; 0 is all others."""
    customer_id: str
    group: dict[str, str | None]
    name: str
    total: str | None
    """Only where it has a meaning: for numbers that add up, or if there is just one."""
    share: float
    """Percent of the largest series (0 to 100), where there is one number."""


class Bar(msgspec.Struct, frozen=True):
    """One rectangle."""

    series: int
    x: int
    y: float
    height: float
    title: str
    width: int = _BAR_WIDTH


class ChartLine(msgspec.Struct, frozen=True):
    """One series over time."""

    series: int
    path: str
    title: str


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """The chart. Without windows there are only the series, each with its share."""

    series: list[Series]
    left_out: int
    """How many series are not drawn."""
    stacked: bool
    bars: list[Bar]
    lines: list[ChartLine]
    width: int
    height: int
    ticks: list[str]
    """Labels from top to bottom, evenly spaced."""
    levels: list[float]
    """The y positions of the lines of the ticks."""
    starts: list[str]
    """The start times of the first, the middle and the last step, as text."""
    merged: int
    """Windows per step."""


def is_stacked(metric: Metric) -> bool:
    """Tell whether the numbers of one window can be summed: a prorated level is an amount, too."""
    return adds_up(metric) or (metric.metric_type is MetricType.GAUGE and metric.proration is not None)


def draw(
    metric: Metric, rows: Sequence[Row], windows: Sequence[Window], *, windowed: bool, time_text: Callable[[int], str]
) -> Chart:
    """Draw an answer over its windows; `time_text` formats a moment."""
    size = max(1, ceil(len(windows) / STEPS_MAX))
    steps = {start: at // size for at, (start, _) in enumerate(windows)}
    numbers: dict[_Key, dict[int, Decimal]] = {}
    firsts: dict[_Key, Row] = {}
    join = add if adds_up(metric) else max
    for row in rows:
        key = (row.customer_id, tuple(row.group.values()))
        firsts.setdefault(key, row)
        if row.value is not None:
            of_key, step, number = numbers.setdefault(key, {}), steps.get(row.window_start, 0), Decimal(row.value)
            of_key[step] = join(of_key[step], number) if step in of_key else number
    sizes = {key: _size(metric, numbers.get(key, {}).values()) for key in firsts}
    ordered = sorted(firsts, key=lambda key: -sizes[key])
    top, smaller = ordered[:TOP], ordered[TOP:]
    plot_series = [(numbers.get(key, {}), _name(firsts[key])) for key in top]
    other: dict[int, Decimal] = {}
    if is_stacked(metric):
        for key in smaller:
            for step, number in numbers.get(key, {}).items():
                other[step] = add(other.get(step, ZERO), number)
    largest = max([*(sizes[key] for key in top), abs(float(_total(other) or ZERO))], default=0.0)
    series = [
        _series(metric, at + 1, firsts[key], numbers.get(key, {}), largest, windowed=windowed)
        for at, key in enumerate(top)
    ]
    if other:
        plot_series.append((other, f"{len(smaller):,} more"))
        series.append(_other(metric, len(smaller), other, largest, windowed=windowed))
    starts = [start for start, _ in windows[::size]]
    plot = _Plot([time_text(start) for start in starts])
    if windowed:
        order = [entry.number for entry in series]
        (plot.stack if is_stacked(metric) else plot.trace)(
            [(n, *line) for n, line in zip(order, plot_series, strict=True)]
        )
    return Chart(
        series=series,
        left_out=0 if other else len(smaller),
        stacked=is_stacked(metric),
        bars=plot.bars,
        lines=plot.lines,
        width=max(1, len(starts)) * _STEP_WIDTH,
        height=_HEIGHT,
        ticks=plot.ticks,
        levels=plot.levels,
        starts=[time_text(starts[at]) for at in (0, len(starts) // 2, -1)] if starts else [],
        merged=size,
    )


def _size(metric: Metric, numbers: Iterable[Decimal]) -> float:
    sizes = [abs(float(number)) for number in numbers]
    return sum(sizes) if is_stacked(metric) else max(sizes, default=0.0)


def _name(row: Row) -> str:
    groups = [f"{name} {'missing' if text is None else text or 'empty'}" for name, text in row.group.items()]
    return " · ".join([row.customer_id, *groups])[:120]


def _series(
    metric: Metric, number: int, row: Row, numbers: dict[int, Decimal], largest: float, *, windowed: bool
) -> Series:
    total = _total(numbers) if adds_up(metric) or not windowed else None
    return Series(
        number=number,
        customer_id=row.customer_id,
        group=row.group,
        name=_name(row),
        total=None if total is None else format_number(total),
        share=_share(total, largest),
    )


def _other(metric: Metric, count: int, numbers: dict[int, Decimal], largest: float, *, windowed: bool) -> Series:
    total = _total(numbers) if adds_up(metric) or not windowed else None
    return Series(
        number=OTHER,
        customer_id="",
        group={},
        name=f"{count:,} more",
        total=None if total is None else format_number(total),
        share=_share(total, largest),
    )


def _total(numbers: dict[int, Decimal]) -> Decimal | None:
    total: Decimal | None = None
    for number in numbers.values():
        total = number if total is None else add(total, number)
    return total


def _share(total: Decimal | None, largest: float) -> float:
    return 0.0 if not total or not largest else round(min(100.0, abs(float(total)) / largest * 100), 2)


class _Plot:
    """Bars or lines over steps, on a scale of even ticks."""

    def __init__(self, steps: Sequence[str]) -> None:
        self._steps = steps
        self.bars: list[Bar] = []
        self.lines: list[ChartLine] = []
        self.ticks: list[str] = []
        self.levels: list[float] = []

    def stack(self, plot_series: Sequence[tuple[int, dict[int, Decimal], str]]) -> None:
        """Stack the numbers of each step; those below zero stack downwards."""
        above, below = [0.0] * len(self._steps), [0.0] * len(self._steps)
        rectangles: list[tuple[int, int, float, float, str]] = []
        for number, values, name in plot_series:
            for step, exact in sorted(values.items()):
                value = float(exact)
                ground = above if value > 0 else below
                if value:
                    title = f"{self._steps[step]} {name}: {format_number(exact)}"
                    rectangles.append((number, step, ground[step], ground[step] + value, title))
                    ground[step] += value
        y = self._scale(min([0.0, *below]), max([0.0, *above]))
        for number, step, first, last, title in rectangles:
            top, bottom = sorted((y(first), y(last)))
            # Even the smallest number stays visible.
            self.bars.append(Bar(number, step * _STEP_WIDTH + 1, top, max(0.6, round(bottom - top, 2)), title))

    def trace(self, plot_series: Sequence[tuple[int, dict[int, Decimal], str]]) -> None:
        """Draw a line for each series, interrupted where there is no number."""
        values = [float(exact) for _, by_step, _ in plot_series for exact in by_step.values()]
        y = self._scale(min([0.0, *values]), max([0.0, *values]))
        for number, by_step, name in plot_series:
            parts: list[str] = []
            for step, exact in sorted(by_step.items()):
                at = f"{step * _STEP_WIDTH + _STEP_WIDTH // 2} {y(float(exact))}"
                # An isolated number is a dot: a line of no length with round ends.
                parts.append(f"L{at}" if step - 1 in by_step else f"M{at}h0")
            if parts:
                self.lines.append(ChartLine(number, " ".join(parts), name))

    def _scale(self, low: float, high: float) -> Callable[[float], float]:
        step = _nice((high - low) / _TICKS)
        first, last = floor(low / step), max(ceil(high / step), floor(low / step) + 1)
        span = last - first
        self.ticks = [to_short(at * step) for at in range(last, first - 1, -1)]
        self.levels = [round(_HEIGHT * at / span, 2) for at in range(span + 1)]
        return lambda value: round(_HEIGHT * (1 - (value / step - first) / span), 2)


def _nice(size: float) -> float:
    """Return a round step of at least `size`: 1, 2, 2.5 or 5 times a power of ten."""
    if size <= 0:
        return 1.0
    power = 10.0 ** floor(log10(size))
    return next((factor * power for factor in (1, 2, 2.5, 5) if factor * power >= size), 10 * power)


def to_short(number: float) -> str:
    """Format a number for the scale of a chart: `2.5k`, `10M`."""
    size = abs(number)
    if size and not 1e-4 <= size < 1e15:  # noqa: PLR2004
        return f"{number:.3g}"
    for limit, sign in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= limit:
            return f"{number / limit:.6g}{sign}"
    return f"{number:.6g}"
