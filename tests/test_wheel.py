"""The wheel has all that the program needs to run: what is in a checkout beside the code, too."""

import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
from flit_core.buildapi import build_sdist, build_wheel

from tests.docs import DOCS, ROOT

# Renders pages of the documentation by their names, and says which program did.
RENDER = """
import sys
from app.service import help
print(help.__file__)
for name in sys.argv[1:]:
    print(help.article(name).title.text)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an installed wheel that was built from a source distribution, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    with chdir(ROOT):
        archive = folder / build_sdist(str(folder))
    shutil.unpack_archive(archive, folder, filter="data")
    with chdir(folder / archive.name.removesuffix(".tar.gz")):
        wheel = folder / build_wheel(str(folder))
    shutil.unpack_archive(wheel, folder / "installed", "zip")
    return folder / "installed"


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
