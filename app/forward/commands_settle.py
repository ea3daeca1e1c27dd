"""Commands by which people settle deliveries: `deliveries credit`, `deliveries release`, `deliveries export`."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
import msgspec
from click.decorators import pass_meta_key

from app.cli.program import login, open_backend
from app.clock import clock
from app.core.text import counted
from app.forward.export import DeliveryExport, ExportFormat, MeasureValues
from app.forward.outbox import parse_delivery_filters
from app.forward.retry import Move, move_matching
from app.forward.settlement import count_release, credit_with, of_state, parse_note
from app.forward.sql_deliveries import DeliveryState
from app.forward.sql_differences import release_held
from app.forward.sql_search import DeliveryFilters, count_matching
from app.store.engine import Database
from app.store.query import parse_author

MEASURE = "app.forward.measure"
"""The key of click's context under which a program keeps its MeasureValues."""

pass_measure = pass_meta_key(MEASURE)

F = TypeVar("F", bound=Callable[..., Any])

_FILTERS = (
    click.option("--until", metavar="WHEN", help="Stored before this time, or this long ago."),
    click.option("--since", metavar="WHEN", help="Stored at or after this time, or this long ago: 30m, 1h, 7d."),
    click.option("--event-name", help="Event name in Lotus."),
    click.option("--customer", help="The customer of the event."),
)


def _filters(command: F) -> F:
    for option in _FILTERS:
        command = option(command)
    return command


@click.command()
@click.argument("ids", nargs=-1, metavar="[IDEMPOTENCY_ID]...")
@_filters
@click.option("--note", required=True, help='What was done about it, such as "credit note 114".')
@click.option("--author", help="Who; by default the user of this shell.")
@click.option("--dry-run", is_flag=True, help="Only count them.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def credit(
    *, ids: tuple[str, ...], note: str, author: str | None, dry_run: bool, yes: bool, **texts: str | None
) -> None:
    """Settle a surplus, that is events that Lotus bills and that are void here, with a note.

    Without ids and filters: all of it.
    """
    note, author = parse_note(note), parse_author(author or login())
    selected = _select(ids, texts, DeliveryState.SURPLUS)
    database = open_backend().database
    with database.reading() as conn:
        count = sum(count_matching(conn, filters, math.inf)[0] for filters in selected)
    if dry_run or not count:
        click.echo(f"{counted(count, 'surplus event')} would be settled.")
        return
    if not yes:
        click.confirm(f"Settle {counted(count, 'surplus event')}?", abort=True, err=True)
    moved, _ = _move(database, credit_with(note, author), selected)
    click.echo(f"{counted(moved, 'surplus event')} settled.")


@click.command()
@click.argument("ids", nargs=-1, metavar="[IDEMPOTENCY_ID]...")
@_filters
@click.option("--dry-run", is_flag=True, help="Only count them.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def release(*, ids: tuple[str, ...], dry_run: bool, yes: bool, **texts: str | None) -> None:
    """Send events that were held back, since Lotus has those that they replace.

    Without ids and filters: all of them. One whose number reached Lotus as a difference stays: it would count twice.
    """
    selected = _select(ids, texts, DeliveryState.HELD)
    database = open_backend().database
    with database.reading() as conn:
        counts = [count_release(conn, filters, math.inf) for filters in selected]
    count, doubled = sum(row.count for row in counts), sum(row.doubled for row in counts)
    text = counted(count, "held event")
    if doubled:
        text += f"; of {doubled:,} the surplus is not settled: Lotus will count both"
    if dry_run or not count:
        click.echo(f"{text}.")
        return
    if not yes:
        click.confirm(f"{text}. Send {'it' if count == 1 else 'them'}?", abort=True, err=True)
    moved, left = _move(database, release_held, selected)
    stay = f"; {left:,} stay, since Lotus has their number as a difference" if left else ""
    click.echo(f"{counted(moved, 'event')} queued{stay}.")


@click.command()
@click.option(
    "--state",
    type=click.Choice([state.value for state in DeliveryState]),
    default=DeliveryState.UNFORWARDABLE.value,
    show_default=True,
    help="The state of the deliveries.",
)
@click.option("--reason", help="The exact reason, as listed.")
@_filters
@click.option(
    "--format",
    "shape",
    type=click.Choice([shape.value for shape in ExportFormat]),
    default=ExportFormat.CSV.value,
    show_default=True,
    help="CSV of the events, CSV of their sums by customer, metric and month, or both as JSON.",
)
@pass_measure
def export(measure: MeasureValues, /, *, shape: str, **texts: str | None) -> None:
    """Write events for an invoice line by hand, the newest first: those that Lotus does not take, or has too much."""
    filters = parse_delivery_filters({name: text for name, text in texts.items() if text}, clock())
    database = open_backend().database
    pieces = DeliveryExport(filters, ExportFormat(shape), measure)
    while (piece := pieces.read_piece(database)) is not None:
        click.echo(piece, nl=False)


def _select(ids: Sequence[str], texts: dict[str, str | None], state: DeliveryState) -> list[DeliveryFilters]:
    filters = of_state(parse_delivery_filters({name: text for name, text in texts.items() if text}, clock()), state)
    return [msgspec.structs.replace(filters, id=id_) for id_ in ids] or [filters]


def _move(database: Database, move: Move, selected: Sequence[DeliveryFilters]) -> tuple[int, int]:
    results = [move_matching(database, move, filters, clock, seconds=math.inf) for filters in selected]
    return sum(result.count for result in results), sum(result.left for result in results)
