"""Copies of the database: `backup`, `restore`."""

from datetime import UTC, datetime
from pathlib import Path

import click

from app.cli.program import Failure, check_schema, open_database, read_settings
from app.core.text import counted
from app.errors import Unavailable
from app.service.ledger import read_ledger
from app.store.backup import copy_backup, copy_beside, exclusive_use, publish, replace_database, seal
from app.store.engine import connect
from app.store.migrate import find_revision, is_current

_SERVER_BACKUP = (
    "this database is on a PostgreSQL server, which makes its own backups: "
    '`pg_dump --format=custom --file=FILE "$DATABASE_URL"`, without the +psycopg where the address has it'
)
_SERVER_RESTORE = (
    "this database is on a PostgreSQL server, which restores its own backups: stop the service, then "
    '`pg_restore --clean --if-exists --single-transaction --dbname="$DATABASE_URL" FILE`, '
    "without the +psycopg where the address has it"
)

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("file", type=_FILE)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
def backup(file: Path, *, overwrite: bool) -> None:
    """Copy the SQLite database to FILE while the service runs, and check the copy.

    FILE is complete or does not exist: it gets its name once all of it was read and its ledger balances.
    """
    settings = read_settings()
    database = open_database(settings)
    if database.file is None:
        raise Failure(_SERVER_BACKUP)
    check_schema(database)
    if file.exists():
        if file.samefile(database.file):
            raise Failure(f"{file} is the database itself")
        if not overwrite:
            raise Failure(f"{file} exists already: choose another name, or use --overwrite")
    with copy_beside(file.absolute()) as copy:
        database.copy_to(copy)
        what = _check(copy)
        seal(copy)
        publish(copy, file.absolute())
    click.echo(f"{file}: {what}")


@click.command()
@click.argument("file", type=_FILE)
def restore(file: Path) -> None:
    """Replace the SQLite database with a backup. The service must be stopped.

    FILE is read to the end before anything is changed. The former database is kept beside it, with the time in its
    name.
    """
    database = open_database(read_settings())
    target = database.file
    if target is None:
        raise Failure(_SERVER_RESTORE)
    if not file.is_file():
        raise Failure(f"there is no file {file}")
    if target.exists() and file.samefile(target):
        raise Failure(f"{file} is the database itself")
    former = target.with_name(f"{target.name}.{datetime.now(UTC):%Y%m%d-%H%M%S}")
    with copy_beside(target) as copy, exclusive_use(target):
        copy_backup(file, copy)
        what = _check(copy)
        seal(copy)
        had_database = replace_database(copy, target, former)
    click.echo(f"{target}: {what}")
    if had_database:
        click.echo(f"The former database is {former}.")
    click.echo("Next: `segment-lotus migrate`, then start the service. Calls received since the backup are not in it.")


def _check(copy: Path) -> str:
    """Check a copy; return what it holds. Raises Unavailable if it is not an intact database of this program."""
    database = connect(f"sqlite:///{copy}")
    try:
        if problem := database.check_integrity(None).problem:
            raise Unavailable(f"the copy is damaged, nothing was changed: {problem}")
        with database.reading() as conn:
            revision, current = find_revision(conn), is_current(conn)
        if revision is None:
            raise Unavailable("the copy is not a database of this program, nothing was changed")
        if not current:
            return "intact; its schema differs from that of this program, so its ledger was not read"
        ledger = read_ledger(database)
        if not ledger.balances:
            raise Unavailable(
                "the ledger of the copy does not balance, nothing was changed: see `segment-lotus ledger`"
            )
    finally:
        database.close()
    return f"{counted(ledger.calls['received'], 'call')}, read to the end, and the ledger balances"
