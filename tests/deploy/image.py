"""Runs the steps of a Dockerfile in order, where no builder can fetch the base image: in overlays of this machine's files.

A stage begins as this machine, with the Python of the tests as `python`. COPY, RUN, WORKDIR, ENV and USER do what they do
in a builder, RUN without any network. All of it ends with the process: the mounts are its own.
"""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from tests.deploy.files import DOCKERFILE, Instruction
from tests.served import ROOT

_PREPARE = """\
set -eu
mount -t tmpfs tmpfs {place}
ip link set lo up
new_root() {{
    mkdir -p "$1/upper" "$1/work" "$1/root"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
    mount --rbind /dev "$1/root/dev"
    mount -t proc proc "$1/root/proc"
    mount -t tmpfs -o mode=1777 tmpfs "$1/root/tmp"
    rm -rf "$1/root/opt" "$1/root/srv"
    mkdir -p "$1/root/opt" "$1/root/srv" "$1/root/wheels" "$1/upper-python" "$1/work-python"
    mount --bind {wheels} "$1/root/wheels"
    # Where the base image has its Python. That of the tests may belong to a person; there everybody can run it.
    mount -t overlay overlay -o "lowerdir={prefix},upperdir=$1/upper-python,workdir=$1/work-python" "$1/root/usr/local"
    ln -sf {python} "$1/root/usr/local/bin/python"
    for folder in {folders}; do chmod a+x "$1/root$folder" "$1/root/usr/local"; done
}}
"""

_PIP = {
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": "/wheels",
    "PIP_CONFIG_FILE": "/dev/null",
    # Half of the time: Python compiles what it imports.
    "PIP_NO_COMPILE": "1",
}


class Image(NamedTuple):
    """What the steps lead to."""

    script: str
    """Shell lines that make it."""
    root: str
    """Its root, while they run."""
    run: str
    """The prefix of a command in it: its user, environment and folder."""
    command: list[str]
    health: list[str]


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


def to_image(steps: list[Instruction], place: Path, context: Path, wheels: Path) -> Image:
    """Return the shell lines that make the image, in `place`."""
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folders = " ".join(str(folder) for folder in [*reversed(Path(sys.base_prefix).parents), sys.base_prefix])
    lines = [_PREPARE.format(place=place, wheels=wheels, prefix=sys.base_prefix, python=python, folders=folders)]
    stages: dict[str, str] = {}
    root, folder, user, environment = "", "/", "0:0", dict[str, str]()
    command: list[str] = []
    health: list[str] = []

    def prefix() -> str:
        pairs = {"PATH": "/usr/local/bin:/usr/bin:/bin", **_PIP, **environment}
        return shlex.join(
            ["chroot", f"--userspec={user}", root, "/usr/bin/env", "-i", f"--chdir={folder}"]
            + [f"{name}={value}" for name, value in pairs.items()]
        )

    for word, rest in steps:
        if word == "FROM":
            root, folder, user, environment = f"{place}/{len(stages)}/root", "/", "0:0", {}
            stages[rest.partition(" AS ")[2]] = root
            lines.append(f"new_root {shlex.quote(str(Path(root).parent))}")
        elif word == "ENV":
            environment |= dict(pair.split("=", 1) for pair in rest.split())
        elif word == "WORKDIR":
            folder = rest
            lines.append(f"mkdir -p {shlex.quote(root + folder)}")
        elif word == "USER":
            user = rest
        elif word == "RUN":
            lines.append(f"{prefix()} /bin/sh -c {shlex.quote(rest)}")
        elif word == "COPY":
            stage = re.match(r"--from=(\w+) ", rest)
            source, target = rest.split()[-2:]
            origin = f"{stages[stage[1]]}{source}" if stage else f"{context}/{source}"
            target = target if target.startswith("/") else f"{folder}/{target}"
            into = target if target.endswith("/") else str(Path(target).parent)
            as_folder = f"mkdir -p {root}{target} && cp -a --no-preserve=ownership {origin}/. {root}{target}/"
            as_file = f"mkdir -p {root}{into} && cp -a --no-preserve=ownership {origin} {root}{target}"
            lines.append(f"if [ -d {origin} ]; then {as_folder}; else {as_file}; fi")
        elif word == "HEALTHCHECK":
            health = json.loads(rest.partition(" CMD ")[2])
        elif word == "CMD":
            command = json.loads(rest)
        else:
            assert word == "EXPOSE", f"{word} is not known here"
    return Image("\n".join(lines), root, prefix(), command, health)
