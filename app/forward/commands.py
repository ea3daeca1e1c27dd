"""Deliveries to Lotus: `deliveries list`, `deliveries retry`, `deliveries try-now`, and those that settle them."""

import math

import click

from app.cli.csv_output import csv_option, echo_csv, find_csv_zone, tz_option
from app.cli.program import CommandGroup, open_backend
from app.clock import clock
from app.core.json_text import encode
from app.core.text import counted, printable
from app.forward.commands_settle import credit, export, release
from app.forward.outbox import (
    DeliveryDocument,
    parse_delivery_filters,
    read_outbox,
    to_delivery_document,
    to_group_document,
)
from app.forward.retry import retry_matching, to_retriable, try_now
from app.forward.sql_deliveries import DeliveryState
from app.forward.sql_lists import DeliveryRow, find_groups, read_deliveries
from app.forward.sql_search import DeliveryFilters, count_matching, search_deliveries
from app.forward.tables import make_deliveries_table
from app.store.engine import Connection

_REASON_SHOWN = 100
_GROUPED = 100_000
_LISTED = 1000
_SHOWN = 50


@click.group(cls=CommandGroup)
def deliveries() -> None:
    """List deliveries to Lotus, retry those that failed, settle a surplus, and export what is billed by hand."""


@deliveries.command("list")
@click.option(
    "--state", type=click.Choice([state.value for state in DeliveryState]), help="The state of the deliveries."
)
@click.option("--reason", help="The exact reason, as listed.")
@click.option("--customer", help="The customer of the event.")
@click.option("--event-name", help="Event name in Lotus.")
@click.option("--id", help="Idempotency id of the event.")
@click.option("--since", metavar="WHEN", help="Stored at or after this time, or this long ago: 30m, 1h, 7d.")
@click.option("--until", metavar="WHEN", help="Stored before this time, or this long ago.")
@click.option("--limit", type=click.IntRange(1, 100_000), help=f"How many to list, the newest.  [default: {_SHOWN}]")
@click.option("--groups", is_flag=True, help="Count undelivered events by reason instead.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@csv_option
@tz_option
def list_(*, limit: int | None, groups: bool, as_json: bool, as_csv: bool, tz: str | None, **texts: str | None) -> None:
    """List deliveries, the newest last, and whether forwarding is paused."""
    zone = find_csv_zone(tz, as_csv=as_csv, as_json=as_json)
    filters = parse_delivery_filters({name: text for name, text in texts.items() if text}, clock())
    if as_csv and groups:
        raise click.UsageError("--groups counts, and --csv lists: give one of them.")
    database = open_backend().database
    if as_csv:
        echo_csv(database, make_deliveries_table(filters, zone, limit))
        return
    with database.reading() as conn:
        if groups:
            rows, edge = find_groups(conn, filters, most=_GROUPED)
            for group in map(to_group_document, rows):
                period = f"{group.first_at[:19]} to {group.last_at[:19]}"
                line = f"{group.count:>10}  {group.state:<13}  {period}  {printable(group.reason)}"
                click.echo(encode(group).decode() if as_json else line)
            if edge is not None:
                click.echo(f"Only the newest {_GROUPED:,} of each state were counted.", err=True)
            return
        documents = [to_delivery_document(row) for row in reversed(_find_newest(conn, filters, limit or _SHOWN))]
        outbox = read_outbox(conn)
    for document in documents:
        click.echo(encode(document).decode() if as_json else _to_line(document))
    if outbox.paused:
        why = f"{printable(outbox.message or '')}. {outbox.advice or ''}"
        click.echo(f"Forwarding is paused until {outbox.probe_at}: {why}", err=True)
    click.echo(f"{outbox.waiting} waiting, {outbox.failed} failed, {outbox.unforwardable} not forwardable.", err=True)
    if outbox.surplus or outbox.held:
        click.echo(f"{outbox.surplus} surplus, which Lotus bills too much; {outbox.held} held back.", err=True)


@deliveries.command("retry")
@click.option(
    "--state",
    type=click.Choice([state.value for state in DeliveryState]),
    default="failed",
    show_default=True,
    help="The state of the deliveries; of no other one a retry is of use.",
)
@click.option("--reason", help="The exact reason, as listed.")
@click.option("--customer", help="The customer of the event.")
@click.option("--event-name", help="Event name in Lotus.")
@click.option("--id", help="Idempotency id of the event.")
@click.option("--since", metavar="WHEN", help="Stored at or after this time, or this long ago: 30m, 1h, 7d.")
@click.option("--until", metavar="WHEN", help="Stored before this time, or this long ago.")
@click.option("--dry-run", is_flag=True, help="Only count them; retry nothing.")
@click.option("--yes", is_flag=True, help="Retry all of them, if no other option selects some.")
def retry_(*, dry_run: bool, yes: bool, **texts: str | None) -> None:
    """Queue failed deliveries again: one, those with one reason, or a time range."""
    criteria = {name: text for name, text in texts.items() if text}
    if criteria.keys() == {"state"} and not (yes or dry_run):
        raise click.UsageError(
            "Name some with --id, --reason, --customer, --event-name, --since or --until; or all with --yes."
        )
    filters = to_retriable(parse_delivery_filters(criteria, clock()))
    database = open_backend().database
    if dry_run:
        with database.reading() as conn:
            count, _ = count_matching(conn, filters, math.inf)
        click.echo(f"{counted(count, 'delivery', 'deliveries')} would be queued again.")
        return
    count = retry_matching(database, filters, clock, seconds=math.inf).count
    click.echo(f"{counted(count, 'delivery', 'deliveries')} queued again.")


@deliveries.command("try-now")
def try_now_() -> None:
    """Let a worker try Lotus at once where forwarding is paused, without waiting for the end of the pause."""
    if try_now(open_backend().database):
        click.echo("A running worker tries Lotus now; `segment-lotus deliveries list` says whether it is still paused.")
    else:
        click.echo("Forwarding is not paused.")


for _command in (credit, release, export):
    deliveries.add_command(_command)


def _find_newest(conn: Connection, filters: DeliveryFilters, limit: int) -> list[DeliveryRow]:
    """Return the newest matching deliveries, however far back they are."""
    rows: list[DeliveryRow] = []
    before: int | None = None
    while True:
        step = search_deliveries(conn, filters, before=before, limit=min(_LISTED, limit - len(rows)))
        rows += read_deliveries(conn, step.ids)
        before = step.reached
        if before is None or len(rows) >= limit:
            return rows


def _to_line(document: DeliveryDocument) -> str:
    at = document.settled_at or document.due_at or ""
    reason = document.note or document.reason
    why = f"  {reason[:_REASON_SHOWN]}" if reason else ""
    if document.corrects:
        why += f"  difference of event {document.corrects}, correction {document.correction_id}"
    if document.held_for:
        why += f"  Lotus has event {document.held_for} in its place"
    event = f"{document.event_name}  {document.customer_id}  {document.idempotency_id}"
    return printable(f"{at[:19]}  {document.state:<13}  {event}{why}")
