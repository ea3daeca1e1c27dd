"""How events reach Lotus: `deliveries list`, `deliveries retry`."""

import math

import click

from app.cli.program import open_backend
from app.clock import clock
from app.core.json_text import encode
from app.core.text import counted, printable
from app.forward.outbox import (
    DeliveryDocument,
    parse_delivery_filters,
    read_outbox,
    to_delivery_document,
    to_group_document,
)
from app.forward.retry import RETRIABLE, retry_matching
from app.forward.sql_deliveries import DeliveryState
from app.forward.sql_lists import DeliveryRow, find_groups, read_deliveries
from app.forward.sql_search import DeliveryFilters, count_matching, search_deliveries
from app.store.engine import Connection

_REASON_SHOWN = 100
_GROUPED = 100_000
_LISTED = 1000


@click.group()
def deliveries() -> None:
    """Show how events reach Lotus, and send again what failed."""


@deliveries.command("list")
@click.option("--state", type=click.Choice([state.value for state in DeliveryState]))
@click.option("--reason", help="The whole reason, as it is listed.")
@click.option("--customer")
@click.option("--event-name", help="Of the Lotus event.")
@click.option("--id", help="The idempotency id of an event.")
@click.option("--since", metavar="WHEN", help="A time, or a duration: 30m, 1h, 7d.")
@click.option("--until", metavar="WHEN", help="The same.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="The newest so many.")
@click.option("--groups", is_flag=True, help="Only count what was not delivered, by reason.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def list_(*, limit: int, groups: bool, as_json: bool, **texts: str | None) -> None:
    """Show deliveries, the newest last, and how it stands with Lotus."""
    filters = parse_delivery_filters({name: text for name, text in texts.items() if text}, clock())
    with open_backend().database.reading() as conn:
        if groups:
            rows, edge = find_groups(conn, filters, most=_GROUPED)
            for group in map(to_group_document, rows):
                period = f"{group.first_at[:19]} to {group.last_at[:19]}"
                line = f"{group.count:>10}  {group.state:<13}  {period}  {printable(group.reason)}"
                click.echo(encode(group).decode() if as_json else line)
            if edge is not None:
                click.echo(f"Of each state the newest {_GROUPED:,} were looked at.", err=True)
            return
        documents = [to_delivery_document(row) for row in reversed(_find_newest(conn, filters, limit))]
        outbox = read_outbox(conn)
    for document in documents:
        click.echo(encode(document).decode() if as_json else _to_line(document))
    if outbox.paused:
        why = f"{printable(outbox.message or '')}. {outbox.advice or ''}"
        click.echo(f"Forwarding is paused until {outbox.probe_at}: {why}", err=True)
    click.echo(f"{outbox.waiting} wait, {outbox.failed} failed, {outbox.unforwardable} not forwardable.", err=True)


@deliveries.command("retry")
@click.option("--state", type=click.Choice([state.value for state in RETRIABLE]), default="failed")
@click.option("--reason", help="The whole reason, as it is listed.")
@click.option("--customer")
@click.option("--event-name", help="Of the Lotus event.")
@click.option("--id", help="The idempotency id of an event.")
@click.option("--since", metavar="WHEN", help="A time, or a duration: 30m, 1h, 7d.")
@click.option("--until", metavar="WHEN", help="The same.")
@click.option("--dry-run", is_flag=True, help="Only count them.")
@click.option("--yes", is_flag=True, help="All of them, where nothing narrows it down.")
def retry_(*, dry_run: bool, yes: bool, **texts: str | None) -> None:
    """Let deliveries that failed wait again: one, those of one reason, or a range."""
    criteria = {name: text for name, text in texts.items() if text}
    if criteria.keys() == {"state"} and not (yes or dry_run):
        raise click.UsageError(
            "Say which: --id, --reason, --customer, --event-name, --since or --until; or --yes for all of them."
        )
    filters = parse_delivery_filters(criteria, clock())
    database = open_backend().database
    if dry_run:
        with database.reading() as conn:
            count, _ = count_matching(conn, filters, math.inf)
        click.echo(f"{counted(count, 'delivery', 'deliveries')} would wait again.")
        return
    count = retry_matching(database, filters, clock, seconds=math.inf).count
    click.echo(f"{counted(count, 'delivery', 'deliveries')} {'waits' if count == 1 else 'wait'} again.")


def _find_newest(conn: Connection, filters: DeliveryFilters, limit: int) -> list[DeliveryRow]:
    """Return the newest deliveries, however far back they are."""
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
    why = f"  {document.reason[:_REASON_SHOWN]}" if document.reason else ""
    event = f"{document.event_name}  {document.customer_id}  {document.idempotency_id}"
    return printable(f"{at[:19]}  {document.state:<13}  {event}{why}")
