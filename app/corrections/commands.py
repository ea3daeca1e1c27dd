"""The commands `void` and `amend`: make events void on purpose, or give them other values."""

import sys
from collections.abc import Callable
from typing import Any

import click
from click.decorators import pass_meta_key

from app.cli.program import between_steps, login, open_backend
from app.clock import clock
from app.core.json_text import encode
from app.core.text import counted
from app.corrections.amendment import Amendment, parse_amendment, parse_assignments
from app.corrections.corrector import Corrector, make_corrector
from app.corrections.documents import to_document, to_preview_document, to_tally
from app.corrections.hooks import CorrectionHooksFactory
from app.corrections.selection import Selection, parse_lotus, parse_name, parse_selection
from app.corrections.text import effect_text, undo_text
from app.store.corrections import Attribution, Correction, LotusChoice
from app.store.engine import Database
from app.store.query import parse_author, parse_reason

HOOKS = "app.corrections.hooks"
"""The key of click's context under which a program keeps its CorrectionHooksFactory."""

pass_hooks = pass_meta_key(HOOKS)

reason_option = click.option("--reason", required=True, help="Why; kept with the correction and shown with each event.")
author_option = click.option("--author", help="Who; by default the user of this shell.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
json_option = click.option("--json", "as_json", is_flag=True, help="As JSON, like the API; never asks.")

_SELECTION = (
    click.argument("ids", nargs=-1, metavar="[IDEMPOTENCY_ID]..."),
    click.option("--call", metavar="ID", help="The events of the call with this call id."),
    click.option("--message", metavar="ID", help="The events of the message with this message id."),
    click.option("--event-name", metavar="NAME", help="Events of this name."),
    click.option("--customer", metavar="ID", help="Events of this customer."),
    click.option("--since", metavar="WHEN", help="Events of this time or later (time_created), or within a duration."),
    click.option("--until", metavar="WHEN", help="Events before this time (exclusive)."),
    click.option("--transform", metavar="NAME", help="Events that this transform made."),
    click.option("--call-event", metavar="NAME", help="Events of calls with this event name of Segment's."),
    click.option("--route", metavar="NAME", help="Events of calls that came this way, as `log --json` shows it."),
    click.option("--received-since", metavar="WHEN", help="Events of calls received at this time or later."),
    click.option("--received-until", metavar="WHEN", help="Events of calls received before this time (exclusive)."),
)

_BATCH = (
    reason_option,
    author_option,
    click.option("--name", help="A name for the correction."),
    click.option(
        "--lotus",
        type=click.Choice([choice.value for choice in LotusChoice]),
        help="What Lotus gets where it has an event already: nothing (hold), the new event as well (send), or the "
        "difference.  [default: hold]",
    ),
    click.option("--dry-run", is_flag=True, help="Only count what would change; write nothing."),
    yes_option,
    json_option,
    pass_hooks,
)


def _with_options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@click.command()
@_with_options(*_SELECTION, *_BATCH)
def void(make_hooks: CorrectionHooksFactory, /, **words: Any) -> None:
    """Make stored events void: they stay, but no longer count.

    Everything that is named has to fit. It counts and shows the effect, asks, and goes on in steps of 1,000 events: one
    that was stopped goes on with the same command. `corrections undo` makes the events count again.
    """
    _correct(make_hooks, None, **words)


@click.command()
@_with_options(*_SELECTION)
@click.option(
    "--set",
    "assignments",
    metavar="FIELD=VALUE",
    multiple=True,
    help="A new value: of customer_id, event_name, time_created or properties.NAME. JSON, or else text. Repeatable.",
)
@click.option("--unset", metavar="properties.NAME", multiple=True, help="A property to remove. Repeatable.")
@_with_options(*_BATCH)
def amend(
    make_hooks: CorrectionHooksFactory, /, *, assignments: tuple[str, ...], unset: tuple[str, ...], **words: Any
) -> None:
    """Give stored events other values: a new event counts in the place of each, which stays and is void.

    Everything that is named has to fit. It counts and shows the effect, asks, and goes on in steps of 1,000 events: one
    that was stopped goes on with the same command. `corrections undo` brings the old values back.
    """
    _correct(make_hooks, parse_amendment(parse_assignments(assignments), unset), **words)


def _correct(
    make_hooks: CorrectionHooksFactory,
    amendment: Amendment | None,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **words: Any,
) -> None:
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json does not ask: give --yes or --dry-run as well.")
    reason, author = parse_reason(words.pop("reason")), parse_author(words.pop("author") or login())
    name, choice = parse_name(words.pop("name")), parse_lotus(words.pop("lotus"))
    selection = parse_selection({**words, "ids": list(words["ids"])}, clock())
    carry_out(
        open_backend().database,
        make_hooks,
        selection,
        Attribution(author=author, reason=reason, name=name, lotus=choice),
        amendment,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


def carry_out(
    database: Database,
    make_hooks: CorrectionHooksFactory,
    selection: Selection,
    attribution: Attribution,
    amendment: Amendment | None = None,
    *,
    dry_run: bool = False,
    yes: bool,
    as_json: bool,
) -> None:
    """Correct a selection: count and show the effect, ask unless `yes`, and go on to the end."""
    corrector, choice = make_corrector(database, make_hooks), attribution.lotus
    preview = corrector.preview(selection, amendment, lotus=choice)
    tally, kind = preview.tally, preview.kind
    if dry_run or not tally.events:
        document = to_preview_document(preview, choice, dry_run=dry_run)
        click.echo(encode(document).decode() if as_json else effect_text(tally, kind, choice, foreseen=dry_run))
        return
    if not yes:
        click.echo(effect_text(tally, kind, choice, foreseen=True), err=True)
        act = "Amend" if amendment is not None else "Void"
        click.confirm(f"\n{act} {counted(tally.events, 'event')}?", abort=True, err=True)
    correction = corrector.begin(preview, attribution)
    if correction.cursor_event >= 0:
        click.echo(f"Resuming correction {correction.id}, which {correction.author} began.", err=True)
    echo_correction(run_with_bar(corrector, correction, tally.events), as_json=as_json)


def run_with_bar(corrector: Corrector, correction: Correction, events: int | None) -> Correction:
    """Go on with a batch, or its undo, to the end, with a progress bar; None: it is not known how many events."""
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


def echo_correction(correction: Correction, *, as_json: bool) -> None:
    """Print what a batch did, or what its undo did."""
    if as_json:
        click.echo(encode(to_document(correction)).decode())
    elif correction.undo_started_at is not None:
        click.echo(f"correction {correction.id} is {undo_text(correction)}")
    else:
        text = effect_text(to_tally(correction), correction.kind, correction.lotus, foreseen=False)
        click.echo(f"{text}\n\ncorrection {correction.id}")
