"""The image: its steps lead to a service that runs as nobody in particular, on files that it cannot change."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.deploy.files import instructions
from tests.deploy.image import Image, find_ignored, lay_context
from tests.programs import require_program
from tests.served import ADMIN_TOKEN, ROOT

WHEELS = ROOT / ".cache" / "wheels"
SETTINGS = {
    "DATABASE_URL": "sqlite:///var/segment-lotus.db",
    "SEGMENT_SHARED_SECRETS": "a secret",
    "ADMIN_TOKEN": ADMIN_TOKEN,
    "WEB_CONCURRENCY": "1",
}

# As Kubernetes and Compose run it: no file can be changed, but for the volume of a SQLite file and /tmp.
TRY = """
chroot {root} /opt/segment-lotus/bin/python -c "import app.service.flask_app, app.service.commands, gunicorn.app.base"
{run} find /opt /srv -writable -not -type l -not -path /srv/segment-lotus/var
mount -t tmpfs -o uid=10001,gid=10001,mode=0700 tmpfs {root}/srv/segment-lotus/var
mount -o remount,ro {root}
! {run} touch /srv/segment-lotus/transforms/mine.yaml 2> /dev/null
{run} {settings} segment-lotus migrate
{run} {settings} {command} > {place}/log 2>&1 &
service=$!
for attempt in $(seq 300); do
    if {run} {settings} {health} 2> /dev/null; then echo "healthy after some time"; break; fi
    sleep 0.1
done
echo "users $(stat --format=%u:%g /proc/$service)"
{run} {settings} segment-lotus send sample
{run} curl --silent http://127.0.0.1:8000/readyz
echo
kill -TERM $service
wait $service && echo "ended in order"
! {run} {settings} {health} 2> /dev/null && echo "then not healthy"
"""


def pins() -> set[str]:
    """Return what the build installs, as the files of wheels begin."""
    text = (ROOT / "requirements.txt").read_text() + (ROOT / "pyproject.toml").read_text()
    found = re.findall(r'^([a-z0-9-]+)==(\S+)|"(flit_core)==(.+?)"', text, re.MULTILINE)
    return {
        f"{(name or build).replace('-', '_')}-{version or build_version}"
        for name, version, build, build_version in found
    }


def wheels() -> set[str]:
    """Return how the files of the wheels that are there begin."""
    names = (path.name.lower().split("-")[:2] for path in WHEELS.glob("*.whl"))
    return {f"{re.sub('[-_.]+', '_', name)}-{version}" for name, version in names}


def test_the_builder_gets_all_that_the_steps_copy_and_nothing_private(tmp_path: Path) -> None:
    copied = [each.rest.split() for each in instructions() if each.word == "COPY" and "--from" not in each.rest]
    assert copied
    for *sources, _ in copied:
        assert not any(find_ignored(name) for name in sources)
        assert all((ROOT / name).exists() for name in sources)
    for name in (".env", ".git", ".venv", "var", "tests"):
        assert find_ignored(name)


@pytest.mark.timeout(300)
def test_the_steps_of_the_image_lead_to_a_service(tmp_path: Path) -> None:
    for program in ("unshare", "curl", "ip"):
        require_program(program)
    if pins() - wheels():
        pytest.skip(
            "needs .cache/wheels: pip download --dest .cache/wheels --requirement requirements.txt flit_core==3.12.0"
        )
    if os.geteuid():
        pytest.skip("needs to be root: it mounts what the steps of the image write to")
    context, place = tmp_path / "context", tmp_path / "place"
    lay_context(context)
    place.mkdir()
    image = Image(instructions(), place, context, WHEELS)
    script = image.script + TRY.format(
        run=image.run,
        root=image.root,
        place=place,
        settings=shlex.join(["/usr/bin/env", *(f"{name}={value}" for name, value in SETTINGS.items())]),
        command=shlex.join(image.command),
        health=shlex.join(image.health),
    )
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--propagation=private", "bash", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    lines = done.stdout.splitlines()
    # No file but the volume and /tmp is this user's to change.
    assert [line for line in lines if line.startswith(("/opt", "/srv"))] == []
    assert "healthy after some time" in lines
    assert "users 10001:10001" in lines
    assert sum('"stored":1' in line for line in lines) == 3
    assert '{"status":"ready"}' in lines
    assert lines[-2:] == ["ended in order", "then not healthy"]
