"""Commands that send stored events to Lotus: `worker`, `forward`, `reconcile`."""

import math
import random
import secrets
import signal
import threading
from collections.abc import Sequence

import click
import structlog

from app.cli.log_output import configure
from app.cli.program import Failure, check_schema, open_database, read_settings
from app.clock import clock
from app.core.json_text import encode
from app.core.text import counted
from app.errors import Unavailable
from app.forward.commands_parent import end_with_parent
from app.forward.commands_settle import pass_measure
from app.forward.export import MeasureValues
from app.forward.lotus import TIMEOUT_SECONDS, Lotus
from app.forward.reconcile import Reconciliation
from app.forward.reconcile_text import report_text
from app.forward.retry import Move
from app.forward.settlement import request_stored
from app.forward.sql_deliveries import mark_as_surplus, send_again
from app.forward.worker import LEASE_SECONDS, ForwardWorker
from app.settings import Settings
from app.store import ledger
from app.store.engine import Database
from app.store.ids import Ids, first_id_at
from app.store.query import parse_moment

_LOG = structlog.get_logger("forward")
_MOVED = 500

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
    last = first_id_at(parse_moment("until", until, now)) - 1 if until else None
    queued, _ = request_stored(database, clock, after=after, until=last, seconds=math.inf)
    click.echo(f"Queued {counted(queued, 'event')}.")


@click.command()
@click.option(
    "--since",
    metavar="WHEN",
    required=True,
    help="Stored at or after this time, or this long ago: 1h, 7d. Lotus knows the last 30 days.",
)
@click.option("--resend", is_flag=True, help="Send the missing events again.")
@click.option("--mark-surplus", is_flag=True, help="Mark void events that Lotus has, though nobody knew, as surplus.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@pass_measure
@click.pass_context
def reconcile(
    context: click.Context,
    measure: MeasureValues,
    /,
    *,
    since: str,
    resend: bool,
    mark_surplus: bool,
    as_json: bool,
) -> None:
    """Compare what counts here with what Lotus has, by id, in both directions, and by customer and metric.

    Exit code 1 if Lotus lacks a delivered event, or has a void one that is not known as surplus. Lotus stores an event
    some time after it has accepted it: what was delivered in the last minutes may still be on its way.
    """
    settings = read_settings()
    after = first_id_at(parse_moment("since", since, clock())) - 1
    database = _open()
    report = Reconciliation(database, _connect(settings), measure, clock).run(after)
    if resend and report.missing:
        _move(database, send_again, [event.event_id for event in report.missing])
    if mark_surplus and report.unknown:
        _move(database, mark_as_surplus, [event.event_id for event in report.unknown])
    if as_json:
        click.echo(encode(report).decode())
    else:
        click.echo(report_text(report, resent=resend, marked=mark_surplus))
    if (report.missing and not resend) or (report.unknown and not mark_surplus):
        context.exit(1)


def _move(database: Database, move: Move, event_ids: Sequence[int]) -> None:
    tag = Ids(secrets.randbelow).tag
    for start in range(0, len(event_ids), _MOVED):
        with database.writing() as conn:
            ledger.append(conn, tag, clock(), move(conn, event_ids[start : start + _MOVED], clock()))


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
