"""The command `lookalikes`: find events that look like doubles under new ids, and void all but the first of each."""

import click
from click.decorators import pass_meta_key

from app.cli.program import login, open_backend
from app.clock import clock
from app.core.json_text import encode
from app.core.text import counted, printable
from app.corrections.commands import HOOKS, carry_out
from app.corrections.hooks import CorrectionHooksFactory
from app.corrections.lookalike_search import find_lookalikes, list_spare_ids
from app.corrections.lookalikes import PERIOD, WITHIN, FindCounted, Lookalikes, LookalikesPage, parse_question
from app.corrections.selection import IDS_MAX, parse_selection
from app.errors import BadQuery
from app.store.corrections import Attribution
from app.store.query import LIMIT_MAX, parse_author, parse_reason

FIND_COUNTED = "app.corrections.lookalikes"
"""The key of click's context under which a program keeps its FindCounted."""

_EVENTS_SHOWN = 5


@click.command()
@click.option("--metric", metavar="NAME", help="Only events that this metric counts.")
@click.option("--customer", metavar="ID", help="Only events of this customer.")
@click.option("--event-name", metavar="NAME", help="Only events of this name.")
@click.option(
    "--since", metavar="WHEN", default=PERIOD, show_default=True, help="Events of this time or later (time_created)."
)
@click.option("--until", metavar="WHEN", help="Events before this time (exclusive).")
@click.option(
    "--within", metavar="DURATION", default=WITHIN, show_default=True, help="The longest gap between two of a group."
)
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=50, show_default=True, help="Show so many groups.")
@click.option("--void", is_flag=True, help="Make all but the first of each pre-selected group void, after asking.")
@click.option("--reason", help="Why; needed with --void.")
@click.option("--author", help="Who; by default the user of this shell.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, like the API.")
@pass_meta_key(HOOKS)
@pass_meta_key(FIND_COUNTED)
def lookalikes(
    find_counted: FindCounted,
    make_hooks: CorrectionHooksFactory,
    /,
    *,
    limit: int,
    void: bool,
    reason: str | None,
    author: str | None,
    yes: bool,
    as_json: bool,
    **words: str | None,
) -> None:
    """Find events that look alike: same customer, name and content, other ids, close in time.

    Groups that look like retries of a sender are pre-selected; ordinary ones, such as heartbeats, are shown with the
    reason and never touched. --void makes all but the first of each pre-selected group void, as one batch that
    `corrections undo` undoes.
    """
    if void and reason is None:
        raise click.UsageError("--void needs --reason.")
    if void and as_json and not yes:
        raise click.UsageError("--json does not ask: give --yes as well.")
    question = parse_question(words, clock())
    database = open_backend().database
    with database.reading() as conn:
        page = find_lookalikes(conn, question, find_counted, limit=IDS_MAX if void else limit)
    if not void:
        click.echo(encode(page).decode() if as_json else page_text(page))
        return
    if page.doubles > IDS_MAX:
        raise BadQuery(f"there are {page.doubles:,} doubles, and {IDS_MAX:,} are the most at once: narrow the period")
    if not page.doubles:
        click.echo(encode(page).decode() if as_json else "There is nothing to void: no group is pre-selected.")
        return
    selection = parse_selection({"ids": list_spare_ids(page)}, clock())
    carry_out(
        database,
        make_hooks,
        selection,
        Attribution(author=parse_author(author or login()), reason=parse_reason(reason)),
        yes=yes,
        as_json=as_json,
    )


def page_text(page: LookalikesPage) -> str:
    """Return groups as text for a terminal."""
    if not page.groups:
        return "No events look alike."
    lines: list[str] = []
    for group in page.groups:
        lines += [*_group_lines(group), ""]
    if page.total > len(page.groups):
        lines += [f"and {counted(page.total - len(page.groups), 'more group')}: narrow it, or give --limit", ""]
    lines.append(
        f"{counted(page.selected, 'group')} of {page.total:,} pre-selected, with {counted(page.doubles, 'double')}; "
        "--void --reason TEXT makes them void"
    )
    return "\n".join(lines)


def _group_lines(group: Lookalikes) -> list[str]:
    mark = "[x]" if group.selected else "[ ]"
    why = "" if group.why_ordinary is None else f"; ordinary: {group.why_ordinary}"
    lines = [f"{mark} {printable(group.customer_id)}  {printable(group.event_name)}  {group.count:,} events{why}"]
    lines += [
        f"      {event.time_created}  {printable(event.idempotency_id)}  call {event.call_id}"
        for event in group.events[:_EVENTS_SHOWN]
    ]
    return lines + ([f"      and {group.count - _EVENTS_SHOWN:,} more"] if group.count > _EVENTS_SHOWN else [])
