"""What is typed: `segment-lotus <command>`.

Imports no web framework and no server: `serve` gives its process over to gunicorn, whose first process is to stay small.
"""

import click

from app.cli.program import Program
from app.cli.retain import retention
from app.cli.review import ledger, log, refused, show
from app.cli.send import send
from app.cli.serve import init, migrate, serve, settings


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="segment-lotus")
def main() -> None:
    """Take calls from Segment, and make them events for billing with Lotus, each stored once."""


for command in (serve, init, migrate, send, log, show, ledger, refused, retention, settings):
    main.add_command(command)
