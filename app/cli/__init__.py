"""What is typed: `segment-lotus <command>`.

Imports no web framework and no server: `serve` hands its process over to gunicorn, and the rest needs none.
"""

from importlib import metadata

import click

from app.cli.attempt import try_
from app.cli.backup import backup, restore
from app.cli.check import check, schema
from app.cli.deliveries import deliveries
from app.cli.doctor import doctor
from app.cli.fake_lotus import fake_lotus
from app.cli.metrics import metrics
from app.cli.preview import preview
from app.cli.program import Program
from app.cli.replay import replay
from app.cli.retain import retention
from app.cli.review import ledger, log, refused, show
from app.cli.send import send
from app.cli.serve import init, migrate, serve, settings
from app.cli.starter import new
from app.cli.transforms import transforms
from app.cli.usage import usage
from app.cli.worker import forward, reconcile, worker


def _say_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001  click's way
    if wanted:
        try:
            click.echo(f"segment-lotus {metadata.version('segment-lotus')}")
        except metadata.PackageNotFoundError:
            # `python -m app.cli` in a checkout with the locked libraries, and nothing else installed.
            click.echo("segment-lotus from a checkout")
        context.exit()


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_say_version, help="Say which.")
def main() -> None:
    """Take calls from Segment, and make them events for billing with Lotus, each stored once."""


_COMMANDS = (serve, init, migrate, send, log, show, ledger, refused, retention, replay, settings)
_OF_BACKUP = (backup, restore)
_OF_FORWARDING = (worker, deliveries, doctor, forward, reconcile, fake_lotus)
_OF_TRANSFORMS = (new, try_, check, schema, transforms, preview)
_OF_METRICS = (metrics, usage)

for command in (*_COMMANDS, *_OF_BACKUP, *_OF_FORWARDING, *_OF_TRANSFORMS, *_OF_METRICS):
    main.add_command(command)
