"""Commands that show calls: `log`, `show`, `refused`."""

import sys
import time
from collections.abc import Iterator, Sequence

import click
import msgspec

from app.calls.log import CallLine, to_text
from app.calls.review import (
    CallDocument,
    to_call_document,
    to_refusal_document,
    to_whole_document,
)
from app.calls.steps import list_steps
from app.calls.tables import make_calls_table, make_refusals_table
from app.calls.text import call_text, refusal_text
from app.catalog.backend import Backend
from app.cli.csv_output import csv_option, echo_csv, find_csv_zone, tz_option
from app.cli.program import open_backend
from app.clock import clock
from app.core.json_text import encode
from app.core.outcome import Outcome, Reason
from app.errors import NotFound
from app.store.ids import TAG_BITS
from app.store.query import parse_call_filters
from app.store.refusals import KEPT, list_refusals
from app.store.review import (
    CallFilters,
    get_call,
    get_call_ids,
    list_call_ids,
    list_calls,
    newest_call_id,
    read_calls,
)

# The values: click uses the names of an enum passed as it is.
_OUTCOME = click.Choice([outcome.value for outcome in Outcome])
_REASON = click.Choice([reason.value for reason in Reason])

_POLL_SECONDS = 0.5

_LISTED = 50
_REFUSALS_LISTED = 20

_LATE = 30_000_000 << TAG_BITS
"""30 s as a distance between ids: an id is drawn some seconds, at most, before its commit is visible."""

_PAGE_IDS = 10_000
"""Ids that one query of `--follow` reads."""


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Keep printing new calls, until Ctrl-C.")
@click.option(
    "--outcome", multiple=True, type=_OUTCOME, help="Only calls with this outcome; may be given several times."
)
@click.option(
    "--reason",
    type=_REASON,
    metavar="REASON",
    help="A reason code, such as event_invalid or no_transform.",
)
@click.option("--event", help="Segment's event name.")
@click.option("--customer", help="The customer of the event, else the call's userId.")
@click.option("--id", help="A call id, a message id or an idempotency id.")
@click.option("--transform", help="The name of a transform.")
@click.option("--since", metavar="WHEN", help="Received at or after this time, or within this duration: 30m, 1h, 7d.")
@click.option(
    "--until", metavar="WHEN", help="Received before this time (exclusive), or longer ago than this duration."
)
@click.option("--limit", type=click.IntRange(1, 100_000), help=f"How many of the newest to show.  [default: {_LISTED}]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@csv_option
@tz_option
def log(
    *,
    follow: bool,
    outcome: Sequence[str],
    limit: int | None,
    as_json: bool,
    as_csv: bool,
    tz: str | None,
    **texts: str | None,
) -> None:
    """Show stored calls, newest last."""
    zone = find_csv_zone(tz, as_csv=as_csv, as_json=as_json)
    params = {name: text for name, text in {"outcome": ",".join(outcome), **texts}.items() if text}
    filters = parse_call_filters(params, clock())
    if follow and as_csv:
        raise click.UsageError("--follow has no end, and a CSV file has one: give one of them.")
    backend = open_backend()
    if as_csv:
        echo_csv(backend.database, make_calls_table(filters, None, zone, limit))
        return
    limit = limit or _LISTED
    if follow:
        for calls in _follow(backend, filters, limit):
            _write(calls, as_json=as_json)
        return
    with backend.database.reading() as conn:
        rows = list_calls(conn, filters, limit=limit)
    _write([to_call_document(row) for row in reversed(rows)], as_json=as_json)
    if not rows and sys.stdout.isatty():
        click.echo("No calls match." if params else "No calls yet: try `segment-lotus send sample`.", err=True)


@click.command()
@click.argument("id_", metavar="ID")
@click.option("--raw", is_flag=True, help="Print only the raw bytes of the call, as received.")
@click.option("--json", "as_json", is_flag=True, help="Print the document of the JSON API.")
def show(*, id_: str, raw: bool, as_json: bool) -> None:
    """Show everything about one call. ID is a call id, a message id or the idempotency id of an event."""
    backend = open_backend()
    with backend.database.reading() as conn:
        ids = get_call_ids(conn, id_, limit=100)
        whole = get_call(conn, ids[0])
        steps = list_steps(conn, backend.catalog, whole)
    if len(ids) > 1:
        many = f"{len(ids)}" if len(ids) < 100 else "100 or more"  # noqa: PLR2004  the limit above
        click.echo(f"{many} calls have this id; this is the newest. All: segment-lotus log --id {id_!r}", err=True)
    if raw:
        if whole.raw is None:
            raise NotFound(f"the bytes of call {ids[0]} were removed by retention")
        click.echo(whole.raw, nl=False)
        return
    document = to_whole_document(whole, steps)
    click.echo(_to_json(document) if as_json else call_text(document))


@click.command()
@click.option(
    "--limit", type=click.IntRange(1, KEPT), help=f"How many of the newest to show.  [default: {_REFUSALS_LISTED}]"
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@csv_option
@tz_option
def refused(*, limit: int | None, as_json: bool, as_csv: bool, tz: str | None) -> None:
    """Show the last refused requests and why they were refused, newest last."""
    zone = find_csv_zone(tz, as_csv=as_csv, as_json=as_json)
    database = open_backend().database
    if as_csv:
        echo_csv(database, make_refusals_table(zone, limit or KEPT))
        return
    with database.reading() as conn:
        refusals = list_refusals(conn, limit or _REFUSALS_LISTED)
    documents = [to_refusal_document(refusal) for refusal in reversed(refusals)]
    for document in documents:
        click.echo(_to_json(document) if as_json else refusal_text(document))
    if not documents and sys.stdout.isatty():
        click.echo("No request was refused.", err=True)


def _follow(backend: Backend, filters: CallFilters, limit: int) -> Iterator[list[CallDocument]]:
    """Yield the newest calls, then each new call once, as soon as its commit is visible.

    Ids are not in the order of commits. So each round reads the last 30 s again and skips the ids already shown; the
    30 s are counted back from the newest call, not from this machine's clock, which may be wrong.
    """
    with backend.database.reading() as conn:
        after = newest_call_id(conn) - _LATE
    shown_ids = set(_ids_after(backend, filters, after))
    with backend.database.reading() as conn:
        first = list_calls(conn, filters, limit=limit)
    shown_ids.update(row.id for row in first)
    yield [to_call_document(row) for row in reversed(first)]
    while True:
        time.sleep(_POLL_SECONDS)
        with backend.database.reading() as conn:
            newest = newest_call_id(conn)
        ids = _ids_after(backend, filters, after)
        fresh = sorted(set(ids) - shown_ids)
        if fresh:
            with backend.database.reading() as conn:
                rows = read_calls(conn, fresh)
            yield [to_call_document(row) for row in rows]
        after, shown_ids = newest - _LATE, set(ids)


def _ids_after(backend: Backend, filters: CallFilters, after: int) -> list[int]:
    ids: list[int] = []
    while True:
        with backend.database.reading() as conn:
            page = list_call_ids(conn, filters, after=after, before=ids[-1] if ids else None, limit=_PAGE_IDS)
        ids += page
        if len(page) < _PAGE_IDS:
            return ids


def _write(calls: Sequence[CallDocument], *, as_json: bool) -> None:
    lines = [_to_json(call) if as_json else to_text(_to_line(call), colour=True) for call in calls]
    if lines:
        click.echo("\n".join(lines))


def _to_line(call: CallDocument) -> CallLine:
    """Return the line that the service logged when it received the call."""
    return CallLine(
        call.received_at,
        "info",
        call.id,
        call.outcome,
        call.reason,
        call.detail,
        call.type,
        call.event,
        call.transform,
        call.transform_digest,
        call.message_id,
        idempotency_id=call.idempotency_ids[0] if call.idempotency_ids else None,
        customer_id=call.customer_id,
    )


def _to_json(document: msgspec.Struct) -> str:
    return encode(document).decode()
