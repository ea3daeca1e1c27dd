"""The wheel has all that the program needs to run: what is in a checkout beside the code, too."""

import contextlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import venv
from contextlib import chdir
from importlib import metadata
from pathlib import Path

import pytest
from flit_core.buildapi import build_sdist, build_wheel

from app.service.first_start import STOCK
from tests.builders import a_document, to_raw
from tests.docs import DOCS, ROOT
from tests.served import WEBHOOK, ask, free_port, signed, wait_until
from tests.service.test_serve import INHERITED, answers
from tests.test_lock import pins_of

# Renders pages of the documentation by their names, and says which program did.
RENDER = """
import sys
from app.service import help
print(help.__file__)
for name in sys.argv[1:]:
    print(help.article(name).title.text)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that was built from a source distribution, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    with chdir(ROOT):
        archive = folder / build_sdist(str(folder))
    shutil.unpack_archive(archive, folder, filter="data")
    with chdir(folder / archive.name.removesuffix(".tar.gz")):
        name: str = build_wheel(str(folder))
    return folder / name


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The folder of the unpacked wheel."""
    folder = wheel.parent / "installed"
    shutil.unpack_archive(wheel, folder, "zip")
    return folder


@pytest.fixture(scope="module")
def environment(wheel: Path) -> Path:
    """An environment with the wheel, the libraries of the lock file, and nothing else."""
    folder = wheel.parent / "environment"
    venv.create(folder, symlinks=True)
    [packages] = folder.glob("lib/python3*/site-packages")
    for name, version in pins_of("requirements.txt").items():
        distribution = metadata.distribution(name)
        assert distribution.version == version
        for file in distribution.files or ():
            if file.parts[0] != "..":
                link = packages / file.parts[0]
                if not link.exists():
                    link.symlink_to(str(distribution.locate_file(file.parts[0])))
    command = [sys.executable, "-m", "pip", "--python", str(folder), "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*command, "--disable-pip-version-check", str(wheel)], check=True)
    return folder


def test_a_wheel_shows_the_documentation_without_a_checkout(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {file.name: file.read_bytes() for file in sorted(DOCS.glob("*.md"))}
    folder = installed / "app" / "service" / "docs"
    assert {file.name: file.read_bytes() for file in folder.iterdir() if not file.is_symlink()} == pages
    names = [name.removesuffix(".md") for name in pages]
    monkeypatch.setenv("PYTHONPATH", str(installed))
    command = [sys.executable, "-c", RENDER, *names]
    program, *titles = subprocess.check_output(command, cwd=installed, text=True).splitlines()
    assert program == str(installed / "app" / "service" / "help.py")
    assert titles == [text.decode().partition("\n")[0].removeprefix("# ") for text in pages.values()]


def test_what_is_no_code_is_in_the_wheel(installed: Path) -> None:
    files = {file.relative_to(ROOT) for file in (ROOT / "app").rglob("*") if file.is_file() and file.suffix != ".pyc"}
    assert {file.suffix for file in files} >= {".html", ".js", ".css", ".svg", ".mako", ".md"}
    assert [file for file in files if not (installed / file).is_file()] == []


def test_installed_in_a_clean_environment_serve_in_an_empty_folder_works_as_make_serve_does(
    environment: Path, tmp_path: Path
) -> None:
    port = free_port()
    # As `python -m venv .venv` leaves it.
    (tmp_path / ".venv").mkdir()
    settings = {name: os.environ[name] for name in INHERITED if name in os.environ}
    settings |= {"PORT": str(port), "WEB_CONCURRENCY": "1"}
    service = subprocess.Popen(
        [str(environment / "bin" / "segment-lotus"), "serve"],
        cwd=tmp_path,
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: answers(port) or service.poll() is not None, 60)
        values = dict(re.findall(r"^([A-Z_]+)=(.+)$", (tmp_path / ".env").read_text(), re.MULTILINE))
        secret, token = values["SEGMENT_SHARED_SECRETS"], values["ADMIN_TOKEN"]
        body = to_raw(a_document(event="API Call", properties={"endpoint": "/", "region": "eu"}))
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            receipt = ask(connection, "POST", WEBHOOK, body, signed(body, secret=secret))
            usage = "/api/v1/metrics/api_calls/usage?start=2020-01-01&end=2040-01-01"
            answer = ask(connection, "GET", usage, headers={"Authorization": f"Bearer {token}"})
    finally:
        service.terminate()
        stdout, stderr = service.communicate(timeout=30)
    assert receipt.json["stored"] == 1, stderr
    assert [row["value"] for row in answer.json["rows"]] == ["1"]
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert f"Wrote {tmp_path}/.env with a new shared secret and admin token" in stderr
    assert secret not in stdout + stderr
    assert token not in stdout + stderr
    for name in STOCK:
        shipped = {path.name: path.read_bytes() for path in (ROOT / name).iterdir()}
        assert {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} == shipped
        assert not any(path.is_symlink() for path in (tmp_path / name).iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {".env", ".venv", "var", *STOCK}
