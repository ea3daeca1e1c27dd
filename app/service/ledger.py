"""The ledger as a document, as text and as a command: how many calls, events and deliveries ended how."""

from collections import Counter
from typing import Any

import click
import msgspec

from app.cli.program import open_backend
from app.clock import clock
from app.core.json_text import encode
from app.core.outcome import REASONS_OF, Outcome
from app.core.text import counted
from app.core.times import format_time
from app.forward.sql_deliveries import DeliveryState
from app.forward.sql_lists import count_events, count_states
from app.store.engine import Database
from app.store.ledger import CALL, DELIVERY, DIFFERENCE, EVENT, MINUTE, QUEUED, VOIDED, audit_ledger, sum_counts
from app.store.query import parse_moment


class LedgerDocument(msgspec.Struct, kw_only=True):
    """The ledger: received = stored + duplicate + conflict + ignored + rejected."""

    calls: dict[str, Any]
    events: dict[str, int]
    deliveries: dict[str, int]
    """stored events + differences = the sum of all states + not_requested. `differences` are no events."""
    since: str | None
    until: str | None
    balances: bool | None
    """Whether the tables hold as many calls, events and deliveries as the ledger counts.

    None for a part of time, since the ledger only knows the minute of a commit.
    """


_DELIVERY_NAMES = {
    DeliveryState.VOIDED.value: "voided before they were sent",
    DeliveryState.SURPLUS.value: "surplus: void, and Lotus has them",
    DeliveryState.CREDITED.value: "credited: such a surplus, settled",
    DeliveryState.HELD.value: "held back for such a surplus",
    "not_requested": "not requested",
    "differences": "(differences, beside the events)",
}
_RARE = (DeliveryState.SURPLUS, DeliveryState.CREDITED, DeliveryState.HELD, "differences")
"""Shown where there are any."""


def read_ledger(database: Database, since: int | None = None, until: int | None = None) -> LedgerDocument:
    """Read the ledger of [since, until), rounded down to the minute; for all time, also compare it with the tables."""
    received: int | None = None
    with database.reading() as conn:
        if since is None and until is None:
            counts, received = audit_ledger(conn)
            in_tables = (count_events(conn), count_states(conn))
        else:
            counts = sum_counts(conn, since, until)
            in_tables = None
    by_outcome = dict.fromkeys(Outcome, 0)
    by_reason: dict[str, int] = {}
    events: dict[str, int] = {"stored": 0, "duplicate": 0, "conflict": 0, VOIDED: 0}
    for (subject, outcome, reason), count in sorted(counts.items()):
        if subject == EVENT:
            events[outcome] += count
        elif subject == CALL:
            by_outcome[Outcome(outcome)] += count
            if reason and count:
                by_reason[reason] = count
    states = {state.value: counts[DELIVERY, state.value, ""] for state in DeliveryState}
    differences = counts[DIFFERENCE, QUEUED, ""]
    not_requested = events["stored"] + differences - sum(states.values())
    deliveries = {**states, "not_requested": not_requested, "differences": differences}
    counted = sum(by_outcome.values())
    balances = None
    if received is not None and in_tables is not None:
        balances = (received, *in_tables) == (counted, events["stored"], +Counter(states))
    calls: dict[str, Any] = {outcome.value: count for outcome, count in by_outcome.items()}
    return LedgerDocument(
        calls={"received": counted if received is None else received, **calls, "by_reason": by_reason},
        events=events,
        deliveries=deliveries,
        since=None if since is None else format_time(since // MINUTE * MINUTE),
        until=None if until is None else format_time(until // MINUTE * MINUTE),
        balances=balances,
    )


@click.command()
@click.option(
    "--since", metavar="WHEN", help="From this time, or this long ago: 30m, 1h, 7d. Rounded down to the minute."
)
@click.option("--until", metavar="WHEN", help="To this time (exclusive), or this long ago.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, like the API.")
@click.pass_context
def ledger(context: click.Context, *, since: str | None, until: str | None, as_json: bool) -> None:
    """Count calls and events by outcome, and check that the counts are complete."""
    now = clock()
    first = parse_moment("since", since, now) if since else None
    last = parse_moment("until", until, now) if until else None
    document = read_ledger(open_backend().database, first, last)
    click.echo(encode(document).decode() if as_json else ledger_text(document))
    if document.balances is False:
        context.exit(1)


def ledger_text(ledger: LedgerDocument) -> str:
    """Return the ledger as a small table, and whether it balances."""
    lines = [f"{'':<24}{'calls':>12}{'events':>12}", f"{'received':<24}{ledger.calls['received']:>12}"]
    for outcome in Outcome:
        events = ledger.events.get(outcome.value)
        lines.append(f"{outcome.value:<24}{ledger.calls[outcome.value]:>12}{'' if events is None else events:>12}")
        lines += [
            f"  {reason:<22}{count:>12}"
            for reason, count in ledger.calls["by_reason"].items()
            if reason != outcome and reason in _reasons(outcome)
        ]
    if voided := ledger.events.get(VOIDED):
        lines.append(f"{'made void since':<24}{'':>12}{voided:>12}")
    if any(count for state, count in ledger.deliveries.items() if state != "not_requested"):
        lines += ["", f"{'of the stored events':<24}"]
        lines += [
            f"  {_DELIVERY_NAMES.get(state, state):<34}{count:>12}"
            for state, count in ledger.deliveries.items()
            if count or state not in _RARE
        ]
    total = sum(ledger.calls[outcome.value] for outcome in Outcome)
    sums = " + ".join(str(ledger.calls[outcome.value]) for outcome in Outcome)
    if ledger.balances is None:
        since, until = ledger.since or "the beginning", ledger.until or "now"
        return "\n".join([*lines, "", f"from {since} to {until}, by the minute of the commit"])
    if ledger.balances:
        return "\n".join([*lines, "", f"It balances: {counted(ledger.calls['received'], 'call')} = {sums}."])
    received = ledger.calls["received"]
    actual = f"{'there is' if received == 1 else 'there are'} {counted(received, 'call')}"
    return "\n".join([*lines, "", f"IT DOES NOT BALANCE: {actual}, and the ledger counts {total}."])


def _reasons(outcome: Outcome) -> set[str]:
    return {reason.value for reason in REASONS_OF[outcome]}
