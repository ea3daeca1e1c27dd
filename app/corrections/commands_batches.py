"""The command `corrections`: list batches, show one, export its events, resume one, undo one."""

import click

from app.cli.program import CommandGroup, Failure, login, open_backend
from app.core.json_text import encode
from app.core.text import counted
from app.corrections.commands import (
    author_option,
    echo_correction,
    json_option,
    pass_hooks,
    reason_option,
    run_with_bar,
    yes_option,
)
from app.corrections.corrector import make_corrector
from app.corrections.documents import to_document, to_tally
from app.corrections.export import CSV_HEAD, to_csv, to_event_document
from app.corrections.hooks import CorrectionHooksFactory
from app.corrections.sql_corrections import list_event_ids
from app.corrections.sql_export import stream_batch_events
from app.corrections.text import correction_text, line_text
from app.store.corrections import CorrectionState, get_correction, list_corrections
from app.store.query import LIMIT_MAX, parse_author, parse_id, parse_reason

_SHOWN = 20


@click.group(cls=CommandGroup)
def corrections() -> None:
    """List corrections, show or export one, resume one that was stopped, and undo one."""


@corrections.command("list")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=50, show_default=True, help="At most so many.")
@json_option
def list_(*, limit: int, as_json: bool) -> None:
    """List the last corrections, the newest first."""
    with open_backend().database.reading() as conn:
        rows = list_corrections(conn, limit)
    if as_json:
        click.echo(encode({"corrections": [to_document(row) for row in rows]}).decode())
    else:
        click.echo("\n".join(map(line_text, rows)) or "No correction was made.")


@corrections.command()
@click.argument("id_", metavar="ID")
@json_option
def show(*, id_: str, as_json: bool) -> None:
    """Show one correction: who, when, why, and what it did."""
    with open_backend().database.reading() as conn:
        correction = get_correction(conn, parse_id("ID", id_))
        event_ids = list_event_ids(conn, correction.id, _SHOWN)
    if as_json:
        click.echo(encode(to_document(correction)).decode())
    else:
        click.echo(correction_text(correction, event_ids, _SHOWN))


@corrections.command()
@click.argument("id_", metavar="ID")
@click.option(
    "--format", "shape", type=click.Choice(["csv", "json"]), default="csv", show_default=True, help="Of the output."
)
def export(*, id_: str, shape: str) -> None:
    """Print each event of a correction: its values, those of the event that stands for it, its call and state.

    `json` prints one object on each line.
    """
    with open_backend().database.reading() as conn:
        correction = get_correction(conn, parse_id("ID", id_))
        events = stream_batch_events(conn, correction.id)
        if shape == "csv":
            click.echo(CSV_HEAD, nl=False)
        for event in events:
            click.echo(to_csv([event]) if shape == "csv" else encode(to_event_document(event)) + b"\n", nl=False)


@corrections.command()
@click.argument("id_", metavar="ID")
@json_option
@pass_hooks
def resume(make_hooks: CorrectionHooksFactory, /, *, id_: str, as_json: bool) -> None:
    """Go on with a correction, or with its undo, that was stopped."""
    database = open_backend().database
    with database.reading() as conn:
        correction = get_correction(conn, parse_id("ID", id_))
    if correction.state in {CorrectionState.FINISHED, CorrectionState.UNDONE}:
        raise Failure(f"correction {correction.id} is {correction.state}: there is nothing left to do")
    echo_correction(run_with_bar(make_corrector(database, make_hooks), correction, None), as_json=as_json)


@corrections.command()
@click.argument("id_", metavar="ID")
@reason_option
@author_option
@yes_option
@json_option
@pass_hooks
def undo(
    make_hooks: CorrectionHooksFactory, /, *, id_: str, reason: str, author: str | None, yes: bool, as_json: bool
) -> None:
    """Undo a correction as a whole: what it made void counts again, and what it added does not."""
    if as_json and not yes:
        raise click.UsageError("--json does not ask: give --yes as well.")
    reason, author = parse_reason(reason), parse_author(author or login())
    database = open_backend().database
    with database.reading() as conn:
        correction = get_correction(conn, parse_id("ID", id_))
    events = to_tally(correction).events
    if not yes:
        click.confirm(f"Undo the correction of {counted(events, 'event')}?", abort=True, err=True)
    corrector = make_corrector(database, make_hooks)
    undo_begun = corrector.begin_undo(correction.id, author, reason)
    echo_correction(run_with_bar(corrector, undo_begun, events), as_json=as_json)
