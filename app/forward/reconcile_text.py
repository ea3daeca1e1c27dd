"""The result of a comparison with Lotus as text for a terminal."""

from app.core.text import counted, printable, table_lines
from app.forward.reconcile import ReconcileReport, ReconcileRow, UnequalEvent

_NAMES = {
    "waiting": "waiting",
    "failed": "refused by Lotus",
    "unforwardable": "too old for Lotus",
    "held": "held back for a surplus",
}


def report_text(report: ReconcileReport, *, resent: bool, marked: bool) -> str:
    """Return the result; `resent`: the missing events were queued, `marked`: unknown ones became surplus."""
    has = report.checked - len(report.missing)
    lines = [f"Lotus was asked about {counted(report.checked, 'delivered or void event')}."]
    lines += _events("missing in Lotus", report.missing, "; queued again" if resent else "")
    lines += _events("too much in Lotus, and void here", report.unknown, "; now surplus" if marked else "")
    if report.surplus or report.credited:
        lines.append(f"surplus in Lotus: {report.surplus:,}, and {report.credited:,} settled")
    lines += [
        f"not in Lotus: {count:,} {_NAMES.get(state, state)}" for state, count in sorted(report.not_there.items())
    ]
    if report.not_confirmable:
        lines.append(
            f"not confirmable: {report.not_confirmable:,}, more than 30 days old; counted as Lotus accepted them"
        )
    if not (report.missing or report.unknown):
        lines.append(f"Lotus has all {counted(has, 'event')} that it should." if has else "Nothing differs.")
    if report.rows:
        head = ("customer", "metric", "month", "here", "in Lotus", "difference")
        lines += ["", *table_lines([head, *map(_cells, report.rows)], right=(3, 4, 5))]
    return "\n".join(lines)


def _events(what: str, unequal: list[UnequalEvent], done: str) -> list[str]:
    if not unequal:
        return []
    return [f"{what}: {len(unequal):,}{done}", *(f"  {printable(event.idempotency_id)}" for event in unequal)]


def _cells(row: ReconcileRow) -> tuple[str, ...]:
    if row.here is None or row.in_lotus is None or row.difference is None:
        events = (counted(row.events, "event"), counted(row.events_in_lotus, "event"), "other events decide")
        return (row.customer_id, row.metric, row.month, *events)
    return (row.customer_id, row.metric, row.month, row.here, row.in_lotus, row.difference)
