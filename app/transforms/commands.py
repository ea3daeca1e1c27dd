"""Transforms as files and as published versions: `transforms list`, `show`, `diff`, `publish`, `pull` and others."""

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
from app.cli.program import Failure, check_schema, open_database, read_settings
from app.clock import clock
from app.core.json_text import encode
from app.core.text import printable
from app.core.times import format_time
from app.errors import NotFound
from app.store.ids import Ids
from app.store.publications import Origin
from app.transforms.commands_check import check

_DIGITS = 12
"""Of a digest, where a person reads it."""


class StandingDocument(msgspec.Struct, kw_only=True):
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
    acts: CatalogActions

    def survey(self) -> CatalogStatus:
        """Hold the folder against what is live."""
        return self.acts.survey()


def open_desk() -> CliContext:
    """Return what it takes to work on transforms. Closed when the command ends. Raises Unavailable."""
    settings = read_settings()
    database = open_database(settings)
    check_schema(database)
    catalog = build_catalog(settings.pseudonym_key)
    acts = CatalogActions(database, catalog, settings.transforms_dir, Ids(secrets.randbelow).next, clock)
    return CliContext(backend=Backend(database=database, catalog=catalog), folder=settings.transforms_dir, acts=acts)


@click.group()
def transforms() -> None:
    """See which transforms are live, and decide where a file is not what is live."""


@transforms.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def list_(*, as_json: bool) -> None:
    """List all transforms: which version is live, and how its file stands to it."""
    found = open_desk().survey()
    if as_json:
        for one in found.standings:
            click.echo(encode(_to_document(found, one)).decode())
        return
    lines = [("NAME", "STATE", "LIVE", "FROM", "SINCE", "")]
    lines += [_to_columns(found, one) for one in found.standings]
    widths = [max(len(line[at]) for line in lines) for at in range(5)]
    for line in lines:
        padded = [f"{text:<{width}}" for text, width in zip(line[:5], widths, strict=True)]
        click.echo("  ".join([*padded, line[5]]).rstrip())
    for one in found.standings:
        for problem in found.grave(one.name):
            click.echo(f"\n{printable_lines(problem)}")


@transforms.command()
@click.argument("name")
@click.option("--version", "digest", metavar="DIGEST", help="Another version than the live one; its first digits do.")
def show(*, name: str, digest: str | None) -> None:
    """Show the text that is live, or that of any version."""
    desk = open_desk()
    with desk.backend.database.reading() as conn:
        version = desk.acts.find_version(conn, name, digest)
    parent = f", inherits from _default at {version.inherits.hex()[:_DIGITS]}" if version.inherits else ""
    seen = format_time(version.seen_at)
    click.echo(f"{name} at version {version.digest.hex()}, first seen {seen}{parent}", err=True)
    click.echo(version.text, nl=not version.text.endswith("\n"))


@transforms.command()
@click.argument("name")
@click.option("--version", "digest", metavar="DIGEST", help="Compare the file with this version, not the live one.")
def diff(*, name: str, digest: str | None) -> None:
    """Show what the file changes in the version that is live."""
    desk = open_desk()
    path = to_path(desk.folder, name)
    with desk.backend.database.reading() as conn:
        try:
            version = desk.acts.find_version(conn, name, digest)
        except NotFound:
            if digest is not None or not path.exists():
                raise
            version = None
    file = read_file(path) if path.exists() else None
    label = "live" if digest is None else "version"
    before = f"{label} {version.digest.hex()[:_DIGITS]}" if version else "nothing live"
    told = to_diff(version.text if version else None, file, before, str(path) if file is not None else "no file")
    click.echo(told or f"{path} is what is {'live' if digest is None else 'in that version'}.")


@transforms.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask before a transform without a file is taken out.")
def publish(*, name: str, yes: bool) -> None:
    """Make the file live. Where the file was deleted: take the transform out."""
    desk = open_desk()
    standing = desk.survey().find(name)
    if standing and standing.state is FileState.NO_FILE and not yes:
        where = to_path(desk.folder, name)
        click.confirm(
            f"There is no {where}. Take {name} out? Its calls then go to the next transform that takes them, or to"
            " _default.",
            abort=True,
        )
    change = desk.acts.publish(name)
    _tell_change(name, change, standing)
    if change.after is None:
        click.echo(f"{name} is taken out. All nodes map without it within two seconds.")


@transforms.command()
@click.argument("name")
def pull(*, name: str) -> None:
    """Write the text that is live into the file."""
    desk = open_desk()
    path = to_path(desk.folder, name)
    try:
        change = desk.acts.pull(name)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}") from error
    if change.before == change.after:
        click.echo(f"{path} is what is live already.")
        return
    click.echo(to_diff(change.before, change.after, f"{path} before", str(path)))
    click.echo(f"\nWrote {path}.", err=True)
    standing = desk.survey().find(name)
    if standing and standing.live and standing.live.origin == Origin.EDITOR:
        click.echo(
            f"It was made live by a person, so the next change of the file waits for one:"
            f" segment-lotus transforms publish {name}",
            err=True,
        )


@transforms.command()
@click.argument("name")
@click.option("--to", "digest", metavar="DIGEST", help="The version to go back to. Default: the one before this one.")
def rollback(*, name: str, digest: str | None) -> None:
    """Make an earlier version live again. The file then differs, and waits for `publish` or `pull`."""
    desk = open_desk()
    change = desk.acts.roll_back(name, digest)
    _tell_change(name, change, None)


@transforms.command()
@click.argument("name")
def history(*, name: str) -> None:
    """List when which version was made live, the newest first."""
    desk = open_desk()
    with desk.backend.database.reading() as conn:
        found = desk.acts.history(conn, name)
    for one in found:
        what = one.digest.hex()[:_DIGITS] if one.digest else "taken out"
        click.echo(f"{format_time(one.published_at)}  {what:<{_DIGITS}}  {one.origin}")


transforms.add_command(check)


def to_diff(before: str | None, after: str | None, before_name: str, after_name: str) -> str:
    """Return a unified diff as a terminal shows it; empty where nothing differs."""
    lines = difflib.unified_diff(
        (before or "").splitlines(), (after or "").splitlines(), before_name, after_name, lineterm=""
    )
    return "\n".join(_coloured(printable(line)) for line in lines)


def printable_lines(text: str) -> str:
    """Return text of several lines without what a terminal would obey."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _coloured(line: str) -> str:
    colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    return click.style(line, fg=colour) if colour else line


def _tell_change(name: str, change: Change, standing: FileStatus | None) -> None:
    before = standing.live.digest if standing and standing.live else None
    if change.digest is not None and before == change.digest and change.before == change.after:
        click.echo(f"{name} is live as its file says, at version {change.digest.hex()[:_DIGITS]}.")
        return
    if told := to_diff(change.before, change.after, f"{name} before", f"{name} now"):
        click.echo(told + "\n")
    if change.digest is not None:
        click.echo(
            f"{name} is live at version {change.digest.hex()[:_DIGITS]}. All nodes map by it within two seconds."
        )
    if change.heirs:
        click.echo(f"Published anew, since they inherit from it: {', '.join(change.heirs)}")


def _to_columns(found: CatalogStatus, one: FileStatus) -> tuple[str, str, str, str, str, str]:
    live = one.live if one.live and one.live.digest else None
    digest = live.digest.hex()[:_DIGITS] if live and live.digest else "-"
    since = format_time(live.published_at)[:19] + "Z" if live else "-"
    return (one.name, one.state.value, digest, live.origin if live else "-", since, _to_hint(found, one))


def _to_hint(found: CatalogStatus, one: FileStatus) -> str:
    if one.name in found.live.unreadable:
        return "this program cannot read the live version"
    match one.state:
        case FileState.DRIFT:
            return (
                f"the file differs: publish {one.name}, or pull {one.name}"
                if _is_live(one)
                else (f"was taken out: publish {one.name}, or delete the file")
            )
        case FileState.NO_FILE:
            return f"pull {one.name}, or publish {one.name} to take it out"
        case FileState.BROKEN:
            return "the file is not used" + (", the live version stays" if _is_live(one) else "")
        case FileState.NEW:
            return "publishes itself when the service runs"
    return "" if one.file is None or one.file.enabled else "disabled: its calls are ignored"


def _is_live(one: FileStatus) -> bool:
    return one.live is not None and one.live.digest is not None


def _to_document(found: CatalogStatus, one: FileStatus) -> StandingDocument:
    live = one.live if one.live and one.live.digest else None
    transform = found.live.transforms.get(one.name)
    return StandingDocument(
        name=one.name,
        state=one.state.value,
        live=live.digest.hex() if live and live.digest else None,
        origin=live.origin if live else None,
        published_at=format_time(live.published_at) if live else None,
        enabled=transform.enabled if transform else None,
        problems=found.grave(one.name),
    )
