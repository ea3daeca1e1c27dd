"""Lists as CSV on standard output: the options that commands share, and how a list is written."""

from datetime import tzinfo
from typing import TypeVar

import click

from app.cli.program import read_settings
from app.store.csv_table import CsvTable
from app.store.engine import Database
from app.store.query import parse_zone

Place = TypeVar("Place")

csv_option = click.option("--csv", "as_csv", is_flag=True, help="As CSV, newest first; all of them without --limit.")
tz_option = click.option("--tz", metavar="ZONE", help="With --csv: the IANA zone of its times.  [default: TIME_ZONE]")


def find_csv_zone(tz: str | None, *, as_csv: bool, as_json: bool) -> tzinfo:
    """Return the zone of the times in a CSV file.

    Raises UsageError for options that do not go together, BadQuery for an unknown zone.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json are two formats: give one of them.")
    if tz is not None and not as_csv:
        raise click.UsageError("--tz belongs to --csv; the other formats are in UTC.")
    return parse_zone(tz, read_settings().time_zone)


def echo_csv(database: Database, table: CsvTable[Place]) -> None:
    """Write a list to standard output, piece by piece."""
    while (piece := table.read_piece(database)) is not None:
        click.echo(piece, nl=False)
