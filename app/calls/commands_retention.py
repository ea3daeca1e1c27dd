"""The `retention` command: removes the raw bytes of old calls."""

import time
from collections.abc import Callable

import click

from app.calls.sql_retention import ENVELOPE, RAW, RetentionTarget, blank, count_filled, find_filled, first_envelope
from app.cli.program import open_backend
from app.clock import clock
from app.core.text import counted
from app.store.engine import Database
from app.store.ids import first_id_at

_DAY = 86_400_000_000

# Lets calls be committed that arrived while a batch was written.
_PAUSE_SECONDS = 0.005


@click.command()
@click.option("--days", type=click.IntRange(1, 36_500), required=True, help="Keep the bytes of this many days.")
@click.option("--dry-run", is_flag=True, help="Only count them.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def retention(*, days: int, dry_run: bool, yes: bool) -> None:
    """Remove the raw bytes of old calls, permanently.

    Rows, events, ids, outcomes and the ledger stay, so duplicates are still detected. The removed bytes can no longer
    be shown or replayed.
    """
    database = open_backend().database
    below = first_id_at(clock() - days * _DAY)
    with database.reading() as conn:
        envelopes_below = first_envelope(conn, below)
        calls, requests = count_filled(conn, RAW, below), count_filled(conn, ENVELOPE, envelopes_below)
    what = f"{_amount(calls, requests)} older than {counted(days, 'day')}"
    if dry_run:
        click.echo(f"This would remove {what}.")
        return
    if calls + requests and not yes:
        click.confirm(f"Remove {what}? This cannot be undone.", abort=True)
    with click.progressbar(length=calls + requests, label="Removing") as bar:
        removed = [
            _remove(database, RAW, below, bar.update),
            _remove(database, ENVELOPE, envelopes_below, bar.update),
        ]
    click.echo(f"Removed {_amount(*removed)}.")


def _amount(calls: int, requests: int) -> str:
    return f"the raw bytes of {counted(calls, 'call')} and the envelopes of {counted(requests, 'request')}"


def _remove(database: Database, target: RetentionTarget, below: int, advance: Callable[[int], None]) -> int:
    removed = 0
    after = -1
    while True:
        with database.reading() as conn:
            ids = find_filled(conn, target, after, below)
        if not ids:
            return removed
        with database.writing() as conn:
            blank(conn, target, ids)
        removed += len(ids)
        after = ids[-1]
        advance(len(ids))
        time.sleep(_PAUSE_SECONDS)
