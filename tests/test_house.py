"""The house: which file may use which library says its name, and the tree in the docs is the tree in the checkout."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import FrameType

import pytest
from werkzeug.test import EnvironBuilder

from tests.builders import a_document, to_raw
from tests.served import ROOT, signed
from tests.sites import Site

APP = ROOT / "app"
WINGS = ("ingest", "transforms", "calls", "metrics", "forward", "replay", "corrections", "backfill", "evidence")

SQL = frozenset({"alembic", "psycopg", "sqlalchemy", "sqlite3"})
HTTP = frozenset({"flask", "gevent", "gunicorn", "werkzeug"})
TERMINAL = frozenset({"click"})

# Where a library may be used: folders, and names of files in a wing.
ROOMS = {
    SQL: (("store",), r"sql_\w+"),
    HTTP: (("web", "service"), r"api\w*|pages\w*|http_\w+"),
    TERMINAL: (("cli", "service"), r"commands\w*"),
}


def libraries_of(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("libraries", ROOMS, ids=min)
def test_a_library_is_used_where_the_name_of_the_file_says_so(libraries: frozenset[str]) -> None:
    folders, names = ROOMS[libraries]
    users = [file.relative_to(APP) for file in APP.rglob("*.py") if libraries & set(libraries_of(file))]
    assert users
    strangers = [
        str(file)
        for file in users
        if file.parts[0] not in folders
        and not (file.parts[0] in {*WINGS, "service"} and re.fullmatch(names, file.stem))
    ]
    assert strangers == []


def test_each_folder_is_on_the_tree_of_the_design_and_in_the_layers() -> None:
    folders = {file.name for file in APP.iterdir() if file.is_dir() and (file / "__init__.py").exists()}
    tree = (ROOT / "docs" / "design.md").read_text().partition("```")[2].partition("```")[0]
    on_tree = set(re.findall(r"^ {2}(\w+)/", tree, re.MULTILINE))
    assert folders == on_tree
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = {name.strip() for layer in contracts[0]["layers"] for name in layer.split("|")}
    assert layers == {file.stem for file in APP.iterdir() if file.stem.isidentifier() and file.stem != "__init__"} - {
        "__pycache__"
    }
    assert set(WINGS) < layers


FILES_MAX = 40
CHANGES_MAX = 121
"""What the way of a call was when the service had no wings."""


def test_the_way_of_a_stored_call_is_short_and_leads_past_where_things_are_put_together(site: Site) -> None:
    way: list[str] = []

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and Path(frame.f_code.co_filename).is_relative_to(APP):
            way.append(str(Path(frame.f_code.co_filename).relative_to(APP)))

    def send(number: int) -> None:
        body = to_raw(a_document(messageId=f"way-{number}"))
        sent = EnvironBuilder("/webhooks/segment", method="POST", data=body, headers=[*signed(body).items()])
        assert b'"stored":1' in b"".join(site.app.wsgi_app(sent.get_environ(), lambda *_: lambda _data: None))

    for number in range(3):
        send(number)
    sys.setprofile(note)
    try:
        send(3)
    finally:
        sys.setprofile(None)
    changes = sum(before != after for before, after in pairwise(way))
    assert len(set(way)) <= FILES_MAX
    assert changes < CHANGES_MAX, changes
    assert not {"service/build.py", "service/flask_app.py", "service/commands.py"} & set(way)
