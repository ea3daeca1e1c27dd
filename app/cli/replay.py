"""Running kept calls again: `replay`."""

import re
import secrets
import sys
from collections.abc import Sequence

import click
import msgspec

from app.bootstrap import clock
from app.cli.program import between_steps, open_reading
from app.core.outcome import REASONS_OF, Outcome, Reason
from app.errors import BadQuery
from app.logs import printable
from app.query import parse_id, parse_moment
from app.replay.running import Asked, Plan, Replayer
from app.store.ids import Ids

_DIGEST = re.compile(r"[0-9a-f]{32}")
_UNMADE = (Outcome.REJECTED, Outcome.IGNORED)
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
    """Idempotency ids: Lotus may have these events already, and cannot void them."""


@click.command()
@click.option("--outcome", help="Of the calls: rejected, ignored, conflict; with --correct also stored.")
@click.option("--event", help="Segment's event name.")
@click.option("--reason", metavar="CODE", help="Why they ended so: event_invalid, no_transform ...")
@click.option("--by", metavar="NAME", help="The transform that decided then.")
@click.option("--version", metavar="DIGEST", help="The version of it that decided: all its 32 digits.")
@click.option("--since", metavar="WHEN", help="They came then or later: a time, or a duration: 30m, 1h, 7d.")
@click.option("--until", metavar="WHEN", help="They came before.")
@click.option("--transform", metavar="NAME", help="Only fill the lane of this `also` transform, from all calls.")
@click.option("--id", "id_", metavar="CALL", help="Only the call with this id.")
@click.option("--dry-run", is_flag=True, help="Only count what would become of them.")
@click.option("--limit", type=click.IntRange(1), help="Read at most so many, the oldest first.")
@click.option("--correct", is_flag=True, help="Also replace events that today's transforms make differently.")
@click.option("--again", is_flag=True, help="From the beginning, even where the same was stopped half-way.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object; needs --yes or --dry-run.")
def replay(
    *,
    dry_run: bool,
    again: bool,
    yes: bool,
    as_json: bool,
    outcome: str | None,
    reason: str | None,
    id_: str | None,
    **words: object,
) -> None:
    """Run kept calls again, by the transforms that are live now.

    Without options: all that were rejected or ignored. A call that already made its events makes no more, unless
    --correct is given: where today's transform makes another event, the old one is made void and the new one stored
    as <id>~2. It can be stopped at any moment; the same command then goes on from there.
    """
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json does not ask: give --yes or --dry-run as well.")
    asked = _to_asked(outcome, reason, id_, words)
    now = clock()
    since = parse_moment("since", asked.since, now) if asked.since else None
    until = parse_moment("until", asked.until, now) if asked.until else None
    reading = open_reading()
    replayer = Replayer(database=reading.database, catalog=reading.catalog, ids=Ids(secrets.randbelow), clock=clock)
    plan = replayer.plan(asked, (since, until), again=again)
    _announce(plan, dry_run=dry_run)
    if not (dry_run or yes or plan.left == 0):
        click.confirm(f"Replay {plan.left} calls?", abort=True, err=True)
    _work(replayer, plan, dry_run=dry_run)
    voided = [] if dry_run else replayer.list_voids(plan)
    if as_json:
        click.echo(msgspec.json.encode(_to_summary(plan, voided, dry_run=dry_run)).decode())
    else:
        click.echo(_tell(plan, voided, dry_run=dry_run))


def _to_asked(outcome: str | None, reason: str | None, id_: str | None, words: dict[str, object]) -> Asked:
    if reason is not None and reason not in set(Reason):
        raise BadQuery(f"reason must be one of {', '.join(Reason)}; it is {reason[:40]!a}")
    version = words.get("version")
    if isinstance(version, str) and not _DIGEST.fullmatch(version):
        raise BadQuery(f"version must be the 32 hexadecimal digits that `show` tells; it is {version[:40]!a}")
    asked = msgspec.convert({**words, "outcomes": ()}, type=Asked)
    allowed: Sequence[Outcome] = (*_UNMADE, Outcome.CONFLICT, *((Outcome.STORED,) if asked.correct else ()))
    usual: Sequence[Outcome] = (*_UNMADE, *((Outcome.STORED,) if asked.correct else ()))
    if asked.transform is not None:
        if asked.correct:
            raise BadQuery("--transform fills a lane and --correct replaces events: give one of them")
        allowed = usual = tuple(Outcome)
    elif id_ is not None:
        usual = tuple(Outcome)
    outcomes = usual
    if reason is not None and outcome is None:
        outcome = next(one.value for one, reasons in REASONS_OF.items() if reason in reasons)
    if outcome is not None:
        given = [one.strip() for one in outcome.split(",")]
        if wrong := next((one for one in given if one not in allowed), None):
            hint = "; give --correct to replace events that are stored" if wrong == Outcome.STORED else ""
            raise BadQuery(f"outcome must be one of {', '.join(allowed)}; it is {wrong[:40]!a}{hint}")
        outcomes = [Outcome(one) for one in given]
    return msgspec.structs.replace(
        asked,
        outcomes=tuple(sorted(set(outcomes))),
        reason=Reason(reason) if reason is not None else None,
        call_id=parse_id("id", id_) if id_ is not None else None,
    )


def _announce(plan: Plan, *, dry_run: bool) -> None:
    about = f"{plan.left} calls to replay, by {len(plan.transforms.transforms)} transforms"
    if dry_run:
        about += "; nothing will be written"
    if plan.resumed:
        done = f"Going on with a replay that was stopped after {plan.tally.read} calls"
        about = f"{done}: {plan.left} left (--again starts over)"
    click.echo(f"{about}.", err=True)


def _work(replayer: Replayer, plan: Plan, *, dry_run: bool) -> None:
    label = "Looking" if dry_run else "Replaying"
    with between_steps() as stop_here, click.progressbar(length=plan.left, label=label, file=sys.stderr) as bar:

        def advance(calls: int) -> None:
            bar.update(calls)
            stop_here()

        try:
            (replayer.try_out if dry_run else replayer.run)(plan, advance)
        except KeyboardInterrupt:
            if not dry_run:
                click.echo("\nStopped. The same command goes on from here.", err=True)
            raise


def _tell(plan: Plan, voided: list[str], *, dry_run: bool) -> str:
    tally = plan.tally
    would = "would be " if dry_run else ""
    lines = [f"{tally.read} calls {'looked at' if dry_run else 'replayed'}"]
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
        lines.append(f"{tally.voided} events would be made void.")
    if voided:
        lines += ["", f"{len(voided)} events were made void. Lotus cannot void what it already has:"]
        lines += [f"  {printable(one)}" for one in voided[:_SHOWN]]
        if len(voided) > _SHOWN:
            lines.append(f"  and {len(voided) - _SHOWN} more; all: table voids, replay {plan.replay.id}, or --json")
    return "\n".join(lines)


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
    )
