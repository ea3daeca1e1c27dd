"""Commands that set up and start the service: `serve`, `init`, `migrate`, `settings`."""

import os
import sys
from pathlib import Path

import click
import structlog

from app.cli.log_output import configure
from app.cli.program import DOTENV, Failure, check_pseudonym_key, check_schema, open_database, read_settings
from app.clock import clock
from app.ingest.commands import to_webhook_url
from app.ingest.sender import WEBHOOK_PATH
from app.service.build import build_watcher
from app.service.first_env import write_first_env
from app.service.first_start import STOCK, is_first_start, prepare_folder
from app.service.port import PATIENCE_SECONDS, check_port
from app.settings import SETTINGS, WITH_WORKER, Settings, is_loopback, load_for_serving
from app.settings.sources import is_complete
from app.store.fingerprints import PSEUDONYM_KEY, make_fingerprint, replace_fingerprint
from app.store.migrate import migrate as migrate_database
from app.web.sign_in_link import LIFETIME_MINUTES, make_link_key
from app.web.sign_in_link import PATH as LINK_PATH

_IN_CHECKOUT = Path(".venv/bin/segment-lotus")
_CREDENTIALS = ("SEGMENT_SHARED_SECRETS", "SEGMENT_BEARER_TOKENS", "SEGMENT_BASIC_AUTH")


@click.command()
@click.option("--with-worker", is_flag=True, help="Also run a forwarding worker, which ends with the service.")
def serve(*, with_worker: bool) -> None:
    """Start the service. It is configured by settings: see `segment-lotus settings`.

    In an empty folder, without a setting in the environment, it first sets everything up: `.env` with new secrets, the
    shipped transforms and metrics, and a SQLite database.
    """
    if is_first_start(os.environ):
        _set_up()
    settings = load_for_serving(os.environ, DOTENV)
    # A process manager starts a node while another one is ending; a person sees at once what is wrong.
    check_port(settings.host, settings.port, 0 if sys.stdout.isatty() else PATIENCE_SECONDS)
    database = open_database(settings)
    check_schema(database)
    check_pseudonym_key(settings, database)
    watcher, _, _ = build_watcher(settings, database)
    watcher.begin()
    for problem in watcher.problems():
        click.echo(f"warning: the last good version stays active; {problem}", err=True)
    database.close()
    if sys.stdout.isatty():
        click.echo(_hints(settings))
    else:
        configure(settings.log_level)
        structlog.get_logger("serve").info(
            "starting",
            webhook=to_webhook_url(settings),
            secret=_secret_place(settings),
            next=f"{_program()} send sample",
        )
        if watcher.published:
            structlog.get_logger("transforms").info("transforms published", names=watcher.published)
    sys.stdout.flush()
    if with_worker and settings.lotus_api_key:
        os.environ[WITH_WORKER] = "1"
    # gunicorn replaces this process, so that the process that started it can also stop it.
    arguments = [
        sys.executable,
        "-m",
        "gunicorn",
        "-c",
        "python:app.service.gunicorn_conf",
        "app.service.flask_app:serve()",
    ]
    os.execv(sys.executable, arguments)  # noqa: S606  our own interpreter


@click.command()
def init() -> None:
    """Write a `.env` with new random secrets, unless it exists."""
    if is_complete(os.environ) and not DOTENV.exists():
        click.echo(f"The environment has all settings that are needed; no {DOTENV.name} was written.")
        return
    try:
        written = write_first_env(DOTENV)
    except OSError as error:
        raise Failure(f"{DOTENV.absolute()} cannot be written: {error.strerror}") from error
    if written:
        _say_written()
    else:
        click.echo(f"{DOTENV.absolute()} exists already; nothing was changed.")


@click.command()
@click.option(
    "--new-pseudonym-key",
    is_flag=True,
    help="Accept the current PSEUDONYM_KEY, although it differs from the earlier one.",
)
def migrate(*, new_pseudonym_key: bool) -> None:
    """Upgrade the database to the schema of this program. A SQLite file that does not exist is created."""
    settings = read_settings()
    database = open_database(settings)
    revision = migrate_database(database)
    click.echo(f"The database is at revision {revision}.")
    if new_pseudonym_key and settings.pseudonym_key:
        with database.writing() as conn:
            replace_fingerprint(conn, PSEUDONYM_KEY, make_fingerprint(settings.pseudonym_key))
        click.echo("This database now uses the current PSEUDONYM_KEY. A correction makes its pseudonyms anew.")


@click.command()
def settings() -> None:
    """List every setting with its value; secrets are hidden."""
    values = read_settings()
    for setting in SETTINGS:
        shown = _show(getattr(values, setting.name.lower()), secret=setting.secret)
        default = f" Default: {setting.default}." if setting.default else ""
        click.echo(f"{click.style(setting.name, bold=True)} = {shown}\n    {setting.sentence}{default}")


def _set_up() -> None:
    """Prepare an empty folder, and say what was done; on stderr, since stdout is a log unless it is a terminal."""
    try:
        prepare_folder()
    except OSError as error:
        raise Failure(f"{Path().absolute()} cannot be set up: {error.strerror}") from error
    _say_written(err=True)
    folders = " and ".join(f"{name}/" for name in STOCK)
    click.echo(f"{folders} are here to edit; the database is in var/.", err=True)


def _say_written(*, err: bool = False) -> None:
    click.echo(f"Wrote {DOTENV.absolute()} with a new shared secret and admin token, readable only by you.", err=err)


def _program() -> str:
    """Return how to call the program from this folder."""
    return str(_IN_CHECKOUT) if _IN_CHECKOUT.exists() else "segment-lotus"


def _show(value: object, *, secret: bool) -> str:
    if isinstance(value, tuple):
        return f"({len(value)}, hidden)" if value and secret else ", ".join(value) or "(none)"
    if isinstance(value, bool):
        return str(int(value))
    if value == "":
        return "(none)"
    # The URL of a file has no password; that of a server may.
    if secret and not str(value).startswith("sqlite:"):
        return "(hidden)"
    return str(value)


def _secret_place(settings: Settings) -> str:
    setting = next(name for name in _CREDENTIALS if getattr(settings, name.lower()))
    where = "the environment" if os.environ.get(setting, "").strip() else ".env"
    return f"{where}, {setting}"


def _hints(settings: Settings) -> str:
    program = _program()
    pages = to_webhook_url(settings).removesuffix(WEBHOOK_PATH)
    # Written to a terminal alone, never to a log; and whoever could use it sits at this machine.
    link = f"{pages}{LINK_PATH}?key={make_link_key(settings.admin_token, clock())}"
    sign_in = [f"  Sign in        {link}", f"                 (once, within {LIFETIME_MINUTES} minutes)"]
    return "\n".join(
        [
            "",
            f"  Webhook URL    {to_webhook_url(settings)}",
            f"  Shared secret  {_secret_place(settings)}",
            f"  Pages          {pages}/setup     (sign in with ADMIN_TOKEN)",
            *(sign_in if is_loopback(settings.host) else []),
            f"  Next           {program} send sample     (in a second terminal)",
            f"                 {program} log --follow      (watch calls come in)",
            "  Stop           Ctrl-C",
            "",
        ]
    )
