"""The command line: `segment-lotus <command>`.

Imports no web framework and no server: `serve` hands its process over to gunicorn, and other commands need none.
"""

from importlib import metadata

import click

from app.backfill.commands import HOOKS as BACKFILL_HOOKS
from app.backfill.commands import backfill
from app.calls.commands import log, refused, show
from app.calls.commands_retention import retention
from app.cli.program import Program
from app.core.text import schema_text
from app.core.transform.schema import SCHEMA
from app.corrections.commands import HOOKS, amend, void
from app.corrections.commands_batches import corrections
from app.corrections.commands_lookalikes import FIND_COUNTED, lookalikes
from app.evidence.commands import HOOKS as EVIDENCE_HOOKS
from app.evidence.commands import RECOUNT, evidence, evidence_keys, verify_evidence_
from app.forward.commands import deliveries
from app.forward.commands_fake_lotus import fake_lotus
from app.forward.commands_settle import MEASURE
from app.forward.commands_worker import forward, reconcile, worker
from app.ingest.commands import send
from app.metrics.commands import metrics
from app.metrics.commands_months import close, months
from app.metrics.commands_usage import usage
from app.metrics.effect import measure_values
from app.metrics.recount import recount
from app.metrics.schema import SCHEMA as METRIC_SCHEMA
from app.replay.commands import replay, replays
from app.service.backup import backup, restore
from app.service.build import backfill_hooks, correction_hooks, evidence_hooks, find_counted, replay_hooks
from app.service.doctor import doctor
from app.service.ledger import ledger
from app.service.serve import init, migrate, serve, settings
from app.transforms.commands import transforms
from app.transforms.commands_check import check
from app.transforms.commands_new import new
from app.transforms.commands_preview import preview
from app.transforms.commands_try import try_


def _say_version(context: click.Context, _option: click.Parameter, is_set: bool) -> None:  # noqa: FBT001  click's way
    if is_set:
        try:
            click.echo(f"segment-lotus {metadata.version('segment-lotus')}")
        except metadata.PackageNotFoundError:
            # `python -m app.service` in a checkout with the locked libraries, and nothing else installed.
            click.echo("segment-lotus from a checkout")
        context.exit()


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_say_version, help="Show the version."
)
def main(context: click.Context) -> None:
    """Turn calls from Segment into events for billing with Lotus, each stored once."""
    context.obj = replay_hooks
    context.meta[HOOKS] = correction_hooks
    context.meta[BACKFILL_HOOKS] = backfill_hooks
    context.meta[EVIDENCE_HOOKS] = evidence_hooks()
    context.meta[RECOUNT] = recount
    context.meta[FIND_COUNTED] = find_counted
    context.meta[MEASURE] = measure_values


@click.command()
@click.option("--metric", is_flag=True, help="The schema of a metric file.")
def schema(*, metric: bool) -> None:
    """Print the JSON Schema of a transform file, for completion and checks in editors."""
    click.echo(schema_text(METRIC_SCHEMA if metric else SCHEMA), nl=False)


main.add_section("Set up and run", init, migrate, settings, serve)
main.add_section("Calls", send, log, show, ledger, refused)
main.add_section("Transforms", new, try_, check, preview, transforms, replay, replays, schema)
main.add_section("Corrections", void, amend, backfill, corrections, lookalikes)
main.add_section("Metrics and usage", usage, metrics, close, months)
main.add_section("Evidence", evidence, evidence_keys, verify_evidence_)
main.add_section("Forwarding", worker, deliveries, forward, reconcile, fake_lotus)
main.add_section("Operate", doctor, backup, restore, retention)
