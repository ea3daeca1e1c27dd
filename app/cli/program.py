"""What all commands share: how errors are shown on a terminal, and how the database is opened."""

import contextlib
import gc
import getpass
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from app.catalog.backend import Backend, connect_backend
from app.cli.log_output import wants_colour
from app.core.text import printable_lines
from app.errors import SegmentLotusError, Unavailable
from app.settings import Settings, load
from app.store.engine import Database, connect
from app.store.fingerprints import PSEUDONYM_KEY, find_fingerprint, keep_fingerprint, make_fingerprint
from app.store.migrate import is_current

DOTENV = Path(".env")

_INTERRUPTED = 130


_LOGIN_MAX = 100


class Failure(click.ClickException):
    """Ends a command with one sentence and exit code 1."""

    def show(self, file: Any = None) -> None:
        """Print the error."""
        # The message may quote a file, a sender or Lotus.
        click.echo(printable_lines(f"error: {self.message}"), file=file, err=file is None)


class CommandGroup(click.Group):
    """A group whose help shows the whole first sentence of each command; click would cut it to one line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's signature
        """Write the commands, by section if there are any."""
        for title, names in self.sections().items():
            with formatter.section(title):
                formatter.write_dl([(name, first_sentence(self.commands[name])) for name in names])

    def sections(self) -> dict[str, list[str]]:
        """Return the names of the commands by the title that they stand under."""
        return {"Commands": sorted(self.commands)}


class Program(CommandGroup):
    """The top-level command group. Its errors are sentences, never tracebacks."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._sections: dict[str, list[str]] = {}

    def add_section(self, title: str, *commands: click.Command) -> None:
        """Add commands that belong to one thing that people do."""
        for command in commands:
            self.add_command(command)
        self._sections[title] = [str(command.name) for command in commands]

    def sections(self) -> dict[str, list[str]]:
        """Return the names of the commands by the title that they stand under."""
        return self._sections

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        if not wants_colour():
            # Whatever is echoed then loses its colours; else a pipe does that, and a terminal shows them.
            ctx.color = False
        try:
            return super().invoke(ctx)
        except SegmentLotusError as error:
            raise Failure(str(error)) from error
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)


def first_sentence(command: click.Command) -> str:
    """Return the first sentence of the help of a command."""
    text = " ".join((command.help or "").split())
    # A full stop inside of a word, as in `.env`, ends nothing.
    return re.split(r"(?<=\.) ", text, maxsplit=1)[0]


def problem_text(name: str, sentence: str, path: Path, *, blocking: bool) -> str:
    """Return the lines of a problem with the path of its file, so that a terminal or an editor can open it.

    `name` is that of the document, `path` that file or its folder. Unless it is `blocking`, it is a hint.
    """
    file = f"{name}.yaml"
    if sentence.startswith(f"{file}:"):
        sentence = f"{path / file if path.is_dir() else path}{sentence[len(file) :]}"
    kind = click.style("error", fg="red") if blocking else click.style("hint", fg="yellow")
    return f"{kind}: {printable_lines(sentence)}"


@contextlib.contextmanager
def between_steps() -> Iterator[Callable[[], None]]:
    """Delay the first Ctrl-C until the yielded function is called, which then raises KeyboardInterrupt.

    A second Ctrl-C is not delayed. In the middle of a statement, a driver may swallow KeyboardInterrupt or leave its
    connection unusable.
    """
    came = False

    def note(_signal: int, _frame: object) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, before)

    def stop_here() -> None:
        if came:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield stop_here
    finally:
        signal.signal(signal.SIGINT, before)


def read_settings() -> Settings:
    """Return the settings of the environment and of `.env` in this folder. Raises SettingInvalid."""
    return load(os.environ, DOTENV)


def open_backend(*, bulk: bool = False) -> Backend:
    """Return a backend on the database of the settings; `bulk`: to process all of it. Closed when the command ends.

    Raises:
        Unavailable: the database cannot be reached, or is not migrated.

    """
    settings = read_settings()
    backend = connect_backend(settings.database_url, settings.pseudonym_key, bulk=bulk)
    click.get_current_context().call_on_close(backend.database.close)
    check_schema(backend.database)
    return backend


def open_database(settings: Settings) -> Database:
    """Return the database of the settings, whatever its schema. Closed when the command ends."""
    database = connect(settings.database_url)
    click.get_current_context().call_on_close(database.close)
    return database


def check_pseudonym_key(settings: Settings, database: Database) -> None:
    """Raise Failure if PSEUDONYM_KEY is not the one that made the pseudonyms in this database."""
    if not settings.pseudonym_key:
        # Without a key, a transform that needs one fails, and makes no wrong pseudonym.
        return
    fingerprint = make_fingerprint(settings.pseudonym_key)
    with database.reading() as conn:
        known_fingerprint = find_fingerprint(conn, PSEUDONYM_KEY)
    if known_fingerprint is None:
        with database.writing() as conn:
            known_fingerprint = keep_fingerprint(conn, PSEUDONYM_KEY, fingerprint)
    if known_fingerprint != fingerprint:
        raise Failure(
            "PSEUDONYM_KEY is not the one that made the pseudonyms in this database: every event with one would "
            "differ. Restore the former key, or accept this one: `segment-lotus migrate --new-pseudonym-key`"
        )


def login() -> str:
    """Return the user of this shell: the author of what it does, where nobody else is named."""
    try:
        return getpass.getuser()[:_LOGIN_MAX] or "unknown"
    except (OSError, KeyError):
        # A container without an entry for its user.
        return "unknown"


def check_schema(database: Database) -> None:
    """Raise Unavailable unless the database exists and has the schema of this program."""
    if database.file is not None and not database.file.exists():
        raise Unavailable(f"there is no database at {database.file}; run `segment-lotus migrate` to create it")
    with database.reading() as conn:
        current = is_current(conn)
    if not current:
        raise Unavailable("the database does not have the schema of this program; run `segment-lotus migrate`")


def tune_garbage_collection() -> None:
    """Collect garbage rarely, and never examine the objects that exist at the start.

    Calls are trees of small objects that reference counting frees; Python's defaults examine all of them every 700
    objects. Measured: parsing and mapping a call of 1 KB takes 35 us with the defaults and 21 us like this; a
    replay runs 17,000 calls a second in place of 13,000.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
