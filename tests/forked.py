"""Processes of the program, forked from one that has imported it: that is done once, and not for each."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import SimpleNamespace

from tests.served import ROOT

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["app.service.commands", "app.transforms.sandbox.__main__"])


def fork_command(folder: Path, log: Path, environment: Mapping[str, str], *words: str) -> ForkServerProcess:
    """Run a command of the program in a folder, with nothing but this environment, and write what it says to a log."""
    return _fork(folder, log, log, environment, words)


def run_command(folder: Path, environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the same way to its end, with nothing to read."""
    with tempfile.TemporaryDirectory(prefix="segment-lotus-command-") as place:
        stdout, stderr = Path(place) / "stdout", Path(place) / "stderr"
        process = _fork(folder, stdout, stderr, environment, words)
        process.join(60)
        code = process.exitcode
        if code is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, 60)
        return subprocess.CompletedProcess(words, code, stdout.read_text(), stderr.read_text())


def _fork(
    folder: Path, stdout: Path, stderr: Path, environment: Mapping[str, str], words: tuple[str, ...]
) -> ForkServerProcess:
    for stream in (stdout, stderr):
        stream.touch()
    process = _CONTEXT.Process(target=_run, args=(folder, stdout, stderr, dict(environment), words), daemon=True)
    process.start()
    return process


def _run(folder: Path, stdout: Path, stderr: Path, environment: Mapping[str, str], words: tuple[str, ...]) -> None:
    from app.service.commands import main  # noqa: PLC0415  the tests themselves need none of it

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    with Path(os.devnull).open("rb") as nothing, stdout.open("ab") as output, stderr.open("ab") as trouble:
        for stream, descriptor in ((nothing, 0), (output, 1), (trouble, 2)):
            os.dup2(stream.fileno(), descriptor)
    main(words)


class _ForkedSandbox:
    """What the client of a sandbox needs of `subprocess.Popen`."""

    def __init__(self, _command: Sequence[str], *, stdin: int, **_streams: object) -> None:
        with socket.socket(fileno=os.dup(stdin)) as channel:
            self._process = _CONTEXT.Process(target=_serve_jobs, args=(channel,), daemon=True)
            self._process.start()
        self.pid = self._process.pid
        self.kill = self._process.kill

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, seconds: float | None = None) -> int:
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("sandbox", seconds or 0)
        return code


def _serve_jobs(channel: socket.socket) -> None:
    from app.transforms.sandbox.__main__ import main  # noqa: PLC0415  as above
    from app.transforms.sandbox.wire import HungUp  # noqa: PLC0415

    os.dup2(channel.fileno(), 0)
    channel.close()
    os.chdir(ROOT)
    try:
        main()
    except HungUp:
        return


FORKED = SimpleNamespace(Popen=_ForkedSandbox, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)
"""In the place of `subprocess` in the client of the sandbox; `tests/transforms/test_sandbox.py` starts it as it is."""
