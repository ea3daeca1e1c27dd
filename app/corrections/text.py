"""Corrections as text for a terminal."""

from app.core.text import counted, printable
from app.core.times import format_time
from app.corrections.documents import to_tally
from app.store.corrections import Correction, CorrectionState
from app.store.differences import delivered_text
from app.store.tally import OTHERS, CorrectionTally, Effect

_ROWS = 20
"""Customers and effects that are shown; JSON has up to a thousand."""


def effect_text(tally: CorrectionTally, *, foreseen: bool, lotus: str | None = None) -> str:
    """Return what a batch did or, if `foreseen`, would do; `lotus`: its LotusChoice."""
    would = "would be" if foreseen else "were" if tally.events != 1 else "was"
    lines = [f"{counted(tally.events, 'event')} {would} made void"]
    if tally.already_void:
        lines[0] += f" (already void: {tally.already_void:,})"
    if tally.events:
        lines.append(_deliveries_text(tally, foreseen=foreseen, lotus=lotus))
        lines += _counts_text("customer", tally.by_customer)
        lines += _counts_text("event name", tally.by_name)
        lines += ["", "metrics, by customer and month (UTC):", *_effect_lines(tally.effects)]
    return "\n".join(lines)


def _deliveries_text(tally: CorrectionTally, *, foreseen: bool, lotus: str | None) -> str:
    means = delivered_text(tally.delivered, lotus, replaced=False)
    if not tally.withdrawn:
        return means
    return f"{means}; {tally.withdrawn:,} {'would be' if foreseen else 'were'} taken out of the outbox"


def _counts_text(noun: str, counts: list[tuple[str | None, int]]) -> list[str]:
    rows = sorted(counts, key=lambda row: (-row[1], row[0] or ""))
    lines = ["", f"{counted(len(rows), noun)}:"]
    lines += [f"  {count:>9,}  {_name(name)}" for name, count in rows[:_ROWS]]
    return lines + _more(len(rows))


def _effect_lines(effects: list[Effect]) -> list[str]:
    if not effects:
        return ["  none counts any of them"]
    rows = sorted(effects, key=lambda effect: (effect.metric, effect.customer_id or "", effect.month))
    lines = [
        f"  {printable(effect.metric)}  {_name(effect.customer_id)}  {effect.month}  "
        + (f"changes by {effect.change}" if effect.change is not None else "depends on other events")
        + f" ({counted(effect.events, 'event')})"
        for effect in rows[:_ROWS]
    ]
    return lines + _more(len(rows))


def _more(count: int) -> list[str]:
    return [f"  and {count - _ROWS:,} more, in --json"] if count > _ROWS else []


def _name(name: str | None) -> str:
    return "all others" if name is OTHERS else printable(name)


def correction_text(correction: Correction, event_ids: list[tuple[str, str]], shown: int) -> str:
    """Return one batch in full, with the first of its events."""
    tally = to_tally(correction)
    lines = [
        *(f"{name:<10}{text}" for name, text in _head(correction)),
        "",
        effect_text(tally, foreseen=False, lotus=correction.lotus),
        *([""] if event_ids else []),
        *(f"  {printable(event_id)}  {state}" for event_id, state in event_ids),
    ]
    if tally.events > shown:
        lines.append(f"  and {tally.events - shown:,} more")
    if correction.undo_started_at is not None:
        lines += ["", undo_text(correction)]
    return "\n".join(lines)


def _head(correction: Correction) -> list[tuple[str, str]]:
    return [
        ("correction", str(correction.id)),
        ("kind", correction.kind),
        ("state", correction.state),
        ("author", printable(correction.author)),
        ("reason", printable(correction.reason)),
        ("started", format_time(correction.started_at)),
        ("selection", printable(correction.selection)),
    ]


def undo_text(correction: Correction) -> str:
    """Return what the undo of a batch did so far."""
    tally = to_tally(correction)
    undone = "undone" if correction.state == CorrectionState.UNDONE else "being undone"
    text = (
        f"{undone} by {printable(correction.undo_author or '')} ({printable(correction.undo_reason or '')}): "
        f"{counted(tally.revived, 'event')} {'counts' if tally.revived == 1 else 'count'} again"
    )
    if tally.queued:
        text += f", {tally.queued:,} of them queued for Lotus"
    if tally.left:
        text += f"; left as they are, since something else corrected them in between: {tally.left:,}"
    return text


def line_text(correction: Correction) -> str:
    """Return one batch as a line of a list."""
    tally = to_tally(correction)
    return (
        f"{correction.id}  {format_time(correction.started_at)}  {correction.state:<8}  {tally.events:>9,}  "
        f"{printable(correction.author)}  {printable(correction.reason)}"
    )
