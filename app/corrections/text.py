"""Corrections as text for a terminal."""

from app.core.text import counted, printable
from app.core.times import format_time
from app.corrections.amendment import Amendment, to_assignment
from app.corrections.documents import to_amendment, to_selection, to_tally
from app.store.corrections import AMEND, BACKFILL, REPLAY, Correction, CorrectionState, is_replacing
from app.store.differences import delivered_text
from app.store.tally import OTHERS, CorrectionTally, Effect

_ROWS = 20
"""Customers and effects that are shown; JSON has up to a thousand."""

_DONE = {AMEND: "amended", BACKFILL: "added from a file", REPLAY: "corrected"}
"""What a batch does with its events, by its kind; others are made void."""


def done_text(kind: str) -> str:
    """Return what a batch of this kind does with events: `made void`."""
    return _DONE.get(kind, "made void")


def effect_text(tally: CorrectionTally, kind: str, lotus: str | None, *, foreseen: bool) -> str:
    """Return what a batch did or, if `foreseen`, would do."""
    would = "would be" if foreseen else "were" if tally.events != 1 else "was"
    lines = [f"{counted(tally.events, 'event')} {would} {done_text(kind)}"]
    left = [f"{name}: {count:,}" for name, count in _left_alone(tally)]
    if left:
        lines[0] += f" ({', '.join(left)})"
    if tally.refused_why is not None:
        lines.append(f"refused, since {printable(tally.refused_why)}")
    lines += [
        f"{count:>9,}  {outcome}" + (f" (lines {', '.join(map(str, first))})" if first else "")
        for outcome, count in tally.calls.items()
        for first in (tally.lines.get(outcome),)
    ]
    if tally.events:
        if kind != BACKFILL:
            lines.append(_deliveries_text(tally, kind, lotus, foreseen=foreseen))
        lines += _counts_text("customer", tally.by_customer)
        lines += _counts_text("event name", tally.by_name)
        lines += ["", "metrics, by customer and month (UTC):", *_effect_lines(tally.effects)]
    return "\n".join(lines)


def _left_alone(tally: CorrectionTally) -> list[tuple[str, int]]:
    counts = [
        ("already void", tally.already_void),
        ("unchanged", tally.unchanged),
        ("refused", tally.refused),
        ("corrected by somebody else since they were counted, and left", tally.overtaken),
    ]
    return [(name, count) for name, count in counts if count]


def _deliveries_text(tally: CorrectionTally, kind: str, lotus: str | None, *, foreseen: bool) -> str:
    means = delivered_text(tally.delivered, lotus, replaced=is_replacing(kind))
    if not tally.withdrawn:
        return means
    were = "would be" if foreseen else "was" if tally.withdrawn == 1 else "were"
    return f"{means}; {tally.withdrawn:,} {were} taken out of the outbox"


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
        + (f"changes by {effect.change}" if effect.change is not None else f"changes; {effect.why}")
        + f" ({_events_text(effect)})"
        for effect in rows[:_ROWS]
    ]
    return lines + _more(len(rows))


def _events_text(effect: Effect) -> str:
    if not effect.added:
        return counted(effect.events, "event")
    return f"{counted(effect.events, 'event')}, {effect.added:,} instead" if effect.events else f"{effect.added:,} new"


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
        effect_text(tally, correction.kind, correction.lotus, foreseen=False),
        *([""] if event_ids else []),
        *(f"  {printable(event_id)}  {state}" for event_id, state in event_ids),
    ]
    if tally.events > shown:
        lines.append(f"  and {tally.events - shown:,} more: `segment-lotus corrections export {correction.id}`")
    if correction.undo_started_at is not None:
        lines += ["", undo_text(correction)]
    return "\n".join(lines)


def _head(correction: Correction) -> list[tuple[str, str]]:
    amendment = to_amendment(correction)
    return [
        ("correction", str(correction.id)),
        *([("name", printable(correction.name))] if correction.name else []),
        ("kind", correction.kind),
        *((("name", printable(correction.name)),) if correction.name else ()),
        ("state", correction.state),
        ("author", printable(correction.author)),
        ("reason", printable(correction.reason)),
        ("started", format_time(correction.started_at)),
        ("events", selection_text(correction)),
        *([("sets", printable(", ".join(to_change_texts(amendment))))] if amendment is not None else []),
    ]


def selection_text(correction: Correction) -> str:
    """Return which events a batch is about."""
    values = {name: value for name, value in to_selection(correction).items() if value is not None}
    return "; ".join(
        printable(f"{name.replace('_', ' ')} {', '.join(value) if isinstance(value, list) else value}")
        for name, value in values.items()
    )


def to_change_texts(amendment: Amendment | None) -> list[str]:
    """Return the values that a batch sets, and those that it removes, as they are written in commands."""
    if amendment is None:
        return []
    values = amendment.to_values()
    return [
        *(to_assignment(name, value) for name, value in values["set"].items()),
        *(f"{name} removed" for name in values["unset"]),
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
    if tally.removed:
        text += (
            f"; {counted(tally.removed, 'event')} of the batch {'counts' if tally.removed == 1 else 'count'} no more"
        )
    if tally.left:
        text += f"; left as they are, since something else corrected them in between: {tally.left:,}"
    return text


def line_text(correction: Correction) -> str:
    """Return one batch as a line of a list."""
    tally = to_tally(correction)
    name = f"{printable(correction.name)}: " if correction.name else ""
    return (
        f"{correction.id}  {format_time(correction.started_at)}  {correction.kind:<8}  {correction.state:<8}  "
        f"{tally.events:>9,}  {printable(correction.author)}  {name}{printable(correction.reason)}"
    )
