"""Are the transform files fit to be published: `check`; and what they may say: `schema`."""

import json
from pathlib import Path

import click

from app.bootstrap import build_catalog
from app.catalog.checking import Problem
from app.catalog.checking import check as check_texts
from app.catalog.files import read_folder
from app.cli.program import Failure, read_settings
from app.core.transform_schema import SCHEMA
from app.logs import printable


@click.command()
@click.argument("folder", required=False, metavar="[DIR]", type=click.Path(path_type=Path))
@click.pass_context
def check(context: click.Context, folder: Path | None) -> None:
    """Look through all transform files of a folder, by default TRANSFORMS_DIR; needs no database.

    Parses each, runs its examples, and looks for what cannot have been meant. Exit code 1 where a file cannot be
    published.
    """
    settings = read_settings()
    folder = folder or settings.transforms_dir
    if not folder.is_dir():
        raise Failure(f"there is no folder {folder}")
    found = read_folder(folder)
    checked = check_texts(found.texts, found.problems, parse=build_catalog(settings).parse)
    for problem in sorted(checked.problems, key=lambda one: (not one.grave, one.name)):
        click.echo(tell_problem(problem, folder))
    grave = {problem.name for problem in checked.problems if problem.grave}
    counted = f"{_count(len(checked.names), 'transform')}, {_count(checked.examples, 'example')}"
    if grave:
        click.echo(f"\n{counted}: {_count(len(grave), 'file')} cannot be published.")
        context.exit(1)
    hints = len(checked.problems)
    click.echo(f"{counted}: " + (f"fit, with {_count(hints, 'hint')}." if hints else "all is well."))


@click.command()
def schema() -> None:
    """Print the JSON Schema of a transform file, by which editors complete and check it."""
    click.echo(to_schema_text(), nl=False)


def to_schema_text() -> str:
    """Return the schema as it stands in `docs/transform.schema.json`."""
    return json.dumps(SCHEMA, indent=2) + "\n"


def tell_problem(problem: Problem, folder: Path) -> str:
    """Return a problem with the path of its file, so that a terminal or an editor can open it."""
    text = problem.sentence
    if text.startswith(f"{problem.name}.yaml:"):
        text = f"{folder}/{text}"
    first, *others = text.split("\n")
    kind = click.style("error", fg="red") if problem.grave else click.style("hint", fg="yellow")
    return "\n".join([f"{kind}: {printable(first)}", *map(printable, others)])


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
