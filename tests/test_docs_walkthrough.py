"""Every command of the walk-throughs works as written: in a fresh copy, in order, against a real service.

A block marked `sh` is run: `make serve` in a terminal of its own (again: a restart), `make test` not at all, since it
would run this test. A `json` or `text` block right below one is what it prints. `sh example` is not run.
"""

import contextlib
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import command_server
from tests.docs import DOCS, README, ROOT, Block, blocks_of
from tests.programs import require_program
from tests.served import free_port, wait_until

# A fresh clone has these; the rest of it is not needed to run the program.
CLONED = ("app", "docs", "metrics", "transforms", "Makefile", "pyproject.toml", "requirements.txt", "Procfile")
WALK = (
    README,
    *(DOCS / f"{name}.md" for name in ("segment", "api", "metrics", "operate", "forward", "corrections", "backfill")),
)
# They go on until they are stopped, in terminals of their own.
LASTING = ("make serve", "segment-lotus fake-lotus")
MAX_EXAMPLES = 6


class Terminals:
    """A fresh copy of the checkout, one terminal to type in, and others for what goes on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "segment-lotus"
        self.ports = {"8000": str(free_port()), "8300": str(free_port())}
        self._door = str(folder / "commands")
        inherited = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
        self._environment = {name: os.environ[name] for name in inherited if name in os.environ} | {
            "PORT": self.ports["8000"],
            "WEB_CONCURRENCY": "1",
            "PYTHONPATH": str(self.folder),
        }
        self._lasting: dict[str, subprocess.Popen[bytes]] = {}
        self._copy()
        program = [sys.executable, "-P", str(ROOT / "tests" / "command_server.py"), self._door]
        self._commands = self._start(program, "commands.log")
        wait_until(Path(self._door).exists)
        self._shell = subprocess.Popen(
            ["bash", "-e", "-o", "pipefail"],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _copy(self) -> None:
        self.folder.mkdir()
        for name in CLONED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, self.folder / name, ignore=shutil.ignore_patterns("__pycache__", "screenshots"))
            else:
                shutil.copy2(source, self.folder)
        # As after `make` has set it up, without the half minute.
        binaries = self.folder / ".venv" / "bin"
        binaries.mkdir(parents=True)
        (binaries / "activate").write_text(f'PATH="{binaries}:$PATH"\n')
        client = command_server.CLIENT.format(python=sys.executable, path=self._door)
        (binaries / "quick").write_text(client)
        (binaries / "segment-lotus").write_text(
            "#!/bin/sh\n"
            f'case "$1" in serve | fake-lotus) exec {sys.executable} -m app.service "$@" ;; esac\n'
            f'exec {binaries}/quick "$@"\n'
        )
        for name in ("quick", "segment-lotus", "pip"):
            (binaries / name).touch(0o755)
            (binaries / name).chmod(0o755)
        (self.folder / ".venv" / ".runtime").touch()

    def _start(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as output:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def type(self, text: str) -> str:
        """Type a block; return what it prints. Raises AssertionError where a command of it fails."""
        for port, free in self.ports.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}")
        (self.folder / "block.sh").write_text(text)
        (self.folder / "errors").write_bytes(b"")
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(". ./block.sh < /dev/null 2> errors; printf '\\n-- done --\\n'\n")
        self._shell.stdin.flush()
        printed = ""
        while (line := self._shell.stdout.readline()) != "-- done --\n":
            printed += line
            assert line, f"{printed}\n{(self.folder / 'errors').read_text()}"
        return printed.removesuffix("\n")

    def start(self, command: str) -> None:
        """Start what goes on, or start it anew; wait until it answers."""
        if running := self._lasting.pop(command, None):
            stop(running)
        name, port, words = "serve", self.ports["8000"], ["make", "serve"]
        if command != "make serve":
            name, port = "fake-lotus", self.ports["8300"]
            words = [".venv/bin/segment-lotus", name, "--port", port]
        self._lasting[command] = self._start(words, f"{name}.log")
        process = self._lasting[command]
        wait_until(lambda: answers(int(port)) or process.poll() is not None, 90)
        assert process.poll() is None, (self.folder / f"{name}.log").read_text()

    def close(self) -> None:
        """End everything that was started."""
        for process in (*self._lasting.values(), self._commands):
            stop(process)
        self._shell.kill()
        self._shell.communicate()


def stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait(5)


def answers(port: int) -> bool:
    """Whether a request is answered. A port is open long before, on a busy machine."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        try:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
    return True


@contextlib.contextmanager
def terminals(folder: Path) -> Iterator[Terminals]:
    opened = Terminals(folder)
    try:
        yield opened
    finally:
        opened.close()


def masked(text: str) -> str:
    """Ids and times differ from run to run."""
    text = re.sub(r"\b\d{18}\b", "ID", text)
    return re.sub(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?\b", "TIME", text).strip()


def go_through(block: Block, opened: Terminals) -> str:
    typed = []
    for line in block.text.splitlines(keepends=True):
        command = line.partition("#")[0].strip()
        if command in LASTING:
            opened.start(command)
        elif command != "make test":
            typed.append(line)
    text = "".join(typed)
    return opened.type(text) if text.strip() else ""


# Some fifteen seconds of a processor; minutes where a dozen others want it.
@pytest.mark.timeout(300)
def test_every_command_of_the_walk_throughs_works_as_written(tmp_path: Path) -> None:
    for program in ("bash", "curl", "make", "openssl"):
        require_program(program)
    compared = 0
    with terminals(tmp_path) as opened:
        for page in WALK:
            printed = ""
            for block in blocks_of(page):
                if block.info == "sh":
                    printed = go_through(block, opened)
                elif block.info in {"json", "text"} and block.follows and printed:
                    assert masked(printed) == masked(block.text), block.place
                    compared += 1
                    printed = ""
                else:
                    printed = ""
    assert compared >= 4


def test_few_blocks_are_not_run() -> None:
    infos = [block.info for page in WALK for block in blocks_of(page)]
    assert infos.count("sh example") <= MAX_EXAMPLES
    assert not [info for info in infos if re.match(r"(bash|console|shell)", info)], "mark them sh, or sh example"
