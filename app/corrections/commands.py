"""The commands `void` and `corrections`: make events void on purpose, and undo it."""

import getpass
import sys

import click
from click.decorators import pass_meta_key

from app.cli.program import CommandGroup, Failure, between_steps, open_backend
from app.clock import clock
from app.core.json_text import encode
from app.core.text import counted
from app.corrections.corrector import Corrector, make_corrector
from app.corrections.documents import to_document, to_preview_document, to_tally
from app.corrections.hooks import CorrectionHooksFactory
from app.corrections.selection import AUTHOR_MAX, parse_author, parse_reason, parse_selection
from app.corrections.sql_corrections import list_event_ids
from app.corrections.text import correction_text, effect_text, line_text, undo_text
from app.store.corrections import Correction, CorrectionState, get_correction, list_corrections
from app.store.query import LIMIT_MAX, parse_id

HOOKS = "app.corrections.hooks"
"""The key of click's context under which a program keeps its CorrectionHooksFactory."""

_pass_hooks = pass_meta_key(HOOKS)
_SHOWN = 20

_reason = click.option("--reason", required=True, help="Why; kept with the correction and shown with each event.")
_author = click.option("--author", help="Who; by default the user of this shell.")
_yes = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
_json = click.option("--json", "as_json", is_flag=True, help="As JSON, like the API; never asks.")


@click.command()
@click.argument("ids", nargs=-1, metavar="[IDEMPOTENCY_ID]...")
@click.option("--call", metavar="ID", help="The events of the call with this call id.")
@click.option("--message", metavar="ID", help="The events of the message with this message id.")
@click.option("--event-name", metavar="NAME", help="Events of this name.")
@click.option("--customer", metavar="ID", help="Events of this customer.")
@click.option("--since", metavar="WHEN", help="Events of this time or later (time_created), or within this duration.")
@click.option("--until", metavar="WHEN", help="Events before this time (exclusive).")
@_reason
@_author
@click.option("--dry-run", is_flag=True, help="Only count what would change; write nothing.")
@_yes
@_json
@_pass_hooks
def void(
    make_hooks: CorrectionHooksFactory,
    /,
    *,
    ids: tuple[str, ...],
    reason: str,
    author: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **words: str | None,
) -> None:
    """Make stored events void: they stay, but no longer count.

    Everything that is named has to fit. It counts and shows the effect, asks, and goes on in steps of 1,000 events: one
    that was stopped goes on with the same command. `corrections undo` makes the events count again.
    """
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json does not ask: give --yes or --dry-run as well.")
    reason, author = parse_reason(reason), parse_author(author or _login())
    selection = parse_selection({**words, "ids": list(ids)}, clock())
    database = open_backend().database
    corrector = make_corrector(database, make_hooks)
    preview = corrector.preview(selection)
    if dry_run or not preview.tally.events:
        document = to_preview_document(preview, dry_run=dry_run)
        click.echo(encode(document).decode() if as_json else effect_text(preview.tally, foreseen=dry_run))
        return
    if not yes:
        click.echo(effect_text(preview.tally, foreseen=True), err=True)
        click.confirm(f"\nMake {counted(preview.tally.events, 'event')} void?", abort=True, err=True)
    correction = corrector.begin(preview, author, reason)
    if correction.cursor_event >= 0:
        click.echo(f"Resuming correction {correction.id}, which {correction.author} began.", err=True)
    _echo(_run(corrector, correction, preview.tally.events), as_json=as_json)


@click.group(cls=CommandGroup)
def corrections() -> None:
    """List corrections, show one, resume one that was stopped, and undo one."""


@corrections.command("list")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=50, show_default=True, help="At most so many.")
@_json
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
@_json
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
@_json
@_pass_hooks
def resume(make_hooks: CorrectionHooksFactory, /, *, id_: str, as_json: bool) -> None:
    """Go on with a correction, or with its undo, that was stopped."""
    database = open_backend().database
    with database.reading() as conn:
        correction = get_correction(conn, parse_id("ID", id_))
    if correction.state in {CorrectionState.FINISHED, CorrectionState.UNDONE}:
        raise Failure(f"correction {correction.id} is {correction.state}: there is nothing left to do")
    _echo(_run(make_corrector(database, make_hooks), correction, None), as_json=as_json)


@corrections.command()
@click.argument("id_", metavar="ID")
@_reason
@_author
@_yes
@_json
@_pass_hooks
def undo(
    make_hooks: CorrectionHooksFactory, /, *, id_: str, reason: str, author: str | None, yes: bool, as_json: bool
) -> None:
    """Make the events of a correction count again, all of them."""
    if as_json and not yes:
        raise click.UsageError("--json does not ask: give --yes as well.")
    reason, author = parse_reason(reason), parse_author(author or _login())
    database = open_backend().database
    with database.reading() as conn:
        correction = get_correction(conn, parse_id("ID", id_))
    events = to_tally(correction).events
    if not yes:
        click.confirm(f"Make {counted(events, 'event')} count again?", abort=True, err=True)
    corrector = make_corrector(database, make_hooks)
    _echo(_run(corrector, corrector.begin_undo(correction.id, author, reason), events), as_json=as_json)


def _run(corrector: Corrector, correction: Correction, events: int | None) -> Correction:
    bar = click.progressbar(length=events or 0, label="Correcting", file=sys.stderr, hidden=events is None)
    with between_steps() as stop_here, bar:

        def advance(count: int) -> None:
            bar.update(count)
            stop_here()

        try:
            return corrector.run(correction, advance)
        except KeyboardInterrupt:
            click.echo(f"\nStopped. `segment-lotus corrections resume {correction.id}` goes on from here.", err=True)
            raise


def _echo(correction: Correction, *, as_json: bool) -> None:
    if as_json:
        click.echo(encode(to_document(correction)).decode())
    elif correction.undo_started_at is not None:
        click.echo(f"correction {correction.id} is {undo_text(correction)}")
    else:
        click.echo(
            f"{effect_text(to_tally(correction), foreseen=False, lotus=correction.lotus)}\n\ncorrection {correction.id}"
        )


def _login() -> str:
    try:
        return getpass.getuser()[:AUTHOR_MAX] or "unknown"
    except (OSError, KeyError):
        # A container without an entry for its user.
        return "unknown"
