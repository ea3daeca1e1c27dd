"""Forgetting the bytes of old calls: `retention`."""

import time
from collections.abc import Callable

import click

from app.calls.sql_retention import ENVELOPE, RAW, Kept, blank, count_kept, find_kept, first_envelope
from app.cli.program import open_backend
from app.clock import clock
from app.core.text import counted
from app.store.engine import Database
from app.store.ids import first_id_at

_DAY = 86_400_000_000

# Calls that came in while a batch was written have their turn.
_PAUSE_SECONDS = 0.005


@click.command()
@click.option("--days", type=click.IntRange(1, 36_500), required=True, help="Keep the bytes of this many days.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def retention(*, days: int, dry_run: bool, yes: bool) -> None:
    """Forget the raw bytes of old calls, for good.

    Rows, events, ids, outcomes and the ledger stay, so what was a duplicate stays one. What is forgotten can no longer
    be shown or run again.
    """
    database = open_backend().database
    below = first_id_at(clock() - days * _DAY)
    with database.reading() as conn:
        envelopes_below = first_envelope(conn, below)
        calls, requests = count_kept(conn, RAW, below), count_kept(conn, ENVELOPE, envelopes_below)
    what = f"{_amount(calls, requests)} older than {counted(days, 'day')}"
    if dry_run:
        click.echo(f"This would forget {what}.")
        return
    if calls + requests and not yes:
        click.confirm(f"Forget {what}? This cannot be undone.", abort=True)
    with click.progressbar(length=calls + requests, label="Forgetting") as bar:
        forgotten = [
            _forget(database, RAW, below, bar.update),
            _forget(database, ENVELOPE, envelopes_below, bar.update),
        ]
    click.echo(f"Forgot {_amount(*forgotten)}.")


def _amount(calls: int, requests: int) -> str:
    return f"the raw bytes of {counted(calls, 'call')} and the envelopes of {counted(requests, 'request')}"


def _forget(database: Database, kept: Kept, below: int, advance: Callable[[int], None]) -> int:
    forgotten = 0
    after = -1
    while True:
        with database.reading() as conn:
            ids = find_kept(conn, kept, after, below)
        if not ids:
            return forgotten
        with database.writing() as conn:
            blank(conn, kept, ids)
        forgotten += len(ids)
        after = ids[-1]
        advance(len(ids))
        time.sleep(_PAUSE_SECONDS)
