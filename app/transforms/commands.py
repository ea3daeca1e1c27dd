"""The commands for files and published versions: `transforms list`, `show`, `diff`, `publish`, `pull` and others."""

import difflib
import secrets
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from app.catalog.actions import CatalogActions, Change
from app.catalog.backend import Backend
from app.catalog.files import read_file, to_path
from app.catalog.live import build_catalog
from app.catalog.status import CatalogStatus, FileState, FileStatus
from app.cli.program import CommandGroup, Failure, check_schema, open_database, read_settings
from app.clock import clock
from app.core.json_text import encode
from app.core.text import printable, printable_lines, short, table_lines
from app.core.times import format_time
from app.errors import NotFound
from app.store.ids import Ids
from app.store.publications import Origin, Publication
from app.transforms.commands_check import check


class FileStatusDocument(msgspec.Struct, kw_only=True):
    """One line of `transforms list --json`."""

    name: str
    state: str
    live: str | None
    """The digest of the live version."""
    origin: str | None
    published_at: str | None
    enabled: bool | None
    problems: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CliContext:
    """What it takes to work on transforms."""

    backend: Backend
    folder: Path
    actions: CatalogActions

    def status(self) -> CatalogStatus:
        """Compare the folder with the live versions."""
        return self.actions.status()


def open_context() -> CliContext:
    """Return the database, catalog and actions for a command; closed when it ends. Raises Unavailable."""
    settings = read_settings()
    database = open_database(settings)
    check_schema(database)
    catalog = build_catalog(settings.pseudonym_key)
    actions = CatalogActions(database, catalog, settings.transforms_dir, Ids(secrets.randbelow).next, clock)
    return CliContext(
        backend=Backend(database=database, catalog=catalog), folder=settings.transforms_dir, actions=actions
    )


@click.group(cls=CommandGroup)
def transforms() -> None:
    """See which transforms are live, and decide where a file differs from the live version."""


@transforms.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def list_(*, as_json: bool) -> None:
    """List all transforms: which version is live, and whether the file differs from it."""
    status = open_context().status()
    if as_json:
        for file in status.files:
            click.echo(encode(_to_document(status, file)).decode())
        return
    lines = [("NAME", "STATE", "LIVE", "FROM", "SINCE", "")]
    lines += [_to_columns(status, file) for file in status.files]
    click.echo("\n".join(table_lines(lines)))
    for file in status.files:
        for problem in status.blocking(file.name):
            click.echo(f"\n{printable_lines(problem)}")


@transforms.command()
@click.argument("name")
@click.option(
    "--version", "digest", metavar="DIGEST", help="The version to show, by its first digits.  [default: the live one]"
)
def show(*, name: str, digest: str | None) -> None:
    """Show the text of the live version, or of another one."""
    context = open_context()
    with context.backend.database.reading() as conn:
        version = context.actions.find_version(conn, name, digest)
    parent = f", inherits from _default at {short(version.inherits)}" if version.inherits else ""
    seen_at = format_time(version.seen_at)
    click.echo(f"{name} at version {version.digest.hex()}, first seen {seen_at}{parent}", err=True)
    click.echo(version.text, nl=not version.text.endswith("\n"))


@transforms.command()
@click.argument("name")
@click.option("--version", "digest", metavar="DIGEST", help="Compare the file with this version, not the live one.")
def diff(*, name: str, digest: str | None) -> None:
    """Show what the file changes in the live version."""
    context = open_context()
    path = to_path(context.folder, name)
    with context.backend.database.reading() as conn:
        try:
            version = context.actions.find_version(conn, name, digest)
        except NotFound:
            if digest is not None or not path.exists():
                raise
            version = None
    file = read_file(path) if path.exists() else None
    label = "live" if digest is None else "version"
    before = f"{label} {short(version.digest)}" if version else "nothing live"
    lines = to_diff(version.text if version else None, file, before, str(path) if file is not None else "no file")
    click.echo(lines or f"{path} is the same as {'the live version' if digest is None else 'that version'}.")


@transforms.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask before a transform without a file is unpublished.")
def publish(*, name: str, yes: bool) -> None:
    """Make the file live. If the file was deleted, unpublish the transform."""
    context = open_context()
    file = context.status().find(name)
    if file and file.state is FileState.NO_FILE and not yes:
        click.confirm(f"There is no {to_path(context.folder, name)}. {_ask_to_unpublish(name)}", abort=True)
    change = context.actions.publish(name)
    _print_change(name, change, file)
    if change.after is None:
        click.echo(_unpublished_text(name))


@transforms.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def unpublish(*, name: str, yes: bool) -> None:
    """Take a transform that was published from the editor, or whose file was deleted, out of use."""
    context = open_context()
    if not yes:
        click.confirm(_ask_to_unpublish(name), abort=True)
    _print_change(name, context.actions.unpublish(name), None)
    click.echo(_unpublished_text(name))


@transforms.command()
@click.argument("name")
def pull(*, name: str) -> None:
    """Write the live text into the file."""
    context = open_context()
    path = to_path(context.folder, name)
    try:
        change = context.actions.pull(name)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}") from error
    if change.before == change.after:
        click.echo(f"{path} is the same as the live version already.")
        return
    click.echo(to_diff(change.before, change.after, f"{path} before", str(path)))
    click.echo(f"\nWrote {path}.", err=True)
    file = context.status().find(name)
    if file and file.live and file.live.origin == Origin.EDITOR:
        click.echo(
            f"A person made it live, so the next change of the file waits until a person publishes it:"
            f" segment-lotus transforms publish {name}",
            err=True,
        )


@transforms.command()
@click.argument("name")
@click.option("--to", "digest", metavar="DIGEST", help="The version to go back to.  [default: the previous one]")
def rollback(*, name: str, digest: str | None) -> None:
    """Make an earlier version live again. The file then differs from it until `publish` or `pull`."""
    context = open_context()
    change = context.actions.roll_back(name, digest)
    _print_change(name, change, None)


@transforms.command()
@click.argument("name")
def history(*, name: str) -> None:
    """List which version went live when, newest first."""
    context = open_context()
    with context.backend.database.reading() as conn:
        publications = context.actions.history(conn, name)
    for row in publications:
        version = short(row.digest) or "unpublished"
        click.echo(f"{format_time(row.published_at)}  {version:<12}  {row.origin}")


transforms.add_command(check)


def _ask_to_unpublish(name: str) -> str:
    return (
        f"Unpublish {name}? Its calls then go to the next transform that takes them, or to _default; what none takes is"
        " ignored as no_transform."
    )


def _unpublished_text(name: str) -> str:
    return f"{name} is unpublished. All nodes map without it within two seconds."


def to_diff(before: str | None, after: str | None, before_name: str, after_name: str) -> str:
    """Return a unified diff for a terminal; empty where nothing differs."""
    lines = difflib.unified_diff(
        (before or "").splitlines(), (after or "").splitlines(), before_name, after_name, lineterm=""
    )
    return "\n".join(_coloured(printable(line)) for line in lines)


def _coloured(line: str) -> str:
    colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    return click.style(line, fg=colour) if colour else line


def _print_change(name: str, change: Change, file: FileStatus | None) -> None:
    before = file.live.digest if file and file.live else None
    if change.digest is not None and before == change.digest and change.before == change.after:
        click.echo(f"{name} is live and the same as its file, at version {short(change.digest)}.")
        return
    if lines := to_diff(change.before, change.after, f"{name} before", f"{name} now"):
        click.echo(lines + "\n")
    if change.digest is not None:
        click.echo(f"{name} is live at version {short(change.digest)}. All nodes map by it within two seconds.")
    if change.inheriting:
        click.echo(f"Also published again, since they inherit from it: {', '.join(change.inheriting)}")


def _to_columns(status: CatalogStatus, file: FileStatus) -> tuple[str, str, str, str, str, str]:
    live = _live_publication(file)
    digest = short(live.digest) if live and live.digest else "-"
    since = format_time(live.published_at)[:19] + "Z" if live else "-"
    return (file.name, file.state.value, digest, live.origin if live else "-", since, _to_hint(status, file))


def _to_hint(status: CatalogStatus, file: FileStatus) -> str:
    if file.name in status.live.unreadable:
        return "this program cannot read the live version"
    is_live = _live_publication(file) is not None
    match file.state:
        case FileState.DRIFT:
            return (
                f"the file differs: publish {file.name}, or pull {file.name}"
                if is_live
                else (f"was unpublished: publish {file.name}, or delete the file")
            )
        case FileState.NO_FILE:
            return f"pull {file.name}, or unpublish {file.name}"
        case FileState.BROKEN:
            return "the file is not used" + (", the live version stays" if is_live else "")
        case FileState.NEW:
            return "goes live when the service runs"
    return "" if file.transform is None or file.transform.enabled else "disabled: its calls are ignored"


def _live_publication(file: FileStatus) -> Publication | None:
    return file.live if file.live and file.live.digest else None


def _to_document(status: CatalogStatus, file: FileStatus) -> FileStatusDocument:
    live = _live_publication(file)
    transform = status.live.transforms.get(file.name)
    return FileStatusDocument(
        name=file.name,
        state=file.state.value,
        live=live.digest.hex() if live and live.digest else None,
        origin=live.origin if live else None,
        published_at=format_time(live.published_at) if live else None,
        enabled=transform.enabled if transform else None,
        problems=status.blocking(file.name),
    )
