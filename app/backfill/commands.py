"""The command `backfill`: load calls or events of another time from a file."""

import contextlib
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import msgspec
from click.decorators import pass_meta_key

from app.backfill.batch import FileSelection, to_tally
from app.backfill.formats import BadLine, Content, Format
from app.backfill.hooks import BackfillHooksFactory
from app.backfill.loader import Loader
from app.backfill.mapper import Mapper
from app.backfill.source import Source, open_source
from app.backfill.survey import Survey, check_source
from app.backfill.text import bad_text, tally_text, to_document
from app.cli.program import (
    Failure,
    between_steps,
    check_pseudonym_key,
    login,
    open_backend,
    read_settings,
    tune_garbage_collection,
)
from app.clock import clock
from app.core.json_text import encode
from app.core.text import counted
from app.store.corrections import Correction
from app.store.ids import Ids
from app.store.query import AUTHOR_MAX, parse_author, parse_reason, parse_words
from app.store.tally import CorrectionTally

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

HOOKS = "app.backfill.hooks"
"""The key of click's context under which a program keeps its BackfillHooksFactory."""


@click.command()
@click.argument("file", metavar="FILE|-")
@click.option(
    "--format",
    "format_",
    type=click.Choice([each.value for each in Format]),
    help="Of the file; by default csv for *.csv, else ndjson.",
)
@click.option(
    "--of",
    type=click.Choice([each.value for each in Content]),
    default=Content.CALLS.value,
    show_default=True,
    help="What it holds: Segment's calls, or Lotus's events.",
)
@click.option("--name", help="A name for the batch.")
@click.option("--reason", required=True, help="Why; kept with the batch.")
@click.option("--author", help="Who; by default the user of this shell.")
@click.option("--skip-bad", is_flag=True, help="Load the good lines although others are bad.")
@click.option(
    "--bad",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all bad lines there: number, field and why, as NDJSON.",
)
@click.option("--dry-run", is_flag=True, help="Only count what would be loaded; write nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="As JSON; never asks.")
@pass_meta_key(HOOKS)
def backfill(make_hooks: BackfillHooksFactory, /, **words: Any) -> None:
    """Load calls or events of another time from a file, or from standard input.

    Every line is checked first: if one is bad, nothing is loaded. What is there already, by message id or idempotency
    id, is a duplicate. It counts and shows the effect, and asks; if it is stopped, the same command goes on. All of it
    is one correction, which `corrections undo` takes out again.
    """
    options = _parse(words)
    settings = read_settings()
    backend = open_backend(bulk=True)
    check_pseudonym_key(settings, backend.database)
    backend.catalog.refresh(backend.database)
    if options.content is Content.CALLS and not backend.catalog.active.transforms:
        raise Failure("no transform is live, so every call would be ignored: start the service once, or publish one")
    tune_garbage_collection()
    ids = Ids(secrets.randbelow)
    with open_source(options.file, sys.stdin.buffer) as source:
        survey = _check(source, options)
        if survey.bad:
            click.echo(bad_text(survey, source.name), err=True)
            if not options.skip_bad:
                raise Failure("nothing was loaded; --skip-bad loads the good lines")
        selection = FileSelection(
            file=source.name,
            sha256=source.digest(),
            format=options.format,
            of=options.content,
            rows=survey.rows - len(survey.bad),
            bad=len(survey.bad),
        )
        loader = Loader(
            database=backend.database,
            catalog=backend.catalog,
            ids=ids,
            clock=clock,
            hooks=make_hooks(ids, forwards=bool(settings.lotus_api_key)),
            selection=selection,
            mapper=Mapper(
                source=source,
                format=options.format,
                content=options.content,
                survey=survey,
                transforms=backend.catalog.active,
                pseudonym_key=settings.pseudonym_key.encode() or None,
            ),
        )
        tally, correction = _load(loader, selection, options)
    if options.as_json:
        click.echo(encode(to_document(selection, survey, tally, correction)).decode())
        return
    click.echo(tally_text(tally, selection, foreseen=correction is None))
    if correction is not None:
        click.echo(f"\ncorrection {correction.id}")


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was typed."""

    file: str
    format: Format
    content: Content
    name: str | None
    reason: str
    author: str
    skip_bad: bool
    bad: Path | None
    dry_run: bool
    yes: bool
    as_json: bool


def _parse(words: dict[str, Any]) -> _Options:
    """Parse the options. Raises UsageError, BadQuery."""
    if words["as_json"] and not (words["yes"] or words["dry_run"]):
        raise click.UsageError("--json does not ask: give --yes or --dry-run as well.")
    format_, of, author = words.pop("format_"), words.pop("of"), words.pop("author") or login()
    name = words.pop("name")
    return _Options(
        format=Format(format_) if format_ else _guess_format(words["file"]),
        content=Content(of),
        name=None if name is None else parse_words("name", name, AUTHOR_MAX),
        reason=parse_reason(words.pop("reason")),
        author=parse_author(author),
        **words,
    )


def _load(loader: Loader, selection: FileSelection, options: _Options) -> tuple[CorrectionTally, Correction | None]:
    """Count, ask and load; return the counts, and the batch, None if nothing was to be written."""
    running = loader.find(running=True)
    earlier = None if running else loader.find(running=False)
    if options.dry_run or earlier:
        tally = _preview(loader, selection)
        if earlier:
            click.echo(f"This file was loaded before, by correction {earlier.id} ({earlier.state}).", err=True)
        return tally, None
    if not (options.yes or running):
        click.echo(tally_text(_preview(loader, selection), selection, foreseen=True), err=True)
        click.confirm(f"\nLoad {counted(selection.rows, selection.noun)}?", abort=True, err=True)
    correction = running or loader.begin(options.author, options.reason, options.name)
    if correction.cursor_call:
        click.echo(f"Resuming correction {correction.id}, which {correction.author} began.", err=True)
    correction = _run(loader, selection, correction)
    return to_tally(correction), correction


def _check(source: Source, options: _Options) -> Survey:
    with contextlib.ExitStack() as stack:
        note_bad = _writer(stack, options.bad)
        stop_here = stack.enter_context(between_steps())
        bar: ProgressBar[int] = stack.enter_context(_bar(source.size, "Checking"))

        def advance(count: int) -> None:
            bar.update(count)
            stop_here()

        return check_source(source, options.format, options.content, note_bad=note_bad, advance=advance)


def _writer(stack: contextlib.ExitStack, bad: Path | None) -> Callable[[BadLine], object]:
    """Return the function that writes a bad line to the file `bad`, if there is one. Raises Failure."""
    if bad is None:
        return lambda _bad_line: None
    try:
        output: IO[bytes] = stack.enter_context(bad.open("wb"))
    except OSError as error:
        raise Failure(f"{bad} cannot be written: {error.strerror}") from error
    return lambda bad_line: output.write(encode(bad_line) + b"\n")


def _preview(loader: Loader, selection: FileSelection) -> CorrectionTally:
    with _stoppable(selection.rows, "Counting") as advance:
        return loader.preview(advance)


def _run(loader: Loader, selection: FileSelection, correction: Correction) -> Correction:
    loaded = sum(to_tally(correction).calls.values())
    with _stoppable(selection.rows - loaded, "Loading") as advance:
        try:
            return loader.run(correction, advance)
        except KeyboardInterrupt:
            click.echo(f"\nStopped: the same command goes on with correction {correction.id}.", err=True)
            raise


@contextlib.contextmanager
def _stoppable(rows: int, label: str) -> Iterator[Callable[[int], None]]:
    """Yield the function that moves a bar by a number of rows, and raises KeyboardInterrupt after Ctrl-C."""
    with between_steps() as stop_here, _bar(rows, label) as bar:

        def advance(count: int) -> None:
            bar.update(count)
            stop_here()

        yield advance


def _bar(length: int, label: str) -> "ProgressBar[int]":
    return click.progressbar(length=length, label=label, file=sys.stderr)


def _guess_format(file: str) -> Format:
    return Format.CSV if file.lower().removesuffix(".gz").endswith(".csv") else Format.NDJSON
