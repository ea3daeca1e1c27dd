"""The house: which file may use which library says its name, and the tree in the docs is the tree in the checkout."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.served import ROOT

APP = ROOT / "app"
WINGS = ("ingest", "transforms", "calls", "metrics", "forward", "replay")

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
