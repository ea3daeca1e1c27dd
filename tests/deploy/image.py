"""Runs the steps of a Dockerfile in order, where no builder can fetch the base image.

A stage begins as an overlay of this machine's files, with the Python of the tests as `python`. COPY, RUN, WORKDIR, ENV
and USER do what they do in a builder, RUN without any network. The mounts end with the process.
"""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

from tests.deploy.files import DOCKERFILE, Instruction
from tests.served import ROOT

_PREPARE = """\
set -eu
mount -t tmpfs tmpfs {place}
ip link set lo up
new_root() {{
    mkdir -p "$1/upper" "$1/work" "$1/files"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/files"
    mount --rbind /dev "$1/files/dev"
    mount -t proc proc "$1/files/proc"
    mount -t tmpfs -o mode=1777 tmpfs "$1/files/tmp"
    rm -rf "$1/files/opt" "$1/files/srv"
    mkdir -p "$1/files/opt" "$1/files/srv" "$1/files/wheels" "$1/upper-python" "$1/work-python"
    mount --bind {wheels} "$1/files/wheels"
    # Where the base image has its Python. That of the tests may belong to a person; there everybody can run it.
    mount -t overlay overlay -o "lowerdir={prefix},upperdir=$1/upper-python,workdir=$1/work-python" "$1/files/usr/local"
    ln -sf {python} "$1/files/usr/local/bin/python"
    for folder in {folders}; do chmod a+x "$1/files$folder" "$1/files/usr/local"; done
}}
"""

_PIP = {
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": "/wheels",
    "PIP_CONFIG_FILE": "/dev/null",
    # Half of the time: Python compiles what it imports.
    "PIP_NO_COMPILE": "1",
}


def find_ignored(name: str) -> bool:
    """Whether the builder leaves out a file or folder at the top of the repository."""
    lines = Path(f"{DOCKERFILE}.dockerignore").read_text().splitlines()
    assert "*" in lines
    return f"!{name}" not in lines


def lay_context(folder: Path) -> None:
    """Copy what is sent to the builder."""
    folder.mkdir()
    for path in ROOT.iterdir():
        if not find_ignored(path.name):
            if path.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "screenshots")
                shutil.copytree(path, folder / path.name, symlinks=True, ignore=ignored)
            else:
                shutil.copy(path, folder)


class Image:
    """The shell lines of a Dockerfile's steps, and what they lead to. A method for each instruction."""

    def __init__(self, steps: list[Instruction], place: Path, context: Path, wheels: Path) -> None:
        """`place`: an empty folder for the mounts. `context`: what the builder gets. `wheels`: what pip finds."""
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        folders = " ".join(str(folder) for folder in [*reversed(Path(sys.base_prefix).parents), sys.base_prefix])
        start = _PREPARE.format(
            place=place, wheels=wheels, prefix=sys.base_prefix, python=f"python{version}", folders=folders
        )
        self._lines = [start]
        self._place = place
        self._context = context
        self._stages: dict[str, str] = {}
        self.root = ""
        """The root of the last stage, while the lines run."""
        self.command: list[str] = []
        self.health: list[str] = []
        self._begin()
        for word, rest in steps:
            getattr(self, f"_do_{word.lower()}")(rest)

    @property
    def script(self) -> str:
        """The shell lines that make it."""
        return "\n".join(self._lines)

    @property
    def run(self) -> str:
        """The prefix of a command in it: its user, environment and folder."""
        pairs = {"PATH": "/usr/local/bin:/usr/bin:/bin", **_PIP, **self._environment}
        return shlex.join(
            [
                *("chroot", f"--userspec={self._user}", self.root),
                *("/usr/bin/env", "-i", f"--chdir={self._folder}"),
                *(f"{name}={value}" for name, value in pairs.items()),
            ]
        )

    def _begin(self) -> None:
        self._folder, self._user = "/", "0:0"
        self._environment: dict[str, str] = {}

    def _do_from(self, rest: str) -> None:
        self.root = f"{self._place}/{len(self._stages)}/files"
        self._stages[rest.partition(" AS ")[2]] = self.root
        self._begin()
        self._lines.append(f"new_root {shlex.quote(str(Path(self.root).parent))}")

    def _do_env(self, rest: str) -> None:
        self._environment |= dict(pair.split("=", 1) for pair in rest.split())

    def _do_workdir(self, rest: str) -> None:
        self._folder = rest
        self._lines.append(f"mkdir -p {self.root}{rest}")

    def _do_user(self, rest: str) -> None:
        self._user = rest

    def _do_run(self, rest: str) -> None:
        self._lines.append(f"{self.run} /bin/sh -c {shlex.quote(rest)}")

    def _do_copy(self, rest: str) -> None:
        *options, source, target = rest.split()
        stage = re.fullmatch(r"--from=(\w+)", options[0]) if options else None
        origin = f"{self._stages[stage[1]]}{source}" if stage else f"{self._context}/{source}"
        target = f"{self.root}{target if target.startswith('/') else f'{self._folder}/{target}'}"
        copy = "cp -a --no-preserve=ownership"
        as_folder = f"mkdir -p {target} && {copy} {origin}/. {target}/"
        as_file = f"{copy} {origin} {target}"
        self._lines.append(f"if [ -d {origin} ]; then {as_folder}; else {as_file}; fi")

    def _do_healthcheck(self, rest: str) -> None:
        self.health = json.loads(rest.partition(" CMD ")[2])

    def _do_cmd(self, rest: str) -> None:
        self.command = json.loads(rest)

    def _do_expose(self, _rest: str) -> None:
        """Say which port it is: nothing is to be done."""
