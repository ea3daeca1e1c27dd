"""Are the transform files fit to be published: `check`."""

from pathlib import Path

import click

from app.catalog.check import Problem
from app.catalog.check import check as check_texts
from app.catalog.files import read_file, read_folder, to_name
from app.catalog.live import build_catalog
from app.cli.program import Failure, read_settings
from app.core.text import counted, printable


@click.command()
@click.argument("path", required=False, metavar="[DIR|FILE]", type=click.Path(path_type=Path))
@click.pass_context
def check(context: click.Context, path: Path | None) -> None:
    """Look through all transform files of a folder, by default TRANSFORMS_DIR; needs no database.

    Parses each, runs its examples, and looks for what cannot have been meant. Exit code 1 where a file cannot be
    published. Of a FILE, a draft for example, what is wrong with it among the files beside it.
    """
    settings = read_settings()
    path = path or settings.transforms_dir
    folder = path if path.is_dir() else path.parent
    only = None if path.is_dir() else to_name(path)
    if only is not None and not path.is_file():
        raise Failure(f"there is no folder and no file {path}")
    found = read_folder(folder)
    texts, problems = dict(found.texts), dict(found.problems)
    if only is not None:
        problems.pop(only, None)
        texts[only] = read_file(path)
    checked = check_texts(texts, problems, parse=build_catalog(settings.pseudonym_key).parse)
    shown = [problem for problem in checked.problems if only in {None, problem.name}]
    for problem in sorted(shown, key=lambda one: (not one.grave, one.name)):
        click.echo(tell_problem(problem, folder if only is None else path))
    grave = {problem.name for problem in shown if problem.grave}
    if only is not None:
        click.echo(f"{path}: " + ("cannot be published." if grave else "fit to be published."))
        context.exit(1 if grave else 0)
    totals = f"{counted(len(checked.names), 'transform')}, {counted(checked.examples, 'example')}"
    if grave:
        click.echo(f"\n{totals}: {counted(len(grave), 'file')} cannot be published.")
        context.exit(1)
    hints = len(checked.problems)
    click.echo(f"{totals}: " + (f"fit, with {counted(hints, 'hint')}." if hints else "all is well."))


def tell_problem(problem: Problem, path: Path) -> str:
    """Return a problem with the path of its file, so that a terminal or an editor can open it.

    `path` is that file, or its folder.
    """
    text = problem.sentence
    name = f"{problem.name}.yaml"
    if text.startswith(f"{name}:"):
        text = f"{path / name if path.is_dir() else path}{text[len(name) :]}"
    first, *others = text.split("\n")
    kind = click.style("error", fg="red") if problem.grave else click.style("hint", fg="yellow")
    return "\n".join([f"{kind}: {printable(first)}", *map(printable, others)])
