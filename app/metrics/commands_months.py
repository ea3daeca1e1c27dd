"""The commands `close` and `months`: close a month, see what changed since, carry that on, and reopen it."""

import secrets

import click

from app.cli.program import CommandGroup, Failure, login, open_backend, read_settings
from app.core.json_text import encode
from app.core.text import counted, printable, short, table_lines
from app.core.times import format_time
from app.metrics.adjustments import MonthReport, carry_adjustments, list_changed, read_group_key, read_report
from app.metrics.month_documents import (
    change_text,
    received_text,
    to_carried_document,
    to_changes_document,
    to_month_document,
    to_report_csv,
    to_report_document,
    to_state,
)
from app.metrics.months import close_month, parse_month, reopen_month, verify_month
from app.metrics.sql_months import ClosedMonth, get_closed_month, list_closed_months, list_numbers
from app.metrics.values import format_number
from app.store.engine import Connection
from app.store.ids import Ids
from app.store.query import LIMIT_MAX, parse_author, parse_id, parse_reason

_PAGE = 500

_author = click.option("--author", help="Who; by default the user of this shell.")
_json = click.option("--json", "as_json", is_flag=True, help="As JSON, like the API.")


@click.command()
@click.argument("metric")
@click.option("--month", required=True, metavar="YYYY-MM", help="A calendar month that is over.")
@click.option("--tz", help="The IANA time zone whose month it is.  [default: TIME_ZONE]")
@_author
@_json
def close(*, metric: str, month: str, tz: str | None, author: str | None, as_json: bool) -> None:
    """Close a month of a metric: its numbers are frozen, and later changes are shown beside them as adjustments."""
    period = parse_month(month, tz or str(read_settings().time_zone))
    database = open_backend().database
    closed = close_month(database, Ids(secrets.randbelow).next, metric, period, parse_author(author or login()))
    with database.reading() as conn:
        numbers = counted(len(list_numbers(conn, closed.id)), "number")
    if as_json:
        click.echo(encode(to_month_document(closed)).decode())
    else:
        click.echo(f"{month} of {metric} is closed in {period.tz}, with {numbers}, as {closed.id}.")


@click.group(cls=CommandGroup)
def months() -> None:
    """List closed months, show what changed since, carry that into a later month, verify and reopen them."""


@months.command("list")
@click.option("--metric", help="Only of this metric.")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=50, show_default=True, help="At most so many.")
@_json
def list_(*, metric: str | None, limit: int, as_json: bool) -> None:
    """List the closed months and those that were reopened, the last closed first."""
    with open_backend().database.reading() as conn:
        rows = list_closed_months(conn, limit, metric=metric)
    if as_json:
        click.echo(encode({"months": [to_month_document(row) for row in rows]}).decode())
        return
    lines = [("ID", "METRIC", "MONTH", "ZONE", "STATE", "CLOSED", "AUTHOR", "REOPENED")]
    lines += [
        (
            str(row.id),
            row.metric,
            row.month,
            row.tz,
            to_state(row),
            format_time(row.closed_at),
            row.author,
            "" if row.reopened_at is None else f"by {row.reopen_author}: {row.reopen_reason}",
        )
        for row in rows
    ]
    click.echo("\n".join(table_lines(lines)) if rows else "No month was closed.")


@months.command()
@click.argument("id_", metavar="ID")
@click.option("--customer", help="Only this customer.")
@click.option("--events", is_flag=True, help="List the events that changed it since it was closed.")
@click.option(
    "--format", "shape", type=click.Choice(("table", "csv", "json")), default="table", show_default=True, help="How."
)
def show(*, id_: str, customer: str | None, events: bool, shape: str) -> None:
    """Show the numbers of a closed month, what they are today, and the adjustments; or the events behind these."""
    with open_backend().database.reading() as conn:
        report = read_report(conn, get_closed_month(conn, parse_id("ID", id_)), customer)
        if events:
            _print_changes(conn, report, customer, shape)
            return
    if shape == "json":
        click.echo(encode(to_report_document(report)).decode())
    elif shape == "csv":
        for piece in to_report_csv(report):
            click.echo(piece, nl=False)
    else:
        _print_report(report)


@months.command()
@click.argument("id_", metavar="ID", required=False)
def verify(*, id_: str | None) -> None:
    """Compute frozen numbers again as of their moment, and compare; by default of all closed months."""
    database = open_backend().database
    with database.reading() as conn:
        closed = [get_closed_month(conn, parse_id("ID", id_))] if id_ else _all_months(conn)
    wrong = 0
    for row in closed:
        problems = verify_month(database, row)
        wrong += bool(problems)
        for problem in problems:
            click.echo(printable(f"{row.metric} {row.month} ({row.id}): {problem}"))
    if wrong:
        raise Failure(f"{counted(wrong, 'month')} of {len(closed)} differ")
    click.echo(f"{counted(len(closed), 'month')}: computed again, every number is the same.")


@months.command()
@click.argument("id_", metavar="ID")
@click.option("--reason", required=True, help="Why; it stays in the history.")
@_author
def reopen(*, id_: str, reason: str, author: str | None) -> None:
    """Open a closed month again; what was closed stays in the history."""
    reason = parse_reason(reason)
    closed = reopen_month(open_backend().database, parse_id("ID", id_), parse_author(author or login()), reason)
    click.echo(f"{closed.month} of {closed.metric} is open again.")


@months.command()
@click.argument("id_", metavar="ID")
@click.option("--into", required=True, metavar="YYYY-MM", help="The later month.")
@click.option("--customer", help="Only what is of this customer.")
@_author
@_json
def carry(*, id_: str, into: str, customer: str | None, author: str | None, as_json: bool) -> None:
    """Take the open adjustments of a closed month into a later one, as lines of their own."""
    database = open_backend().database
    next_id = Ids(secrets.randbelow).next
    names, carried = carry_adjustments(
        database, next_id, parse_id("ID", id_), into, parse_author(author or login()), customer
    )
    if as_json:
        click.echo(encode({"carried": [to_carried_document(line, names) for line in carried]}).decode())
        return
    for line in carried:
        click.echo(printable(f"{line.amount}  {line.customer_id}  {line.grp if line.grp != '[]' else ''}".rstrip()))
    click.echo(f"{counted(len(carried), 'adjustment')} carried into {into}.")


def _print_report(report: MonthReport) -> None:
    closed, names = report.closed, report.metric.group_by
    click.echo(
        f"{closed.metric} {closed.month}, {closed.tz}: {to_state(closed)} by {closed.author} at"
        f" {format_time(closed.closed_at)}, as of {format_time(closed.as_of)}, version {short(closed.metric_digest)}",
        err=True,
    )
    if report.live.digest != report.metric.digest:
        click.echo(f"Today's numbers are of version {short(report.live.digest)}.", err=True)
    lines = [("customer", *names, "closed", "today", "adjustment", "carried", "open")]
    for line in report.lines:
        groups = ("-" if text is None else text or '""' for text in read_group_key(line.grp))
        values = (
            "-" if number is None or number.value is None else number.value for number in (line.closed, line.today)
        )
        amounts = (format_number(amount) for amount in (line.total, line.carried, line.open))
        lines.append((line.customer_id, *groups, *values, *amounts))
    click.echo("\n".join(table_lines(lines, set(range(len(names) + 1, len(names) + 6)))))
    for received in report.received:
        click.echo(printable(received_text(received)))


def _print_changes(conn: Connection, report: MonthReport, customer: str | None, shape: str) -> None:
    if shape == "csv":
        raise Failure("--events lists events as a table or as JSON")
    page = list_changed(conn, report, customer, limit=_PAGE)
    while True:
        if shape == "json":
            for document in to_changes_document(page, report)["events"]:
                click.echo(encode(document).decode())
        else:
            for change in page.changes:
                event = change.event
                when = f"{format_time(event.time_created)}  {event.customer_id}  {change_text(change)}"
                click.echo(printable(f"{when}  call {event.call_id}  {event.idempotency_id}  {event.properties}"))
        if page.following is None:
            return
        page = list_changed(conn, report, customer, after=page.following, limit=_PAGE)


def _all_months(conn: Connection) -> list[ClosedMonth]:
    rows: list[ClosedMonth] = []
    while more := list_closed_months(conn, LIMIT_MAX, rows[-1].id if rows else None):
        rows += more
    return [row for row in rows if row.reopened_at is None]
