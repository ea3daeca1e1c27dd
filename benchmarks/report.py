"""Rows of the table that is printed."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from statistics import median

Limits = tuple[float, float]
"""What is to be reached, and what is then to be beaten."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what was measured, and what it is held against."""

    what: str
    ours: str
    baseline: str = ""
    ratio: str = ""
    reach: str = ""
    beat: str = ""
    verdict: str = ""


def ratio_row(what: str, ours: Sequence[float], baseline: Sequence[float], limits: Limits | None) -> Row:
    """Compare per second with per second, round by round; the median of the rounds' ratios decides."""
    ratios = [one / other for one, other in zip(ours, baseline, strict=True)]
    middle = median(ratios)
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    row = Row(what, f"{median(ours):,.0f}/s", f"{median(baseline):,.0f}/s", f"{middle:.2f}{spread}")
    if limits is None:
        return row
    reach, beat = limits
    verdict = _verdict(reached=middle >= reach, beaten=middle >= beat)
    return replace(row, reach=f"{reach:.2f}", beat=f"{beat:.2f}", verdict=verdict)


def below_row(what: str, value: float, unit: str, limits: tuple[float, float | None], note: str = "") -> Row:
    """Hold a value against limits that it is to stay below. `note` says more about it."""
    reach, beat = limits
    return Row(
        what,
        f"{value:,.0f} {unit}{note}",
        reach=f"< {reach:,.0f} {unit}",
        beat=f"< {beat:,.0f} {unit}" if beat is not None else "",
        verdict=_verdict(reached=value < reach, beaten=beat is not None and value < beat),
    )


def workers_text(count: int) -> str:
    """Return `1 worker`, `2 workers`."""
    return f"{count} worker{'s' * (count != 1)}"


def _verdict(*, reached: bool, beaten: bool) -> str:
    if beaten:
        return "beaten"
    return "reached" if reached else "MISSED"


def to_markdown(rows: Sequence[Row]) -> str:
    """Return the table."""
    lines: list[tuple[str, ...]] = [("row", "ours", "baseline", "ratio", "reach", "beat", "verdict")]
    lines += [astuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    cells = ([f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
