"""The command `usage NAME`: the numbers of a metric, or with `--explain` the events behind them."""

import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo

import click

from app.cli.csv_output import echo_csv
from app.cli.program import Failure, open_backend, read_settings
from app.clock import clock
from app.core.json_text import encode
from app.core.text import counted, printable, short, table_lines
from app.core.times import format_time
from app.errors import BadQuery
from app.metrics.answer import BY_ARRIVAL, answer, is_by_arrival, verify
from app.metrics.catalog import get_metric
from app.metrics.definition import Metric
from app.metrics.documents import skipped_text, to_answer_document, to_csv, to_shares_document
from app.metrics.explain import SharePage, explain
from app.metrics.month_documents import received_text, to_note_document
from app.metrics.month_note import MonthNote, find_month_note
from app.metrics.parameters import check_group, parse_group, parse_usage_query
from app.metrics.query import Answer, Query
from app.metrics.tables import make_events_table
from app.metrics.windows import WINDOWS
from app.store.engine import Connection
from app.store.moment import reading_at

_PAGE_EVENTS = 1000
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_FORMATS = ("table", "csv", "json")


def _read_end(_context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> str | None:
    """Return the text of one end of the period, under whichever of its names it came."""
    if len(values) > 1:
        raise click.UsageError(f"{' and '.join(option.opts)} name the same end of the period: give it once.")
    return values[0] if values else None


@click.command()
@click.argument("name")
@click.option("--customer", "customer_id", help="Only this customer.")
@click.option(
    "--start",
    "--since",
    "start",
    metavar="WHEN",
    multiple=True,
    callback=_read_end,
    help="A day, a time, or a duration back: 2026-10-01, 7d. Default: this month.",
)
@click.option(
    "--end",
    "--until",
    "end",
    metavar="WHEN",
    multiple=True,
    callback=_read_end,
    help="The exclusive end, in the same forms. Default: now.",
)
@click.option("--window", type=click.Choice([unit.value for unit in WINDOWS]), help="Divide the period into these.")
@click.option("--group-by", metavar="NAMES", help="Group by these properties, not the metric's own; none: no groups.")
@click.option("--tz", help="The IANA time zone of days and windows.  [default: TIME_ZONE]")
@click.option("--fill", type=click.Choice(["zero"]), help="Include empty windows.")
@click.option("--version", metavar="DIGEST", help="Use an earlier version: the first digits of its digest.")
@click.option("--as-of", metavar="WHEN", help="What this answered at a moment: what was stored by then, and not void.")
@click.option("--include-future", is_flag=True, help="Count events that are later than now.")
@click.option(
    "--format", "shape", type=click.Choice(_FORMATS), default="table", show_default=True, help="The output format."
)
@click.option("--explain", "explained", is_flag=True, help="List the events behind the numbers.")
@click.option("--verify", "verified", is_flag=True, help="Compare with raw events; exit code 1 if they differ.")
@click.option("--group", help='With --explain: one group, such as {"model": "m-large"}.')
def usage(
    *,
    name: str,
    version: str | None,
    include_future: bool,
    shape: str,
    explained: bool,
    verified: bool,
    group: str | None,
    **texts: str | None,
) -> None:
    """Show the numbers of a metric for a period; with --explain, list the events behind them."""
    params = {key: text for key, text in texts.items() if text}
    if include_future:
        params["include_future"] = "true"
    now = clock()
    query = parse_usage_query(params, now, str(read_settings().time_zone))
    if verified and explained:
        raise BadQuery("--verify is about numbers, and --explain lists events: give one of them")
    if group is not None and not explained:
        raise BadQuery("--group belongs to --explain; --customer and --group-by narrow a number")
    if explained and (query.window or query.fill):
        raise BadQuery("--explain lists the events of one number: give its window as --start and --end")
    database = open_backend().database
    with reading_at(database, query.as_of) as conn:
        metric = get_metric(conn, name, version, query.as_of)
    if explained and shape == "csv":
        group_values = parse_group(group)
        check_group(group_values, query.groups(metric))
        echo_csv(database, make_events_table(metric, query, now, group_values))
        return
    with database.reading() as conn:
        if explained:
            _print_events(conn, metric, query, now, group, shape)
            return
        result, same = verify(conn, metric, query, now) if verified else (answer(conn, metric, query, now), None)
        note = find_month_note(conn, metric, query, now)
    _print_answer(result, metric, query, shape, same=same, note=note)
    if same is False:
        raise Failure(f"raw events give other numbers: rebuild them with segment-lotus metrics build {name} --anew")
    if same:
        click.echo("Raw events give the same numbers.", err=True)


def _print_answer(
    result: Answer, metric: Metric, query: Query, shape: str, *, same: bool | None, note: MonthNote | None
) -> None:
    names = query.groups(metric)
    if shape == "json":
        month = None if note is None else to_note_document(note)
        click.echo(encode(to_answer_document(result, same=same, month=month)).decode())
        return
    if shape == "csv":
        for piece in to_csv(result, metric, names):
            click.echo(piece, nl=False)
        return
    zone = query.zone()
    period = f"{_local(result.start, zone)} to {_local(result.end, zone)}, {result.tz}"
    click.echo(f"{metric.name} at version {short(result.version)}, {period}", err=True)
    _print_moment(result.as_of, zone, by_arrival=result.by_arrival)
    windowed = ("from",) if query.window else ()
    lines: list[tuple[str, ...]] = [("customer", *names, *windowed, "value", "events", "skipped")]
    for row in result.rows:
        groups = (
            "-" if row.group[property_name] is None else row.group[property_name] or '""' for property_name in names
        )
        when = (_local(row.window_start, zone),) if query.window else ()
        value = "-" if row.value is None else row.value
        lines.append((row.customer_id, *groups, *when, value, str(row.events_count), skipped_text(row.skipped)))
    numeric = {len(names) + len(windowed) + 1, len(names) + len(windowed) + 2}
    click.echo("\n".join(table_lines(lines, numeric)))
    if note is not None:
        _print_note(note)
    below = [row for row in result.rows if row.below_zero_at is not None]
    if below:
        first = min(below, key=lambda row: row.below_zero_at or 0)
        where = f"{first.customer_id} since {_local(first.below_zero_at or 0, zone)}"
        count_text = counted(len(below), "number")
        hint = click.style("hint", fg="yellow")
        sentence = f"the level was below zero in {count_text}, first of {where}: events are nearly always missing."
        click.echo(f"{hint}: {printable(sentence)}", err=True)
    if not result.rows and sys.stdout.isatty():
        click.echo("No event counts here.", err=True)


def _print_note(note: MonthNote) -> None:
    if note.report is not None:
        closed = note.report.closed
        click.echo(
            f"closed on {format_time(closed.closed_at)}: {note.closed_text}; adjustments: {note.adjustment_text};"
            f" see segment-lotus months show {closed.id}",
            err=True,
        )
    for received in note.received:
        click.echo(printable(received_text(received)), err=True)


def _print_moment(as_of: int | None, zone: tzinfo, *, by_arrival: bool) -> None:
    if as_of is not None:
        click.echo(f"as of {_local(as_of, zone)}{': ' + BY_ARRIVAL if by_arrival else ''}", err=True)


def _print_events(conn: Connection, metric: Metric, query: Query, now: int, group: str | None, shape: str) -> None:
    group_values = parse_group(group)
    zone = query.zone()
    _print_moment(query.as_of, zone, by_arrival=is_by_arrival(conn, query))
    for page in _pages(conn, metric, query, now, group_values):
        for share, document in zip(page.shares, to_shares_document(metric, page).events, strict=True):
            if shape == "json":
                click.echo(encode(document).decode())
                continue
            what = f"skipped: {share.skipped}" if share.skipped else (share.value or "counted")
            early = "  (before the period)" if share.before else ""
            groups = " ".join(f"{name}={value}" for name, value in share.group.items())
            where = f"call {document.call_id}  {document.idempotency_id}"
            line = f"{_local(share.event.time_created, zone)}  {document.customer_id}  {groups}  {what}  {where}{early}"
            click.echo(printable(line))


def _pages(
    conn: Connection, metric: Metric, query: Query, now: int, group: dict[str, str | None] | None
) -> Iterator[SharePage]:
    page = explain(conn, metric, query, now, group=group, limit=_PAGE_EVENTS)
    yield page
    while page.following is not None:
        page = explain(conn, metric, query, now, group=group, after=page.following, limit=_PAGE_EVENTS)
        yield page


def _local(micros: int, zone: tzinfo) -> str:
    """Return the local time of a moment in a zone, with its offset."""
    return (_EPOCH + timedelta(microseconds=micros)).astimezone(zone).isoformat(" ", "seconds")
