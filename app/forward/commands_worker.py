"""Commands that send stored events to Lotus: `worker`, `forward`, `reconcile`."""

import random
import secrets
import signal
import threading
import time

import click
import structlog

from app.cli.log_output import configure
from app.cli.program import Failure, check_schema, open_database, read_settings
from app.clock import clock
from app.core.text import counted, printable
from app.errors import Unavailable
from app.forward.commands_parent import end_with_parent
from app.forward.lotus import TIMEOUT_SECONDS, Lotus
from app.forward.reconcile import MAX_DAYS, find_missing
from app.forward.sql_deliveries import count_waiting, request_later, send_again
from app.forward.sql_lists import newest_event_id
from app.forward.worker import LEASE_SECONDS, ForwardWorker
from app.settings import Settings
from app.store import ledger
from app.store.engine import Database
from app.store.ids import Ids, first_id_at
from app.store.query import parse_moment

_LOG = structlog.get_logger("forward")
_DAY = 86_400_000_000

# Lets calls that arrived during a batch be stored before the next one.
_PAUSE_SECONDS = 0.005

_SCHEMA_TRIES = 30
"""How often a worker looks for the schema at its start, once a second."""


@click.command()
@click.option(
    "--lease",
    type=click.FloatRange(1, 3600),
    default=LEASE_SECONDS,
    show_default=True,
    help="Seconds after which another worker takes over the events of one that died.",
)
@click.option("--parent", type=int, hidden=True, help="Id of the parent process; end when it ends.")
def worker(*, lease: float, parent: int | None) -> None:
    """Forward stored events to Lotus until SIGTERM or Ctrl-C. Any number of workers share the load."""
    settings = read_settings()
    configure(settings.log_level)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if parent is not None:
        end_with_parent(parent, stopping)
    if not settings.lotus_api_key:
        _LOG.info("nothing is forwarded: LOTUS_API_KEY is not set")
        # It waits instead of ending: a process manager would restart it, or stop the other processes too.
        stopping.wait()
        return
    database = open_database(settings)
    _wait_for_schema(database, stopping)
    lotus = _connect(settings)
    running = ForwardWorker(
        database=database,
        ids=Ids(secrets.randbelow),
        lotus=lotus,
        clock=clock,
        draw=random.random,
        lease_seconds=lease,
        timeout_seconds=TIMEOUT_SECONDS,
        stopping=stopping,
    )
    _LOG.info("forwarding", to=settings.lotus_host)
    running.run()


@click.command()
@click.option("--enqueue", is_flag=True, required=True, help="Queue stored events that were never queued.")
@click.option("--since", metavar="WHEN", required=True, help="Stored at or after this time, or this long ago: 1h, 7d.")
@click.option("--until", metavar="WHEN", help="Stored before this time, or this long ago.")
def forward(*, enqueue: bool, since: str, until: str | None) -> None:  # noqa: ARG001  required, and the only mode so far
    """Queue events for Lotus that were stored before LOTUS_API_KEY was set; a worker then sends them."""
    database = _open()
    now = clock()
    after = first_id_at(parse_moment("since", since, now)) - 1
    with database.reading() as conn:
        last = newest_event_id(conn)
    if until:
        last = min(last, first_id_at(parse_moment("until", until, now)) - 1)
    tag = Ids(secrets.randbelow).tag
    queued = 0
    reached: int | None = after
    while reached is not None and reached < last:
        with database.writing() as conn:
            added, reached = request_later(conn, reached, last, clock())
            ledger.append(conn, tag, clock(), count_waiting(added))
        queued += added
        time.sleep(_PAUSE_SECONDS)
    click.echo(f"Queued {counted(queued, 'event')}.")


@click.command()
@click.option(
    "--since",
    metavar="WHEN",
    required=True,
    help="Stored at or after this time, or this long ago: 1h, 7d; at most 30d.",
)
@click.option("--resend", is_flag=True, help="Send the missing events again.")
@click.pass_context
def reconcile(context: click.Context, *, since: str, resend: bool) -> None:
    """Ask Lotus which of the delivered events it has, and list those that are missing.

    Exit code 1 if any is missing. Lotus stores an event some time after it has accepted it: what was delivered in the
    last minutes may still be on its way.
    """
    settings = read_settings()
    now = clock()
    moment = parse_moment("since", since, now)
    if moment < now - MAX_DAYS * _DAY:
        raise click.UsageError(f"Lotus looks back {MAX_DAYS} days: give a later --since.")
    database = _open()
    lotus = _connect(settings)
    checked, missing = 0, 0
    tag = Ids(secrets.randbelow).tag
    for batch in find_missing(database, lotus, first_id_at(moment) - 1):
        checked += batch.checked
        missing += len(batch.missing)
        for _, id_ in batch.missing:
            click.echo(printable(id_))
        if resend and batch.missing:
            with database.writing() as conn:
                counts = send_again(conn, [event_id for event_id, _ in batch.missing], clock())
                ledger.append(conn, tag, clock(), counts)
    what = "; queued again" if resend and missing else ""
    events = counted(checked, "delivered event")
    click.echo(f"Lotus has {checked - missing} of {events}; {missing} missing{what}.", err=True)
    if missing and not resend:
        context.exit(1)


def _open() -> Database:
    database = open_database(read_settings())
    check_schema(database)
    return database


def _connect(settings: Settings) -> Lotus:
    if not settings.lotus_host or not settings.lotus_api_key:
        raise Failure("LOTUS_HOST and LOTUS_API_KEY are not both set: set both, see `segment-lotus settings`")
    lotus = Lotus(settings.lotus_host, settings.lotus_api_key)
    click.get_current_context().call_on_close(lotus.close)
    return lotus


def _wait_for_schema(database: Database, stopping: threading.Event) -> None:
    """Wait up to 30 s for a current schema: a release may be migrating, or the database starting. Ends with `stopping`.

    Raises Unavailable.
    """
    for left in reversed(range(_SCHEMA_TRIES)):
        try:
            check_schema(database)
        except Unavailable as error:
            if not left:
                raise
            if left == _SCHEMA_TRIES - 1:
                _LOG.warning("waiting for the database", error=str(error), seconds=left)
            if stopping.wait(1):
                return
        else:
            return
