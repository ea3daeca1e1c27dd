"""Running kept calls again: `replay`."""

import contextlib
import dataclasses
import secrets
import sys
from typing import TYPE_CHECKING

import click
import msgspec

from app.cli.program import (
    Failure,
    between_steps,
    check_pseudonym_key,
    open_backend,
    read_settings,
    tune_garbage_collection,
)
from app.clock import clock
from app.core.json_text import encode
from app.core.text import counted, printable
from app.errors import Unavailable
from app.replay.batch import HooksOf
from app.replay.parameters import parse_asked, parse_bounds
from app.replay.plan import Plan, Tally
from app.replay.progress import ReplayState, to_state
from app.replay.replayer import Replayer
from app.replay.sql_replay_list import is_stop_asked, mark_idle, mark_running
from app.store.engine import Database
from app.store.ids import Ids

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

_SHOWN = 20


class Summary(msgspec.Struct, kw_only=True):
    """What `--json` says."""

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
    """A call id for each of `left`."""
    removed: int
    voided: list[str]
    """Idempotency ids of the events that were made void."""
    delivered: int
    """How many of them Lotus has already, and keeps."""


@click.command()
@click.option("--outcome", help="Of the calls: rejected, ignored, conflict, duplicate; with --correct also stored.")
@click.option("--event", help="Segment's event name.")
@click.option("--reason", metavar="CODE", help="Why they ended so: event_invalid, no_transform ...")
@click.option("--by", metavar="NAME", help="The transform that decided then.")
@click.option("--version", metavar="DIGEST", help="The version of it that decided: all its 32 digits.")
@click.option("--problem", metavar="KEY", help="Only what goes wrong in this one way; `show` tells the key.")
@click.option("--since", metavar="WHEN", help="They came then or later: a time, or a duration: 30m, 1h, 7d.")
@click.option("--until", metavar="WHEN", help="They came before.")
@click.option("--transform", metavar="NAME", help="Only fill the lane of this `also` transform, from all calls.")
@click.option(
    "--id", "id_", metavar="ID", help="Only the calls with this id: a call's own, its message's, or its event's."
)
@click.option("--dry-run", is_flag=True, help="Only count what would become of them.")
@click.option("--limit", type=click.IntRange(1), help="Read at most so many, the oldest first.")
@click.option("--correct", is_flag=True, help="Also replace events that today's transforms make differently.")
@click.option("--again", is_flag=True, help="From the beginning, even where the same was stopped half-way.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object; needs --yes or --dry-run.")
@click.pass_obj
def replay(
    to_hooks: HooksOf,
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
    """Run kept calls again, by the transforms that are live now.

    Without options: all that were rejected or ignored. A call that already made its events makes no more, unless
    --correct is given: where today's transform makes another event, the old one is made void and the new one stored
    as <id>~2. A correction is about calls of all outcomes, and is tried before it asks. A replay can be stopped at any
    moment; the same command then goes on from there.
    """
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json does not ask: give --yes or --dry-run as well.")
    given = {**words, "id": id_, "limit": None if limit is None else str(limit), "correct": "yes" if correct else None}
    asked = parse_asked({name: text for name, text in given.items() if text is not None})
    bounds = parse_bounds(asked, clock())
    backend = open_backend(bulk=True)
    settings = read_settings()
    check_pseudonym_key(settings, backend.database)
    ids = Ids(secrets.randbelow)
    replayer = Replayer(
        database=backend.database,
        catalog=backend.catalog,
        ids=ids,
        clock=clock,
        hooks=to_hooks(ids, forwards=bool(settings.lotus_api_key)),
    )
    plan = replayer.plan(asked, bounds, again=again)
    _announce(plan, dry_run=dry_run)
    tune_garbage_collection()
    if not (dry_run or yes or plan.left == 0):
        if correct:
            # What it does to a bill is to be seen before it is done.
            tried = dataclasses.replace(plan, tally=Tally())
            _look(replayer, tried)
            click.echo(_tell(tried, [], dry_run=True), err=True)
        click.confirm(f"Replay {counted(plan.left, 'call')}?", abort=True, err=True)
    if dry_run:
        _look(replayer, plan)
    else:
        _work(backend.database, replayer, plan)
    voided = [] if dry_run else replayer.list_voids(plan)
    if as_json:
        click.echo(encode(_to_summary(plan, voided, dry_run=dry_run)).decode())
    else:
        click.echo(_tell(plan, voided, dry_run=dry_run))


def _announce(plan: Plan, *, dry_run: bool) -> None:
    about = f"{counted(plan.left, 'call')} to replay, by {counted(len(plan.transforms.transforms), 'transform')}"
    if dry_run:
        about += "; nothing will be written"
    if plan.resumed:
        done = f"Going on with a replay that was stopped after {counted(plan.tally.read, 'call')}"
        about = f"{done}: {plan.left} left (--again starts over)"
    click.echo(f"{about}.", err=True)


def _look(replayer: Replayer, plan: Plan) -> None:
    with between_steps() as stop_here, _bar(plan, "Looking") as bar:

        def advance(calls: int) -> None:
            bar.update(calls)
            stop_here()

        replayer.try_out(plan, advance)


def _work(database: Database, replayer: Replayer, plan: Plan) -> None:
    """Replay, until the end or until somebody stops it: here by Ctrl-C, or on its page."""
    with between_steps() as stop_here, _bar(plan, "Replaying") as bar:

        def advance(calls: int) -> None:
            bar.update(calls)
            if plan.replay.finished_at is None:
                _check_wanted(database, plan)
                stop_here()

        _take_up(database, plan)
        try:
            _check_wanted(database, plan)
            replayer.run(plan, advance)
        except KeyboardInterrupt:
            click.echo("\nStopped. The same command goes on from here.", err=True)
            raise
        finally:
            _lay_down(database, plan)


def _take_up(database: Database, plan: Plan) -> None:
    now = clock()
    # One that a page began a moment ago for us to run may have been stopped there since; that stands.
    if plan.resumed and to_state(plan.replay, now) is ReplayState.STOPPED:
        with database.writing() as conn:
            mark_running(conn, plan.replay.id, now)
    plan.replay = msgspec.structs.replace(plan.replay, progress_at=now)


def _check_wanted(database: Database, plan: Plan) -> None:
    """Raise Failure where somebody asked this replay to stop."""
    with database.reading() as conn:
        if is_stop_asked(conn, plan.replay.id):
            raise Failure(
                f"it was asked to stop, after {counted(plan.tally.read, 'call')}; the same command goes on from there"
            )


def _lay_down(database: Database, plan: Plan) -> None:
    """Say that nobody runs it any more; where that cannot be said, its page sees it by the time."""
    if plan.replay.finished_at is None:
        with contextlib.suppress(Unavailable), database.writing() as conn:
            mark_idle(conn, plan.replay.id)


def _bar(plan: Plan, label: str) -> "ProgressBar[int]":
    return click.progressbar(length=plan.left, label=label, file=sys.stderr)


def _tell(plan: Plan, voided: list[str], *, dry_run: bool) -> str:
    tally = plan.tally
    would = "would be " if dry_run else ""
    lines = [f"{counted(tally.read, 'call')} {'looked at' if dry_run else 'replayed'}"]
    lines += [f"  {count:>9}  {change}" for change, count in sorted(tally.changed.items())]
    if tally.corrected:
        lines.append(f"  {tally.corrected:>9}  {would}corrected")
    if tally.same:
        lines.append(f"  {tally.same:>9}  end as they did")
    lines += [
        f"  {count:>9}  left: {printable(why)} (such as call {tally.samples[why]})"
        for why, count in sorted(tally.left.items())
    ]
    if dry_run and tally.voided:
        lines.append(f"{counted(tally.voided, 'event')} would be made void; {_describe_delivered(tally)}.")
    if voided:
        lines += ["", f"{counted(len(voided), 'event')} made void; {_describe_delivered(tally)}:"]
        lines += [f"  {printable(one)}" for one in voided[:_SHOWN]]
        if len(voided) > _SHOWN:
            lines.append(f"  and {len(voided) - _SHOWN} more; all: table voids, replay {plan.replay.id}, or --json")
    return "\n".join(lines)


def _describe_delivered(tally: Tally) -> str:
    if not tally.delivered:
        return "Lotus has none of them"
    return f"Lotus has {tally.delivered} of them and keeps them: it cannot void what it has"


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
    )
