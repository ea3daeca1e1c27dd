"""A backfill as text for a terminal, and as JSON values."""

from collections.abc import Sequence
from typing import Any

from app.backfill.batch import FileSelection
from app.backfill.formats import BadLine
from app.backfill.survey import SHOWN, Survey
from app.core.outcome import Outcome
from app.core.text import counted, printable
from app.store.corrections import Correction
from app.store.tally import OTHERS, CorrectionTally, Effect

_ROWS = 20
"""Customers and effects that are shown; JSON has up to a thousand."""


def bad_text(survey: Survey, name: str) -> str:
    """Return the first bad lines of a file, and how many there are."""
    count = len(survey.bad)
    lines = [
        f"{printable(name)}: {counted(count, 'line')} of {survey.rows:,} cannot be loaded:",
        *map(_bad_line, survey.first),
    ]
    if count > SHOWN:
        lines.append(f"  and {count - SHOWN:,} more: --bad FILE writes all of them")
    return "\n".join(lines)


def _bad_line(bad_line: BadLine) -> str:
    where = f"line {bad_line.line:,}"
    if bad_line.path is not None and bad_line.path not in bad_line.why:
        where += f", {bad_line.path}"
    return printable(f"  {where}: {bad_line.why}")


def tally_text(tally: CorrectionTally, selection: FileSelection, *, foreseen: bool) -> str:
    """Return what a backfill did or, if `foreseen`, would do."""
    would = "would be " if foreseen else ""
    lines = [f"{counted(sum(tally.calls.values()), selection.noun)} of {printable(selection.file)}"]
    for outcome in Outcome:
        if count := tally.calls.get(outcome, 0):
            first = tally.lines.get(outcome)
            of = f" (line{'s' * (count > 1)} {_lines_text(first, count)})" if first else ""
            lines.append(f"  {count:>9,}  {would}{outcome}{of}")
    if tally.same_ids:
        makes = "makes" if tally.same_ids == 1 else "make"
        lines.append(
            f"  {tally.same_ids:>9,}  of the stored {makes} an idempotency id of an earlier line: not stored, but a "
            "duplicate or a conflict"
        )
    lines.append(f"{counted(tally.events, 'event')} {would or ('was ' if tally.events == 1 else 'were ')}added")
    if tally.events:
        lines += _counts_lines("customer", tally.by_customer)
        lines += _counts_lines("event name", tally.by_name)
        lines += ["", "metrics, by customer and month (UTC):", *_effect_lines(tally.effects)]
    return "\n".join(lines)


def _lines_text(first: Sequence[int], count: int) -> str:
    text = ", ".join(f"{line:,}" for line in first)
    return f"{text}, ..." if count > len(first) else text


def _counts_lines(noun: str, counts: list[tuple[str | None, int]]) -> list[str]:
    rows = sorted(counts, key=lambda row: (-row[1], row[0] or ""))
    return [
        "",
        f"{counted(len(rows), noun)}:",
        *(f"  {count:>9,}  {_name(name)}" for name, count in rows[:_ROWS]),
        *_more(rows),
    ]


def _effect_lines(effects: list[Effect]) -> list[str]:
    if not effects:
        return ["  none counts any of them"]
    rows = sorted(effects, key=lambda effect: (effect.metric, effect.customer_id or "", effect.month))
    lines = [
        f"  {printable(effect.metric)}  {_name(effect.customer_id)}  {effect.month}  "
        + (f"changes by {effect.change}" if effect.change is not None else "depends on other events")
        + f" ({counted(effect.added, 'event')})"
        for effect in rows[:_ROWS]
    ]
    return lines + _more(rows)


def _more(rows: Sequence[object]) -> list[str]:
    return [f"  and {len(rows) - _ROWS:,} more, in --json"] if len(rows) > _ROWS else []


def _name(name: str | None) -> str:
    return "all others" if name is OTHERS else printable(name)


def to_document(
    selection: FileSelection, survey: Survey, tally: CorrectionTally, correction: Correction | None
) -> dict[str, Any]:
    """Return a backfill as JSON values; without `correction`, nothing was written."""
    return {
        "id": None if correction is None else str(correction.id),
        "dry_run": correction is None,
        "kind": "backfill",
        "state": None if correction is None else correction.state,
        "selection": selection,
        "bad_lines": survey.first,
        **tally.to_values(),
    }
