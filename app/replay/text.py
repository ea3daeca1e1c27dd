"""Replays as text for a terminal, and the sentences that pages share with it."""

from app.core.text import counted, printable
from app.core.times import format_time
from app.replay.correction_batch import to_effect
from app.replay.plan import Plan
from app.replay.progress import ReplayProgress
from app.store.differences import delivered_text
from app.store.tally import OTHERS, CorrectionTally

_VOIDED_SHOWN = 20
_EFFECTS_SHOWN = 20


def summary_text(plan: Plan, voided: list[str], *, dry_run: bool) -> str:
    """Return what a replay did or, if `dry_run`, would do; `voided` are the ids of the events that it made void."""
    tally = plan.tally
    would = "would be " if dry_run else ""
    lines = [f"{counted(tally.read, 'call')} {'looked at' if dry_run else 'replayed'}"]
    lines += [f"  {count:>9}  {change}" for change, count in sorted(tally.changed.items())]
    if tally.corrected:
        lines.append(f"  {tally.corrected:>9}  {would}corrected")
    if tally.same:
        lines.append(f"  {tally.same:>9}  unchanged")
    lines += [
        f"  {count:>9}  left: {printable(why)} (such as call {tally.samples[why]})"
        for why, count in sorted(tally.left.items())
    ]
    lotus = plan.correction.lotus if plan.correction is not None else None
    about = delivered_text(tally.delivered, lotus, replaced=True)
    if dry_run and tally.voided:
        lines.append(f"{counted(tally.voided, 'event')} would be made void; {about}.")
    if voided:
        lines += ["", f"{counted(len(voided), 'event')} made void; {about}:"]
        lines += [f"  {printable(event_id)}" for event_id in voided[:_VOIDED_SHOWN]]
        if len(voided) > _VOIDED_SHOWN:
            lines.append(
                f"  and {len(voided) - _VOIDED_SHOWN} more; all: table voids, replay {plan.replay.id}, or --json"
            )
    if plan.correction is not None:
        lines += _effect_lines(to_effect(plan.correction))
        if voided:
            lines += ["", f"correction {plan.correction.id}: `corrections undo {plan.correction.id}` undoes all of it"]
    return "\n".join(lines)


def _effect_lines(effect: CorrectionTally) -> list[str]:
    if not effect.effects:
        return []
    rows = sorted(effect.effects, key=lambda row: (row.metric, row.customer_id or "", row.month))
    lines = [
        f"  {printable(row.metric)}  {'all others' if row.customer_id is OTHERS else printable(row.customer_id)}  "
        f"{row.month}  " + (f"changes by {row.change}" if row.change is not None else "depends on other events")
        for row in rows[:_EFFECTS_SHOWN]
    ]
    more = len(rows) - _EFFECTS_SHOWN
    return [
        "",
        "metrics, by customer and month (UTC):",
        *lines,
        *([f"  and {more:,} more, in --json"] if more > 0 else []),
    ]


def line_text(replay: ReplayProgress) -> str:
    """Return one replay as a line of a list."""
    return (
        f"{replay.id}  {format_time(replay.started_at)}  {replay.state:<8}  {replay.read:>9,} of {replay.total:,}  "
        + became_text(replay)
    )


def became_text(replay: ReplayProgress) -> str:
    """Return what became of the calls of a replay, in a line."""
    tally = replay.tally
    parts = [f"{count:,} {change}" for change, count in sorted(tally.changed.items())]
    if tally.corrected:
        parts.append(f"{tally.corrected:,} corrected, {tally.voided:,} void")
    if replay.correction is not None:
        parts.append(f"correction {replay.correction.state}")
    return ", ".join(parts) or "nothing changed"
