"""`serve` in an empty folder sets everything up, whoever is killed meanwhile, and does so nowhere else.

`tests/test_wheel.py` starts it there, and sends calls.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.service import first_start
from app.service.first_start import STOCK, UNFINISHED, is_first_start, prepare_folder
from app.settings import load_for_serving
from app.store.engine import connect
from app.store.migrate import is_current
from tests.docs import ROOT
from tests.served import free_port
from tests.service.test_serve import INHERITED, Folder

EVERYWHERE = "0.0.0.0"  # noqa: S104  nothing listens there
A_SECRET = {"SEGMENT_SHARED_SECRETS": "one of a deployment"}


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which this process stands."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def texts_below(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("files", "environ", "is_first"),
    [
        ((), {}, True),
        ((".venv", ".gitignore"), {"PORT": "9000", "WEB_CONCURRENCY": "1", "TIME_ZONE": "Europe/Berlin"}, True),
        ((), {"HOST": "localhost", "ADMIN_TOKEN": " "}, True),
        # It was killed in the middle.
        ((".env.unfinished", "transforms", "var"), {}, True),
        # Configured in the environment, or to be reached by others: a node of a deployment.
        ((), {"HOST": EVERYWHERE}, False),
        ((), A_SECRET, False),
        ((), {"DATABASE_URL": "sqlite:///my.db"}, False),
        ((), {"LOTUS_HOST": "https://lotus.example.com"}, False),
        ((), {"PUBLIC_URL": "https://billing.example.com"}, False),
        ((), {"TRANSFORMS_DIR": "/srv/transforms"}, False),
        ((".env.unfinished",), A_SECRET, False),
        # Somebody's own files: the secrets may have been left out by mistake.
        (("transforms",), {}, False),
        (("var",), {}, False),
        (("Procfile",), {}, False),
        ((".env",), {}, False),
    ],
)
def test_only_an_empty_folder_that_nothing_configures_is_set_up(
    empty: Path, files: tuple[str, ...], environ: Mapping[str, str], is_first: bool
) -> None:
    for name in files:
        (empty / name).touch()
    assert is_first_start(environ) is is_first


def test_without_settings_a_node_ends_with_a_sentence_and_writes_nothing(tmp_path: Path) -> None:
    done = Folder(tmp_path, free_port()).type("serve", HOST=EVERYWHERE)
    assert done.returncode == 1
    assert "DATABASE_URL is not set" in done.stderr
    assert "`segment-lotus init` writes a .env" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(empty: Path) -> None:
    (empty / UNFINISHED).mkdir()
    done = Folder(empty, free_port()).type("serve", TRANSFORMS_DIR="")
    assert done.returncode == 1
    assert done.stderr == f"error: {empty} cannot be set up: Is a directory\n"


PREPARE_AND_DIE = """
import os, sys
from app.service.first_start import prepare_folder

def die(event, arguments):
    if event == sys.argv[1] and sys.argv[2] in str(arguments[0]):
        os._exit(9)

sys.addaudithook(die)
prepare_folder()
"""

KILLS = [
    ("open", ".env.unfinished"),
    ("shutil.copyfile", "seats.yaml"),
    ("sqlite3.connect", "segment-lotus.db"),
    ("os.rename", ".env.unfinished"),
]


def test_killed_at_any_point_the_next_start_sets_up_all(empty: Path) -> None:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ} | {"PYTHONPATH": str(ROOT)}
    for event, argument in KILLS:
        command = [sys.executable, "-c", PREPARE_AND_DIE, event, argument]
        assert subprocess.run(command, env=inherited, capture_output=True, check=False).returncode == 9, event
        assert is_first_start({})
    prepare_folder()
    settings = load_for_serving({}, empty / ".env")
    database = connect(settings.database_url)
    with database.reading() as conn:
        assert is_current(conn)
    database.close()
    for name in STOCK:
        assert texts_below(empty / name) == texts_below(ROOT / name)
    assert {path.name for path in empty.iterdir()} == {".env", "var", *STOCK}


def test_two_starts_at_once_have_one_set_of_secrets(empty: Path) -> None:
    def prepare(_number: int) -> str:
        prepare_folder()
        return (empty / ".env").read_text()

    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(prepare, range(4)))
    assert len(set(texts)) == 1
    assert {path.name for path in empty.iterdir()} == {".env", "var", *STOCK}


def test_who_comes_second_leaves_what_is_there(empty: Path) -> None:
    prepare_folder()
    before = (empty / ".env").read_text()
    (empty / "transforms" / "_default.yaml").write_text("of a person")
    prepare_folder()
    assert (empty / ".env").read_text() == before
    assert (empty / "transforms" / "_default.yaml").read_text() == "of a person"
    assert not (empty / UNFINISHED).exists()


@pytest.mark.parametrize("name", STOCK)
def test_each_shipped_file_has_its_link_in_the_stock(name: str) -> None:
    links = Path(first_start.__file__).with_name("stock") / name
    assert texts_below(links) == texts_below(ROOT / name)
    assert all(path.is_symlink() for path in links.iterdir())
