"""Checks whether transform files can be published: `check`."""

from pathlib import Path

import click

from app.catalog.check import check as check_texts
from app.catalog.files import read_file, read_folder, to_name
from app.catalog.live import build_catalog
from app.cli.program import Failure, problem_text, read_settings
from app.core.text import counted


@click.command()
@click.argument("path", required=False, metavar="[DIR|FILE]", type=click.Path(path_type=Path))
@click.pass_context
def check(context: click.Context, path: Path | None) -> None:
    """Check all transform files of a folder, by default TRANSFORMS_DIR. Needs no database.

    Parses each file, runs its examples, and looks for likely mistakes. With a FILE, such as a draft, checks that file
    together with the others in its folder. The exit code is 1 if a file cannot be published.
    """
    settings = read_settings()
    path = path or settings.transforms_dir
    folder = path if path.is_dir() else path.parent
    only = None if path.is_dir() else to_name(path)
    if only is not None and not path.is_file():
        raise Failure(f"there is no folder and no file {path}")
    files = read_folder(folder)
    texts, problems = dict(files.texts), dict(files.problems)
    if only is not None:
        problems.pop(only, None)
        texts[only] = read_file(path)
    checked = check_texts(texts, problems, parse=build_catalog(settings.pseudonym_key).parse)
    shown = [problem for problem in checked.problems if only in {None, problem.name}]
    for problem in sorted(shown, key=lambda problem: (not problem.blocking, problem.name)):
        place = folder if only is None else path
        click.echo(problem_text(problem.name, problem.sentence, place, blocking=problem.blocking))
    blocked = {problem.name for problem in shown if problem.blocking}
    if only is not None:
        click.echo(f"{path}: " + ("cannot be published." if blocked else "can be published."))
        context.exit(1 if blocked else 0)
    totals = f"{counted(len(checked.names), 'transform')}, {counted(checked.examples, 'example')}"
    if blocked:
        click.echo(f"\n{totals}: {counted(len(blocked), 'file')} cannot be published.")
        context.exit(1)
    hints = len(checked.problems)
    click.echo(f"{totals}: " + (f"can be published, with {counted(hints, 'hint')}." if hints else "all is well."))
