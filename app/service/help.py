"""The documentation under /help: the pages of `docs/`, as they are in this checkout or wheel.

`app/service/docs` has a symbolic link to each page; in a wheel, the text itself. So both are read in the same way.
"""

from functools import cache
from pathlib import Path

from flask import Blueprint, Response

from app.errors import NotFound
from app.service.markdown import Article, render
from app.web.pages import Pages

_FOLDER = Path(__file__).with_name("docs")
_INDEX = "index"


def help_pages(pages: Pages) -> Blueprint:
    """Return the routes of the documentation."""
    blueprint = pages.blueprint("help")
    files = _files()

    @blueprint.get("/help")
    def show_index() -> Response:
        return pages.show("help.html", lambda _backend: {"article": article(_INDEX)}, is_index=True)

    @blueprint.get("/help/<page>")
    def show_page(page: str) -> Response:
        if page not in files:
            raise NotFound(f"the documentation has no page {page[:40]!a}")
        return pages.show("help.html", lambda _backend: {"article": article(page)}, is_index=page == _INDEX)

    return blueprint


@cache
def article(name: str) -> Article:
    """Return a page of the documentation. It is rendered once per process."""
    return render(_files()[name].read_text(encoding="utf-8"), to_address)


def to_address(link: str) -> str | None:
    """Return the address of a link in the documentation; None for a file that is not shown here."""
    path, _, anchor = link.partition("#")
    name = path.removesuffix(".md")
    if not path or link.startswith("https://"):
        return link
    if name not in _files() or path == name:
        return None
    address = "/help" if name == _INDEX else f"/help/{name}"
    return f"{address}#{anchor}" if anchor else address


@cache
def _files() -> dict[str, Path]:
    """Return the file of each page by name. No other file is ever read, whatever the address."""
    return {file.stem: file for file in sorted(_FOLDER.glob("*.md"))}
