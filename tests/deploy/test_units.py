"""The units of systemd, by its own checks; and what they start, started as they say."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.deploy.files import UNITS, unit
from tests.forked import run_command
from tests.programs import require_program
from tests.served import ADMIN_TOKEN, ROOT, free_port, wait_until
from tests.service.test_serve import INHERITED, answers

PROGRAM = "/opt/segment-lotus/bin/segment-lotus"
# Debian's own services have 9 and more; 2 is what their makers call well locked up.
MAX_EXPOSURE = 2.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of a machine on which the service is installed, with systemd's own units."""
    systemd = Path("/usr/lib/systemd/system")
    require_program("systemd-analyze")
    shutil.copytree(systemd, tmp_path / "root" / systemd.relative_to("/"), symlinks=True)
    own = tmp_path / "root" / "etc" / "systemd" / "system"
    own.mkdir(parents=True)
    for path in UNITS:
        shutil.copy(path, own)
    program = tmp_path / "root" / PROGRAM.removeprefix("/")
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path / "root"


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    command = [require_program("systemd-analyze"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systemd_finds_nothing_wrong(root: Path) -> None:
    names = [path.name for path in UNITS]
    verified = analyze("verify", f"--root={root}", *names)
    assert (verified.returncode, verified.stderr) == (0, "")
    misspelt = root / "etc" / "systemd" / "system" / names[0]
    misspelt.write_text(misspelt.read_text().replace("ProtectHome=", "ProtectHomes="))
    assert "ProtectHomes" in analyze("verify", f"--root={root}", names[0]).stderr


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_is_locked_up(path: Path) -> None:
    judged = analyze("security", "--offline=yes", "--no-pager", f"--threshold={MAX_EXPOSURE * 10:.0f}", str(path))
    assert judged.returncode == 0, judged.stdout.splitlines()[-1:]


def environment_of(path: Path, folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that a unit gives, with the folders of a machine below `folder`."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    own = dict(value.split("=", 1) for value in unit(path)["Environment"])
    own = {
        name: value.replace("/etc/", f"{folder}/etc/").replace("/var/", f"{folder}/var/") for name, value in own.items()
    }
    # What stands in the file goes before what stands in the unit.
    return {**inherited, **own, **settings, "PYTHONPATH": str(ROOT)}


def test_what_the_unit_starts_serves_and_tells_systemd_when_it_is_ready(tmp_path: Path) -> None:
    folder = tmp_path / "var" / "lib" / "segment-lotus"
    folder.mkdir(parents=True)
    for name in ("transforms", "metrics"):
        shutil.copytree(ROOT / name, tmp_path / "etc" / "segment-lotus" / name)
    port = free_port()
    settings = {"SEGMENT_SHARED_SECRETS": "a secret of a file", "ADMIN_TOKEN": ADMIN_TOKEN}
    settings |= {"PORT": str(port), "WEB_CONCURRENCY": "1", "NOTIFY_SOCKET": str(tmp_path / "notify")}
    environment = environment_of(UNITS[0], tmp_path, settings)
    [before], [start] = unit(UNITS[0])["ExecStartPre"], unit(UNITS[0])["ExecStart"]
    assert before.split()[0] == start.split()[0] == PROGRAM
    assert run_command(folder, environment, *before.split()[1:]).returncode == 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, (tmp_path / "log").open("wb") as log:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        command = [sys.executable, "-m", "app.service", *start.split()[1:]]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, start_new_session=True)
        try:
            assert b"READY=1" in systemd.recv(4096)
            wait_until(lambda: answers(port), 30)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert (folder / "segment-lotus.db").exists()
