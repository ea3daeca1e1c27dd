"""The `replay` command: runs stored calls again."""

import contextlib
import dataclasses
import secrets
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from app.cli.program import (
    Failure,
    between_steps,
    check_pseudonym_key,
    login,
    open_backend,
    read_settings,
    tune_garbage_collection,
)
from app.clock import clock
from app.core.json_text import encode
from app.core.text import counted
from app.errors import Unavailable
from app.replay.context import HooksFactory
from app.replay.correction_batch import to_effect, without_counts
from app.replay.parameters import ATTRIBUTION, parse_attribution, parse_bounds, parse_replay_request
from app.replay.plan import Plan, Tally
from app.replay.progress import ReplayState, list_progress, to_state
from app.replay.replayer import Replayer
from app.replay.sql_replay_list import is_stop_asked, mark_idle, mark_running
from app.replay.text import line_text, summary_text
from app.store.corrections import LotusChoice
from app.store.engine import Database
from app.store.ids import Ids
from app.store.query import LIMIT_MAX

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar


class Summary(msgspec.Struct, kw_only=True):
    """The output of `--json`."""

    replay: str | None
    """None for a dry run."""
    dry_run: bool
    resumed: bool
    finished: bool
    calls: int
    same: int
    changed: dict[str, int]
    corrected: int
    left: dict[str, int]
    samples: dict[str, str]
    """A call id for each reason in `left`."""
    removed: int
    voided: list[str]
    """Idempotency ids of the voided events."""
    delivered: int
    """How many of the voided events Lotus already has, and keeps."""
    correction: dict[str, Any] | None
    """What its batch does: customers, and the effect by metric; None if it corrects nothing."""


@click.command()
@click.option(
    "--outcome", help="Outcome of the calls: rejected, ignored, conflict or duplicate; with --correct also stored."
)
@click.option("--event", help="Segment's event name.")
@click.option("--reason", metavar="CODE", help="Reason of the outcome, such as event_invalid or no_transform.")
@click.option("--by", metavar="NAME", help="Name of the transform that decided.")
@click.option("--version", metavar="DIGEST", help="Version of the transform that decided: all 32 digits.")
@click.option("--problem", metavar="KEY", help="Only calls with this problem; `show` prints its key.")
@click.option(
    "--mapped-by",
    metavar="NAMES",
    help="Only calls that this transform (or one of a,b) maps now, whoever decided then.",
)
@click.option("--since", metavar="WHEN", help="Received at or after this time, or within this duration: 30m, 1h, 7d.")
@click.option("--until", metavar="WHEN", help="Received before this time (exclusive).")
@click.option("--transform", metavar="NAME", help="Only fill the lane of this `also` transform, from all calls.")
@click.option("--id", "id_", metavar="ID", help="Only calls with this call id, message id or idempotency id.")
@click.option("--dry-run", is_flag=True, help="Only count what would change; write nothing.")
@click.option("--limit", type=click.IntRange(1), help="Read at most this many calls, oldest first.")
@click.option("--correct", is_flag=True, help="Also replace stored events that the live transforms make differently.")
@click.option("--author", help="Who corrects; by default the user of this shell.")
@click.option("--why", metavar="TEXT", help="Why it is corrected; kept with the correction.")
@click.option("--name", help="A name for the correction.")
@click.option(
    "--lotus",
    type=click.Choice([choice.value for choice in LotusChoice]),
    help="Events that replace delivered ones: hold them back (default), send them all the same, or the difference.",
)
@click.option("--again", is_flag=True, help="Start over, even if the same replay was stopped half-way.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object; needs --yes or --dry-run.")
@click.pass_obj
def replay(
    make_hooks: HooksFactory,
    /,
    *,
    dry_run: bool,
    again: bool,
    yes: bool,
    as_json: bool,
    id_: str | None,
    limit: int | None,
    correct: bool,
    **words: str | None,
) -> None:
    """Run stored calls again, by the transforms that are live now.

    Without options: all rejected and ignored calls. A call that already made its events makes no more, unless
    --correct is given: if the live transform makes another event, the old one is voided and the new one stored as
    <id>~2. A correction covers calls of all outcomes, and does a dry run before it asks. It is a batch with the id of
    the replay: `corrections show` has it, and `corrections undo` undoes all of it. A replay can be stopped at any time;
    the same command then resumes it.
    """
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json does not ask: give --yes or --dry-run as well.")
    attribution = {name: text for name in ATTRIBUTION if (text := words.pop(name)) is not None}
    params = {**words, "id": id_, "limit": None if limit is None else str(limit), "correct": "yes" if correct else None}
    request = parse_replay_request({name: text for name, text in params.items() if text is not None})
    bounds = parse_bounds(request, clock())
    backend = open_backend(bulk=True)
    settings = read_settings()
    check_pseudonym_key(settings, backend.database)
    ids = Ids(secrets.randbelow)
    replayer = Replayer(
        database=backend.database,
        catalog=backend.catalog,
        ids=ids,
        clock=clock,
        hooks=make_hooks(ids, forwards=bool(settings.lotus_api_key)),
    )
    plan = replayer.plan(request, bounds, parse_attribution(attribution, login(), correct=correct), again=again)
    _announce(plan, dry_run=dry_run)
    tune_garbage_collection()
    asks = not (dry_run or yes or plan.left == 0)
    if correct and (asks or (attribution.get("lotus", LotusChoice.HOLD) != LotusChoice.HOLD and not dry_run)):
        # Show what it does to a bill before doing it, and refuse what cannot be done about Lotus.
        trial = dataclasses.replace(plan, tally=Tally(), correction=without_counts(plan.correction))
        _dry_run(replayer, trial)
        if asks:
            click.echo(summary_text(trial, [], dry_run=True), err=True)
    if asks:
        click.confirm(f"Replay {counted(plan.left, 'call')}?", abort=True, err=True)
    if dry_run:
        _dry_run(replayer, plan)
    else:
        _run(backend.database, replayer, plan)
    voided = [] if dry_run else replayer.list_voids(plan)
    if as_json:
        click.echo(encode(_to_summary(plan, voided, dry_run=dry_run)).decode())
    else:
        click.echo(summary_text(plan, voided, dry_run=dry_run))


@click.command()
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=50, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, like the API.")
def replays(*, limit: int, as_json: bool) -> None:
    """List the last replays, the newest first: what became of their calls, and what they corrected and voided."""
    with open_backend().database.reading() as conn:
        rows = list_progress(conn, clock(), limit)
    if as_json:
        click.echo(encode({"replays": [row.to_document() for row in rows]}).decode())
    else:
        click.echo("\n".join(map(line_text, rows)) or "There was no replay.")


def _announce(plan: Plan, *, dry_run: bool) -> None:
    about = f"{counted(plan.left, 'call')} to replay, by {counted(len(plan.transforms.transforms), 'transform')}"
    if dry_run:
        about += "; nothing will be written"
    if plan.resumed:
        resumed = f"Resuming a replay that was stopped after {counted(plan.tally.read, 'call')}"
        about = f"{resumed}: {plan.left} left (--again starts over)"
    click.echo(f"{about}.", err=True)


def _dry_run(replayer: Replayer, plan: Plan) -> None:
    with between_steps() as stop_here, _bar(plan, "Dry run") as bar:

        def advance(calls: int) -> None:
            bar.update(calls)
            stop_here()

        replayer.dry_run(plan, advance)


def _run(database: Database, replayer: Replayer, plan: Plan) -> None:
    """Run to the end, or until it is stopped by Ctrl-C or on its page."""
    with between_steps() as stop_here, _bar(plan, "Replaying") as bar:

        def advance(calls: int) -> None:
            bar.update(calls)
            if plan.replay.finished_at is None:
                _check_stop_request(database, plan)
                stop_here()

        _mark_running(database, plan)
        try:
            _check_stop_request(database, plan)
            replayer.run(plan, advance)
        except KeyboardInterrupt:
            click.echo("\nStopped. The same command resumes from here.", err=True)
            raise
        finally:
            _mark_idle(database, plan)


def _mark_running(database: Database, plan: Plan) -> None:
    now = clock()
    # A page may have started it for this process and stopped it since: keep that request.
    if plan.resumed and to_state(plan.replay, now) is ReplayState.STOPPED:
        with database.writing() as conn:
            mark_running(conn, plan.replay.id, now)
    plan.replay = msgspec.structs.replace(plan.replay, progress_at=now)


def _check_stop_request(database: Database, plan: Plan) -> None:
    """Raise Failure if somebody asked this replay to stop."""
    with database.reading() as conn:
        if is_stop_asked(conn, plan.replay.id):
            raise Failure(
                f"the replay was asked to stop, after {counted(plan.tally.read, 'call')}; the same command resumes it"
            )


def _mark_idle(database: Database, plan: Plan) -> None:
    """Store that no process runs it; if that fails, its page shows it as stopped after a timeout."""
    if plan.replay.finished_at is None:
        with contextlib.suppress(Unavailable), database.writing() as conn:
            mark_idle(conn, plan.replay.id)


def _bar(plan: Plan, label: str) -> "ProgressBar[int]":
    return click.progressbar(length=plan.left, label=label, file=sys.stderr)


def _to_summary(plan: Plan, voided: list[str], *, dry_run: bool) -> Summary:
    tally = plan.tally
    return Summary(
        replay=None if dry_run else str(plan.replay.id),
        dry_run=dry_run,
        resumed=plan.resumed,
        finished=plan.replay.finished_at is not None,
        calls=tally.read,
        same=tally.same,
        changed=tally.changed,
        corrected=tally.corrected,
        left=tally.left,
        samples=tally.samples,
        removed=tally.removed,
        voided=voided,
        delivered=tally.delivered,
        correction=None if plan.correction is None else to_effect(plan.correction).to_values(),
    )
