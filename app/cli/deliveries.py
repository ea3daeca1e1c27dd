"""How events reach Lotus: `deliveries list`, `deliveries retry`."""

import secrets

import click
import msgspec

from app.bootstrap import clock
from app.cli.program import open_reading
from app.logs import printable
from app.outbox import DeliveryDocument, parse_delivery_filters, read_outbox, to_delivery_document
from app.store import ledger
from app.store.deliveries import State, retry
from app.store.delivery_list import count_groups, find_event_ids, list_deliveries
from app.store.ids import Ids

_BATCH = 1000
_REASON_SHOWN = 100


@click.group()
def deliveries() -> None:
    """Show how events reach Lotus, and send again what failed."""


@deliveries.command("list")
@click.option("--state", type=click.Choice([one.value for one in State]))
@click.option("--reason", help="The whole reason, as it is listed.")
@click.option("--customer")
@click.option("--id", help="The idempotency id of an event.")
@click.option("--since", metavar="WHEN", help="A time, or a duration: 30m, 1h, 7d.")
@click.option("--until", metavar="WHEN", help="The same.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="The newest so many.")
@click.option("--groups", is_flag=True, help="Only count what was not delivered, by reason.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def list_(*, limit: int, groups: bool, as_json: bool, **texts: str | None) -> None:
    """Show deliveries, the newest last, and how it stands with Lotus."""
    filters = parse_delivery_filters({name: text for name, text in texts.items() if text}, clock())
    with open_reading().database.reading() as conn:
        if groups:
            for state, reason, count in count_groups(conn):
                group = {"state": state, "reason": reason, "count": count}
                line = f"{count:>10}  {state:<13}  {printable(reason)}"
                click.echo(msgspec.json.encode(group).decode() if as_json else line)
            return
        documents = [to_delivery_document(row) for row in reversed(list_deliveries(conn, filters, limit=limit))]
        outbox = read_outbox(conn)
    for document in documents:
        click.echo(msgspec.json.encode(document).decode() if as_json else _to_line(document))
    if outbox.paused:
        click.echo(f"Forwarding is paused until {outbox.probe_at}: {printable(outbox.message or '')}", err=True)
    click.echo(f"{outbox.waiting} wait, {outbox.failed} failed, {outbox.unforwardable} not forwardable.", err=True)


@deliveries.command("retry")
@click.option("--state", type=click.Choice([State.FAILED.value, State.UNFORWARDABLE.value]), default="failed")
@click.option("--reason", help="The whole reason, as it is listed.")
@click.option("--customer")
@click.option("--id", help="The idempotency id of an event.")
@click.option("--since", metavar="WHEN", help="A time, or a duration: 30m, 1h, 7d.")
@click.option("--until", metavar="WHEN", help="The same.")
@click.option("--yes", is_flag=True, help="All of them, where nothing narrows it down.")
def retry_(*, yes: bool, **texts: str | None) -> None:
    """Let deliveries that failed wait again: one, those of one reason, or a range."""
    given = {name: text for name, text in texts.items() if text}
    if given.keys() == {"state"} and not yes:
        raise click.UsageError("Say which: --id, --reason, --customer, --since or --until; or --yes for all of them.")
    filters = parse_delivery_filters(given, clock())
    database = open_reading().database
    tag = Ids(secrets.randbelow).tag
    after, count = -1, 0
    while True:
        with database.writing() as conn:
            ids = find_event_ids(conn, filters, after, _BATCH)
            if not ids:
                break
            ledger.append(conn, tag, clock(), retry(conn, ids, clock()))
        after, count = ids[-1], count + len(ids)
    click.echo(f"{count} deliveries wait again.")


def _to_line(one: DeliveryDocument) -> str:
    at = one.settled_at or one.due_at or ""
    why = f"  {one.reason[:_REASON_SHOWN]}" if one.reason else ""
    return printable(f"{at[:19]}  {one.state:<13}  {one.event_name}  {one.customer_id}  {one.idempotency_id}{why}")
