"""Rows of the table that is printed."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what was measured, and what it is held against."""

    what: str
    ours: str
    baseline: str
    ratio: str
    reach: str = ""
    beat: str = ""
    verdict: str = ""


def ratio_row(what: str, ours: Sequence[float], baseline: Sequence[float], reach: float | None, beat: float | None) -> Row:
    """Compare per second with per second, round by round; the median of the rounds' ratios decides."""
    ratios = [one / other for one, other in zip(ours, baseline, strict=True)]
    middle = median(ratios)
    spread = f"{middle:.2f}" if len(ratios) == 1 else f"{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return Row(
        what,
        f"{median(ours):,.0f}/s",
        f"{median(baseline):,.0f}/s",
        spread,
        f"{reach:.2f}" if reach is not None else "",
        f"{beat:.2f}" if beat is not None else "",
        "" if reach is None or beat is None else _verdict(middle >= reach, middle >= beat),
    )


def below_row(what: str, values: Sequence[float], unit: str, reach: float, beat: float | None) -> Row:
    """Hold the worst value against limits."""
    worst = max(values)
    return Row(
        what,
        f"{worst:,.0f} {unit}",
        "",
        "",
        f"< {reach:,.0f} {unit}",
        f"< {beat:,.0f} {unit}" if beat is not None else "",
        _verdict(worst < reach, beat is not None and worst < beat),
    )


def _verdict(reached: bool, beaten: bool) -> str:  # noqa: FBT001
    return "beaten" if beaten else "reached" if reached else "MISSED"


def to_markdown(rows: Sequence[Row]) -> str:
    """Return the table."""
    lines = [("row", "ours", "baseline", "ratio", "reach", "beat", "verdict")]
    lines += [(row.what, row.ours, row.baseline, row.ratio, row.reach, row.beat, row.verdict) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(7)]
    lines.insert(1, tuple("-" * width for width in widths))  # type: ignore[arg-type]
    return "\n".join("| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) + " |" for line in lines)
