"""Commands as processes, forked from one that has imported the program: that is done once, and not for each."""

import os
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["app.service.commands"])


def fork_command(folder: Path, log: Path, environment: Mapping[str, str], *words: str) -> ForkServerProcess:
    """Run a command of the program in a folder, with nothing but this environment, and write what it says to a log."""
    log.touch()
    process = _CONTEXT.Process(target=_run, args=(folder, log, dict(environment), words), daemon=True)
    process.start()
    return process


def _run(folder: Path, log: Path, environment: Mapping[str, str], words: tuple[str, ...]) -> None:
    from app.service.commands import main  # noqa: PLC0415  the tests themselves need none of it

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    main(words)
